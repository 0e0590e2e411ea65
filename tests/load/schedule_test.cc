#include "tools/load/schedule.h"

#include <gtest/gtest.h>

namespace twofold::load {
namespace {

constexpr int64_t kMicro = 1000;
constexpr int64_t kMilli = 1'000'000;

TEST(Schedule, ClosedLoopKeepsTheDepth) {
  Schedule schedule({.depth = 2, .per_second = 0, .start_ns = 100, .duration_ns = kMilli});
  EXPECT_EQ(schedule.Next(100, 0), 100);
  EXPECT_EQ(schedule.Next(110, 1), 110);
  EXPECT_FALSE(schedule.Next(120, 2).has_value());
  EXPECT_EQ(schedule.NextDue(), Schedule::kNever);  // an answer comes first
  EXPECT_EQ(schedule.Next(500, 1), 500);
}

TEST(Schedule, SendsNothingAfterTheEnd) {
  Schedule closed({.depth = 1, .per_second = 0, .start_ns = 100, .duration_ns = kMilli});
  EXPECT_FALSE(closed.Over(100 + kMilli - 1));
  EXPECT_TRUE(closed.Over(100 + kMilli));
  EXPECT_FALSE(closed.Next(100 + kMilli, 0).has_value());
  EXPECT_FALSE(closed.NextUnsent().has_value());
}

TEST(Schedule, OpenLoopSendsAtFixedTimes) {
  Schedule schedule({.depth = 8, .per_second = 1000, .start_ns = 0, .duration_ns = 10 * kMilli});
  EXPECT_EQ(schedule.Next(0, 0), 0);
  EXPECT_EQ(schedule.NextDue(), kMilli);
  EXPECT_FALSE(schedule.Next(kMilli - 1, 0).has_value());
  EXPECT_EQ(schedule.Next(kMilli, 0), kMilli);
}

// No coordinated omission: while the server was away for 5 ms five requests came due, and each of
// them counts from then.
TEST(Schedule, WhatCouldNotBeSentCountsFromWhenItWasDue) {
  Schedule schedule({.depth = 1, .per_second = 1000, .start_ns = 0, .duration_ns = 100 * kMilli});
  ASSERT_EQ(schedule.Next(0, 0), 0);
  EXPECT_FALSE(schedule.Next(3 * kMilli, 1).has_value());
  for (int64_t i = 1; i <= 5; ++i) EXPECT_EQ(schedule.Next(5 * kMilli + i, 0), i * kMilli);
  EXPECT_FALSE(schedule.Next(5 * kMilli + 10, 0).has_value());
}

TEST(Schedule, TellsWhatWasDueAndNeverSent) {
  Schedule schedule({.depth = 1, .per_second = 1000, .start_ns = 0, .duration_ns = 4 * kMilli});
  ASSERT_EQ(schedule.Next(0, 0), 0);
  EXPECT_EQ(schedule.NextUnsent(), kMilli);
  EXPECT_EQ(schedule.NextUnsent(), 2 * kMilli);
  EXPECT_EQ(schedule.NextUnsent(), 3 * kMilli);
  EXPECT_FALSE(schedule.NextUnsent().has_value());  // 4 ms is the end
}

TEST(Schedule, DoesNotDrift) {
  Schedule schedule({.depth = 1, .per_second = 3000, .start_ns = 0, .duration_ns = INT64_MAX / 2});
  int64_t due = 0;
  for (int i = 0; i <= 300'000; ++i) due = *schedule.Next(INT64_MAX / 4, 0);
  EXPECT_NEAR(static_cast<double>(due), 100e9, kMicro);
}

}  // namespace
}  // namespace twofold::load
