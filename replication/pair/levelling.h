// Bringing the logs of sealed replicas level after a crash (R8, R20, R32).
//
// The ends of a stream may differ by what was under way. The longest complete log wins: the others
// get the missing entries with the positions that they have. Nothing is committed until every
// stream is level and what must be given up is given up, so that a crash at any point finds the
// same uncommitted tail again.
#pragma once

#include <map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "replication/pair/attach.h"
#include "replication/replica.h"
#include "storage/base/types.h"
#include "storage/runtime/task.h"

namespace twofold {

// Brings every stream of `reports` (one for each replica) level at the longest log, appends the
// deletions of incomplete snapshot groups (R34), and commits all of it everywhere. Returns the
// ends. kDataLoss where two logs are not prefixes of one history.
//
// Where the entries that one lacks can't be read any more, on no replica that has them, some can't
// be levelled (R32): they are in `unfit`, with the error, and the others can be. Those that lack
// something that was committed; or, where nothing was that they lack, those that have what can't be
// read: nobody was told of it, since each acknowledgement needs all of them.
Task<absl::StatusOr<std::map<VolumeId, StreamEnd>>> LevelReplicas(std::vector<Replica*> replicas,
                                                                  std::vector<SealReport> reports,
                                                                  std::vector<Replica*>* unfit);

}  // namespace twofold
