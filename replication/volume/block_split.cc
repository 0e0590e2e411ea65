#include "replication/volume/block_split.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"

namespace twofold {

absl::Status CheckByteRange(uint64_t offset, uint64_t length, uint64_t size_bytes) {
  if (length == 0) return absl::InvalidArgumentError("a request of length 0 means nothing");
  if (offset > size_bytes || length > size_bytes - offset) {
    return absl::OutOfRangeError(absl::StrCat("bytes ", offset, " + ", length,
                                              " pass the end of the export at ", size_bytes));
  }
  return absl::OkStatus();
}

BlockRange CoveringBlocks(uint64_t offset, uint64_t length) {
  const uint64_t first = offset >> kBlockShift;
  const uint64_t last = (offset + length - 1) >> kBlockShift;
  return {BlockIndex(first), BlockCount(last - first + 1)};
}

BlockRange WholeBlocks(uint64_t offset, uint64_t length) {
  const uint64_t first = (offset + kBlockSize - 1) >> kBlockShift;
  const uint64_t end = (offset + length) >> kBlockShift;
  return {BlockIndex(first), BlockCount(end > first ? end - first : 0)};
}

absl::InlinedVector<BlockIndex, 2> PartialBlocks(uint64_t offset, uint64_t length) {
  const BlockRange covering = CoveringBlocks(offset, length);
  const BlockIndex last(covering.end().value() - 1);
  const bool head = offset % kBlockSize != 0;
  const bool tail = (offset + length) % kBlockSize != 0;
  absl::InlinedVector<BlockIndex, 2> blocks;
  if (head || (tail && covering.first == last)) blocks.push_back(covering.first);
  if (tail && covering.first != last) blocks.push_back(last);
  return blocks;
}

void KeepOldBytes(uint64_t offset, uint64_t length, BlockIndex block,
                  absl::Span<const std::byte> old_block, absl::Span<std::byte> new_block) {
  TF_CHECK_EQ(old_block.size(), kBlockSize);
  TF_CHECK_EQ(new_block.size(), kBlockSize);
  const uint64_t block_begin = block.value() << kBlockShift;
  const uint64_t block_end = block_begin + kBlockSize;
  if (offset > block_begin) {
    std::memcpy(new_block.data(), old_block.data(), offset - block_begin);
  }
  const uint64_t end = offset + length;
  if (end < block_end) {
    std::memcpy(new_block.data() + (end - block_begin), old_block.data() + (end - block_begin),
                block_end - end);
  }
}

absl::InlinedVector<BlockRange, 1> SplitIntoEntries(BlockRange range) {
  absl::InlinedVector<BlockRange, 1> pieces;
  const BlockCount most(kMaxEntryBlocks);
  while (!range.empty()) {
    const BlockCount count = std::min(range.count, most);
    pieces.push_back({range.first, count});
    range = {range.first + count, range.count - count};
  }
  return pieces;
}

std::vector<ByteExtent> ToByteExtents(uint64_t offset, uint64_t length,
                                      const std::vector<BlockExtent>& extents, size_t max_extents) {
  std::vector<ByteExtent> result;
  const uint64_t end = offset + length;
  for (const BlockExtent& extent : extents) {
    const uint64_t first_byte = std::max(offset, extent.range.first.value() << kBlockShift);
    const uint64_t last_byte = std::min(end, extent.range.end().value() << kBlockShift);
    if (first_byte >= last_byte) continue;
    const bool hole = !extent.data;
    if (!result.empty() && result.back().hole == hole) {
      result.back().length += last_byte - first_byte;
    } else if (result.size() < max_extents) {
      result.push_back({last_byte - first_byte, hole});
    } else {
      break;
    }
  }
  return result;
}

}  // namespace twofold
