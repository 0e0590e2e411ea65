#include "storage/map/live_bitmap.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "tests/map/golden.h"

namespace twofold {
namespace {

constexpr uint32_t kLargest = kMaxSegmentBytes / kBlockSize;

LiveChange Change(uint32_t first, uint32_t count, bool live, uint64_t segment = 7) {
  return {{SegmentNumber(segment), first}, count, live};
}

std::vector<LiveChange> RandomChanges(Prng& random, size_t count) {
  std::vector<LiveChange> changes;
  for (size_t i = 0; i < count; ++i) {
    const auto first = static_cast<uint32_t>(random.Uniform(80));
    const auto length = static_cast<uint32_t>(random.Uniform(12));
    changes.push_back(Change(first, length, random.Uniform(2) == 0));
  }
  return changes;
}

TEST(LiveBitmap, AgreesWithASetOfBlocksM21) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Prng random(seed);
    LiveBitmap bitmap;
    std::set<uint32_t> model;
    for (const LiveChange& change : RandomChanges(random, 30)) {
      bitmap.Set(change.first.block, change.count, change.live);
      for (uint32_t block = change.first.block; block < change.first.block + change.count;
           ++block) {
        if (change.live) {
          model.insert(block);
        } else {
          model.erase(block);
        }
      }
    }
    for (uint32_t block = 0; block < 120; ++block) {
      ASSERT_EQ(bitmap.Test(block), model.contains(block)) << "seed " << seed << " block " << block;
    }
    ASSERT_EQ(bitmap.CountLive(), model.size());
    ASSERT_EQ(LiveBitmap::Decode(bitmap.Encode()).value(), bitmap);
  }
}

TEST(LiveBitmap, IsEqualHoweverItCameAbout) {
  LiveBitmap bitmap;
  bitmap.Set(3, 2, true);
  LiveBitmap other;
  other.Set(0, 500, true);
  other.Set(0, 3, false);
  other.Set(5, 495, false);
  EXPECT_EQ(bitmap, other);
  EXPECT_EQ(bitmap.Encode(), other.Encode());
}

TEST(LiveBitmap, ReachesTheLastBlockOfTheLargestSegment) {
  LiveBitmap bitmap;
  bitmap.Set(kLargest - 1, 1, true);
  EXPECT_TRUE(bitmap.Test(kLargest - 1));
  EXPECT_EQ(LiveBitmap::Decode(bitmap.Encode()).value(), bitmap);
  EXPECT_FALSE(LiveBitmap::Decode(bitmap.Encode() + '\1').ok());
}

TEST(LiveBitmap, HasTheGoldenBytes) {
  LiveBitmap bitmap;
  bitmap.Set(1, 3, true);
  bitmap.Set(17, 1, true);
  EXPECT_EQ(bitmap.Encode(), Golden("map/live_bitmap.hex"));
  EXPECT_EQ(LiveBitmap::Decode(Golden("map/live_bitmap.hex")).value(), bitmap);
}

TEST(LiveDelta, DoesWhatItsChangesDoInTheirOrderM9) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Prng random(seed);
    LiveBitmap one_by_one;
    LiveDelta(RandomChanges(random, 10)).ApplyTo(one_by_one);
    LiveBitmap at_once = one_by_one;
    const std::vector<LiveChange> changes = RandomChanges(random, 20);
    for (const LiveChange& change : changes) {
      one_by_one.Set(change.first.block, change.count, change.live);
    }
    const LiveDelta delta(changes);
    delta.ApplyTo(at_once);
    ASSERT_EQ(at_once, one_by_one) << "seed " << seed;
    delta.ApplyTo(at_once);
    ASSERT_EQ(at_once, one_by_one) << "idempotent; seed " << seed;
    ASSERT_EQ(LiveDelta::Decode(delta.Encode()).value(), delta);
  }
}

TEST(LiveDelta, ThenIsAssociativeAndActsInOrder) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Prng random(seed);
    const LiveDelta a(RandomChanges(random, 6));
    const LiveDelta b(RandomChanges(random, 6));
    const LiveDelta c(RandomChanges(random, 6));
    ASSERT_EQ(a.Then(b).Then(c), a.Then(b.Then(c))) << "seed " << seed;
    LiveBitmap in_turn;
    a.ApplyTo(in_turn);
    b.ApplyTo(in_turn);
    LiveBitmap together;
    a.Then(b).ApplyTo(together);
    ASSERT_EQ(in_turn, together) << "seed " << seed;
  }
}

TEST(LiveDelta, KeepsTheLastWordOnEachBlock) {
  const std::vector<LiveChange> changes = {Change(10, 10, true), Change(12, 2, false),
                                           Change(20, 5, true), Change(13, 1, true)};
  EXPECT_EQ(LiveDelta(changes).pieces(),
            (std::vector<LiveDelta::Piece>{{10, 2, true}, {12, 1, false}, {13, 12, true}}));
}

TEST(LiveDelta, HasTheGoldenBytes) {
  const std::vector<LiveChange> changes = {Change(10, 300, true), Change(12, 2, false),
                                           Change(1000, 1, false)};
  EXPECT_EQ(LiveDelta(changes).Encode(), Golden("map/live_changes.hex"));
  EXPECT_EQ(LiveDelta::Decode(Golden("map/live_changes.hex")).value(), LiveDelta(changes));
}

TEST(LiveDelta, GroupsTheChangesOfManySegmentsInOrder) {
  const std::vector<LiveChange> changes = {Change(1, 1, true, 9), Change(5, 1, true, 2),
                                           Change(1, 1, false, 9)};
  const auto operands = EncodeLiveChanges(changes);
  ASSERT_EQ(operands.size(), 2u);
  EXPECT_EQ(operands[0].first, SegmentNumber(2));
  EXPECT_EQ(operands[1].first, SegmentNumber(9));
  EXPECT_EQ(LiveDelta::Decode(operands[1].second)->pieces(),
            (std::vector<LiveDelta::Piece>{{1, 1, false}}));
}

void ExpectRefused(absl::string_view hex, absl::string_view why) {
  const std::string bytes = absl::HexStringToBytes(hex);
  EXPECT_EQ(LiveBitmap::Decode(bytes).status().code(), absl::StatusCode::kDataLoss) << why;
  EXPECT_EQ(LiveDelta::Decode(bytes).status().code(), absl::StatusCode::kDataLoss) << why;
}

TEST(LiveCodec, RefusesWhatIsNeitherABitmapNorChanges) {
  ExpectRefused("", "nothing");
  ExpectRefused("01", "no form");
  ExpectRefused("020001", "another version");
  ExpectRefused("010201", "another form");
  ExpectRefused("01000100", "zeros at the end");
  ExpectRefused("010101", "no piece");
  ExpectRefused("0101010502ff", "bytes left over");
  ExpectRefused("0101010500", "a piece of no blocks");
  ExpectRefused("01010205030003", "two pieces that are one");
  ExpectRefused("010101ffffffffffffffffff0103", "a gap that overflows");
  ExpectRefused("01010100ffffffffffffffffff01", "a count that overflows");
}

TEST(LiveCodec, NeverTakesOneFormForTheOther) {
  LiveBitmap bitmap;
  bitmap.Set(0, 1, true);
  EXPECT_FALSE(LiveDelta::Decode(bitmap.Encode()).ok());
  EXPECT_FALSE(LiveBitmap::Decode(LiveDelta({Change(0, 1, true)}).Encode()).ok());
}

}  // namespace
}  // namespace twofold
