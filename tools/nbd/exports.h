// The exports of a pool, as sessions open them.
#pragma once

#include "replication/volume/pool.h"
#include "tools/nbd/session.h"

namespace twofold::nbd {

// `pool` outlives every session.
ExportSource ExportsOf(Pool& pool);

}  // namespace twofold::nbd
