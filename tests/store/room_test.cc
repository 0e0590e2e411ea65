#include "storage/store/room.h"

#include <gtest/gtest.h>

namespace twofold {
namespace {

// Each entry alone in its batch, with a descriptor block.
uint64_t OneByOne(uint64_t payload_blocks, uint64_t entries) { return payload_blocks + entries; }

Room::Space Segments(uint64_t free, uint64_t total) { return {free * 1000, 1000, total}; }

TEST(Room, PromisesNoMoreThanThereIs) {
  Room room(&OneByOne);
  // Four of ten segments are kept back.
  EXPECT_TRUE(room.TryPromise(Segments(5, 10), BlockCount(900), 100, false));
  EXPECT_FALSE(room.TryPromise(Segments(5, 10), BlockCount(0), 1, false));
  EXPECT_EQ(room.promised_blocks(), 1000u);
}

TEST(Room, LetsDeletesUseTheReserve) {
  Room room(&OneByOne);
  EXPECT_FALSE(room.TryPromise(Segments(4, 10), BlockCount(0), 1, false));
  EXPECT_TRUE(room.TryPromise(Segments(4, 10), BlockCount(0), 1, true));
}

TEST(Room, KeepsTheStoresOwnSegmentsFromEverybody) {
  Room room(&OneByOne);
  EXPECT_FALSE(room.TryPromise(Segments(3, 10), BlockCount(0), 1, true));
}

TEST(Room, GivesBackWhatWasSettled) {
  Room room(&OneByOne);
  ASSERT_TRUE(room.TryPromise(Segments(5, 10), BlockCount(990), 10, false));
  room.Settle(BlockCount(990), 9);
  EXPECT_EQ(room.promised_blocks(), 1u);
  EXPECT_TRUE(room.TryPromise(Segments(5, 10), BlockCount(990), 9, false));
}

}  // namespace
}  // namespace twofold
