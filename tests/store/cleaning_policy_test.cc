#include "storage/store/cleaning_policy.h"

#include <gtest/gtest.h>

#include <set>

namespace twofold {
namespace {

SegmentTable Table(const std::vector<uint32_t>& live_blocks) {
  SegmentTable table;
  for (size_t i = 0; i < live_blocks.size(); ++i) {
    table.Add(SegmentNumber(i + 1), SegmentState::kSealed);
    if (live_blocks[i] > 0) table.MarkLive({SegmentNumber(i + 1), 1}, live_blocks[i]);
  }
  return table;
}

CleaningChoice Choice(uint64_t room_blocks = 10'000) {
  return {.before = SegmentNumber(100),
          .newest = SegmentNumber(100),
          .usable_blocks = 1000,
          .room_blocks = room_blocks,
          .left_alone = nullptr};
}

TEST(CleaningPolicy, TakesTheSegmentThatGivesMost) {
  EXPECT_EQ(ChooseSegmentToClean(Table({900, 300, 500}), Choice()), SegmentNumber(2));
}

TEST(CleaningPolicy, PrefersTheOlderOfTwoAlike) {
  EXPECT_EQ(ChooseSegmentToClean(Table({300, 300}), Choice()), SegmentNumber(1));
}

TEST(CleaningPolicy, LeavesWhatACheckpointFreesAndWhatGivesNothing) {
  EXPECT_EQ(ChooseSegmentToClean(Table({0, 950, 1000}), Choice()), std::nullopt);
}

TEST(CleaningPolicy, TakesOnlyWhatFitsTheRoom) {
  EXPECT_EQ(ChooseSegmentToClean(Table({500, 400, 600}), Choice(430)), SegmentNumber(2));
  EXPECT_EQ(ChooseSegmentToClean(Table({500, 400, 600}), Choice(400)), std::nullopt);
}

TEST(CleaningPolicy, LeavesPinnedOpenNewAndBadSegmentsAlone) {
  SegmentTable table = Table({300, 300, 300, 300, 300});
  table.Pin(SegmentNumber(1));
  table.Add(SegmentNumber(2), SegmentState::kOpen);
  const std::set<SegmentNumber> bad = {SegmentNumber(3)};
  CleaningChoice choice = Choice();
  choice.before = SegmentNumber(5);
  choice.left_alone = &bad;
  EXPECT_EQ(ChooseSegmentToClean(table, choice), SegmentNumber(4));
  table.Unpin(SegmentNumber(1));
}

TEST(CleaningPolicy, GivesTheCleanerMoreOfTheDeviceTheLessRoomThereIsM23) {
  EXPECT_EQ(CleanerPauseNanos(1000, 1000, 1000), 1000);  // half of it
  EXPECT_EQ(CleanerPauseNanos(1000, SlowingStartsAt(1000), 1000), 0);
  EXPECT_EQ(CleanerPauseNanos(1000, 0, 1000), 0);
  EXPECT_EQ(CleanerPauseNanos(1000, 1'000'000, 1000), 4000);
  int64_t last = 0;
  for (uint64_t headroom = 0; headroom < 3000; ++headroom) {
    const int64_t pause = CleanerPauseNanos(1000, headroom, 1000);
    EXPECT_GE(pause, last);
    EXPECT_LE(pause, last + 3);
    last = pause;
  }
}

TEST(CleaningPolicy, SlowsWritersOnlyWhereTheCleanerRestsNoMoreM23) {
  EXPECT_EQ(SlowDownNanosPerBlock(SlowingStartsAt(1000), SlowingStartsAt(1000)), 0);
  EXPECT_LT(SlowingStartsAt(1000), 1000u);
  EXPECT_GT(CleaningStopsAt(1000), 1000u);
}

TEST(CleaningPolicy, BeginsAtASegmentOrAPartOfAll) {
  EXPECT_EQ(CleaningStartsAt(40, 1000), 1000u);
  EXPECT_EQ(CleaningStartsAt(640, 1000), 10'000u);
}

TEST(CleaningPolicy, EndsARoundWhereThatIsEnoughOrWritersAreShort) {
  // Begins at 1000, a segment has 800.
  EXPECT_FALSE(CheckpointPays(0, 0, 1000, 800));
  EXPECT_TRUE(CheckpointPays(900, 1100, 1000, 800));
  EXPECT_FALSE(CheckpointPays(900, 1099, 1000, 800));
  EXPECT_FALSE(CheckpointPays(499, 700, 1000, 800));
  EXPECT_TRUE(CheckpointPays(499, 800, 1000, 800));
  EXPECT_TRUE(CheckpointPays(0, 200, 1000, 800));
  EXPECT_FALSE(CheckpointPays(0, 199, 1000, 800));
}

TEST(CleaningPolicy, SlowsDownWithoutAStepM23) {
  EXPECT_EQ(SlowDownNanosPerBlock(1000, 1000), 0);
  EXPECT_LT(SlowDownNanosPerBlock(999, 1000), 100);
  int64_t last = 0;
  for (uint64_t headroom = 1000; headroom > 0; --headroom) {
    const int64_t nanos = SlowDownNanosPerBlock(headroom, 1000);
    EXPECT_GE(nanos, last);
    EXPECT_LE(nanos, 2 * last + 100);
    last = nanos;
  }
  EXPECT_GE(last, 5'000'000);
  EXPECT_GE(SlowDownNanosPerBlock(0, 1000), last);
}

}  // namespace
}  // namespace twofold
