// What each request does: calls the pool and says what came of it.
#pragma once

#include "replication/volume/pool.h"
#include "storage/runtime/task.h"
#include "tools/control/answer.h"
#include "tools/control/info_json.h"
#include "tools/control/request.h"
#include "tools/nbd/server.h"

namespace twofold::control {

// Runs the request on `pool`, on its executor; the pointers outlive the call. `nbd` may be null: it
// has not started yet. What it changed is
// durable on both sets when it returns with a 2xx status. Never fails otherwise than in its answer.
Task<Answer> Execute(Pool* pool, const nbd::Server* nbd, const DaemonInfo* daemon, Request request);

}  // namespace twofold::control
