// From byte ranges to blocks: what a request covers, what of it is whole, and how it is cut into
// log entries (R5). Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "replication/volume/mount.h"
#include "storage/base/types.h"
#include "storage/map/extent.h"

namespace twofold {

// kInvalidArgument for length 0, kOutOfRange where the range passes `size_bytes`.
absl::Status CheckByteRange(uint64_t offset, uint64_t length, uint64_t size_bytes);

// Every block that has a byte of the range; `length` > 0.
BlockRange CoveringBlocks(uint64_t offset, uint64_t length);

// The blocks that lie wholly in the range; may be empty.
BlockRange WholeBlocks(uint64_t offset, uint64_t length);

// The blocks that a byte range has only a part of: none, one or two, ascending.
absl::InlinedVector<BlockIndex, 2> PartialBlocks(uint64_t offset, uint64_t length);

// Fills in what a write of the byte range does not say of `block`, one of its partial blocks:
// copies the bytes of `old_block` outside the range into `new_block` (both kBlockSize).
void KeepOldBytes(uint64_t offset, uint64_t length, BlockIndex block,
                  absl::Span<const std::byte> old_block, absl::Span<std::byte> new_block);

// `range` in pieces of at most kMaxEntryBlocks, in order.
absl::InlinedVector<BlockRange, 1> SplitIntoEntries(BlockRange range);

// Block extents as bytes, cut to [offset, offset + length), neighbours of a kind merged, at most
// `max_extents` of them. `extents` cover a beginning of CoveringBlocks(offset, length).
std::vector<ByteExtent> ToByteExtents(uint64_t offset, uint64_t length,
                                      const std::vector<BlockExtent>& extents, size_t max_extents);

}  // namespace twofold
