// The bodies of what the cleaner logs (M15, M17): docs/formats/map.md, "Moved blocks". Pure.
//
// A kMoved entry carries payload that lay in another segment, in the order of its blocks there, and
// says of each block what it is. A kMovedZeros entry repeats records without payload. Opening a
// store makes the forwarding entries and live bits anew from them; a rebuild takes the identities,
// as if the blocks had been written there (M2: the newer place wins).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/base/types.h"
#include "storage/log/entry.h"

namespace twofold {

// Consecutive payload blocks of the source segment that hold consecutive blocks of one entry.
struct MovedPiece {
  uint32_t source_block = 0;  // of the first one, in the source segment
  uint32_t count = 0;
  VolumeId volume;
  TimelineId timeline;
  BlockIndex block;   // of the first one, in the volume
  Position position;  // of the entry that wrote them, and its stamp (R35)
  WallNanos stamp = 0;

  uint32_t source_end() const { return source_block + count; }
  bool operator==(const MovedPiece&) const = default;
};

// The body of a kMoved entry: its payload blocks are those of the pieces, in order.
struct MovedBlocks {
  SegmentNumber source;
  std::vector<MovedPiece> pieces;  // ascending by source block

  uint32_t block_count() const;
  // Appends a piece, or makes the last one longer where it goes on there.
  void Add(const MovedPiece& piece);
  bool operator==(const MovedBlocks&) const = default;
};
// More than fits an entry is for the caller to cut: a piece takes kMaxMovedPieceBytes at most.
inline constexpr size_t kMaxMovedPieceBytes = 8 * 10;
std::string EncodeMovedBlocks(const MovedBlocks& moved);
// kDataLoss for anything else than one encoding.
absl::StatusOr<MovedBlocks> DecodeMovedBlocks(absl::string_view body);

// A trim or write-zeroes as it was recorded.
struct MovedZero {
  VolumeId volume;
  TimelineId timeline;
  BlockRange range;
  Position position;
  WallNanos stamp = 0;
  bool operator==(const MovedZero&) const = default;
};

// The body of a kMovedZeros entry: piece `index` of `count` of all zero records of the source. They
// count once all pieces stand in one segment, one after another.
struct MovedZeros {
  SegmentNumber source;
  uint32_t index = 0;
  uint32_t count = 0;
  std::vector<MovedZero> zeros;
  bool operator==(const MovedZeros&) const = default;
};
inline constexpr size_t kMaxMovedZeroBytes = 7 * 10;
inline constexpr size_t kMaxMovedHeadBytes = 1 + 4 * 10;
std::string EncodeMovedZeros(const MovedZeros& moved);
absl::StatusOr<MovedZeros> DecodeMovedZeros(absl::string_view body);

}  // namespace twofold
