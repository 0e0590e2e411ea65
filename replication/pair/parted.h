// Whether the history of a set that comes back has parted from the pool's (P6, R1, R3). Pure.
//
// A set that missed writes has a beginning of the pool's history, and at its end perhaps entries
// that were never acknowledged: those are given up (R3), and it is brought level. Where a person
// forced a stale set to go on alone it is different: the set that comes back may hold entries that
// a client was told of and that the pool does not have. Nobody but a person gives those up.
//
// Which of the two the end of a log is can't be told from the log: how far it was committed comes
// late in it. It is told from what the set has recorded of the membership. While another set counts
// nothing is acknowledged that this one does not have. So the end can have been acknowledged only
// where the set has recorded that it counts and the source of the resync does not; and that is
// recorded before anything is acknowledged alone (R21). A set that has just admitted the other one,
// and died before that was recorded, is taken for one that was alone (decision 0022): then a dead
// end, if it has one, waits for a person too.
#pragma once

#include "absl/status/status.h"
#include "replication/replica.h"
#include "storage/map/catalogue.h"

namespace twofold {

// kFailedPrecondition: `target` has entries that may have been acknowledged and that `goal`, the
// catalogue of `source` as of now, does not have. The text says of which volumes, how many, and
// what to do. `sealed`: what `target` reported. Call it before anything of the target is changed.
absl::Status CheckNotParted(const Replica& source, const Catalogue& goal, const Replica& target,
                            const SealReport& sealed);

}  // namespace twofold
