#include "storage/map/catalogue_codec.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"

namespace twofold {
namespace {

constexpr uint8_t kBodyVersion = 1;
constexpr uint8_t kCatalogueVersion = 1;
constexpr uint8_t kFlagBeforeRollback = 1;
constexpr uint8_t kFlagOldState = 1;

// Ids and positions in the forms that every record uses.
class RecordWriter : public ByteWriter {
 public:
  RecordWriter(std::string* output, uint8_t version) : ByteWriter(output) { WriteU8(version); }

  template <typename Tag>
  void WriteId(Id<Tag> id) {
    WriteVarint64(id.value());
  }
  void WritePosition(const Position& position) {
    WriteId(position.generation);
    WriteId(position.seq);
  }
  void WriteStamp(WallNanos stamp) { WriteU64Le(static_cast<uint64_t>(stamp)); }
  void WriteIds(const std::vector<VolumeId>& ids) {
    WriteVarint64(ids.size());
    for (const VolumeId id : ids) WriteId(id);
  }
};

class RecordReader : public ByteReader {
 public:
  // Another version sets the failure.
  RecordReader(absl::string_view input, uint8_t version) : ByteReader(input) {
    if (ReadU8() != version) Fail();
  }

  template <typename IdType>
  void ReadId(IdType* id) {
    *id = IdType(ReadVarint64());
  }
  void ReadPosition(Position* position) {
    ReadId(&position->generation);
    ReadId(&position->seq);
  }
  WallNanos ReadStamp() { return static_cast<WallNanos>(ReadU64Le()); }
  std::string ReadName() { return std::string(ReadLengthPrefixed(kMaxNameBytes)); }
  // A byte of flags of which only `known` may be set.
  uint8_t ReadFlags(uint8_t known) {
    const uint8_t flags = ReadU8();
    if ((flags & ~known) != 0) Fail();
    return flags;
  }
  std::vector<VolumeId> ReadIds(size_t max) {
    const uint64_t count = ReadVarint64();
    if (count > max) Fail();
    std::vector<VolumeId> ids;
    for (uint64_t i = 0; i < count && !failed(); ++i) ReadId(&ids.emplace_back());
    return ids;
  }
};

// A body that was read to its end, or what is wrong with it.
template <typename Body>
absl::StatusOr<Body> Finish(const RecordReader& reader, Body body, absl::string_view what) {
  if (reader.finished()) return body;
  return absl::DataLossError(
      absl::StrCat("the record of a ", what,
                   " does not decode; the log is damaged or of a newer "
                   "version: check the store with twofold inspect --verify"));
}

}  // namespace

// ---- Bodies of entries --------------------------------------------------------------------------

std::string EncodeVolumeCreate(const VolumeCreateBody& body) {
  std::string bytes;
  RecordWriter writer(&bytes, kBodyVersion);
  writer.WriteId(body.id);
  writer.WriteLengthPrefixed(body.name);
  writer.WriteVarint64(body.size_bytes);
  writer.WriteU8(body.ack);
  writer.WriteU8(body.on_set_loss);
  writer.WriteId(body.first_timeline);
  return bytes;
}

absl::StatusOr<VolumeCreateBody> DecodeVolumeCreate(absl::string_view bytes) {
  RecordReader reader(bytes, kBodyVersion);
  VolumeCreateBody body;
  reader.ReadId(&body.id);
  body.name = reader.ReadName();
  body.size_bytes = reader.ReadVarint64();
  body.ack = reader.ReadU8();
  body.on_set_loss = reader.ReadU8();
  reader.ReadId(&body.first_timeline);
  return Finish(reader, std::move(body), "new volume");
}

std::string EncodeVolumeDelete(const VolumeDeleteBody& body) {
  std::string bytes;
  RecordWriter writer(&bytes, kBodyVersion);
  writer.WriteId(body.id);
  return bytes;
}

absl::StatusOr<VolumeDeleteBody> DecodeVolumeDelete(absl::string_view bytes) {
  RecordReader reader(bytes, kBodyVersion);
  VolumeDeleteBody body;
  reader.ReadId(&body.id);
  return Finish(reader, body, "volume's deletion");
}

std::string EncodeResize(const ResizeBody& body) {
  std::string bytes;
  RecordWriter writer(&bytes, kBodyVersion);
  writer.WriteVarint64(body.size_bytes);
  return bytes;
}

absl::StatusOr<ResizeBody> DecodeResize(absl::string_view bytes) {
  RecordReader reader(bytes, kBodyVersion);
  ResizeBody body;
  body.size_bytes = reader.ReadVarint64();
  return Finish(reader, body, "new size");
}

std::string EncodeSnapshot(const SnapshotBody& body) {
  std::string bytes;
  RecordWriter writer(&bytes, kBodyVersion);
  writer.WriteId(body.id);
  writer.WriteLengthPrefixed(body.name);
  writer.WriteId(body.group);
  writer.WriteIds(body.group_members);
  writer.WriteU8(body.before_rollback ? kFlagBeforeRollback : 0);
  return bytes;
}

absl::StatusOr<SnapshotBody> DecodeSnapshot(absl::string_view bytes) {
  RecordReader reader(bytes, kBodyVersion);
  SnapshotBody body;
  reader.ReadId(&body.id);
  body.name = reader.ReadName();
  reader.ReadId(&body.group);
  body.group_members = reader.ReadIds(kMaxGroupMembers);
  body.before_rollback = (reader.ReadFlags(kFlagBeforeRollback) & kFlagBeforeRollback) != 0;
  return Finish(reader, std::move(body), "snapshot");
}

std::string EncodeSnapshotDelete(const SnapshotDeleteBody& body) {
  std::string bytes;
  RecordWriter writer(&bytes, kBodyVersion);
  writer.WriteId(body.id);
  return bytes;
}

absl::StatusOr<SnapshotDeleteBody> DecodeSnapshotDelete(absl::string_view bytes) {
  RecordReader reader(bytes, kBodyVersion);
  SnapshotDeleteBody body;
  reader.ReadId(&body.id);
  return Finish(reader, body, "snapshot's deletion");
}

std::string EncodeTimelineStart(const TimelineStartBody& body) {
  std::string bytes;
  RecordWriter writer(&bytes, kBodyVersion);
  writer.WriteId(body.id);
  writer.WriteId(body.parent);
  writer.WritePosition(body.fork);
  writer.WriteVarint64(body.size_bytes);
  return bytes;
}

absl::StatusOr<TimelineStartBody> DecodeTimelineStart(absl::string_view bytes) {
  RecordReader reader(bytes, kBodyVersion);
  TimelineStartBody body;
  reader.ReadId(&body.id);
  reader.ReadId(&body.parent);
  reader.ReadPosition(&body.fork);
  body.size_bytes = reader.ReadVarint64();
  return Finish(reader, body, "timeline's start");
}

// ---- The whole ----------------------------------------------------------------------------------

std::string Catalogue::Encode() const {
  std::string bytes;
  RecordWriter writer(&bytes, kCatalogueVersion);
  writer.WriteId(next_volume_id_);
  writer.WriteId(next_timeline_id_);
  writer.WriteId(next_snapshot_id_);
  writer.WriteId(next_group_id_);
  writer.WriteVarint64(volumes_.size());
  for (const auto& [id, volume] : volumes_) {
    writer.WriteId(id);
    writer.WriteLengthPrefixed(volume.name);
    writer.WriteVarint64(volume.size_bytes);
    writer.WriteU8(volume.ack);
    writer.WriteU8(volume.on_set_loss);
    writer.WriteId(volume.current_timeline);
    writer.WriteStamp(volume.created);
  }
  writer.WriteVarint64(timelines_.size());
  for (const auto& [id, timeline] : timelines_) {
    writer.WriteId(id);
    writer.WriteId(timeline.volume);
    writer.WriteId(timeline.parent);
    writer.WritePosition(timeline.fork);
    writer.WritePosition(timeline.opened);
    writer.WritePosition(timeline.current_epoch);
  }
  writer.WriteVarint64(snapshots_.size());
  for (const auto& [id, snapshot] : snapshots_) {
    writer.WriteId(id);
    writer.WriteId(snapshot.volume);
    writer.WriteId(snapshot.timeline);
    writer.WritePosition(snapshot.position);
    writer.WriteLengthPrefixed(snapshot.name);
    writer.WriteId(snapshot.group);
    writer.WriteIds(snapshot.group_members);
    writer.WriteStamp(snapshot.created);
    writer.WriteVarint64(snapshot.size_bytes);
    writer.WriteU8(snapshot.before_rollback ? kFlagBeforeRollback : 0);
  }
  writer.WriteVarint64(streams_.size());
  for (const auto& [id, stream] : streams_) {
    writer.WriteId(id);
    writer.WritePosition(stream.applied);
    writer.WriteStamp(stream.last_stamp);
    writer.WriteVarint64(stream.generations.size());
    for (const Position& first : stream.generations) writer.WritePosition(first);
  }
  if (pins_.empty()) return bytes;
  writer.WriteVarint64(pins_.size());
  for (const PinRecord& pin : pins_) {
    writer.WriteId(pin.timeline);
    writer.WritePosition(pin.position);
    writer.WriteU8(pin.old_state ? kFlagOldState : 0);
  }
  return bytes;
}

// Reads a whole catalogue, and refuses one that no sequence of entries leads to: what the rest of
// the store takes for granted (records that exist, chains of parents that end) holds for damaged
// bytes too.
class CatalogueDecoder {
 public:
  explicit CatalogueDecoder(absl::string_view bytes) : reader_(bytes, kCatalogueVersion) {}

  absl::StatusOr<Catalogue> Decode() {
    Catalogue next;  // its next_*_id are put in at the end: adding records moves them
    reader_.ReadId(&next.next_volume_id_);
    reader_.ReadId(&next.next_timeline_id_);
    reader_.ReadId(&next.next_snapshot_id_);
    reader_.ReadId(&next.next_group_id_);
    const bool good = ReadEach(&CatalogueDecoder::ReadVolume) &&
                      ReadEach(&CatalogueDecoder::ReadTimeline) &&
                      ReadEach(&CatalogueDecoder::ReadSnapshot) &&
                      ReadEach(&CatalogueDecoder::ReadStream) && ReadPins() && reader_.finished() &&
                      CheckWhole() && result_.next_volume_id_ <= next.next_volume_id_ &&
                      result_.next_timeline_id_ <= next.next_timeline_id_ &&
                      result_.next_snapshot_id_ <= next.next_snapshot_id_ &&
                      result_.next_group_id_ <= next.next_group_id_;
    if (!good) {
      return absl::DataLossError(
          absl::StrCat("the catalogue does not decode near byte ", reader_.position(),
                       "; it is damaged or of a newer version: rebuild the map from the log"));
    }
    result_.next_volume_id_ = next.next_volume_id_;
    result_.next_timeline_id_ = next.next_timeline_id_;
    result_.next_snapshot_id_ = next.next_snapshot_id_;
    result_.next_group_id_ = next.next_group_id_;
    return std::move(result_);
  }

 private:
  using ReadOne = bool (CatalogueDecoder::*)();

  // A count and that many records; false at the first that is not good.
  bool ReadEach(ReadOne read_one) {
    const uint64_t count = reader_.ReadVarint64();
    for (uint64_t i = 0; i < count; ++i) {
      if (!(this->*read_one)() || reader_.failed()) return false;
    }
    return !reader_.failed();
  }

  static bool IsSize(uint64_t size_bytes) {
    return size_bytes > 0 && size_bytes <= kMaxVolumeBytes && size_bytes % kBlockSize == 0;
  }
  // Records stand in the order of their ids, each once, and none is 0.
  template <typename Map, typename IdType>
  static bool IsNext(const Map& map, IdType id) {
    return id != IdType() && (map.empty() || map.rbegin()->first < id);
  }

  bool ReadVolume() {
    VolumeRecord volume;
    reader_.ReadId(&volume.id);
    volume.name = reader_.ReadName();
    volume.size_bytes = reader_.ReadVarint64();
    volume.ack = reader_.ReadU8();
    volume.on_set_loss = reader_.ReadU8();
    reader_.ReadId(&volume.current_timeline);
    volume.created = reader_.ReadStamp();
    const bool good = IsNext(result_.volumes_, volume.id) && IsCatalogueName(volume.name) &&
                      result_.FindVolume(volume.name) == nullptr && IsSize(volume.size_bytes) &&
                      volume.ack <= 1 && volume.on_set_loss <= 1 &&
                      result_.volumes_.size() < kMaxVolumes;
    if (good) result_.AddVolume(std::move(volume));
    return good;
  }

  bool ReadTimeline() {
    TimelineRecord timeline;
    reader_.ReadId(&timeline.id);
    reader_.ReadId(&timeline.volume);
    reader_.ReadId(&timeline.parent);
    reader_.ReadPosition(&timeline.fork);
    reader_.ReadPosition(&timeline.opened);
    reader_.ReadPosition(&timeline.current_epoch);
    const bool orphan = timeline.parent == TimelineId();
    // A parent is older, so it was read before: chains end. Its volume may be gone (a clone lives
    // on).
    const bool good = IsNext(result_.timelines_, timeline.id) && timeline.volume != VolumeId() &&
                      orphan == (timeline.fork == kFirstPosition) &&
                      (orphan || result_.timelines_.contains(timeline.parent)) &&
                      (orphan || timeline.fork < timeline.opened) &&
                      timeline.opened <= timeline.current_epoch;
    if (good) result_.AddTimeline(timeline);
    return good;
  }

  bool ReadSnapshot() {
    SnapshotRecord snapshot;
    reader_.ReadId(&snapshot.id);
    reader_.ReadId(&snapshot.volume);
    reader_.ReadId(&snapshot.timeline);
    reader_.ReadPosition(&snapshot.position);
    snapshot.name = reader_.ReadName();
    reader_.ReadId(&snapshot.group);
    snapshot.group_members = reader_.ReadIds(kMaxGroupMembers);
    snapshot.created = reader_.ReadStamp();
    snapshot.size_bytes = reader_.ReadVarint64();
    snapshot.before_rollback = (reader_.ReadFlags(kFlagBeforeRollback) & kFlagBeforeRollback) != 0;
    const auto timeline = result_.timelines_.find(snapshot.timeline);
    const std::vector<VolumeId>& members = snapshot.group_members;
    const std::set<VolumeId> distinct(members.begin(), members.end());
    const bool grouped = snapshot.group != GroupId();
    const bool good =
        IsNext(result_.snapshots_, snapshot.id) && timeline != result_.timelines_.end() &&
        timeline->second.volume == snapshot.volume && result_.volumes_.contains(snapshot.volume) &&
        snapshot.position > timeline->second.opened &&
        snapshot.position <= timeline->second.current_epoch &&
        (IsCatalogueName(snapshot.name) || IsInternalSnapshotName(snapshot.name)) &&
        result_.FindSnapshot(snapshot.volume, snapshot.name) == nullptr &&
        IsSize(snapshot.size_bytes) && distinct.size() == members.size() &&
        grouped == distinct.contains(snapshot.volume) && grouped == !members.empty();
    if (!good) return false;
    result_.next_group_id_ = std::max(result_.next_group_id_, snapshot.group.Next());
    result_.AddSnapshot(std::move(snapshot));
    return true;
  }

  bool ReadStream() {
    VolumeId id;
    StreamRecord stream;
    reader_.ReadId(&id);
    reader_.ReadPosition(&stream.applied);
    stream.last_stamp = reader_.ReadStamp();
    const uint64_t count = reader_.ReadVarint64();
    for (uint64_t i = 0; i < count && !reader_.failed(); ++i) {
      Position first;
      reader_.ReadPosition(&first);
      if (!stream.generations.empty() &&
          (first.generation <= stream.generations.back().generation ||
           first.seq <= stream.generations.back().seq)) {
        return false;
      }
      stream.generations.push_back(first);
    }
    const bool known = id == kCatalogueVolume || result_.volumes_.contains(id);
    const bool in_order = result_.streams_.empty() || result_.streams_.rbegin()->first < id;
    const bool covered = stream.generations.empty()
                             ? stream.applied == kFirstPosition
                             : stream.generations.back().generation == stream.applied.generation &&
                                   stream.generations.back().seq <= stream.applied.seq;
    if (!known || !in_order || !covered) return false;
    result_.streams_[id] = std::move(stream);
    return true;
  }

  // Only where there are any.
  bool ReadPins() {
    if (reader_.finished()) return true;
    return ReadEach(&CatalogueDecoder::ReadPin) && !result_.pins_.empty();
  }

  bool ReadPin() {
    PinRecord pin;
    reader_.ReadId(&pin.timeline);
    reader_.ReadPosition(&pin.position);
    pin.old_state = (reader_.ReadFlags(kFlagOldState) & kFlagOldState) != 0;
    const auto timeline = result_.timelines_.find(pin.timeline);
    const std::vector<PinRecord>& pins = result_.pins_;
    const bool good = timeline != result_.timelines_.end() &&
                      pin.position > timeline->second.opened &&
                      (pins.empty() || std::tie(pins.back().timeline, pins.back().position) <
                                           std::tie(pin.timeline, pin.position));
    if (good) result_.AddPin(pin);
    return good;
  }

  // What can only be asked when all is read.
  bool CheckWhole() const {
    for (const auto& [id, volume] : result_.volumes_) {
      const auto timeline = result_.timelines_.find(volume.current_timeline);
      if (timeline == result_.timelines_.end() || timeline->second.volume != id) return false;
      if (!result_.streams_.contains(id)) return false;
    }
    for (const auto& [id, timeline] : result_.timelines_) {
      // Of a volume that was deleted only what others need is left.
      if (!result_.volumes_.contains(timeline.volume) && !result_.retained_.contains(id)) {
        return false;
      }
    }
    return true;
  }

  RecordReader reader_;
  Catalogue result_;
};

absl::StatusOr<Catalogue> Catalogue::Decode(absl::string_view bytes) {
  return CatalogueDecoder(bytes).Decode();
}

}  // namespace twofold
