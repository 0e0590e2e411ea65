// A replica joins a pool that is open (R23): frozen points, the fill, the tail, and the moment at
// which acknowledgements begin to wait for it too.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "replication/pair/resync.h"
#include "replication/volume/pool_state.h"
#include "storage/runtime/task.h"

namespace twofold {

// Brings `target`, which is in no membership and is sealed at the pool's generation, level by
// `resync` (from an in-sync replica of `pool`) while clients read and write, and joins it.
//
// `admit` is called when the target has, durably, every entry that was ever given a Seq, and no new
// one is given until it returns (a pause of a few milliseconds; clients wait). It commits the
// membership with the target in it (every replica accepts the version, then the witness) and puts
// it into the ReplicaSet. If it, or anything before it, fails, the pool goes on as it was.
//
// Takes `pool->admin` for moments only. One at a time. Snapshots named ".resync-..." exist while it
// runs; they are in no list, and RemoveResyncSnapshots deletes what a crash left of them.
Task<absl::Status> BringLevel(PoolState* pool, Resync* resync, Replica* source, Replica* target,
                              std::function<Task<absl::Status>()> admit);

// Freezes each volume where it is, one after the other: each has a history of its own. By a
// snapshot that is in no list. The caller holds `pool->admin`.
Task<absl::Status> TakeResyncSnapshots(PoolState* pool);

// After an attach: deletes the frozen points of a resync that a crash ended. The caller holds
// `pool->admin`, or nobody else has the pool yet.
Task<absl::Status> RemoveResyncSnapshots(PoolState* pool);

}  // namespace twofold
