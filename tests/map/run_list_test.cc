#include "storage/map/run_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/escaping.h"
#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "tests/map/golden.h"

namespace twofold {
namespace {

using MapRun = Run;  // Within a test, `Run` is a member of testing::Test.

constexpr uint64_t kChunk = 3;
constexpr uint64_t kFirst = kChunk * kChunkBlocks;

// The checksum of the block of the entry at `seq` that belongs at `block`: any function will do.
uint32_t CrcOf(uint64_t seq, uint64_t block) {
  uint64_t state = seq * 1000003 + block;
  return static_cast<uint32_t>(SplitMix64(state));
}

MapRun Data(uint64_t first, uint64_t count, uint64_t seq, uint64_t segment, uint32_t block) {
  MapRun run{.range = {BlockIndex(kFirst + first), BlockCount(count)},
             .kind = RunKind::kData,
             .position = {Generation(1), Seq(seq)},
             .address = {SegmentNumber(segment), block},
             .block_crcs = {}};
  for (uint64_t i = 0; i < count; ++i) run.block_crcs.push_back(CrcOf(seq, first + i));
  return run;
}

MapRun Zero(uint64_t first, uint64_t count, uint64_t seq, uint64_t segment) {
  return {.range = {BlockIndex(kFirst + first), BlockCount(count)},
          .kind = RunKind::kZero,
          .position = {Generation(1), Seq(seq)},
          .address = {SegmentNumber(segment), 0},
          .block_crcs = {}};
}

RunList ListOf(const std::vector<MapRun>& runs) {
  RunList list;
  for (const MapRun& run : runs) list.Insert(run);
  return list;
}

// ---- A model that is too slow to be wrong: each block by itself ----

struct Block {
  Position position;
  SegmentNumber segment;
  RunKind kind = RunKind::kData;
  uint32_t place = 0;
  uint32_t crc = 0;
  auto Age() const { return std::tie(position, segment, place); }
  bool operator==(const Block&) const = default;
};
using Blocks = std::array<std::optional<Block>, kChunkBlocks>;

void Each(const MapRun& run, const auto& function) {
  for (uint64_t i = 0; i < run.range.count.value(); ++i) {
    const bool data = run.kind == RunKind::kData;
    function(run.range.first.value() + i - kFirst,
             Block{run.position, run.address.segment, run.kind,
                   data ? run.address.block + static_cast<uint32_t>(i) : 0,
                   data ? run.block_crcs[i] : 0});
  }
}

Blocks BlocksOf(const std::vector<MapRun>& runs) {
  Blocks blocks;
  for (const MapRun& run : runs) {
    Each(run, [&](uint64_t block, const Block& value) {
      EXPECT_FALSE(blocks[block].has_value()) << "twice: " << block;
      blocks[block] = value;
    });
  }
  return blocks;
}

// Parts of random entries, copies at later places and zeroes, as a replay after a crash, a resync
// and a cleaner would bring them: any part, any number of times, in any order.
class RunMaker {
 public:
  explicit RunMaker(uint64_t seed) : random_(seed) {}
  Prng& random() { return random_; }

  MapRun Next() {
    const uint64_t seq = 1 + random_.Uniform(12);
    const uint64_t copy =
        random_.Uniform(3);  // 0: where it was first written; else moved or repaired
    const uint64_t first = random_.Uniform(kChunkBlocks);
    const uint64_t count =
        1 + random_.Uniform(random_.Uniform(4) == 0 ? kChunkBlocks - first
                                                    : std::min<uint64_t>(4, kChunkBlocks - first));
    if (seq % 4 == 0) return Zero(first, count, seq, seq + copy * 20);
    // Copies 1 and 2 are in one segment, at different offsets.
    return Data(first, count, seq, copy == 0 ? seq : 40,
                static_cast<uint32_t>(copy * 1000 + seq * 32 + first));
  }
  std::vector<MapRun> Many(size_t count) {
    std::vector<MapRun> runs;
    for (size_t i = 0; i < count; ++i) runs.push_back(Next());
    return runs;
  }

 private:
  Prng random_;
};

void CheckCanonical(const RunList& list) {
  for (size_t i = 0; i + 1 < list.runs().size(); ++i) {
    const MapRun& a = list.runs()[i];
    const MapRun& b = list.runs()[i + 1];
    ASSERT_LE(a.range.end(), b.range.first);
    const bool one =
        a.range.end() == b.range.first && a.kind == b.kind && a.position == b.position &&
        a.address.segment == b.address.segment &&
        (a.kind == RunKind::kZero || a.address.block + a.range.count.value() == b.address.block);
    ASSERT_FALSE(one) << "runs " << i << " and the next are one";
  }
}

// What it says of its memory is what a look at every run says.
void CheckMemory(const RunList& list) {
  size_t bytes = sizeof(RunList) + list.runs().capacity() * sizeof(MapRun);
  for (const MapRun& run : list.runs()) {
    if (run.block_crcs.capacity() > 1) bytes += run.block_crcs.capacity() * sizeof(uint32_t);
  }
  ASSERT_EQ(list.MemoryBytes(), bytes);
}

// ---- M2, R18: one insertion for Apply, merge, replay and rebuild ----

TEST(RunList, AgreesWithABlockByBlockModelAndAccountsForEveryBlockM2) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    RunMaker maker(seed);
    RunList list;
    Blocks model;
    for (int step = 0; step < 60; ++step) {
      const MapRun run = maker.Next();
      std::vector<MapRun> displaced;
      std::vector<MapRun> lost;
      std::vector<MapRun> overlapped;
      for (const MapRun& old : list.runs()) {
        if (old.range.Overlaps(run.range)) overlapped.push_back(old);
      }
      ASSERT_THAT(list.Overlapping(run.range), ::testing::ElementsAreArray(overlapped));
      list.Insert(run, &displaced, &lost);
      Blocks expect_displaced;
      Blocks expect_lost;
      Each(run, [&](uint64_t block, const Block& value) {
        std::optional<Block>& old = model[block];
        if (!old.has_value()) {
          old = value;
        } else if (old->Age() < value.Age()) {
          expect_displaced[block] = old;
          old = value;
        } else if (value.Age() < old->Age()) {
          expect_lost[block] = value;
        }
      });
      ASSERT_EQ(BlocksOf(list.runs()), model) << "seed " << seed << " step " << step;
      ASSERT_EQ(BlocksOf(displaced), expect_displaced) << "seed " << seed << " step " << step;
      ASSERT_EQ(BlocksOf(lost), expect_lost) << "seed " << seed << " step " << step;
      CheckCanonical(list);
      CheckMemory(list);
    }
  }
}

TEST(RunList, InsertionIsCommutativeM2) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    RunMaker maker(seed);
    std::vector<MapRun> runs = maker.Many(40);
    const RunList list = ListOf(runs);
    for (size_t i = runs.size(); i > 1; --i) {
      std::swap(runs[i - 1], runs[maker.random().Uniform(i)]);
    }
    ASSERT_EQ(ListOf(runs), list) << "seed " << seed;
  }
}

TEST(RunList, InsertionIsAssociativeM2) {
  const auto merged = [](RunList into, const RunList& from) {
    for (const MapRun& run : from.runs()) into.Insert(run);
    return into;
  };
  for (uint64_t seed = 0; seed < 300; ++seed) {
    RunMaker maker(seed);
    const RunList a = ListOf(maker.Many(12));
    const RunList b = ListOf(maker.Many(12));
    const RunList c = ListOf(maker.Many(12));
    ASSERT_EQ(merged(merged(a, b), c), merged(a, merged(b, c))) << "seed " << seed;
  }
}

TEST(RunList, InsertionIsIdempotentM2) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    RunMaker maker(seed);
    RunList list = ListOf(maker.Many(30));
    const RunList before = list;
    for (const MapRun& run : before.runs()) {
      std::vector<MapRun> displaced;
      std::vector<MapRun> lost;
      list.Insert(run, &displaced, &lost);
      list.Insert(Cut(run, {run.range.first, BlockCount(1)}), &displaced, &lost);
      ASSERT_TRUE(displaced.empty() && lost.empty()) << "seed " << seed;
      ASSERT_EQ(list, before) << "seed " << seed;
    }
  }
}

TEST(RunList, ALaterPositionWinsWhateverTheSegmentM2) {
  RunList list = ListOf({Data(0, 1, 7, 2, 5)});
  list.Insert(Data(0, 1, 6, 9, 1));
  EXPECT_EQ(list.runs(), std::vector<MapRun>{Data(0, 1, 7, 2, 5)});
}

TEST(RunList, ALaterGenerationWinsWhateverTheSeqR1) {
  MapRun old_head = Data(0, 1, 110, 2, 5);
  MapRun new_head = Data(0, 1, 105, 3, 5);
  new_head.position.generation = Generation(2);
  EXPECT_EQ(ListOf({old_head, new_head}).runs(), std::vector<MapRun>{new_head});
  EXPECT_EQ(ListOf({new_head, old_head}).runs(), std::vector<MapRun>{new_head});
}

TEST(RunList, ACopyInALaterPlaceReplacesTheOldOneR18) {
  const MapRun written = Data(0, 4, 7, 2, 100);
  const MapRun moved = Data(0, 4, 7, 5, 30);             // by the cleaner
  const MapRun repaired_beside = Data(0, 4, 7, 5, 200);  // in the same segment, further on
  std::vector<MapRun> displaced;
  RunList list = ListOf({written});
  list.Insert(moved, &displaced);
  EXPECT_EQ(displaced, std::vector<MapRun>{written});
  list.Insert(repaired_beside);
  list.Insert(moved);
  list.Insert(written);
  EXPECT_EQ(list.runs(), std::vector<MapRun>{repaired_beside});
}

TEST(RunList, AZeroRecordLoggedAgainReplacesTheOldOneR17) {
  const RunList list = ListOf({Zero(0, 8, 7, 2), Zero(0, 8, 7, 6)});
  EXPECT_EQ(list.runs(), std::vector<MapRun>{Zero(0, 8, 7, 6)});
}

TEST(RunList, CutsAddressAndChecksumsOfWhatStaysAndOfWhatIsDisplaced) {
  RunList list = ListOf({Data(4, 8, 1, 1, 100)});
  std::vector<MapRun> displaced;
  list.Insert(Data(6, 2, 2, 1, 500), &displaced);
  EXPECT_EQ(list.runs(), (std::vector<MapRun>{Data(4, 2, 1, 1, 100), Data(6, 2, 2, 1, 500),
                                              Data(8, 4, 1, 1, 104)}));
  EXPECT_EQ(displaced, std::vector<MapRun>{Data(6, 2, 1, 1, 102)});
}

TEST(RunList, FillsOnlyTheGapsBetweenNewerRuns) {
  RunList list = ListOf({Data(2, 2, 5, 1, 10), Data(6, 2, 6, 1, 20)});
  std::vector<MapRun> lost;
  list.Insert(Data(0, 10, 1, 1, 50), nullptr, &lost);
  EXPECT_EQ(list.runs(),
            (std::vector<MapRun>{Data(0, 2, 1, 1, 50), Data(2, 2, 5, 1, 10), Data(4, 2, 1, 1, 54),
                                 Data(6, 2, 6, 1, 20), Data(8, 2, 1, 1, 58)}));
  EXPECT_EQ(lost, (std::vector<MapRun>{Data(2, 2, 1, 1, 52), Data(6, 2, 1, 1, 56)}));
}

TEST(RunList, JoinsPartsOfOneEntryThatLieTogether) {
  EXPECT_EQ(ListOf({Data(0, 4, 1, 1, 50), Data(8, 4, 1, 1, 58), Data(2, 8, 1, 1, 52)}).runs(),
            std::vector<MapRun>{Data(0, 12, 1, 1, 50)});
  // Apart in the log: not one run.
  EXPECT_EQ(ListOf({Data(0, 4, 1, 1, 50), Data(4, 4, 1, 1, 90)}).runs().size(), 2u);
  EXPECT_EQ(ListOf({Zero(0, 4, 1, 1), Zero(4, 4, 1, 1)}).runs(),
            std::vector<MapRun>{Zero(0, 8, 1, 1)});
  EXPECT_EQ(ListOf({Zero(0, 4, 1, 1), Zero(4, 4, 2, 1)}).runs().size(), 2u);
}

TEST(RunList, WithinCutsToTheRange) {
  const RunList list = ListOf({Data(0, 4, 1, 1, 50), Zero(6, 4, 2, 1), Data(20, 2, 3, 1, 70)});
  EXPECT_EQ(list.Within({BlockIndex(kFirst + 2), BlockCount(6)}),
            (std::vector<MapRun>{Data(2, 2, 1, 1, 52), Zero(6, 2, 2, 1)}));
  EXPECT_TRUE(list.Within({BlockIndex(kFirst + 4), BlockCount(2)}).empty());
  EXPECT_TRUE(list.Within({BlockIndex(kFirst + 1), BlockCount(0)}).empty());
  EXPECT_EQ(list.Within({BlockIndex(0), BlockCount(kFirst * 2)}), list.runs());
}

TEST(RunList, MemoryGrowsWithItsRuns) {
  RunList list;
  const size_t empty = list.MemoryBytes();
  list.Insert(Data(0, 16, 1, 1, 0));
  EXPECT_GE(list.MemoryBytes(), empty + sizeof(MapRun) + 16 * sizeof(uint32_t));
}

// ---- docs/formats/map.md, "Packed runs" ----

RunList Example() {
  std::vector<MapRun> runs = {Data(0, 1, 300, 5, 1000), Data(1, 3, 301, 5, 1002),
                              Zero(8, 20, 302, 6), Data(31, 1, 70000, 900, 16383)};
  runs[0].block_crcs = {0xa1b2c3d4};
  runs[1].block_crcs = {0x11111111, 0x22222222, 0x33333333};
  runs[3].block_crcs = {0x00000001};
  return ListOf(runs);
}

TEST(RunListCodec, HasTheGoldenBytes) {
  EXPECT_EQ(Example().Encode(kChunk), Golden("map/run_list.hex"));
}

TEST(RunListCodec, ReadsTheGoldenBytes) {
  const absl::StatusOr<RunList> list = RunList::Decode(kChunk, Golden("map/run_list.hex"));
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_EQ(*list, Example());
}

TEST(RunListCodec, RoundTripsEveryList) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const RunList list = ListOf(RunMaker(seed).Many(seed % 50));
    const absl::StatusOr<RunList> decoded = RunList::Decode(kChunk, list.Encode(kChunk));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    ASSERT_EQ(*decoded, list);
  }
}

TEST(RunListCodec, EncodesTheNewerRunsAsAListOfTheirOwn) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const RunList list = ListOf(RunMaker(seed).Many(seed % 50));
    for (const twofold::Run& bound : list.runs()) {
      RunList newer;
      for (const twofold::Run& run : list.runs()) {
        if (run.position > bound.position) newer.Insert(run);
      }
      ASSERT_EQ(list.EncodeNewer(kChunk, bound.position), newer.Encode(kChunk)) << "seed " << seed;
    }
  }
}

TEST(RunListCodec, IsRelativeToTheChunk) {
  const RunList list = Example();
  const absl::StatusOr<RunList> moved = RunList::Decode(kChunk + 7, list.Encode(kChunk));
  ASSERT_TRUE(moved.ok());
  EXPECT_EQ(moved->runs()[0].range.first, BlockIndex((kChunk + 7) * kChunkBlocks));
}

TEST(RunListCodec, RefusesEveryTruncation) {
  const std::string bytes = Example().Encode(kChunk);
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_EQ(RunList::Decode(kChunk, absl::string_view(bytes).substr(0, length)).status().code(),
              absl::StatusCode::kDataLoss)
        << length;
  }
  EXPECT_FALSE(RunList::Decode(kChunk, bytes + '\0').ok());
}

void ExpectRefused(absl::string_view hex, absl::string_view why) {
  const absl::Status status = RunList::Decode(kChunk, absl::HexStringToBytes(hex)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << why;
  EXPECT_NE(status.message().find("chunk 3"), absl::string_view::npos) << status;
}

TEST(RunListCodec, RefusesWhatNoListEncodesTo) {
  ASSERT_TRUE(RunList::Decode(kChunk, absl::HexStringToBytes("0101000301010a")).ok());
  ExpectRefused("0201000301010a", "another version");
  ExpectRefused("0121", "more runs than blocks");
  ExpectRefused("0101000101010a", "an empty run");
  ExpectRefused("0101200301010a", "a run that starts behind the chunk");
  ExpectRefused("01011f0501010a", "a run that ends behind the chunk");
  ExpectRefused("0101ffffffffffffffffff010301010a", "a gap that overflows");
  ExpectRefused("010100ffffffffffffffffff0101010a", "a count that overflows");
  ExpectRefused("0102000301010a000301010a", "two runs that are one");
  ExpectRefused("010100830001010a", "a varint longer than need be");
  ExpectRefused("0101000201010affffffff0f01020304", "a place behind the largest segment");
}

TEST(RunListCodec, RefusesAChunkBeyondTheLargestVolume) {
  EXPECT_EQ(RunList::Decode(~uint64_t{0}, RunList().Encode(0)).status().code(),
            absl::StatusCode::kDataLoss);
}

using RunListDeathTest = testing::Test;

TEST(RunListDeathTest, ChecksTheShapeOfWhatIsInserted) {
  RunList list;
  EXPECT_DEATH(list.Insert(MapRun{}), "check failed");
  MapRun short_of_crcs = Data(0, 2, 1, 1, 1);
  short_of_crcs.block_crcs.pop_back();
  EXPECT_DEATH(list.Insert(short_of_crcs), "check failed");
  EXPECT_DEATH(ListOf({Data(0, 1, 1, 1, 1)}).Encode(kChunk + 1), "check failed");
  EXPECT_DEATH(ListOf({Data(0, 1, 1, 1, 1)}).Encode(kChunk - 1), "check failed");
}

}  // namespace
}  // namespace twofold
