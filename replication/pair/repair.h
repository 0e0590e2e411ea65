// Healing what is damaged in one in-sync replica from another one, in the background (R10, R18;
// docs/decisions/0055-repair-evacuates-segments.md).
//
// Each replica knows the segments in which something bad was met. One after the other is evacuated:
// what lives in it is logged again, its bad blocks with the bytes that another in-sync replica has
// for exactly that version. A replica that is not in-sync is neither healed nor asked.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "replication/pair/replica_set.h"
#include "storage/base/types.h"
#include "storage/runtime/cancel.h"
#include "storage/runtime/task.h"
#include "storage/store/cleaner.h"

namespace twofold {

class Repairer {
 public:
  // `set` outlives it.
  explicit Repairer(ReplicaSet* set) : set_(set) {}

  // Looks for damage and heals it, until Cancel.
  Task<void> Run();
  // One look: tries each damaged segment of the in-sync replicas whose time has come.
  Task<void> Pass();
  // Run, and what is under way, ends soon.
  void Cancel();

 private:
  // What could not be healed is tried again: after longer and longer, and at once when the
  // membership has changed, since somebody may be there who has it.
  struct Failure {
    MonoNanos next = 0;
    unsigned failures = 0;
    uint64_t membership_version = 0;
  };

  bool IsDue(const Replica& replica, SegmentNumber segment) const;
  Task<void> TryToHeal(Replica* target, SegmentNumber segment);
  Task<absl::Status> Fetch(const Replica* target, BlockIdentity block, absl::Span<std::byte> into);

  ReplicaSet* const set_;
  std::map<std::pair<std::string, SegmentNumber>, Failure> failures_;  // by store
  bool cancelled_ = false;
  CancelSource cancel_;
};

}  // namespace twofold
