#include "storage/store/room.h"

#include <gtest/gtest.h>

namespace twofold {
namespace {

// Each entry alone in its batch, with a descriptor block.
uint64_t OneByOne(uint64_t payload_blocks, uint64_t entries) { return payload_blocks + entries; }

Room::Space Segments(uint64_t free, uint64_t total) { return {free * 1000, 1000, total}; }

TEST(Room, PromisesNoMoreThanThereIs) {
  Room room(&OneByOne);
  // Six of ten segments are kept back.
  EXPECT_TRUE(room.TryPromise(Segments(7, 10), BlockCount(900), 100, RoomFor::kWrite));
  EXPECT_FALSE(room.TryPromise(Segments(7, 10), BlockCount(0), 1, RoomFor::kWrite));
  EXPECT_EQ(room.promised_blocks(), 1000u);
}

TEST(Room, LetsDeletesGoFurtherThanWrites) {
  Room room(&OneByOne);
  EXPECT_FALSE(room.TryPromise(Segments(6, 10), BlockCount(0), 1, RoomFor::kWrite));
  EXPECT_TRUE(room.TryPromise(Segments(6, 10), BlockCount(0), 1, RoomFor::kRecord));
}

TEST(Room, LeavesSnapshotsWhatTrimsCantUseUp) {
  Room room(&OneByOne);
  Room::Space space = Segments(6, 10);
  space.free_blocks = 5500;
  EXPECT_FALSE(room.TryPromise(space, BlockCount(0), 1, RoomFor::kTrim));
  EXPECT_TRUE(room.TryPromise(space, BlockCount(0), 500, RoomFor::kRecord));
  EXPECT_FALSE(room.TryPromise(space, BlockCount(0), 1, RoomFor::kRecord));
}

TEST(Room, LeavesDeletesWhatSnapshotsCantUseUpAndLevellingWhatDeletesCant) {
  Room room(&OneByOne);
  EXPECT_FALSE(room.TryPromise(Segments(5, 10), BlockCount(0), 1, RoomFor::kRecord));
  EXPECT_TRUE(room.TryPromise(Segments(5, 10), BlockCount(0), 1000, RoomFor::kDelete));
  EXPECT_FALSE(room.TryPromise(Segments(5, 10), BlockCount(0), 1, RoomFor::kDelete));
  EXPECT_FALSE(room.TryPromise(Segments(4, 10), BlockCount(0), 1, RoomFor::kDelete));
}

TEST(Room, LetsTheCleanerWorkOnAFullStoreAndLeavesWhatLevellingNeeds) {
  Room room(&OneByOne);
  EXPECT_FALSE(room.TryPromise(Segments(5, 10), BlockCount(0), 1, RoomFor::kRecord));
  EXPECT_TRUE(room.TryPromise(Segments(5, 10), BlockCount(900), 100, RoomFor::kCleaning));
  EXPECT_FALSE(room.TryPromise(Segments(5, 10), BlockCount(0), 1, RoomFor::kCleaning));
}

TEST(Room, LetsWritesUseWhatTheCleanerHasLentButNotTheCleanersFloor) {
  Room room(&OneByOne);
  Room::Space space = Segments(6, 10);
  EXPECT_FALSE(room.TryPromise(space, BlockCount(0), 1, RoomFor::kWrite));
  space.lent_blocks = 500;
  EXPECT_FALSE(room.TryPromise(space, BlockCount(500), 1, RoomFor::kWrite));
  EXPECT_TRUE(room.TryPromise(space, BlockCount(499), 1, RoomFor::kWrite));
  space.lent_blocks = 5000;
  EXPECT_FALSE(room.TryPromise(space, BlockCount(1500), 1, RoomFor::kWrite));
  EXPECT_TRUE(room.TryPromise(space, BlockCount(1400), 1, RoomFor::kWrite));
}

TEST(Room, LendsToWritesAlone) {
  Room room(&OneByOne);
  Room::Space space = Segments(5, 10);
  space.lent_blocks = 1000;
  EXPECT_FALSE(room.TryPromise(space, BlockCount(0), 1, RoomFor::kTrim));
  EXPECT_FALSE(room.TryPromise(space, BlockCount(0), 1, RoomFor::kRecord));
}

// A set that was filled up crashes, and an open takes a segment each time: what the other set has
// more of must still fit.
TEST(Room, LetsLevellingGoFurtherThanDeletes) {
  for (const uint64_t lost_segments : {1, 2}) {
    Room room(&OneByOne);
    const Room::Space space = Segments(4 - lost_segments + 1, 10);  // the new open one is whole
    EXPECT_FALSE(room.TryPromise(space, BlockCount(0), 1, RoomFor::kRecord));
    EXPECT_TRUE(room.TryPromise(space, BlockCount(900), 50, RoomFor::kLevelling));
  }
}

TEST(Room, KeepsTheStoresOwnSegmentsFromEverybody) {
  Room room(&OneByOne);
  EXPECT_FALSE(room.TryPromise(Segments(2, 10), BlockCount(0), 1, RoomFor::kLevelling));
}

TEST(Room, GivesBackWhatWasSettled) {
  Room room(&OneByOne);
  ASSERT_TRUE(room.TryPromise(Segments(7, 10), BlockCount(990), 10, RoomFor::kWrite));
  room.Settle(BlockCount(990), 9);
  EXPECT_EQ(room.promised_blocks(), 1u);
  EXPECT_TRUE(room.TryPromise(Segments(7, 10), BlockCount(990), 9, RoomFor::kWrite));
}

}  // namespace
}  // namespace twofold
