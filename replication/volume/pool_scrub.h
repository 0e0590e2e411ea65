// Scrubbing the sets of a pool that is open, and comparing them; in the background, one pass at a
// time of each set, and one comparison.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "replication/pair/compare.h"
#include "replication/pair/replica_set.h"
#include "replication/volume/scrub_info.h"
#include "storage/runtime/task.h"

namespace twofold {

class PoolState;

class PoolScrub {
 public:
  explicit PoolScrub(PoolState* pool) : pool_(pool) {}

  // Of one set, or of all that are in-sync. One that is under way goes on, at the new rate where
  // one is given. kNotFound: no such set; kFailedPrecondition: it is not in-sync.
  absl::Status Start(const std::optional<std::string>& set,
                     std::optional<uint64_t> bytes_per_second);
  // kFailedPrecondition: not both sets are in-sync, or a comparison is under way.
  absl::Status StartComparison();
  // Those of one set, or all and the comparison, end soon. Does nothing where none is under way.
  absl::Status Stop(const std::optional<std::string>& set);

  ScrubStatus Status() const;
  ScrubInfo Describe(const Replica& replica) const;

  // Ends those whose set has failed, and begins what is due: one set at a time, a set that was
  // never proven within the first hour. Called now and then.
  void Look(const ScrubSchedule& schedule);

 private:
  struct Pass {
    ScrubInfo info;                        // of the last one that ended
    ReplicaSet::Member* member = nullptr;  // while it is under way
  };

  void Begin(ReplicaSet::Member* member, uint64_t bytes_per_second);
  bool IsDue(const Replica& replica, const ScrubSchedule& schedule) const;
  bool IsAway(const std::string& set) const;
  Task<void> RunPass(ReplicaSet::Member* member, ScrubOptions options);
  Task<void> RunComparison(ReplicaSet::Member* first, ReplicaSet::Member* second);
  Task<absl::StatusOr<CompareReport>> Compare(Replica* first, Replica* second);
  Task<absl::Status> Freeze(Replica* first, Replica* second, Catalogue* first_goal,
                            Catalogue* second_goal);
  Task<void> Thaw(Replica* first, Replica* second);

  PoolState* const pool_;
  std::map<std::string, Pass> passes_;  // by set
  WallNanos looking_since_ = 0;
  CompareInfo compare_info_;
  std::unique_ptr<Comparison> comparison_;
  // While a comparison is under way.
  ReplicaSet::Member* compared_[2] = {nullptr, nullptr};
  bool compare_stopped_ = false;
};

}  // namespace twofold
