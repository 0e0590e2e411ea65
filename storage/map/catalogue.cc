#include "storage/map/catalogue.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/map/catalogue_codec.h"

namespace twofold {
namespace {

constexpr uint8_t kMaxAckMode = 1;
constexpr uint8_t kMaxOnSetLoss = 1;
constexpr uint64_t kMaxVolumeBlocks = kMaxVolumeBytes / kBlockSize;

std::string Text(const Position& position) {
  return absl::StrCat(position.generation.value(), ".", position.seq.value());
}

// What is wrong with an entry, where, and what to do. Nothing that comes from a client gets here:
// the head has checked it before it gave a Seq.
absl::Status Contradiction(const LogEntry& entry, absl::string_view what) {
  return absl::DataLossError(absl::StrCat(
      "entry ", Text(entry.position), " of volume ", entry.volume.value(), " (kind ",
      static_cast<int>(entry.kind), "): ", what,
      "; the log is damaged or of another pool: check the store with twofold inspect --verify"));
}

bool IsVolumeSize(uint64_t size_bytes) {
  return size_bytes > 0 && size_bytes <= kMaxVolumeBytes && size_bytes % kBlockSize == 0;
}

std::string BadName(absl::string_view name) {
  return absl::StrCat("\"", absl::CHexEscape(name.substr(0, kMaxNameBytes)), "\" is no name");
}

}  // namespace

bool IsCatalogueName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes && name[0] != '.' && name[0] != '-' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' ||
                  c == '-';
         });
}

bool IsInternalSnapshotName(absl::string_view name) {
  return absl::StartsWith(name, kInternalSnapshotPrefix) && IsCatalogueName(name.substr(1));
}

// ---- Applying -----------------------------------------------------------------------------------

absl::Status Catalogue::Apply(const LogEntry& entry) {
  TF_RETURN_IF_ERROR(CheckPosition(entry));
  if (entry.volume == kCatalogueVolume) {
    TF_RETURN_IF_ERROR(ApplyToCatalogueStream(entry));
  } else {
    TF_RETURN_IF_ERROR(ApplyToVolumeStream(entry));
  }
  StreamRecord& stream = streams_[entry.volume];
  if (stream.generations.empty() ||
      stream.generations.back().generation < entry.position.generation) {
    stream.generations.push_back(entry.position);
  }
  stream.applied = entry.position;
  stream.last_stamp = std::max(stream.last_stamp, entry.stamp);
  return absl::OkStatus();
}

absl::Status Catalogue::CheckPosition(const LogEntry& entry) const {
  if (!HasSeq(entry.kind)) return Contradiction(entry, "is of a kind that has no Seq");
  if (entry.volume != kCatalogueVolume && !volumes_.contains(entry.volume)) {
    return Contradiction(
        entry, WasDeleted(entry.volume) ? "the volume was deleted" : "there is no such volume");
  }
  const auto stream = streams_.find(entry.volume);
  const Position applied = stream == streams_.end() ? kFirstPosition : stream->second.applied;
  // Both parts: a new generation goes on counting where the history that it took over ends (R1).
  if (entry.position.seq <= applied.seq || entry.position.generation < applied.generation) {
    return Contradiction(
        entry, absl::StrCat("does not follow ", Text(applied), ", the last one of its stream"));
  }
  return absl::OkStatus();
}

absl::Status Catalogue::ApplyToCatalogueStream(const LogEntry& entry) {
  switch (entry.kind) {
    case EntryKind::kVolumeCreate:
      return ApplyVolumeCreate(entry);
    case EntryKind::kVolumeDelete:
      return ApplyVolumeDelete(entry);
    default:
      return Contradiction(entry, "does not belong in the catalogue's stream");
  }
}

absl::Status Catalogue::ApplyToVolumeStream(const LogEntry& entry) {
  VolumeRecord& volume = volumes_.at(entry.volume);
  switch (entry.kind) {
    case EntryKind::kWrite:
    case EntryKind::kZero:
      // A session of an old timeline cannot write into the new one (R37).
      if (entry.timeline != volume.current_timeline) {
        return Contradiction(entry,
                             absl::StrCat("is for timeline ", entry.timeline.value(), ", but ",
                                          volume.current_timeline.value(), " is the current one"));
      }
      if (entry.range.empty() || entry.range.count.value() > kMaxVolumeBlocks ||
          entry.range.first.value() > kMaxVolumeBlocks - entry.range.count.value()) {
        return Contradiction(entry, "its range is in no volume");
      }
      return absl::OkStatus();
    case EntryKind::kSnapshot:
      return ApplySnapshot(entry, volume);
    case EntryKind::kSnapshotDelete:
      return ApplySnapshotDelete(entry);
    case EntryKind::kTimelineStart:
      return ApplyTimelineStart(entry, volume);
    case EntryKind::kResize: {
      TF_ASSIGN_OR_RETURN(const ResizeBody body, DecodeResize(entry.body));
      if (!IsVolumeSize(body.size_bytes)) {
        return Contradiction(entry, absl::StrCat(body.size_bytes, " bytes is no size"));
      }
      volume.size_bytes = body.size_bytes;
      return absl::OkStatus();
    }
    default:
      return Contradiction(entry, "does not belong in a volume's stream");
  }
}

absl::Status Catalogue::ApplyVolumeCreate(const LogEntry& entry) {
  TF_ASSIGN_OR_RETURN(VolumeCreateBody body, DecodeVolumeCreate(entry.body));
  if (body.id < next_volume_id_) {
    return Contradiction(entry, absl::StrCat("volume id ", body.id.value(), " was given before"));
  }
  if (body.first_timeline == TimelineId() || timelines_.contains(body.first_timeline)) {
    return Contradiction(entry,
                         absl::StrCat("timeline id ", body.first_timeline.value(), " is not free"));
  }
  if (!IsCatalogueName(body.name)) return Contradiction(entry, BadName(body.name));
  if (FindVolume(body.name) != nullptr) {
    return Contradiction(entry, absl::StrCat("there is a volume ", body.name, " already"));
  }
  if (!IsVolumeSize(body.size_bytes)) {
    return Contradiction(entry, absl::StrCat(body.size_bytes, " bytes is no size"));
  }
  if (body.ack > kMaxAckMode) return Contradiction(entry, "unknown mode of acknowledgement");
  if (body.on_set_loss > kMaxOnSetLoss) {
    return Contradiction(entry, "unknown way to go on when a set is lost");
  }
  if (volumes_.size() >= kMaxVolumes) return Contradiction(entry, "too many volumes");

  AddTimeline({.id = body.first_timeline,
               .volume = body.id,
               .parent = {},
               .fork = {},
               .opened = {},
               .current_epoch = {}});
  streams_[body.id] = {};
  AddVolume({.id = body.id,
             .name = std::move(body.name),
             .size_bytes = body.size_bytes,
             .ack = body.ack,
             .current_timeline = body.first_timeline,
             .created = entry.stamp,
             .on_set_loss = body.on_set_loss});
  return absl::OkStatus();
}

absl::Status Catalogue::ApplyVolumeDelete(const LogEntry& entry) {
  TF_ASSIGN_OR_RETURN(const VolumeDeleteBody body, DecodeVolumeDelete(entry.body));
  const auto volume = volumes_.find(body.id);
  if (volume == volumes_.end()) {
    return Contradiction(entry, absl::StrCat("there is no volume ", body.id.value()));
  }
  const FreedPoints freed = FreedByVolumeDelete(body.id);
  for (auto it = snapshots_.begin(); it != snapshots_.end();) {
    const SnapshotRecord& snapshot = (it++)->second;
    if (snapshot.volume == body.id) RemoveSnapshot(snapshot.id);
  }
  volumes_by_name_.erase(volume->second.name);
  volumes_.erase(volume);
  streams_.erase(body.id);
  RemoveTimelines(freed.timelines);
  return absl::OkStatus();
}

absl::Status Catalogue::ApplySnapshot(const LogEntry& entry, const VolumeRecord& volume) {
  TF_ASSIGN_OR_RETURN(SnapshotBody body, DecodeSnapshot(entry.body));
  if (entry.timeline != volume.current_timeline) {
    return Contradiction(entry, absl::StrCat("a snapshot of timeline ", entry.timeline.value(),
                                             ", which is not the current one"));
  }
  if (body.id == SnapshotId() || snapshots_.contains(body.id)) {
    return Contradiction(entry, absl::StrCat("snapshot id ", body.id.value(), " is not free"));
  }
  if (!IsCatalogueName(body.name) && !IsInternalSnapshotName(body.name)) {
    return Contradiction(entry, BadName(body.name));
  }
  if (FindSnapshot(volume.id, body.name) != nullptr) {
    return Contradiction(entry, absl::StrCat("there is a snapshot ", body.name, " already"));
  }
  const std::vector<VolumeId>& members = body.group_members;
  const bool grouped = body.group != GroupId();
  const std::set<VolumeId> distinct(members.begin(), members.end());
  if (members.size() > kMaxGroupMembers || distinct.size() != members.size() ||
      grouped != distinct.contains(volume.id) || (!grouped && !members.empty())) {
    return Contradiction(entry, absl::StrCat("the members of group ", body.group.value(),
                                             " are no group of this volume"));
  }

  TimelineRecord& timeline = timelines_.at(entry.timeline);
  timeline.current_epoch = entry.position;
  next_group_id_ = std::max(next_group_id_, body.group.Next());
  AddSnapshot({.id = body.id,
               .volume = volume.id,
               .timeline = entry.timeline,
               .position = entry.position,
               .name = std::move(body.name),
               .group = body.group,
               .group_members = std::move(body.group_members),
               .created = entry.stamp,
               .size_bytes = volume.size_bytes,
               .before_rollback = body.before_rollback});
  return absl::OkStatus();
}

absl::Status Catalogue::ApplySnapshotDelete(const LogEntry& entry) {
  TF_ASSIGN_OR_RETURN(const SnapshotDeleteBody body, DecodeSnapshotDelete(entry.body));
  const auto snapshot = snapshots_.find(body.id);
  if (snapshot == snapshots_.end() || snapshot->second.volume != entry.volume) {
    return Contradiction(entry, absl::StrCat("the volume has no snapshot ", body.id.value()));
  }
  const FreedPoints freed = FreedBySnapshotDelete(body.id);
  RemoveSnapshot(body.id);
  RemoveTimelines(freed.timelines);
  return absl::OkStatus();
}

absl::Status Catalogue::ApplyTimelineStart(const LogEntry& entry, VolumeRecord& volume) {
  TF_ASSIGN_OR_RETURN(const TimelineStartBody body, DecodeTimelineStart(entry.body));
  const bool first =
      body.id == volume.current_timeline && streams_.at(volume.id).applied == kFirstPosition;
  if (body.id == TimelineId() || (!first && timelines_.contains(body.id))) {
    return Contradiction(entry, absl::StrCat("timeline id ", body.id.value(), " is not free"));
  }
  const bool orphan = body.parent == TimelineId();
  if (orphan != (body.fork == kFirstPosition) || (orphan && !first)) {
    return Contradiction(entry, "a timeline without a parent that is not a volume's first");
  }
  if (!orphan) {
    if (body.id < body.parent)
      return Contradiction(entry, "a timeline that is older than its parent");
    const auto points = retained_.find(body.parent);
    // Only at a retained point is the parent's state of then sure to be there still.
    if (points == retained_.end() || !points->second.contains(body.fork)) {
      return Contradiction(entry, absl::StrCat("timeline ", body.parent.value(),
                                               " has no snapshot or fork at ", Text(body.fork)));
    }
    if (entry.position <= body.fork || entry.position.seq <= body.fork.seq) {
      return Contradiction(entry, absl::StrCat("does not follow its fork at ", Text(body.fork)));
    }
  }
  if (!IsVolumeSize(body.size_bytes)) {
    return Contradiction(entry, absl::StrCat(body.size_bytes, " bytes is no size"));
  }

  AddTimeline({.id = body.id,
               .volume = volume.id,
               .parent = body.parent,
               .fork = body.fork,
               .opened = entry.position,
               .current_epoch = entry.position});
  volume.current_timeline = body.id;
  volume.size_bytes = body.size_bytes;
  return absl::OkStatus();
}

// ---- Records and indexes ------------------------------------------------------------------------

void Catalogue::AddVolume(VolumeRecord volume) {
  next_volume_id_ = std::max(next_volume_id_, volume.id.Next());
  volumes_by_name_[volume.name] = volume.id;
  const VolumeId id = volume.id;
  volumes_[id] = std::move(volume);
}

void Catalogue::AddSnapshot(SnapshotRecord snapshot) {
  next_snapshot_id_ = std::max(next_snapshot_id_, snapshot.id.Next());
  snapshots_by_name_[{snapshot.volume, snapshot.name}] = snapshot.id;
  Retain(snapshot.timeline, snapshot.position);
  const SnapshotId id = snapshot.id;
  snapshots_[id] = std::move(snapshot);
}

void Catalogue::AddTimeline(TimelineRecord timeline) {
  next_timeline_id_ = std::max(next_timeline_id_, timeline.id.Next());
  if (timeline.parent != TimelineId()) Retain(timeline.parent, timeline.fork);
  timelines_[timeline.id] = timeline;
}

void Catalogue::RemoveSnapshot(SnapshotId snapshot) {
  const auto found = snapshots_.find(snapshot);
  TF_CHECK(found != snapshots_.end()) << snapshot;
  snapshots_by_name_.erase({found->second.volume, found->second.name});
  Release(found->second.timeline, found->second.position);
  snapshots_.erase(found);
}

void Catalogue::RemoveTimelines(const std::vector<TimelineId>& timelines) {
  for (const TimelineId id : timelines) {
    const auto found = timelines_.find(id);
    TF_CHECK(found != timelines_.end()) << id;
    TF_CHECK(!retained_.contains(id)) << id;
    if (found->second.parent != TimelineId()) Release(found->second.parent, found->second.fork);
    timelines_.erase(found);
  }
}

void Catalogue::AddPin(PinRecord pin) {
  const auto place =
      std::lower_bound(pins_.begin(), pins_.end(), pin, [](const PinRecord& a, const PinRecord& b) {
        return std::tie(a.timeline, a.position) < std::tie(b.timeline, b.position);
      });
  Retain(pin.timeline, pin.position);
  pins_.insert(place, pin);
}

void Catalogue::RemovePins(const std::vector<PinRecord>& pins) {
  for (const PinRecord& pin : pins) {
    const auto found = std::find(pins_.begin(), pins_.end(), pin);
    TF_CHECK(found != pins_.end()) << pin.timeline << " at " << pin.position;
    pins_.erase(found);
    Release(pin.timeline, pin.position);
  }
}

void Catalogue::Retain(TimelineId timeline, Position point) { ++retained_[timeline][point]; }

void Catalogue::Release(TimelineId timeline, Position point) {
  const auto points = retained_.find(timeline);
  TF_CHECK(points != retained_.end()) << timeline;
  const auto found = points->second.find(point);
  TF_CHECK(found != points->second.end()) << timeline << " at " << point;
  if (--found->second > 0) return;
  points->second.erase(found);
  if (points->second.empty()) retained_.erase(points);
}

// ---- Questions ----------------------------------------------------------------------------------

const VolumeRecord* Catalogue::FindVolume(const std::string& name) const {
  const auto found = volumes_by_name_.find(name);
  return found == volumes_by_name_.end() ? nullptr : &volumes_.at(found->second);
}

const SnapshotRecord* Catalogue::FindSnapshot(VolumeId volume, const std::string& name) const {
  const auto found = snapshots_by_name_.find({volume, name});
  return found == snapshots_by_name_.end() ? nullptr : &snapshots_.at(found->second);
}

Position Catalogue::NewestRetainedPoint(TimelineId timeline) const {
  const auto points = retained_.find(timeline);
  return points == retained_.end() ? kFirstPosition : points->second.rbegin()->first;
}

std::vector<Position> Catalogue::RetainedPoints(TimelineId timeline) const {
  std::vector<Position> positions;
  const auto points = retained_.find(timeline);
  if (points == retained_.end()) return positions;
  positions.reserve(points->second.size());
  for (const auto& [position, holders] : points->second) positions.push_back(position);
  return positions;
}

uint32_t Catalogue::HoldersOfOnlyPoint(TimelineId timeline) const {
  const auto points = retained_.find(timeline);
  if (points == retained_.end() || points->second.size() != 1) return 0;
  return points->second.begin()->second;
}

}  // namespace twofold
