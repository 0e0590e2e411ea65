// SHARED CONTRACT. Volumes, timelines, epochs and snapshots of a pool, as one replica knows them: a
// pure state machine over log entries, the same on every replica that has committed the same
// entries.
//
// Small and whole in memory; written whole into each checkpoint and now and then into the log
// (R17). Ids are given by the head from next_*_id and never reused (M3, R29).
//
// A timeline stays while it is a volume's current one, or a snapshot on it or the fork of another
// timeline needs it (M20). One that a rollback leaves without either goes with the next delete in
// its volume.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/base/types.h"
#include "storage/log/entry.h"

namespace twofold {

// The bodies of catalogue entries; encoded by storage/map/catalogue_codec.
//
// Makes the volume with its first timeline, which has no parent and whose first epoch is
// kFirstPosition.
struct VolumeCreateBody {
  VolumeId id;
  std::string name;         // as IsCatalogueName
  uint64_t size_bytes = 0;  // at least a block, whole blocks
  uint8_t ack = 0;          // AckMode
  TimelineId first_timeline;
  uint8_t on_set_loss = 0;  // OnSetLoss
};
struct VolumeDeleteBody {
  VolumeId id;
};
struct ResizeBody {
  uint64_t size_bytes = 0;
};
struct SnapshotBody {
  SnapshotId id;
  std::string name;
  GroupId group;  // 0: alone (R34)
  std::vector<VolumeId> group_members;
  bool before_rollback = false;  // made by a rollback (P5)
};
struct SnapshotDeleteBody {
  SnapshotId id;
};
// A rollback or clone: from here on the volume's current timeline is `id`, which starts as `parent`
// was at `fork` (it sees the parent's entries below `fork`). As the first entry of a volume's
// stream it may name the volume's first timeline, to give it a parent (a clone). Its position is
// above `fork` (M1).
struct TimelineStartBody {
  TimelineId id;
  TimelineId parent;
  Position fork;            // a retained point of the parent
  uint64_t size_bytes = 0;  // of the volume at `fork`
};

struct SnapshotRecord {
  SnapshotId id;
  VolumeId volume;
  TimelineId timeline;
  Position position;  // of its record: it shows what came before
  std::string name;
  GroupId group;
  std::vector<VolumeId> group_members;
  WallNanos created = 0;
  uint64_t size_bytes = 0;
  bool before_rollback = false;
};

struct TimelineRecord {
  TimelineId id;
  VolumeId volume;
  TimelineId parent;    // 0: none
  Position fork;        // in the parent
  Position opened;      // its own first position
  Epoch current_epoch;  // the newest ever opened on it; does not go back when a snapshot is deleted
};

struct VolumeRecord {
  VolumeId id;
  std::string name;
  uint64_t size_bytes = 0;
  uint8_t ack = 0;
  TimelineId current_timeline;
  WallNanos created = 0;
  uint8_t on_set_loss = 0;
};

// A volume's stream: where it ends and which generations wrote it (R1).
struct StreamRecord {
  Position applied;  // the last entry applied here
  WallNanos last_stamp = 0;
  std::vector<Position> generations;  // the first position of each generation, ascending
};

// A retained point that no snapshot and no fork need hold: there are some only while a replica is
// brought level (resync_plan.h).
struct PinRecord {
  TimelineId timeline;
  Position position;
  // The state that was there before the resync (R30), not a point of what is replayed.
  bool old_state = false;
  bool operator==(const PinRecord&) const = default;
};

// What a delete lets go: for the map, to free what nothing sees any more.
struct FreedPoints {
  std::vector<TimelineId> timelines;  // gone altogether, children before parents
  // Points that are no longer retained, of timelines that stay.
  std::vector<std::pair<TimelineId, Position>> points;
};

// Whether a volume or snapshot may have this name: 1 to kMaxNameBytes of [A-Za-z0-9._-], not
// beginning with '.' or '-'.
bool IsCatalogueName(absl::string_view name);
// The same for snapshots that the pool takes for itself, which are in no list: no name of a client.
inline constexpr char kInternalSnapshotPrefix[] = ".resync-";
bool IsInternalSnapshotName(absl::string_view name);

class Catalogue {
 public:
  // Applies an entry that has a Seq: moves the stream on, and changes volumes, timelines and
  // snapshots for the kinds that do. Each stream's entries in order. kDataLoss where the body does
  // not decode or contradicts what is there (a damaged or foreign log); then nothing has changed.
  absl::Status Apply(const LogEntry& entry);

  const std::map<VolumeId, VolumeRecord>& volumes() const { return volumes_; }
  const std::map<TimelineId, TimelineRecord>& timelines() const { return timelines_; }
  const std::map<SnapshotId, SnapshotRecord>& snapshots() const { return snapshots_; }
  const std::map<VolumeId, StreamRecord>& streams() const { return streams_; }

  // Of a replica that is being brought level.
  const std::vector<PinRecord>& pins() const { return pins_; }

  const VolumeRecord* FindVolume(const std::string& name) const;
  const SnapshotRecord* FindSnapshot(VolumeId volume, const std::string& name) const;

  // The newest point of the timeline that must stay readable: a snapshot, a fork point or a pin;
  // kFirstPosition when there is none. A run born after it that is overwritten is dead at once
  // (MAP_AND_SPACE M19, M20).
  Position NewestRetainedPoint(TimelineId timeline) const;
  // The retained points of the timeline (snapshots, fork points of children, pins), ascending,
  // without duplicates.
  std::vector<Position> RetainedPoints(TimelineId timeline) const;

  // How many snapshots, forks and pins hold the timeline's only point; 0: it has none, or several.
  uint32_t HoldersOfOnlyPoint(TimelineId timeline) const;

  // What Apply of the delete will let go. The snapshot or volume must be there.
  FreedPoints FreedBySnapshotDelete(SnapshotId snapshot) const;
  FreedPoints FreedByVolumeDelete(VolumeId volume) const;

  // Whether there was such a volume once: entries of its stream that are still in the log mean
  // nothing.
  bool WasDeleted(VolumeId volume) const {
    return volume < next_volume_id_ && volume != kCatalogueVolume && !volumes_.contains(volume);
  }

  VolumeId next_volume_id() const { return next_volume_id_; }
  TimelineId next_timeline_id() const { return next_timeline_id_; }
  SnapshotId next_snapshot_id() const { return next_snapshot_id_; }
  GroupId next_group_id() const { return next_group_id_; }

  // The whole of it, with a version (docs/formats/catalogue.md). Equal catalogues have equal
  // encodings. Decode: kDataLoss.
  std::string Encode() const;
  static absl::StatusOr<Catalogue> Decode(absl::string_view bytes);

 private:
  friend class CatalogueDecoder;
  friend class CatalogueReplay;  // resync_plan.cc

  absl::Status CheckPosition(const LogEntry& entry) const;
  absl::Status ApplyToCatalogueStream(const LogEntry& entry);
  absl::Status ApplyToVolumeStream(const LogEntry& entry);
  absl::Status ApplyVolumeCreate(const LogEntry& entry);
  absl::Status ApplyVolumeDelete(const LogEntry& entry);
  absl::Status ApplySnapshot(const LogEntry& entry, const VolumeRecord& volume);
  absl::Status ApplySnapshotDelete(const LogEntry& entry);
  absl::Status ApplyTimelineStart(const LogEntry& entry, VolumeRecord& volume);

  // Changes of records that keep the indexes.
  void AddVolume(VolumeRecord volume);
  void AddSnapshot(SnapshotRecord snapshot);
  void AddTimeline(TimelineRecord timeline);
  void RemoveSnapshot(SnapshotId snapshot);
  void RemoveTimelines(const std::vector<TimelineId>& timelines);
  void AddPin(PinRecord pin);  // not twice
  void RemovePins(const std::vector<PinRecord>& pins);
  void Retain(TimelineId timeline, Position point);
  void Release(TimelineId timeline, Position point);

  std::map<VolumeId, VolumeRecord> volumes_;
  std::map<TimelineId, TimelineRecord> timelines_;
  std::map<SnapshotId, SnapshotRecord> snapshots_;
  std::map<VolumeId, StreamRecord> streams_;
  std::vector<PinRecord> pins_;  // by timeline and position
  VolumeId next_volume_id_{1};
  TimelineId next_timeline_id_{1};
  SnapshotId next_snapshot_id_{1};
  GroupId next_group_id_{1};

  // Indexes of the above; the number of snapshots does not slow down writes (P4).
  std::map<std::string, VolumeId> volumes_by_name_;
  std::map<std::pair<VolumeId, std::string>, SnapshotId> snapshots_by_name_;
  // Each retained point of a timeline, and how many snapshots and forks are there. No empty maps.
  using Points = std::map<Position, uint32_t>;
  std::map<TimelineId, Points> retained_;
};

}  // namespace twofold
