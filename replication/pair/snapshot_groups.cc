#include "replication/pair/snapshot_groups.h"

#include <algorithm>

#include "storage/base/status_macros.h"
#include "storage/map/catalogue_codec.h"

namespace twofold {

absl::Status SnapshotGroups::AddUncommitted(const LogEntry& entry) {
  if (entry.kind == EntryKind::kSnapshotDelete) {
    TF_ASSIGN_OR_RETURN(const SnapshotDeleteBody body, DecodeSnapshotDelete(entry.body));
    deleted_.insert(body.id);
  }
  if (entry.kind != EntryKind::kSnapshot) return absl::OkStatus();
  TF_ASSIGN_OR_RETURN(const SnapshotBody body, DecodeSnapshot(entry.body));
  if (body.group == GroupId()) return absl::OkStatus();
  Group& group = groups_[body.group];
  group.members.insert(body.group_members.begin(), body.group_members.end());
  group.present[entry.volume] = {entry.volume, entry.timeline, body.id};
  return absl::OkStatus();
}

std::vector<SnapshotGroups::Incomplete> SnapshotGroups::FindIncomplete(
    const std::vector<const Catalogue*>& committed) const {
  std::set<GroupId> known;
  for (const Catalogue* catalogue : committed) {
    for (const auto& [id, snapshot] : catalogue->snapshots()) known.insert(snapshot.group);
  }
  std::vector<Incomplete> incomplete;
  for (const auto& [id, group] : groups_) {
    if (known.contains(id)) continue;
    const auto& present = group.present;
    const bool complete =
        std::all_of(group.members.begin(), group.members.end(),
                    [&present](VolumeId member) { return present.contains(member); });
    if (complete) continue;
    for (const auto& [volume, snapshot] : present) {
      if (!deleted_.contains(snapshot.snapshot)) incomplete.push_back(snapshot);
    }
  }
  return incomplete;
}

}  // namespace twofold
