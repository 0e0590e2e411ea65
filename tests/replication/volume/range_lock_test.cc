#include "replication/volume/range_lock.h"

#include <gtest/gtest.h>

#include <memory>

namespace twofold {
namespace {

using Hold = RangeLock::Hold;

BlockRange Range(uint64_t first, uint64_t count) { return {BlockIndex(first), BlockCount(count)}; }

TEST(RangeLock, IsGrantedAtOnceWhereNobodyIs) {
  RangeLock lock;
  Hold hold;
  EXPECT_FALSE(lock.Covers(Range(0, 100)));
  lock.Queue(&hold, Range(5, 2));
  EXPECT_TRUE(hold.granted());
  EXPECT_TRUE(lock.Covers(Range(6, 1)));
  EXPECT_FALSE(lock.Covers(Range(7, 1)));
  hold.Release();
  EXPECT_FALSE(lock.Covers(Range(6, 1)));
}

TEST(RangeLock, OthersElsewhereDoNotWait) {
  RangeLock lock;
  Hold a, b;
  lock.Queue(&a, Range(0, 2));
  lock.Queue(&b, Range(2, 2));
  EXPECT_TRUE(b.granted());
}

TEST(RangeLock, OverlappingOnesGoInOrder) {
  RangeLock lock;
  auto a = std::make_unique<Hold>();
  auto b = std::make_unique<Hold>();
  auto c = std::make_unique<Hold>();
  lock.Queue(a.get(), Range(0, 10));
  lock.Queue(b.get(), Range(5, 10));
  lock.Queue(c.get(), Range(0, 20));
  EXPECT_FALSE(b->granted());
  EXPECT_FALSE(c->granted());
  a.reset();  // its end gives the range up
  EXPECT_TRUE(b->granted());
  EXPECT_FALSE(c->granted());
  b->Release();
  EXPECT_TRUE(c->granted());
}

// Who waits already is not overtaken, even where the holder is not in the way.
TEST(RangeLock, WaitersAreNotOvertaken) {
  RangeLock lock;
  auto holder = std::make_unique<Hold>();
  auto waiter = std::make_unique<Hold>();
  auto late = std::make_unique<Hold>();
  lock.Queue(holder.get(), Range(0, 1));
  lock.Queue(waiter.get(), Range(0, 10));
  lock.Queue(late.get(), Range(9, 1));
  EXPECT_FALSE(late->granted());
  holder->Release();
  EXPECT_TRUE(waiter->granted());
  EXPECT_FALSE(late->granted());
  waiter->Release();
  EXPECT_TRUE(late->granted());
}

TEST(RangeLock, AHoldCanBeUsedAgain) {
  RangeLock lock;
  Hold hold, other;
  lock.Queue(&hold, Range(0, 1));
  hold.Release();
  lock.Queue(&other, Range(0, 1));
  lock.Queue(&hold, Range(0, 1));
  EXPECT_FALSE(hold.granted());
  other.Release();
  EXPECT_TRUE(hold.granted());
}

}  // namespace
}  // namespace twofold
