#include "storage/map/key_codec.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"

namespace twofold {
namespace {

// Lengths of whole keys: the table's byte, 8 bytes a number, 16 a position.
constexpr size_t kChunkKeyBytes = kChunkPrefixBytes + 16;
constexpr size_t kVersionKeyBytes = 1 + 8 + 16 + 8;
constexpr size_t kDeadKeyBytes = 1 + 8 + 16 + 16 + 8 + 8 + 16;
constexpr size_t kSegmentKeyBytes = 1 + 8;
constexpr size_t kTombstoneKeyBytes = 1 + 8 + 16;
constexpr size_t kJobKeyBytes = 1 + 8;
constexpr size_t kLineageKeyBytes = 1 + 8;
constexpr size_t kSortRunKeyBytes = 1 + 8 + 8 + 16 + 8 + 8;
constexpr size_t kSortZeroKeyBytes = 1 + 8 + 8 + 16 + 8;

class KeyWriter {
 public:
  KeyWriter(Table table, size_t length_bytes) : writer_(&key_) {
    key_.reserve(length_bytes);
    writer_.WriteU8(static_cast<uint8_t>(table));
  }
  KeyWriter(const KeyWriter&) = delete;
  KeyWriter& operator=(const KeyWriter&) = delete;

  KeyWriter& Number(uint64_t number) {
    writer_.WriteU64Be(number);
    return *this;
  }
  KeyWriter& Ascending(const Position& position) {
    return Number(position.generation.value()).Number(position.seq.value());
  }
  // Every bit the other way round: the latest position comes first.
  KeyWriter& Descending(const Position& position) {
    return Number(~position.generation.value()).Number(~position.seq.value());
  }
  std::string Finish() { return std::move(key_); }

 private:
  std::string key_;
  ByteWriter writer_;
};

Position ReadAscending(ByteReader& reader) {
  Position position;
  position.generation = Generation(reader.ReadU64Be());
  position.seq = Seq(reader.ReadU64Be());
  return position;
}

Position ReadDescending(ByteReader& reader) {
  Position position;
  position.generation = Generation(~reader.ReadU64Be());
  position.seq = Seq(~reader.ReadU64Be());
  return position;
}

bool IsKey(absl::string_view key, Table table, size_t length_bytes) {
  return key.size() == length_bytes && key[0] == static_cast<char>(table);
}

absl::Status NotAKey(absl::string_view what, absl::string_view key) {
  return absl::DataLossError(absl::StrCat("map: not the key of a ", what, ": ",
                                          absl::BytesToHexString(key.substr(0, 80)), " (",
                                          key.size(), " bytes); rebuild the map from the log"));
}

// What follows the table's byte.
ByteReader AfterTable(absl::string_view key) { return ByteReader(key.substr(1)); }

// kChunk and kPartial keys are alike.
std::string EncodeNewestFirst(Table table, const ChunkKey& key) {
  return KeyWriter(table, kChunkKeyBytes)
      .Number(key.timeline.value())
      .Number(key.chunk)
      .Descending(key.epoch)
      .Finish();
}

ChunkKey DecodeNewestFirst(absl::string_view key) {
  ByteReader reader = AfterTable(key);
  ChunkKey decoded;
  decoded.timeline = TimelineId(reader.ReadU64Be());
  decoded.chunk = reader.ReadU64Be();
  decoded.epoch = ReadDescending(reader);
  return decoded;
}

}  // namespace

std::string MetaKey(absl::string_view name) {
  return absl::StrCat(TablePrefix(Table::kMeta), name);
}

std::string EncodeChunkKey(const ChunkKey& key) { return EncodeNewestFirst(Table::kChunk, key); }

absl::StatusOr<ChunkKey> DecodeChunkKey(absl::string_view key) {
  if (!IsKey(key, Table::kChunk, kChunkKeyBytes)) return NotAKey("chunk", key);
  return DecodeNewestFirst(key);
}

std::string EncodePartialKey(const ChunkKey& key) {
  return EncodeNewestFirst(Table::kPartial, key);
}

absl::StatusOr<ChunkKey> DecodePartialKey(absl::string_view key) {
  if (!IsKey(key, Table::kPartial, kChunkKeyBytes)) return NotAKey("partial chunk", key);
  return DecodeNewestFirst(key);
}

std::string ChunkPrefix(TimelineId timeline, uint64_t chunk) {
  return KeyWriter(Table::kChunk, kChunkPrefixBytes)
      .Number(timeline.value())
      .Number(chunk)
      .Finish();
}

std::string TimelinePrefix(Table table, TimelineId timeline) {
  return KeyWriter(table, 1 + 8).Number(timeline.value()).Finish();
}

std::string TablePrefix(Table table) { return std::string(1, static_cast<char>(table)); }

std::string PrefixEnd(std::string prefix) {
  while (!prefix.empty() && prefix.back() == '\xff') prefix.pop_back();
  TF_CHECK(!prefix.empty());
  prefix.back() = static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
  return prefix;
}

std::string EncodeVersionKey(const ChunkKey& key) {
  return KeyWriter(Table::kVersion, kVersionKeyBytes)
      .Number(key.timeline.value())
      .Ascending(key.epoch)
      .Number(key.chunk)
      .Finish();
}

absl::StatusOr<ChunkKey> DecodeVersionKey(absl::string_view key) {
  if (!IsKey(key, Table::kVersion, kVersionKeyBytes)) return NotAKey("version", key);
  ByteReader reader = AfterTable(key);
  ChunkKey decoded;
  decoded.timeline = TimelineId(reader.ReadU64Be());
  decoded.epoch = ReadAscending(reader);
  decoded.chunk = reader.ReadU64Be();
  return decoded;
}

std::string EncodeDeadKey(const DeadKey& key) {
  return KeyWriter(Table::kDead, kDeadKeyBytes)
      .Number(key.timeline.value())
      .Ascending(key.death)
      .Ascending(key.birth)
      .Number(key.chunk)
      .Number(key.block.value())
      .Ascending(key.position)
      .Finish();
}

absl::StatusOr<DeadKey> DecodeDeadKey(absl::string_view key) {
  if (!IsKey(key, Table::kDead, kDeadKeyBytes)) return NotAKey("dead run", key);
  ByteReader reader = AfterTable(key);
  DeadKey decoded;
  decoded.timeline = TimelineId(reader.ReadU64Be());
  decoded.death = ReadAscending(reader);
  decoded.birth = ReadAscending(reader);
  decoded.chunk = reader.ReadU64Be();
  decoded.block = BlockIndex(reader.ReadU64Be());
  decoded.position = ReadAscending(reader);
  return decoded;
}

std::string EncodeSegmentKey(Table table, SegmentNumber segment) {
  TF_CHECK(table == Table::kLive || table == Table::kUsage || table == Table::kForwarding);
  return KeyWriter(table, kSegmentKeyBytes).Number(segment.value()).Finish();
}

absl::StatusOr<SegmentNumber> DecodeSegmentKey(absl::string_view key) {
  if (!IsKey(key, Table::kLive, kSegmentKeyBytes) && !IsKey(key, Table::kUsage, kSegmentKeyBytes) &&
      !IsKey(key, Table::kForwarding, kSegmentKeyBytes)) {
    return NotAKey("segment", key);
  }
  return SegmentNumber(AfterTable(key).ReadU64Be());
}

std::string EncodeTombstoneKey(const TombstoneKey& key) {
  return KeyWriter(Table::kTombstone, kTombstoneKeyBytes)
      .Number(key.timeline.value())
      .Ascending(key.position)
      .Finish();
}

absl::StatusOr<TombstoneKey> DecodeTombstoneKey(absl::string_view key) {
  if (!IsKey(key, Table::kTombstone, kTombstoneKeyBytes)) return NotAKey("tombstone", key);
  ByteReader reader = AfterTable(key);
  TombstoneKey decoded;
  decoded.timeline = TimelineId(reader.ReadU64Be());
  decoded.position = ReadAscending(reader);
  return decoded;
}

std::string EncodeLineageKey(TimelineId timeline) {
  return TimelinePrefix(Table::kLineage, timeline);
}

absl::StatusOr<TimelineId> DecodeLineageKey(absl::string_view key) {
  if (!IsKey(key, Table::kLineage, kLineageKeyBytes)) return NotAKey("lineage", key);
  return TimelineId(AfterTable(key).ReadU64Be());
}

std::string EncodeSortRunKey(const SortRunKey& key) {
  return KeyWriter(Table::kSortRun, kSortRunKeyBytes)
      .Number(key.timeline.value())
      .Number(key.chunk)
      .Ascending(key.position)
      .Number(key.place.segment.value())
      .Number(key.place.block)
      .Finish();
}

absl::StatusOr<SortRunKey> DecodeSortRunKey(absl::string_view key) {
  if (!IsKey(key, Table::kSortRun, kSortRunKeyBytes)) return NotAKey("run to be sorted", key);
  ByteReader reader = AfterTable(key);
  SortRunKey decoded;
  decoded.timeline = TimelineId(reader.ReadU64Be());
  decoded.chunk = reader.ReadU64Be();
  decoded.position = ReadAscending(reader);
  decoded.place.segment = SegmentNumber(reader.ReadU64Be());
  decoded.place.block = static_cast<uint32_t>(reader.ReadU64Be());
  return decoded;
}

std::string EncodeSortZeroKey(const SortZeroKey& key) {
  return KeyWriter(Table::kSortZero, kSortZeroKeyBytes)
      .Number(key.timeline.value())
      .Number(key.first.value())
      .Ascending(key.position)
      .Number(key.segment.value())
      .Finish();
}

absl::StatusOr<SortZeroKey> DecodeSortZeroKey(absl::string_view key) {
  if (!IsKey(key, Table::kSortZero, kSortZeroKeyBytes)) return NotAKey("zero to be sorted", key);
  ByteReader reader = AfterTable(key);
  SortZeroKey decoded;
  decoded.timeline = TimelineId(reader.ReadU64Be());
  decoded.first = BlockIndex(reader.ReadU64Be());
  decoded.position = ReadAscending(reader);
  decoded.segment = SegmentNumber(reader.ReadU64Be());
  return decoded;
}

std::string EncodeJobKey(uint64_t number) {
  return KeyWriter(Table::kJob, kJobKeyBytes).Number(number).Finish();
}

absl::StatusOr<uint64_t> DecodeJobKey(absl::string_view key) {
  if (!IsKey(key, Table::kJob, kJobKeyBytes)) return NotAKey("job", key);
  return AfterTable(key).ReadU64Be();
}

}  // namespace twofold
