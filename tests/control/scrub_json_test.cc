#include "tools/control/scrub_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace twofold::control {
namespace {

using ::testing::HasSubstr;

ScrubStatus Example() {
  ScrubStatus status;
  status.sets.resize(2);
  ScrubInfo& set = status.sets[0];
  set.set = "a";
  set.state = "damaged";
  set.what = "segment 9";
  set.started = 1'790'000'000'000'000'000;
  set.ended = set.started + 2'500'000'000;
  set.bytes_done = 1 << 20;
  set.bytes_total = 2 << 20;
  set.bytes_per_second = 4096;
  set.seconds_left = 256;
  set.damaged_places = 2;
  set.healed_places = 1;
  set.findings.push_back({SegmentNumber(9), 3, "a block fails its checksum"});
  set.proof.emplace();
  set.proof->ended = set.started - 1;
  set.proof->duration_nanos = 7'000'000'000;
  set.proof->bytes = 5;
  set.proof->healed_places = 6;
  set.proof->incarnation = Incarnation(8);
  set.proof_age_seconds = 9;
  status.sets[1].set = "b";
  CompareInfo& compare = status.compare;
  compare.state = "different";
  compare.started = set.started;
  compare.first = "a";
  compare.second = "b";
  compare.points_done = 1;
  compare.points_total = 2;
  compare.blocks = 3;
  compare.different_blocks = 4;
  Difference& difference = compare.differences.emplace_back();
  difference.volume = "db";
  difference.snapshot = "noon";
  difference.timeline = TimelineId(5);
  difference.range = {BlockIndex(6), BlockCount(7)};
  difference.first = "nothing";
  difference.second = "zeros, entry 1.2";
  return status;
}

TEST(ScrubJson, ComesBackAsItWas) {
  const std::string text = EncodeScrubs(Example());
  const absl::StatusOr<ScrubStatus> back = DecodeScrubs(text);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(EncodeScrubs(*back), text);
  ASSERT_EQ(back->sets.size(), 2u);
  EXPECT_EQ(back->sets[0].findings.at(0).what, "a block fails its checksum");
  EXPECT_EQ(back->sets[0].proof->ended, Example().sets[0].proof->ended);
  EXPECT_EQ(back->sets[1].state, "never");
  EXPECT_FALSE(back->sets[1].proof.has_value());
  EXPECT_EQ(back->sets[1].started, 0);
  EXPECT_EQ(back->compare.differences, Example().compare.differences);
}

TEST(ScrubJson, SaysWhichFieldIsWrong) {
  EXPECT_TRUE(absl::IsDataLoss(DecodeScrubs("[]").status()));
  const absl::Status status = DecodeScrubs(R"({"sets":[{"set":"a"}],"compare":{}})").status();
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"state\" is missing"));
}

}  // namespace
}  // namespace twofold::control
