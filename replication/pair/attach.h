// Attaching: from a witness and opened replicas to replicas that are fenced and level (R20).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "replication/pair/membership.h"
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

struct AttachOptions {
  std::vector<AbsentSet> absent;  // sets that could not be opened
  // The witness was lost and this one is new: go by what the replicas have recorded (R22).
  bool new_witness = false;
  // The name of a set to be taken though it is stale, or empty. `confirm` is called with what that
  // loses before anything is changed; its error ends the attach.
  std::string force_stale;
  std::function<absl::Status(const std::string& what_is_lost)> confirm;
};

struct Attached {
  Membership membership;                  // as the witness and every in-sync replica have it now
  std::map<VolumeId, StreamEnd> streams;  // the catalogue's and those of all volumes
  std::vector<Replica*> in_sync;
  std::vector<Replica*> stale;  // present, untouched, and not to be read (P6)
};

// In this order (R20): reads the witness and decides who may be attached (PlanAttach); takes the
// next generation with one compare-and-swap; has every in-sync replica seal at it; brings each
// stream level, the longest complete log winning (R8); gives up snapshot groups that a crash left
// incomplete (R34); commits; checks that all catalogues agree; records the membership on every
// in-sync replica and, where a set is missing or stale, swaps the one without it into the witness
// (R21). Durable when it returns OK. An error leaves nothing that the next attach could not take
// up.
//
// kFailedPrecondition, kUnavailable: see PlanAttach and CheckReport; kNotFound: the pool was never
// made; kAborted: another head took over; kDataLoss: the histories don't fit together.
// `replicas` and `witness` outlive the call.
Task<absl::StatusOr<Attached>> AttachReplicas(Witness* witness, std::vector<Replica*> replicas,
                                              AttachOptions options);

}  // namespace twofold
