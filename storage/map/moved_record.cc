#include "storage/map/moved_record.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"

namespace twofold {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint64_t kMaxSegmentBlocks = kMaxSegmentBytes / kBlockSize;
constexpr uint64_t kMaxVolumeBlocks = kMaxVolumeBytes / kBlockSize;

absl::Status Damaged(absl::string_view what, absl::string_view bytes) {
  return absl::DataLossError(
      absl::StrCat("a record of ", what, " does not decode (", bytes.size(), " bytes)"));
}

// Stamps are close together: the difference, small numbers of either sign first.
void WriteStamp(ByteWriter& writer, WallNanos stamp, WallNanos* previous) {
  const uint64_t difference = static_cast<uint64_t>(stamp) - static_cast<uint64_t>(*previous);
  *previous = stamp;
  writer.WriteVarint64(difference << 1 ^ (0 - (difference >> 63)));
}

WallNanos ReadStamp(ByteReader& reader, WallNanos* previous) {
  const uint64_t folded = reader.ReadVarint64();
  const uint64_t difference = folded >> 1 ^ (0 - (folded & 1));
  *previous = static_cast<WallNanos>(static_cast<uint64_t>(*previous) + difference);
  return *previous;
}

void WritePosition(ByteWriter& writer, const Position& position) {
  writer.WriteVarint64(position.generation.value());
  writer.WriteVarint64(position.seq.value());
}

Position ReadPosition(ByteReader& reader) {
  Position position;
  position.generation = Generation(reader.ReadVarint64());
  position.seq = Seq(reader.ReadVarint64());
  return position;
}

bool Continues(const MovedPiece& a, const MovedPiece& b) {
  return a.source_end() == b.source_block && a.volume == b.volume && a.timeline == b.timeline &&
         a.block + BlockCount(a.count) == b.block && a.position == b.position && a.stamp == b.stamp;
}

}  // namespace

uint32_t MovedBlocks::block_count() const {
  uint32_t count = 0;
  for (const MovedPiece& piece : pieces) count += piece.count;
  return count;
}

void MovedBlocks::Add(const MovedPiece& piece) {
  TF_CHECK(piece.count > 0);
  if (!pieces.empty() && Continues(pieces.back(), piece)) {
    pieces.back().count += piece.count;
    return;
  }
  TF_CHECK(pieces.empty() || pieces.back().source_end() <= piece.source_block);
  pieces.push_back(piece);
}

std::string EncodeMovedBlocks(const MovedBlocks& moved) {
  std::string body;
  ByteWriter writer(&body);
  writer.WriteU8(kVersion);
  writer.WriteVarint64(moved.source.value());
  writer.WriteVarint64(moved.pieces.size());
  uint32_t previous_end = 0;
  WallNanos stamp = 0;
  for (const MovedPiece& piece : moved.pieces) {
    writer.WriteVarint64(piece.source_block - previous_end);
    writer.WriteVarint64(piece.count);
    writer.WriteVarint64(piece.volume.value());
    writer.WriteVarint64(piece.timeline.value());
    writer.WriteVarint64(piece.block.value());
    WritePosition(writer, piece.position);
    WriteStamp(writer, piece.stamp, &stamp);
    previous_end = piece.source_end();
  }
  return body;
}

absl::StatusOr<MovedBlocks> DecodeMovedBlocks(absl::string_view body) {
  ByteReader reader(body);
  if (reader.ReadU8() != kVersion) reader.Fail();
  MovedBlocks moved;
  moved.source = SegmentNumber(reader.ReadVarint64());
  const uint64_t pieces = reader.ReadVarint64();
  if (moved.source == SegmentNumber() || pieces == 0 || pieces > kMaxEntryBlocks) reader.Fail();
  uint64_t previous_end = 0;
  uint64_t blocks = 0;
  WallNanos stamp = 0;
  for (uint64_t i = 0; i < pieces && !reader.failed(); ++i) {
    const uint64_t gap = reader.ReadVarint64();
    const uint64_t count = reader.ReadVarint64();
    if (gap > kMaxSegmentBlocks - previous_end || count == 0 || count > kMaxEntryBlocks ||
        count > kMaxSegmentBlocks - previous_end - gap) {
      reader.Fail();
      break;
    }
    MovedPiece piece;
    piece.source_block = static_cast<uint32_t>(previous_end + gap);
    piece.count = static_cast<uint32_t>(count);
    piece.volume = VolumeId(reader.ReadVarint64());
    piece.timeline = TimelineId(reader.ReadVarint64());
    piece.block = BlockIndex(reader.ReadVarint64());
    piece.position = ReadPosition(reader);
    piece.stamp = ReadStamp(reader, &stamp);
    if (piece.block.value() > kMaxVolumeBlocks - count) reader.Fail();
    if (!moved.pieces.empty() && Continues(moved.pieces.back(), piece)) reader.Fail();
    moved.pieces.push_back(piece);
    previous_end = piece.source_end();
    blocks += count;
  }
  if (!reader.finished() || blocks > kMaxEntryBlocks) return Damaged("moved blocks", body);
  return moved;
}

std::string EncodeMovedZeros(const MovedZeros& moved) {
  std::string body;
  ByteWriter writer(&body);
  writer.WriteU8(kVersion);
  writer.WriteVarint64(moved.source.value());
  writer.WriteVarint64(moved.index);
  writer.WriteVarint64(moved.count);
  writer.WriteVarint64(moved.zeros.size());
  WallNanos stamp = 0;
  for (const MovedZero& zero : moved.zeros) {
    writer.WriteVarint64(zero.volume.value());
    writer.WriteVarint64(zero.timeline.value());
    writer.WriteVarint64(zero.range.first.value());
    writer.WriteVarint64(zero.range.count.value());
    WritePosition(writer, zero.position);
    WriteStamp(writer, zero.stamp, &stamp);
  }
  return body;
}

absl::StatusOr<MovedZeros> DecodeMovedZeros(absl::string_view body) {
  ByteReader reader(body);
  if (reader.ReadU8() != kVersion) reader.Fail();
  MovedZeros moved;
  moved.source = SegmentNumber(reader.ReadVarint64());
  const uint64_t index = reader.ReadVarint64();
  const uint64_t count = reader.ReadVarint64();
  const uint64_t zeros = reader.ReadVarint64();
  if (moved.source == SegmentNumber() || index >= count || count > kMaxSegmentBlocks ||
      zeros == 0 || zeros > kMaxEntryBodyBytes) {
    reader.Fail();
  }
  moved.index = static_cast<uint32_t>(index);
  moved.count = static_cast<uint32_t>(count);
  WallNanos stamp = 0;
  for (uint64_t i = 0; i < zeros && !reader.failed(); ++i) {
    MovedZero zero;
    zero.volume = VolumeId(reader.ReadVarint64());
    zero.timeline = TimelineId(reader.ReadVarint64());
    zero.range.first = BlockIndex(reader.ReadVarint64());
    zero.range.count = BlockCount(reader.ReadVarint64());
    zero.position = ReadPosition(reader);
    zero.stamp = ReadStamp(reader, &stamp);
    if (zero.range.empty() || zero.range.first.value() > kMaxVolumeBlocks ||
        zero.range.count.value() > kMaxVolumeBlocks - zero.range.first.value()) {
      reader.Fail();
    }
    moved.zeros.push_back(zero);
  }
  if (!reader.finished()) return Damaged("moved zeros", body);
  return moved;
}

}  // namespace twofold
