#include "storage/map/key_codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "storage/base/prng.h"
#include "tests/map/golden.h"

namespace twofold {
namespace {

// Numbers at which a wrong byte order, a sign or a carry shows.
uint64_t Edge(Prng& random) {
  constexpr uint64_t kEdges[] = {0,
                                 1,
                                 2,
                                 0x7f,
                                 0x80,
                                 0xff,
                                 0x100,
                                 0xffff,
                                 0x10000,
                                 0x7fffffff,
                                 0x80000000,
                                 0x7fffffffffffffff,
                                 0x8000000000000000,
                                 ~uint64_t{0} - 1,
                                 ~uint64_t{0}};
  return kEdges[random.Uniform(std::size(kEdges))];
}
Position EdgePosition(Prng& random) {
  const Generation generation(Edge(random));
  return {generation, Seq(Edge(random))};
}
ChunkKey EdgeChunk(Prng& random) {
  return {
      .timeline = TimelineId(Edge(random)), .chunk = Edge(random), .epoch = EdgePosition(random)};
}
DeadKey EdgeDead(Prng& random) {
  return {.timeline = TimelineId(Edge(random)),
          .death = EdgePosition(random),
          .birth = EdgePosition(random),
          .chunk = Edge(random),
          .block = BlockIndex(Edge(random)),
          .position = EdgePosition(random)};
}

constexpr int kRounds = 5000;

TEST(KeyCodec, OrdersChunkVersionsNewestFirstM5) {
  Prng random(1);
  for (int i = 0; i < kRounds; ++i) {
    const ChunkKey a = EdgeChunk(random);
    const ChunkKey b = EdgeChunk(random);
    const bool before =
        std::tie(a.timeline, a.chunk) < std::tie(b.timeline, b.chunk) ||
        (std::tie(a.timeline, a.chunk) == std::tie(b.timeline, b.chunk) && a.epoch > b.epoch);
    ASSERT_EQ(EncodeChunkKey(a) < EncodeChunkKey(b), before);
  }
}

TEST(KeyCodec, FindsTheNewestVersionOfAnEpochOrOlderBySeekingM5) {
  std::vector<std::string> keys;
  const auto key = [](uint64_t chunk, uint64_t generation, uint64_t seq) {
    return EncodeChunkKey({TimelineId(4), chunk, {Generation(generation), Seq(seq)}});
  };
  keys = {key(9, 1, 100), key(9, 1, 300), key(9, 2, 200), key(10, 1, 50)};
  std::sort(keys.begin(), keys.end());
  const auto seek = [&](uint64_t generation, uint64_t seq) {
    return *std::lower_bound(keys.begin(), keys.end(), key(9, generation, seq));
  };
  EXPECT_EQ(seek(2, 500), key(9, 2, 200));
  EXPECT_EQ(seek(2, 200), key(9, 2, 200));
  EXPECT_EQ(seek(2, 199), key(9, 1, 300));
  EXPECT_EQ(seek(1, 299), key(9, 1, 100));
  EXPECT_EQ(seek(1, 99), key(10, 1, 50))
      << "none so old: the next chunk's, which has another prefix";
}

TEST(KeyCodec, OrdersVersionsByEpochM6) {
  Prng random(2);
  for (int i = 0; i < kRounds; ++i) {
    const ChunkKey a = EdgeChunk(random);
    const ChunkKey b = EdgeChunk(random);
    ASSERT_EQ(EncodeVersionKey(a) < EncodeVersionKey(b),
              std::tie(a.timeline, a.epoch, a.chunk) < std::tie(b.timeline, b.epoch, b.chunk));
  }
}

TEST(KeyCodec, OrdersDeadRunsByDeathThenBirthM19) {
  Prng random(3);
  const auto order = [](const DeadKey& key) {
    return std::tie(key.timeline, key.death, key.birth, key.chunk, key.block, key.position);
  };
  for (int i = 0; i < kRounds; ++i) {
    const DeadKey a = EdgeDead(random);
    const DeadKey b = EdgeDead(random);
    ASSERT_EQ(EncodeDeadKey(a) < EncodeDeadKey(b), order(a) < order(b));
  }
}

TEST(KeyCodec, RoundTripsEveryKey) {
  Prng random(4);
  for (int i = 0; i < kRounds; ++i) {
    const ChunkKey chunk = EdgeChunk(random);
    ASSERT_EQ(DecodeChunkKey(EncodeChunkKey(chunk)).value(), chunk);
    ASSERT_EQ(DecodeVersionKey(EncodeVersionKey(chunk)).value(), chunk);
    const DeadKey dead = EdgeDead(random);
    ASSERT_EQ(DecodeDeadKey(EncodeDeadKey(dead)).value(), dead);
    const SegmentNumber segment(Edge(random));
    ASSERT_EQ(DecodeSegmentKey(EncodeSegmentKey(Table::kLive, segment)).value(), segment);
    ASSERT_EQ(DecodeSegmentKey(EncodeSegmentKey(Table::kUsage, segment)).value(), segment);
    const TombstoneKey tombstone{TimelineId(Edge(random)), EdgePosition(random)};
    ASSERT_EQ(DecodeTombstoneKey(EncodeTombstoneKey(tombstone)).value(), tombstone);
    const TimelineId timeline(Edge(random));
    ASSERT_EQ(DecodeLineageKey(EncodeLineageKey(timeline)).value(), timeline);
    const uint64_t job = Edge(random);
    ASSERT_EQ(DecodeJobKey(EncodeJobKey(job)).value(), job);
  }
}

TEST(KeyCodec, OrdersWhatIsSortedByChunkPositionAndPlaceM4) {
  const auto key = [](uint64_t chunk, uint64_t seq, uint64_t segment, uint32_t block) {
    return EncodeSortRunKey({.timeline = TimelineId(7),
                             .chunk = chunk,
                             .position = {Generation(3), Seq(seq)},
                             .place = {SegmentNumber(segment), block}});
  };
  EXPECT_LT(key(1, 9, 9, 9), key(2, 1, 1, 1));
  EXPECT_LT(key(1, 1, 9, 9), key(1, 2, 1, 1));
  EXPECT_LT(key(1, 1, 1, 9), key(1, 1, 2, 1));
  EXPECT_LT(key(1, 1, 1, 1), key(1, 1, 1, 2));
  const SortRunKey run{.timeline = TimelineId(7),
                       .chunk = 1 << 20,
                       .position = {Generation(3), Seq(300)},
                       .place = {SegmentNumber(1000), 77}};
  EXPECT_EQ(*DecodeSortRunKey(EncodeSortRunKey(run)), run);
  const SortZeroKey zero{.timeline = TimelineId(7),
                         .first = BlockIndex(1 << 20),
                         .position = {Generation(3), Seq(300)},
                         .segment = SegmentNumber(1000)};
  EXPECT_EQ(*DecodeSortZeroKey(EncodeSortZeroKey(zero)), zero);
  EXPECT_FALSE(DecodeSortRunKey(EncodeSortZeroKey(zero)).ok());
  EXPECT_FALSE(DecodeSortZeroKey(EncodeSortRunKey(run)).ok());
}

TEST(KeyCodec, HasTheGoldenBytes) {
  const ChunkKey chunk{TimelineId(0x0102), 0x030405, {Generation(6), Seq(0x0708)}};
  EXPECT_EQ(EncodeChunkKey(chunk), Golden("map/chunk_key.hex"));
  EXPECT_EQ(EncodePartialKey(chunk), Golden("map/partial_key.hex"));
  EXPECT_EQ(EncodeVersionKey(chunk), Golden("map/version_key.hex"));
  const DeadKey dead{.timeline = TimelineId(0x0102),
                     .death = {Generation(3), Seq(0x0405)},
                     .birth = {Generation(2), Seq(0x0607)},
                     .chunk = 0x08,
                     .block = BlockIndex(0x0109),
                     .position = {Generation(2), Seq(0x0610)}};
  EXPECT_EQ(EncodeDeadKey(dead), Golden("map/dead_key.hex"));
  EXPECT_EQ(EncodeSegmentKey(Table::kLive, SegmentNumber(0x0a0b)), Golden("map/live_key.hex"));
  EXPECT_EQ(EncodeSegmentKey(Table::kUsage, SegmentNumber(0x0a0b)), Golden("map/usage_key.hex"));
  EXPECT_EQ(EncodeTombstoneKey({TimelineId(0x0102), {Generation(3), Seq(0x0405)}}),
            Golden("map/tombstone_key.hex"));
  EXPECT_EQ(EncodeJobKey(0x0c0d), Golden("map/job_key.hex"));
  EXPECT_EQ(EncodeLineageKey(TimelineId(0x0102)), Golden("map/lineage_key.hex"));
  EXPECT_EQ(MetaKey("catalogue"), Golden("map/meta_key.hex"));
}

// Every decoder refuses what isn't its key, and says so.
void ExpectAllRefuse(const std::string& key) {
  const absl::Status statuses[] = {
      DecodeChunkKey(key).status(),   DecodeVersionKey(key).status(),   DecodeDeadKey(key).status(),
      DecodeSegmentKey(key).status(), DecodeTombstoneKey(key).status(), DecodeJobKey(key).status(),
      DecodePartialKey(key).status(), DecodeLineageKey(key).status()};
  for (const absl::Status& status : statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  }
}

TEST(KeyCodec, RefusesAWrongLength) {
  const ChunkKey chunk{TimelineId(1), 2, {Generation(3), Seq(4)}};
  for (const std::string& key :
       {EncodeChunkKey(chunk), EncodeVersionKey(chunk), EncodeDeadKey({}),
        EncodeSegmentKey(Table::kLive, SegmentNumber(1)), EncodeTombstoneKey({}), EncodeJobKey(1),
        EncodePartialKey(chunk), EncodeLineageKey(TimelineId(1))}) {
    ExpectAllRefuse(key.substr(0, key.size() - 1));
    ExpectAllRefuse(key + '\0');
  }
  ExpectAllRefuse("");
}

TEST(KeyCodec, RefusesAnotherTablesKey) {
  const ChunkKey chunk{TimelineId(1), 2, {Generation(3), Seq(4)}};
  // The same length: only the table tells them apart.
  EXPECT_FALSE(DecodeChunkKey(EncodeVersionKey(chunk)).ok());
  EXPECT_FALSE(DecodeVersionKey(EncodeChunkKey(chunk)).ok());
  EXPECT_FALSE(DecodePartialKey(EncodeChunkKey(chunk)).ok());
  EXPECT_FALSE(DecodeChunkKey(EncodePartialKey(chunk)).ok());
  EXPECT_FALSE(DecodeSegmentKey(EncodeJobKey(1)).ok());
  EXPECT_FALSE(DecodeLineageKey(EncodeJobKey(1)).ok());
  EXPECT_FALSE(DecodeJobKey(EncodeLineageKey(TimelineId(1))).ok());
  EXPECT_FALSE(DecodeJobKey(EncodeSegmentKey(Table::kUsage, SegmentNumber(1))).ok());
}

TEST(KeyCodec, PrefixesHoldExactlyTheirKeys) {
  const TimelineId timeline(0xff);
  const std::string prefix = ChunkPrefix(timeline, 0xffff);
  EXPECT_EQ(prefix.size(), kChunkPrefixBytes);
  const std::string first = EncodeChunkKey({timeline, 0xffff, kLastPosition});
  const std::string last = EncodeChunkKey({timeline, 0xffff, kFirstPosition});
  EXPECT_EQ(first.substr(0, kChunkPrefixBytes), prefix);
  EXPECT_LE(prefix, first);
  EXPECT_LT(last, PrefixEnd(prefix));
  EXPECT_LE(PrefixEnd(prefix), EncodeChunkKey({timeline, 0x10000, kLastPosition}));
  EXPECT_GT(prefix, EncodeChunkKey({timeline, 0xfffe, kFirstPosition}));

  const std::string timelines = TimelinePrefix(Table::kDead, timeline);
  EXPECT_LE(timelines, EncodeDeadKey({timeline, {}, {}, 0, {}, {}}));
  EXPECT_LE(PrefixEnd(timelines), EncodeDeadKey({timeline.Next(), {}, {}, 0, {}, {}}));
  EXPECT_EQ(TablePrefix(Table::kJob), "J");
}

TEST(PrefixEnd, CarriesOverBytesThatAreFull) {
  EXPECT_EQ(PrefixEnd("ab"), "ac");
  EXPECT_EQ(PrefixEnd("a\xff\xff"), "b");
}

using PrefixEndDeathTest = testing::Test;
TEST(PrefixEndDeathTest, HasNoAnswerBehindEverything) {
  EXPECT_DEATH(PrefixEnd("\xff"), "check failed");
}

}  // namespace
}  // namespace twofold
