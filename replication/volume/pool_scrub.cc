#include "replication/volume/pool_scrub.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/volume/pool_resync.h"
#include "replication/volume/pool_state.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/map/resync_plan.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

// How long after a start a pass is begun at the earliest, and the first of a set at the latest.
constexpr uint64_t kScrubAfterStartSeconds = 600;
constexpr uint64_t kFirstScrubSeconds = 3600;

const char* StateOf(const absl::Status& status) {
  return absl::IsCancelled(status) ? "stopped" : "failed";
}

void TakeProgress(const ScrubProgress& progress, ScrubInfo* info) {
  info->what = progress.what;
  info->bytes_done = progress.bytes_done;
  info->bytes_total = progress.bytes_total;
  info->bytes_per_second = progress.bytes_per_second;
  info->seconds_left = progress.seconds_left;
  info->damaged_places = progress.damaged_places;
}

}  // namespace

// Open or closed.
bool PoolScrub::IsAway(const std::string& set) const {
  const auto& away = pool_->away.sets();
  return std::any_of(away.begin(), away.end(),
                     [&set](const auto& item) { return item->set == set; }) ||
         std::any_of(pool_->set.dropped().begin(), pool_->set.dropped().end(),
                     [&set](const auto& item) { return item.replica->set_name() == set; });
}

// ---- Passes -------------------------------------------------------------------------------------

absl::Status PoolScrub::Start(const std::optional<std::string>& set,
                              std::optional<uint64_t> bytes_per_second) {
  if (pool_->stopped) return absl::UnavailableError("the daemon is stopping");
  bool found = false;
  for (ReplicaSet::Member* member : pool_->set.in_sync()) {
    Replica* const replica = member->replica;
    if (member->failed || (set.has_value() && replica->set_name() != *set)) continue;
    found = true;
    Pass& pass = passes_[replica->set_name()];
    if (pass.member != nullptr) {
      if (bytes_per_second.has_value()) replica->SetScrubRate(*bytes_per_second);
      continue;
    }
    Begin(member, bytes_per_second.value_or(kDefaultScrubBytesPerSecond));
  }
  if (found) return absl::OkStatus();
  if (!set.has_value()) return absl::FailedPreconditionError("no set is in-sync");
  if (IsAway(*set)) {
    return absl::FailedPreconditionError(
        absl::StrCat("set ", *set, " is not in-sync: it is proven once it is"));
  }
  return absl::NotFoundError(absl::StrCat("there is no set ", *set, " here"));
}

void PoolScrub::Begin(ReplicaSet::Member* member, uint64_t bytes_per_second) {
  Pass& pass = passes_[member->replica->set_name()];
  pass.info = ScrubInfo();
  pass.info.set = member->replica->set_name();
  pass.info.state = "running";
  pass.info.started = Executor::Current().WallNow();
  pass.member = member;
  pool_->watch.Spawn(RunPass(member, ScrubOptions{.bytes_per_second = bytes_per_second}));
}

// Counted from the last proof, or from the last pass, whatever came of it.
bool PoolScrub::IsDue(const Replica& replica, const ScrubSchedule& schedule) const {
  const auto seconds = [](WallNanos from, WallNanos to) {
    return static_cast<uint64_t>(std::max<WallNanos>(to - from, 0)) / kNanosPerSecond;
  };
  const WallNanos now = Executor::Current().WallNow();
  const std::optional<ProofRecord> proof = replica.status().proof;
  WallNanos last = proof.has_value() ? proof->ended : 0;
  const auto pass = passes_.find(replica.set_name());
  if (pass != passes_.end()) last = std::max(last, pass->second.info.ended);
  // Not at once after a start: there is enough to do then.
  const uint64_t open_for = seconds(looking_since_, now);
  if (open_for < std::min(schedule.every_seconds, kScrubAfterStartSeconds)) return false;
  if (last > 0) return seconds(last, now) >= schedule.every_seconds;
  return open_for >= std::min(schedule.every_seconds, kFirstScrubSeconds);
}

Task<void> PoolScrub::RunPass(ReplicaSet::Member* member, ScrubOptions options) {
  const ReplicaSet::Busy busy(member);
  Replica* const replica = member->replica;
  const std::string set = replica->set_name();
  TF_LOG(INFO) << "scrub of set " << set << " begins";
  const absl::StatusOr<ScrubReport> report = co_await replica->Scrub(options);
  Pass& pass = passes_.at(set);
  pass.member = nullptr;
  ScrubInfo& info = pass.info;
  info.ended = Executor::Current().WallNow();
  if (!report.ok()) {
    const absl::Status why = member->failed ? member->reason : report.status();
    info.state = StateOf(why);
    info.what = std::string(why.message());
    TF_LOG(WARNING) << "scrub of set " << set << ": " << why.message();
    co_return;
  }
  info.state = report->whole() ? "whole" : "damaged";
  info.bytes_done = report->bytes;
  info.bytes_total = report->bytes;
  info.damaged_places = report->damaged_places;
  info.healed_places = report->healed_places;
  info.findings = report->findings;
  TF_LOG(INFO) << "scrub of set " << set << " ended: " << info.state << ", "
               << (report->bytes >> 20) << " MiB read, " << report->damaged_places
               << " damaged places, " << report->healed_places << " healed";
}

absl::Status PoolScrub::Stop(const std::optional<std::string>& set) {
  bool known = !set.has_value() || IsAway(*set);
  for (const auto& replica : pool_->parts.replicas) {
    if (set.has_value() && replica->set_name() != *set) continue;
    known = true;
    replica->StopScrub();
  }
  if (!known) return absl::NotFoundError(absl::StrCat("there is no set ", *set, " here"));
  if (set.has_value()) return absl::OkStatus();
  compare_stopped_ = true;
  if (comparison_ != nullptr) comparison_->Cancel();
  return absl::OkStatus();
}

void PoolScrub::Look(const ScrubSchedule& schedule) {
  for (const auto& [set, pass] : passes_) {
    if (pass.member != nullptr && pass.member->failed) pass.member->replica->StopScrub();
  }
  if (comparison_ != nullptr) {
    for (const ReplicaSet::Member* member : compared_) {
      if (member->failed) comparison_->Cancel();
    }
  }
  if (schedule.every_seconds == 0 || pool_->stopped) return;
  if (looking_since_ == 0) looking_since_ = Executor::Current().WallNow();
  const bool running = std::any_of(passes_.begin(), passes_.end(),
                                   [](const auto& pass) { return pass.second.member != nullptr; });
  if (running) return;
  for (ReplicaSet::Member* member : pool_->set.in_sync()) {
    if (member->failed || !IsDue(*member->replica, schedule)) continue;
    Begin(member, schedule.bytes_per_second);
    return;
  }
}

// ---- Comparing ----------------------------------------------------------------------------------

absl::Status PoolScrub::StartComparison() {
  if (pool_->stopped) return absl::UnavailableError("the daemon is stopping");
  const ReplicaSet::Members& members = pool_->set.in_sync();
  if (pool_->set.degraded() || pool_->away.resyncing() || members.size() != 2 ||
      members[0]->failed || members[1]->failed) {
    return absl::FailedPreconditionError(
        "two sets that are in-sync can be compared; see `twofold status`");
  }
  if (compare_info_.state == "running") {
    return absl::FailedPreconditionError("the sets are being compared already");
  }
  compare_info_ = CompareInfo();
  compare_info_.state = "running";
  compare_info_.started = Executor::Current().WallNow();
  compare_info_.first = members[0]->replica->set_name();
  compare_info_.second = members[1]->replica->set_name();
  compare_stopped_ = false;
  pool_->watch.Spawn(RunComparison(members[0], members[1]));
  return absl::OkStatus();
}

Task<void> PoolScrub::RunComparison(ReplicaSet::Member* first, ReplicaSet::Member* second) {
  const ReplicaSet::Busy first_busy(first);
  const ReplicaSet::Busy second_busy(second);
  compared_[0] = first;
  compared_[1] = second;
  absl::StatusOr<CompareReport> report = co_await Compare(first->replica, second->replica);
  if (comparison_ != nullptr) {
    const CompareProgress& progress = comparison_->progress();
    compare_info_.points_done = progress.points_done;
    compare_info_.points_total = progress.points_total;
    compare_info_.blocks = progress.blocks;
    compare_info_.different_blocks = progress.different_blocks;
  }
  comparison_.reset();
  compare_info_.ended = Executor::Current().WallNow();
  compare_info_.what.clear();
  if (!report.ok()) {
    compare_info_.state = StateOf(report.status());
    compare_info_.what = std::string(report.status().message());
    TF_LOG(WARNING) << "comparing the sets: " << report.status().message();
    co_return;
  }
  compare_info_.state = report->equal() ? "equal" : "different";
  compare_info_.differences = std::move(report->differences);
  if (compare_info_.state == "equal") {
    TF_LOG(INFO) << "the sets are equal at " << report->points << " points, " << report->blocks
                 << " blocks compared";
    co_return;
  }
  TF_LOG(ERROR) << "the sets DIFFER in " << report->different_blocks << " blocks";
}

Task<absl::StatusOr<CompareReport>> PoolScrub::Compare(Replica* first, Replica* second) {
  Catalogue first_goal;
  Catalogue second_goal;
  absl::Status status = co_await Freeze(first, second, &first_goal, &second_goal);
  if (!status.ok()) {
    co_await Thaw(first, second);
    co_return status;
  }
  comparison_ = std::make_unique<Comparison>(first, second);
  if (compare_stopped_) comparison_->Cancel();
  absl::StatusOr<CompareReport> report =
      co_await comparison_->Run(std::move(first_goal), std::move(second_goal));
  co_await Thaw(first, second);
  co_return report;
}

// Both are looked at as of the snapshots that are taken here, and as of those that are there.
Task<absl::Status> PoolScrub::Freeze(Replica* first, Replica* second, Catalogue* first_goal,
                                     Catalogue* second_goal) {
  const AsyncMutex::Guard lock = co_await pool_->admin.Lock();
  if (pool_->stopped) co_return absl::UnavailableError("the daemon is stopping");
  // A set that came meanwhile has its own use for such snapshots.
  if (pool_->away.resyncing()) co_return absl::UnavailableError("a set is being brought level");
  absl::Status status = co_await RemoveResyncSnapshots(pool_);
  TF_CO_RETURN_IF_ERROR(status);
  for (Replica* replica : {first, second}) {
    status = co_await replica->HoldPoints();
    TF_CO_RETURN_IF_ERROR(status);
  }
  status = co_await TakeResyncSnapshots(pool_);
  TF_CO_RETURN_IF_ERROR(status);
  TF_CO_ASSIGN_OR_RETURN(*first_goal, MakeGoal(first->catalogue()));
  TF_CO_ASSIGN_OR_RETURN(*second_goal, MakeGoal(second->catalogue()));
  co_return absl::OkStatus();
}

Task<void> PoolScrub::Thaw(Replica* first, Replica* second) {
  first->LetPointsGo();
  second->LetPointsGo();
  const AsyncMutex::Guard lock = co_await pool_->admin.Lock();
  // The next attach removes what is left, or the resync that is under way.
  if (pool_->stopped || pool_->away.resyncing()) co_return;
  const absl::Status removed = co_await RemoveResyncSnapshots(pool_);
  if (!removed.ok()) TF_LOG(WARNING) << "after comparing the sets: " << removed;
}

// ---- Looking ------------------------------------------------------------------------------------

ScrubInfo PoolScrub::Describe(const Replica& replica) const {
  ScrubInfo info;
  const auto pass = passes_.find(replica.set_name());
  if (pass != passes_.end()) info = pass->second.info;
  info.set = replica.set_name();
  info.proof = replica.status().proof;
  if (info.proof.has_value()) {
    const WallNanos age = Executor::Current().WallNow() - info.proof->ended;
    info.proof_age_seconds = static_cast<uint64_t>(std::max<WallNanos>(age, 0)) / kNanosPerSecond;
  }
  const std::optional<ScrubProgress> progress = replica.scrub_progress();
  if (progress.has_value()) TakeProgress(*progress, &info);
  return info;
}

ScrubStatus PoolScrub::Status() const {
  ScrubStatus status;
  for (const auto& replica : pool_->parts.replicas) status.sets.push_back(Describe(*replica));
  // A set that is away is closed; what came of its last pass is known.
  for (const auto& away : pool_->away.sets()) {
    if (away->replica != nullptr) continue;
    const auto pass = passes_.find(away->set);
    ScrubInfo& info = status.sets.emplace_back();
    if (pass != passes_.end()) info = pass->second.info;
    info.set = away->set;
  }
  std::sort(status.sets.begin(), status.sets.end(),
            [](const ScrubInfo& a, const ScrubInfo& b) { return a.set < b.set; });
  status.compare = compare_info_;
  if (comparison_ != nullptr) {
    const CompareProgress& progress = comparison_->progress();
    status.compare.what = progress.what;
    status.compare.points_done = progress.points_done;
    status.compare.points_total = progress.points_total;
    status.compare.blocks = progress.blocks;
    status.compare.different_blocks = progress.different_blocks;
  }
  return status;
}

}  // namespace twofold
