#include "replication/volume/pool_usage.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/volume/pool_state.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"

namespace twofold {

Task<absl::StatusOr<UsageInfo>> PoolUsage::Count(std::optional<std::string> volume) {
  if (pool_->stopped || cancelled_) co_return absl::UnavailableError("the daemon is stopping");
  std::optional<VolumeId> id;
  if (volume.has_value()) {
    TF_CO_ASSIGN_OR_RETURN(Volume* const found, pool_->FindVolume(*volume));
    id = found->id();
  }
  ReplicaSet::Member* chosen = nullptr;
  for (ReplicaSet::Member* member : pool_->set.in_sync()) {
    if (!member->failed && chosen == nullptr) chosen = member;
  }
  if (chosen == nullptr) co_return absl::UnavailableError("no set is in-sync");
  const ReplicaSet::Busy busy(chosen);
  const auto cancelled = [this, chosen] { return cancelled_ || chosen->failed; };
  const absl::StatusOr<UsageReport> report = co_await chosen->replica->CountUsage(id, cancelled);
  if (chosen->failed) {
    co_return absl::UnavailableError(
        absl::StrCat("set ", chosen->replica->set_name(),
                     " has failed while it was counted: ", chosen->reason.message()));
  }
  TF_CO_RETURN_IF_ERROR(report.status());
  UsageInfo info = Describe(chosen->replica->set_name(), !id.has_value(), *report);
  if (id.has_value()) {
    // Clones are counted along.
    std::erase_if(info.volumes,
                  [&volume](const VolumeUsageInfo& usage) { return usage.name != *volume; });
  } else {
    last_ = info;
  }
  co_return info;
}

UsageInfo PoolUsage::Describe(const std::string& set, bool all, const UsageReport& report) {
  UsageInfo info;
  info.set = set;
  info.as_of = report.as_of;
  info.duration_ms = report.duration_nanos / kNanosPerMilli;
  UsageInfo::Sum sum;
  for (const auto& [id, usage] : report.count.volumes) {
    const auto record = report.catalogue.volumes().find(id);
    if (record == report.catalogue.volumes().end()) continue;
    VolumeUsageInfo& volume = info.volumes.emplace_back();
    volume.name = record->second.name;
    const auto stream = report.catalogue.streams().find(id);
    if (stream != report.catalogue.streams().end()) volume.position = stream->second.applied;
    volume.present_bytes = (usage.present_blocks - usage.foreign_blocks) * kBlockSize;
    volume.history_bytes = usage.history_blocks * kBlockSize;
    volume.snapshots_own_bytes = usage.snapshots_own_blocks * kBlockSize;
    sum.present_bytes += volume.present_bytes;
    sum.history_bytes += volume.history_bytes;
    for (const auto& [snapshot_id, snapshot] : report.catalogue.snapshots()) {
      if (snapshot.volume != id || IsInternalSnapshotName(snapshot.name)) continue;
      const auto counted = report.count.snapshots.find(snapshot_id);
      if (counted == report.count.snapshots.end()) continue;
      volume.snapshots.push_back({.name = snapshot.name,
                                  .id = snapshot_id,
                                  .shown_bytes = counted->second.shown_blocks * kBlockSize,
                                  .own_bytes = counted->second.own_blocks * kBlockSize});
    }
  }
  std::sort(info.volumes.begin(), info.volumes.end(),
            [](const VolumeUsageInfo& x, const VolumeUsageInfo& y) { return x.name < y.name; });
  if (!all) return info;
  sum.live_bytes = report.count.live_blocks * kBlockSize;
  sum.history_bytes += report.count.clones_blocks * kBlockSize;
  sum.to_give_back_bytes = report.count.to_give_back_blocks * kBlockSize;
  info.sum = sum;
  return info;
}

}  // namespace twofold
