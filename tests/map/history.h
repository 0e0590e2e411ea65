// Writes the history of a pool as a head would: gives positions and ids, and applies the entries to
// a catalogue. For tests that need volumes, snapshots and timelines.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "storage/base/limits.h"
#include "storage/map/catalogue.h"
#include "storage/map/catalogue_codec.h"

namespace twofold {

class History {
 public:
  static constexpr uint64_t kSizeBytes = uint64_t{1} << 30;

  const Catalogue& catalogue() const { return catalogue_; }
  Catalogue& catalogue() { return catalogue_; }
  void NewGeneration() { generation_ = generation_.Next(); }

  // The next entry of a volume's stream, not applied. On its current timeline.
  LogEntry Next(VolumeId volume, EntryKind kind, std::string body = "") {
    LogEntry entry;
    entry.kind = kind;
    entry.volume = volume;
    const auto record = catalogue_.volumes().find(volume);
    if (record != catalogue_.volumes().end()) entry.timeline = record->second.current_timeline;
    const auto stream = catalogue_.streams().find(volume);
    const Seq last = stream == catalogue_.streams().end() ? Seq(0) : stream->second.applied.seq;
    entry.position = {generation_, last.Next()};
    entry.stamp = ++stamp_;
    entry.body = std::move(body);
    return entry;
  }
  // Applies it; it must be good.
  Position Apply(const LogEntry& entry) {
    const absl::Status status = catalogue_.Apply(entry);
    EXPECT_TRUE(status.ok()) << status;
    return entry.position;
  }

  VolumeId CreateVolume(const std::string& name) {
    VolumeCreateBody body{.id = catalogue_.next_volume_id(),
                          .name = name,
                          .size_bytes = kSizeBytes,
                          .ack = 0,
                          .first_timeline = catalogue_.next_timeline_id()};
    Apply(Next(kCatalogueVolume, EntryKind::kVolumeCreate, EncodeVolumeCreate(body)));
    return body.id;
  }
  void DeleteVolume(VolumeId volume) {
    Apply(Next(kCatalogueVolume, EntryKind::kVolumeDelete, EncodeVolumeDelete({volume})));
  }
  Position Write(VolumeId volume, uint64_t first = 0, uint64_t count = 1) {
    LogEntry entry = Next(volume, EntryKind::kWrite);
    entry.range = {BlockIndex(first), BlockCount(count)};
    return Apply(entry);
  }
  SnapshotId Snapshot(VolumeId volume, const std::string& name) {
    SnapshotBody body;
    body.id = catalogue_.next_snapshot_id();
    body.name = name;
    Apply(Next(volume, EntryKind::kSnapshot, EncodeSnapshot(body)));
    return body.id;
  }
  void DeleteSnapshot(SnapshotId snapshot) {
    const VolumeId volume = Record(snapshot).volume;
    Apply(Next(volume, EntryKind::kSnapshotDelete, EncodeSnapshotDelete({snapshot})));
  }
  // Starts a timeline of `volume` where `snapshot` is: a rollback, or of another volume a clone.
  TimelineId StartTimeline(VolumeId volume, SnapshotId snapshot) {
    LogEntry entry = StartOf(volume, snapshot);
    Apply(entry);
    return entry.timeline;
  }
  LogEntry StartOf(VolumeId volume, SnapshotId snapshot) {
    const SnapshotRecord& at = Record(snapshot);
    TimelineStartBody body{.id = catalogue_.next_timeline_id(),
                           .parent = at.timeline,
                           .fork = at.position,
                           .size_bytes = at.size_bytes};
    LogEntry entry = Next(volume, EntryKind::kTimelineStart, EncodeTimelineStart(body));
    entry.timeline = body.id;
    return entry;
  }

  TimelineId Current(VolumeId volume) const {
    return catalogue_.volumes().at(volume).current_timeline;
  }
  const SnapshotRecord& Record(SnapshotId snapshot) const {
    return catalogue_.snapshots().at(snapshot);
  }

 private:
  Catalogue catalogue_;
  Generation generation_{1};
  WallNanos stamp_ = 1000;
};

}  // namespace twofold
