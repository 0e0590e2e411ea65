#include "storage/map/merge.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "storage/map/key_codec.h"
#include "storage/map/live_bitmap.h"
#include "storage/map/run_list.h"

namespace twofold {
namespace {

constexpr uint64_t kChunk = 5;
const std::string kChunkKey = EncodeChunkKey({TimelineId(1), kChunk, {Generation(1), Seq(1)}});
const std::string kLiveKey = EncodeSegmentKey(Table::kLive, SegmentNumber(4));

std::string RandomRuns(Prng& random) {
  RunList list;
  for (int i = 0; i < 5; ++i) {
    const uint64_t first = random.Uniform(kChunkBlocks);
    const uint64_t count = 1 + random.Uniform(kChunkBlocks - first);
    const uint64_t seq = 1 + random.Uniform(30);
    twofold::Run run{.range = {BlockIndex(kChunk * kChunkBlocks + first), BlockCount(count)},
                     .kind = seq % 5 == 0 ? RunKind::kZero : RunKind::kData,
                     .position = {Generation(1), Seq(seq)},
                     .address = {SegmentNumber(1 + random.Uniform(3)), 0},
                     .block_crcs = {}};
    if (run.kind == RunKind::kData) {
      run.address.block = static_cast<uint32_t>(seq * 100 + first);
      for (uint64_t j = 0; j < count; ++j) {
        run.block_crcs.push_back(static_cast<uint32_t>(seq * 1000 + first + j));
      }
    }
    list.Insert(run);
  }
  return list.Encode(kChunk);
}

std::string RandomChanges(Prng& random) {
  std::vector<LiveChange> changes;
  for (int i = 0; i < 5; ++i) {
    changes.push_back({{SegmentNumber(4), static_cast<uint32_t>(random.Uniform(50))},
                       static_cast<uint32_t>(1 + random.Uniform(9)),
                       random.Uniform(2) == 0});
  }
  return LiveDelta(changes).Encode();
}

std::string Full(absl::string_view key, std::optional<absl::string_view> base,
                 std::vector<absl::string_view> operands) {
  return MergeFull(key, base, operands).value();
}

TEST(Merge, OfAChunkInsertsTheRunsM2) {
  const auto list_of = [](uint64_t first, uint64_t seq) {
    RunList list;
    list.Insert({.range = {BlockIndex(kChunk * kChunkBlocks + first), BlockCount(4)},
                 .kind = RunKind::kZero,
                 .position = {Generation(1), Seq(seq)},
                 .address = {SegmentNumber(1), 0},
                 .block_crcs = {}});
    return list.Encode(kChunk);
  };
  const RunList merged =
      RunList::Decode(kChunk, Full(kChunkKey, list_of(0, 1), {list_of(2, 9), list_of(0, 3)}))
          .value();
  ASSERT_EQ(merged.runs().size(), 2u);
  EXPECT_EQ(merged.runs()[0].position.seq, Seq(3));
  EXPECT_EQ(merged.runs()[0].range.count, BlockCount(2));
  EXPECT_EQ(merged.runs()[1].position.seq, Seq(9));
}

TEST(Merge, GivesTheSameHoweverOperandsAreGroupedM2) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Prng random(seed);
    for (const std::string& key : {kChunkKey, kLiveKey}) {
      const bool chunk = key == kChunkKey;
      std::string operands[3];
      for (std::string& operand : operands) {
        operand = chunk ? RandomRuns(random) : RandomChanges(random);
      }
      const auto& [a, b, c] = operands;
      const std::string base =
          Full(key, std::nullopt, {chunk ? RandomRuns(random) : RandomChanges(random)});
      const std::string at_once = Full(key, base, {a, b, c});
      ASSERT_EQ(Full(key, Full(key, Full(key, base, {a}), {b}), {c}), at_once) << "seed " << seed;
      const std::string ab = MergeOperands(key, {a, b}).value();
      ASSERT_EQ(Full(key, base, {ab, c}), at_once) << "seed " << seed;
      const std::string bc = MergeOperands(key, {b, c}).value();
      ASSERT_EQ(Full(key, base, {a, bc}), at_once) << "seed " << seed;
      ASSERT_EQ(MergeOperands(key, {ab, c}).value(), MergeOperands(key, {a, bc}).value());
      ASSERT_EQ(MergeOperands(key, {a, b, c}).value(), MergeOperands(key, {ab, c}).value());
    }
  }
}

TEST(Merge, DoneTwiceIsDoneOnceM9) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Prng random(seed);
    const std::string runs = RandomRuns(random);
    const std::string more_runs = RandomRuns(random);
    ASSERT_EQ(Full(kChunkKey, runs, {more_runs, more_runs}), Full(kChunkKey, runs, {more_runs}));
    const std::string changes = RandomChanges(random);
    ASSERT_EQ(Full(kLiveKey, std::nullopt, {changes, changes}),
              Full(kLiveKey, std::nullopt, {changes}));
  }
}

TEST(Merge, OfLiveBitsKeepsTheirOrderM21) {
  const std::string set = LiveDelta({LiveChange{{SegmentNumber(4), 3}, 1, true}}).Encode();
  const std::string clear = LiveDelta({LiveChange{{SegmentNumber(4), 3}, 1, false}}).Encode();
  EXPECT_EQ(LiveBitmap::Decode(Full(kLiveKey, std::nullopt, {set, clear}))->CountLive(), 0u);
  EXPECT_EQ(LiveBitmap::Decode(Full(kLiveKey, std::nullopt, {clear, set}))->CountLive(), 1u);
}

TEST(Merge, ExistsForChunksAndLiveBitmapsAlone) {
  EXPECT_TRUE(HasMerge(kChunkKey));
  EXPECT_TRUE(HasMerge(kLiveKey));
  for (const std::string& key :
       {MetaKey("checkpoint"), EncodeVersionKey({}), EncodeDeadKey({}), EncodeTombstoneKey({}),
        EncodeJobKey(1), EncodeSegmentKey(Table::kUsage, SegmentNumber(1)), std::string()}) {
    EXPECT_FALSE(HasMerge(key));
    EXPECT_EQ(MergeFull(key, std::nullopt, {"x"}).status().code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(MergeOperands(key, {"x"}).status().code(), absl::StatusCode::kDataLoss);
  }
}

TEST(Merge, NeverTakesDamageForNothingM12) {
  Prng random(1);
  const std::string runs = RandomRuns(random);
  const std::string changes = RandomChanges(random);
  const std::string bitmap = Full(kLiveKey, std::nullopt, {changes});
  const absl::Status statuses[] = {
      MergeFull(kChunkKey, "damaged", {runs}).status(),
      MergeFull(kChunkKey, runs, {runs, "damaged"}).status(),
      MergeFull(kChunkKey, "", {runs}).status(),
      MergeFull("C and no whole key", runs, {runs}).status(),
      MergeFull(kLiveKey, "damaged", {changes}).status(),
      MergeFull(kLiveKey, changes, {changes}).status(),
      MergeFull(kLiveKey, bitmap, {bitmap}).status(),
      MergeOperands(kChunkKey, {runs, "damaged"}).status(),
      MergeOperands(kLiveKey, {changes, "damaged"}).status(),
  };
  for (const absl::Status& status : statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  }
}

}  // namespace
}  // namespace twofold
