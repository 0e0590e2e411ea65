#include "tools/load/stages.h"

#include <gtest/gtest.h>

namespace twofold::load {
namespace {

StageLatency Stage(const std::string& stage, const std::string& set,
                   const std::vector<int64_t>& nanos) {
  StageLatency latency{stage, set, {}};
  for (int64_t one : nanos) latency.histogram.Add(one);
  return latency;
}

TEST(StagesBetween, SubtractsEachFromItself) {
  const auto between = StagesBetween(
      {Stage("log", "b", {100, 100}), Stage("log", "a", {100})},
      {Stage("log", "a", {100, 5000}), Stage("log", "b", {100, 100}), Stage("apply", "b", {700})});
  ASSERT_TRUE(between.ok()) << between.status();
  ASSERT_EQ(between->size(), 3u);
  EXPECT_EQ((*between)[0].set, "a");
  EXPECT_EQ((*between)[0].histogram.count(), 1u);
  EXPECT_EQ((*between)[0].histogram.sum(), 5000);
  EXPECT_EQ((*between)[1].histogram.count(), 0u);
  EXPECT_EQ((*between)[2].histogram.count(), 1u);  // new: whole
}

TEST(StagesBetween, SaysThatADaemonWasRestarted) {
  const auto fewer = StagesBetween({Stage("log", "a", {100, 100})}, {Stage("log", "a", {100})});
  EXPECT_TRUE(absl::IsAborted(fewer.status())) << fewer.status();
  EXPECT_NE(fewer.status().message().find("log of set a"), absl::string_view::npos);
  // More of them, but others.
  const auto others =
      StagesBetween({Stage("log", "", {100})}, {Stage("log", "", {9000, 9000, 9000})});
  EXPECT_TRUE(absl::IsAborted(others.status())) << others.status();
}

}  // namespace
}  // namespace twofold::load
