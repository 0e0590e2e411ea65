#include "tests/replication/register_checker.h"

#include <gtest/gtest.h>

namespace twofold {
namespace {

constexpr int64_t kNoAnswer = RegisterHistory::kNoAnswer;

TEST(RegisterChecker, TakesAnOrderThatFits) {
  RegisterHistory history(0);
  history.AddRead(1, 2, 0);
  history.AddWrite(3, 10, 1);
  history.AddRead(4, 5, 0);
  history.AddRead(6, 7, 1);
  history.AddWrite(8, 12, 2);
  history.AddRead(9, 11, 1);
  history.AddRead(13, 14, 2);
  EXPECT_TRUE(history.IsLinearizable());
}

TEST(RegisterChecker, NoticesTheNewValueAndLaterTheOldOne) {
  RegisterHistory history(0);
  history.AddWrite(1, 10, 1);
  history.AddRead(2, 3, 1);
  history.AddRead(4, 5, 0);
  EXPECT_FALSE(history.IsLinearizable());
}

TEST(RegisterChecker, NoticesALostWrite) {
  RegisterHistory history(0);
  history.AddWrite(1, 2, 1);
  history.AddRead(3, 4, 0);
  EXPECT_FALSE(history.IsLinearizable());
}

TEST(RegisterChecker, NoticesAValueFromNowhere) {
  RegisterHistory history(0);
  history.AddRead(1, 2, 7);
  EXPECT_FALSE(history.IsLinearizable());
}

TEST(RegisterChecker, AnUnansweredWriteMayTakePlaceLateButOnce) {
  RegisterHistory history(0);
  history.AddWrite(1, kNoAnswer, 1);
  history.AddRead(2, 3, 0);
  history.AddRead(4, 5, 1);
  EXPECT_TRUE(history.IsLinearizable());
  history.AddWrite(6, 7, 2);
  history.AddRead(8, 9, 2);
  history.AddRead(10, 11, 1);
  EXPECT_FALSE(history.IsLinearizable());
}

TEST(RegisterChecker, EqualValuesAreWritesOfTheirOwn) {
  RegisterHistory history(0);
  history.AddWrite(1, 2, 5);
  history.AddWrite(3, 4, 0);
  history.AddRead(5, 6, 0);
  history.AddWrite(7, 8, 5);
  history.AddRead(9, 10, 5);
  EXPECT_TRUE(history.IsLinearizable());
  history.AddRead(11, 12, 0);
  EXPECT_FALSE(history.IsLinearizable());
}

}  // namespace
}  // namespace twofold
