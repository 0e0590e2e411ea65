// Blocks that the cleaner has moved (M15, M16).
#include "storage/base/check.h"
#include "storage/map/extent_map_impl.h"

namespace twofold {

void ExtentMap::Impl::TakeMoved(const MovedBlocks& moved, LogAddress target,
                                const LiveBitmap& live) {
  for (const MovedPiece& piece : moved.pieces) {
    forwarding_.Add(moved.source, piece.source_block, piece.count, target);
    // What died while it was copied is dead there as well.
    for (uint32_t i = 0; i < piece.count;) {
      uint32_t end = i;
      while (end < piece.count && live.Test(piece.source_block + end)) ++end;
      if (end > i) {
        table_.MarkDead({moved.source, piece.source_block + i}, end - i);
        table_.MarkLive({target.segment, target.block + i}, end - i);
      }
      i = end + 1;
    }
    target.block += piece.count;
  }
}

void ExtentMap::Impl::TakeMovedZeros(SegmentNumber source, SegmentNumber target) {
  const auto found = table_.segments().find(source);
  if (found == table_.segments().end() || found->second.zero_blocks == 0) return;
  const uint64_t blocks = found->second.zero_blocks;
  table_.DropZeroBlocks(source, blocks);
  table_.AddZeroBlocks(target, blocks);
  forwarding_.MoveZeros(source, target);
}

}  // namespace twofold
