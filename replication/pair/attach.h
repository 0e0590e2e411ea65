// Attaching: from a witness and opened replicas to replicas that are fenced and level (R20).
#pragma once

#include <map>
#include <vector>

#include "absl/status/statusor.h"
#include "replication/pair/witness.h"
#include "replication/replica.h"
#include "storage/base/types.h"
#include "storage/runtime/task.h"

namespace twofold {

// Where a stream stands on every replica: all of it committed.
struct StreamEnd {
  Position position;
  WallNanos last_stamp = 0;
};

struct Attached {
  Membership membership;                  // as the witness and every replica have it now
  std::map<VolumeId, StreamEnd> streams;  // the catalogue's and those of all volumes
};

// In this order (R20): reads the witness and checks that every replica is there that must be; takes
// the next generation with one compare-and-swap; has every replica seal at it; brings each stream
// level, the longest complete log winning (R8); gives up snapshot groups that a crash left
// incomplete (R34); commits; checks that all catalogues agree; records the membership on every
// replica. Durable on all when it returns OK. An error leaves nothing that the next attach could
// not take up.
//
// kFailedPrecondition, kUnavailable: see CheckCandidates and CheckReport; kNotFound: the pool was
// never made; kAborted: another head took over; kDataLoss: the histories don't fit together.
// `replicas` and `witness` outlive the call.
Task<absl::StatusOr<Attached>> AttachReplicas(Witness* witness, std::vector<Replica*> replicas);

}  // namespace twofold
