// Which payload blocks of a segment are live (M21): the values of table kLive. Pure.
//
// The metadata store keeps one bitmap a segment; checkpoints merge changes into it. Changes say
// what is so, never what to add, so that making them twice does no harm (M9). docs/formats/map.md,
// "Live bitmaps".
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "storage/base/types.h"
#include "storage/log/segment_table.h"

namespace twofold {

class LiveBitmap {
 public:
  // Blocks [first, first + count), which lie within the largest segment.
  void Set(uint32_t first, uint32_t count, bool live);
  bool Test(uint32_t block) const;
  uint32_t CountLive() const;
  uint32_t CountLiveBelow(uint32_t block) const;
  // Calls `visit` with each live block, ascending.
  template <typename Visit>
  void ForEachLive(Visit visit) const {
    for (size_t byte = 0; byte < bits_.size(); ++byte) {
      for (auto left = static_cast<unsigned char>(bits_[byte]); left != 0; left &= left - 1) {
        visit(static_cast<uint32_t>(byte * 8) + static_cast<uint32_t>(std::countr_zero(left)));
      }
    }
  }
  size_t MemoryBytes() const { return bits_.capacity(); }

  // Decode: kDataLoss. Each bitmap has one encoding.
  std::string Encode() const;
  static absl::StatusOr<LiveBitmap> Decode(absl::string_view bytes);

  bool operator==(const LiveBitmap&) const = default;

 private:
  void Trim();

  std::string bits_;  // block i: bit i % 8 of byte i / 8; no zero bytes at the end
};

// The changes of one segment in their final effect: ascending, disjoint, as few as can be.
class LiveDelta {
 public:
  struct Piece {
    uint32_t first = 0;
    uint32_t count = 0;
    bool live = false;
    bool operator==(const Piece&) const = default;
  };

  LiveDelta() = default;
  // `changes` are of one segment, in the order in which they happened: later ones win.
  explicit LiveDelta(absl::Span<const LiveChange> changes);

  const std::vector<Piece>& pieces() const { return pieces_; }
  void ApplyTo(LiveBitmap& bitmap) const;
  // What this does, and then `later`.
  LiveDelta Then(const LiveDelta& later) const;

  // The merge operand. Decode: kDataLoss. Each delta has one encoding.
  std::string Encode() const;
  static absl::StatusOr<LiveDelta> Decode(absl::string_view bytes);

  bool operator==(const LiveDelta&) const = default;

 private:
  explicit LiveDelta(const std::vector<Piece>& in_order);

  std::vector<Piece> pieces_;
};

// The merge operands of `changes`, which may be of many segments and are in the order in which they
// happened; ascending by segment.
std::vector<std::pair<SegmentNumber, std::string>> EncodeLiveChanges(
    absl::Span<const LiveChange> changes);

}  // namespace twofold
