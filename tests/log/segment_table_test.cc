#include "storage/log/segment_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace twofold {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr SegmentNumber kOne{1};
constexpr SegmentNumber kTwo{2};
constexpr SegmentNumber kThree{3};

SegmentTable TableOfThree() {
  SegmentTable table;
  table.Add(kOne, SegmentState::kSealed);
  table.Add(kTwo, SegmentState::kSealed);
  table.Add(kThree, SegmentState::kOpen);
  return table;
}

TEST(SegmentTable, CountsWhatIsLive) {
  SegmentTable table = TableOfThree();
  table.MarkLive({kOne, 10}, 4);
  table.MarkLive({kTwo, 0}, 2);
  table.MarkDead({kOne, 11}, 1);
  EXPECT_EQ(table.segments().at(kOne).live_blocks, 3);
  EXPECT_EQ(table.segments().at(kTwo).live_blocks, 2);
  EXPECT_EQ(table.live_blocks(), 5);
}

TEST(SegmentTable, HandsOverChangesInOrderOnce) {
  SegmentTable table = TableOfThree();
  table.MarkLive({kOne, 10}, 4);
  table.MarkLive({kOne, 14}, 1);  // Goes on where the last one ends.
  table.MarkDead({kOne, 12}, 1);
  const SegmentTable::Frozen frozen = table.Freeze(kThree, kThree);
  ASSERT_EQ(frozen.changes.size(), 1);
  const std::vector<LiveChange>& changes = frozen.changes[0];
  ASSERT_EQ(changes.size(), 2);
  EXPECT_EQ(changes[0].first, (LogAddress{kOne, 10}));
  EXPECT_EQ(changes[0].count, 5);
  EXPECT_TRUE(changes[0].live);
  EXPECT_FALSE(changes[1].live);
  ASSERT_EQ(frozen.usages.size(), 1);
  EXPECT_EQ(frozen.usages[0].live_blocks, 4);
  const SegmentTable::Frozen again = table.Freeze(kThree, kThree);
  EXPECT_THAT(again.changes, IsEmpty());
  EXPECT_THAT(again.usages, IsEmpty());
}

TEST(SegmentTable, ReleasesOnlySealedSegmentsBeforeReplayAndCatalogue) {
  SegmentTable table = TableOfThree();
  table.Seal(kThree);
  EXPECT_THAT(table.Freeze(kThree, kTwo).dead, ElementsAre(kOne));
  EXPECT_THAT(table.Freeze(kTwo, kThree).dead, ElementsAre(kOne));
  EXPECT_THAT(table.Freeze(kThree, kThree).dead, ElementsAre(kOne, kTwo));
}

TEST(SegmentTable, KeepsSegmentsWithLiveOrZeroBlocks) {
  SegmentTable table = TableOfThree();
  table.MarkLive({kOne, 0}, 1);
  table.AddZeroBlocks(kTwo, 100);
  EXPECT_THAT(table.Freeze(kThree, kThree).dead, IsEmpty());
  table.MarkDead({kOne, 0}, 1);
  table.DropZeroBlocks(kTwo, 100);
  EXPECT_THAT(table.Freeze(kThree, kThree).dead, ElementsAre(kOne, kTwo));
}

TEST(SegmentTable, OffersPinnedSegmentsAgain) {
  SegmentTable table = TableOfThree();
  table.Pin(kOne);
  table.Pin(kOne);
  EXPECT_THAT(table.Release(table.Freeze(kThree, kThree)), ElementsAre(kTwo));
  table.Unpin(kOne);
  EXPECT_THAT(table.Release(table.Freeze(kThree, kThree)), IsEmpty());
  table.Unpin(kOne);
  EXPECT_THAT(table.Release(table.Freeze(kThree, kThree)), ElementsAre(kOne));
  EXPECT_FALSE(table.segments().contains(kOne));
}

TEST(SegmentTable, GoesOnFromWhatACheckpointSays) {
  SegmentTable table;
  table.LoadUsage({.segment = kOne, .live_blocks = 7, .zero_blocks = 3});
  table.Add(kOne, SegmentState::kSealed);
  table.MarkDead({kOne, 0}, 7);
  table.DropZeroBlocks(kOne, 3);
  EXPECT_EQ(table.live_blocks(), 0);
  EXPECT_THAT(table.Freeze(kTwo, kTwo).dead, ElementsAre(kOne));
}

TEST(SegmentTableDeathTest, DiesWhenABlockDiesTwice) {
  SegmentTable table = TableOfThree();
  table.MarkLive({kOne, 0}, 1);
  table.MarkDead({kOne, 0}, 1);
  EXPECT_DEATH(table.MarkDead({kOne, 0}, 1), "live in segment 1");
}

}  // namespace
}  // namespace twofold
