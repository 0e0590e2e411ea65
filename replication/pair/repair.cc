#include "replication/pair/repair.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

constexpr int64_t kFirstDelayNanos = 2 * kNanosPerSecond;
constexpr unsigned kMaxDoublings = 7;  // over four minutes

}  // namespace

Task<void> Repairer::Run() {
  while (true) {
    const bool go_on =
        co_await cancel_.SleepFor(static_cast<int64_t>(kRepairCheckMs) * kNanosPerMilli);
    if (!go_on) co_return;
    co_await Pass();
  }
}

void Repairer::Cancel() {
  cancelled_ = true;
  cancel_.Cancel();
  for (const ReplicaSet::Member* member : set_->in_sync()) member->replica->CancelRepairs();
}

Task<void> Repairer::Pass() {
  // Held on to, so that nobody is destroyed while it is read.
  const ReplicaSet::InFlight members(set_);
  for (size_t i = 0; i < members.size(); ++i) {
    const std::vector<SegmentNumber> segments = members[i]->replica->damaged_segments();
    for (SegmentNumber segment : segments) {
      if (cancelled_) co_return;
      if (members[i]->failed) break;
      if (!IsDue(*members[i]->replica, segment)) continue;
      co_await TryToHeal(members[i]->replica, segment);
    }
  }
}

bool Repairer::IsDue(const Replica& replica, SegmentNumber segment) const {
  const auto failure = failures_.find({replica.store_id(), segment});
  return failure == failures_.end() || failure->second.next <= Executor::Current().Now() ||
         failure->second.membership_version != set_->membership().version;
}

Task<void> Repairer::TryToHeal(Replica* target, SegmentNumber segment) {
  // A function object of its own: the coroutine that it starts keeps nothing of the lambda.
  const BlockSource source = [this, target](BlockIdentity block, absl::Span<std::byte> into) {
    return Fetch(target, block, into);
  };
  const std::pair<std::string, SegmentNumber> key(target->store_id(), segment);
  const uint64_t membership_version = set_->membership().version;
  const absl::StatusOr<CleanOutcome> outcome = co_await target->Repair(segment, source);
  if (outcome.ok()) {
    failures_.erase(key);
    co_return;
  }
  Failure& failure = failures_[key];
  if (failure.membership_version != membership_version) failure.failures = 0;
  failure.membership_version = membership_version;
  failure.next =
      Executor::Current().Now() + (kFirstDelayNanos << std::min(failure.failures, kMaxDoublings));
  if (cancelled_) co_return;
  // Once is enough while nothing changes: status says it all the time.
  if (failure.failures++ == 0) {
    TF_LOG(ERROR) << "set " << target->set_name() << " (" << target->place() << "): segment "
                  << segment << " is damaged and could not be healed: " << outcome.status();
  }
}

// kUnavailable: nobody can be asked now.
Task<absl::Status> Repairer::Fetch(const Replica* target, BlockIdentity block,
                                   absl::Span<std::byte> into) {
  if (cancelled_) co_return absl::UnavailableError("the repair was ended");
  const ReplicaSet::InFlight members(set_);
  absl::Status worst =
      absl::UnavailableError("no other set is in-sync that could have what is bad here");
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i]->replica == target || members[i]->failed) continue;
    absl::Status status = co_await members[i]->replica->ReadVersion(block, into);
    if (status.ok()) co_return status;
    worst = std::move(status);
  }
  co_return worst;
}

}  // namespace twofold
