#include "replication/volume/block_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "storage/base/limits.h"

namespace twofold {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

BlockRange Range(uint64_t first, uint64_t count) { return {BlockIndex(first), BlockCount(count)}; }

TEST(BlockSplit, RefusesRangesThatPassTheEnd) {
  EXPECT_TRUE(CheckByteRange(0, 4096, 4096).ok());
  EXPECT_TRUE(CheckByteRange(4095, 1, 4096).ok());
  EXPECT_TRUE(absl::IsOutOfRange(CheckByteRange(4096, 1, 4096)));
  EXPECT_TRUE(absl::IsOutOfRange(CheckByteRange(1, 4096, 4096)));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckByteRange(0, 0, 4096)));
  // Offset and length whose sum is past what 64 bits hold.
  const uint64_t huge = std::numeric_limits<uint64_t>::max();
  EXPECT_TRUE(absl::IsOutOfRange(CheckByteRange(huge, huge, 4096)));
  EXPECT_TRUE(absl::IsOutOfRange(CheckByteRange(4096, huge - 4095, 8192)));
}

TEST(BlockSplit, TellsWholeBlocksFromPartialOnes) {
  struct Case {
    uint64_t offset, length;
    BlockRange covering, whole;
    std::vector<BlockIndex> partial;
  };
  const Case cases[] = {
      {0, 4096, Range(0, 1), Range(0, 1), {}},
      {4096, 12288, Range(1, 3), Range(1, 3), {}},
      {1, 1, Range(0, 1), Range(1, 0), {BlockIndex(0)}},
      {0, 1, Range(0, 1), Range(0, 0), {BlockIndex(0)}},
      {4095, 1, Range(0, 1), Range(1, 0), {BlockIndex(0)}},
      {4095, 2, Range(0, 2), Range(1, 0), {BlockIndex(0), BlockIndex(1)}},
      {100, 8192, Range(0, 3), Range(1, 1), {BlockIndex(0), BlockIndex(2)}},
      {100, 3996, Range(0, 1), Range(1, 0), {BlockIndex(0)}},
      {4096, 4097, Range(1, 2), Range(1, 1), {BlockIndex(2)}},
      {512, 7680, Range(0, 2), Range(1, 1), {BlockIndex(0)}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(testing::Message() << c.offset << " + " << c.length);
    EXPECT_EQ(CoveringBlocks(c.offset, c.length), c.covering);
    EXPECT_EQ(WholeBlocks(c.offset, c.length).count, c.whole.count);
    if (!c.whole.empty()) {
      EXPECT_EQ(WholeBlocks(c.offset, c.length), c.whole);
    }
    EXPECT_THAT(PartialBlocks(c.offset, c.length), testing::ElementsAreArray(c.partial));
  }
}

TEST(BlockSplit, KeepsOldBytesOutsideTheRangeOnly) {
  const std::vector<std::byte> old_block(kBlockSize, std::byte{'o'});
  for (const auto& [offset, length] : {std::pair<uint64_t, uint64_t>{4096 + 10, 20},
                                       {4096 + 10, 9000},
                                       {100, 4096},
                                       {4096, 1},
                                       {4096 + 4095, 1}}) {
    SCOPED_TRACE(testing::Message() << offset << " + " << length);
    std::vector<std::byte> block(kBlockSize, std::byte{'n'});
    KeepOldBytes(offset, length, BlockIndex(1), old_block, absl::MakeSpan(block));
    for (uint64_t i = 0; i < kBlockSize; ++i) {
      const bool covered = 4096 + i >= offset && 4096 + i < offset + length;
      ASSERT_EQ(block[i], covered ? std::byte{'n'} : std::byte{'o'}) << "byte " << i;
    }
  }
}

TEST(BlockSplit, CutsIntoEntriesOfBoundedLength) {
  EXPECT_THAT(SplitIntoEntries(Range(5, 1)), ElementsAre(Range(5, 1)));
  EXPECT_THAT(SplitIntoEntries(Range(5, kMaxEntryBlocks)), ElementsAre(Range(5, kMaxEntryBlocks)));
  EXPECT_THAT(SplitIntoEntries(Range(5, kMaxEntryBlocks + 1)),
              ElementsAre(Range(5, kMaxEntryBlocks), Range(5 + kMaxEntryBlocks, 1)));
  EXPECT_THAT(SplitIntoEntries(Range(5, 0)), IsEmpty());
}

TEST(BlockSplit, ByteExtentsCoverExactlyWhatWasAsked) {
  const std::vector<BlockExtent> extents = {
      {Range(0, 2), true}, {Range(2, 1), false}, {Range(3, 4), false}, {Range(7, 1), true}};
  EXPECT_THAT(
      ToByteExtents(0, 8 * 4096, extents, 10),
      ElementsAre(ByteExtent{8192, false}, ByteExtent{5 * 4096, true}, ByteExtent{4096, false}));
  EXPECT_THAT(ToByteExtents(100, 8100, extents, 10),
              ElementsAre(ByteExtent{8092, false}, ByteExtent{8, true}));
  EXPECT_THAT(ToByteExtents(100, 8 * 4096 - 200, extents, 1), ElementsAre(ByteExtent{8092, false}));
  // What the last one given covers is not cut short by the bound.
  EXPECT_THAT(ToByteExtents(0, 8 * 4096, extents, 2),
              ElementsAre(ByteExtent{8192, false}, ByteExtent{5 * 4096, true}));
}

}  // namespace
}  // namespace twofold
