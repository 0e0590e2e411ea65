#include "storage/map/value_codec.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"

namespace twofold {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint64_t kMaxVolumeBlocks = kMaxVolumeBytes / kBlockSize;

absl::Status Damaged(absl::string_view what, absl::string_view bytes) {
  return absl::DataLossError(absl::StrCat("map: ", what, " does not decode (", bytes.size(),
                                          " bytes); rebuild the map from the log"));
}

// Reads the version of a value; another one sets the reader's failure.
void ReadVersion(ByteReader& reader) {
  if (reader.ReadU8() != kVersion) reader.Fail();
}

}  // namespace

std::string EncodeUsage(const SegmentUsage& usage) {
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.WriteU8(kVersion);
  writer.WriteVarint64(usage.live_blocks);
  writer.WriteVarint64(usage.zero_blocks);
  return bytes;
}

absl::StatusOr<SegmentUsage> DecodeUsage(SegmentNumber segment, absl::string_view bytes) {
  ByteReader reader(bytes);
  ReadVersion(reader);
  const uint64_t live_blocks = reader.ReadVarint64();
  const uint64_t zero_blocks = reader.ReadVarint64();
  if (!reader.finished() || live_blocks > kMaxSegmentBytes / kBlockSize) {
    return Damaged(absl::StrCat("usage of segment ", segment.value()), bytes);
  }
  return SegmentUsage{segment, static_cast<uint32_t>(live_blocks), zero_blocks};
}

std::string EncodeDeadCount(BlockCount blocks) {
  TF_CHECK(blocks.value() >= 1 && blocks.value() <= kChunkBlocks) << blocks;
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.WriteU8(kVersion);
  writer.WriteVarint64(blocks.value());
  return bytes;
}

absl::StatusOr<BlockCount> DecodeDeadCount(absl::string_view bytes) {
  ByteReader reader(bytes);
  ReadVersion(reader);
  const uint64_t blocks = reader.ReadVarint64();
  if (!reader.finished() || blocks == 0 || blocks > kChunkBlocks) {
    return Damaged("count of a dead run", bytes);
  }
  return BlockCount(blocks);
}

std::string EncodeTombstone(const Tombstone& tombstone) {
  TF_CHECK(!tombstone.range.empty());
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.WriteU8(kVersion);
  writer.WriteVarint64(tombstone.range.first.value());
  writer.WriteVarint64(tombstone.range.count.value());
  writer.WriteVarint64(tombstone.segment.value());
  writer.WriteVarint64(tombstone.epoch.generation.value());
  writer.WriteVarint64(tombstone.epoch.seq.value());
  return bytes;
}

absl::StatusOr<Tombstone> DecodeTombstone(absl::string_view bytes) {
  ByteReader reader(bytes);
  ReadVersion(reader);
  const uint64_t first = reader.ReadVarint64();
  const uint64_t count = reader.ReadVarint64();
  const SegmentNumber segment(reader.ReadVarint64());
  const Generation generation(reader.ReadVarint64());
  const Seq seq(reader.ReadVarint64());
  if (!reader.finished() || count == 0 || first > kMaxVolumeBlocks ||
      count > kMaxVolumeBlocks - first) {
    return Damaged("tombstone", bytes);
  }
  return Tombstone{{BlockIndex(first), BlockCount(count)}, segment, {generation, seq}};
}

}  // namespace twofold
