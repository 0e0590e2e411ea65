#include "storage/map/forwarding.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "storage/base/prng.h"
#include "storage/map/key_codec.h"
#include "tests/map/golden.h"

namespace twofold {
namespace {

LogAddress At(uint64_t segment, uint32_t block) { return {SegmentNumber(segment), block}; }

ForwardingEntry Example() {
  ForwardingEntry entry;
  entry.SetBlocks(
      {{0, At(12, 200)}, {4, At(12, 201)}, {5, At(12, 202)}, {7, At(13, 1)}, {8, At(13, 2)}});
  entry.zeros = SegmentNumber(12);
  return entry;
}

Run DataRun(LogAddress address, uint64_t first, uint64_t count) {
  Run run{.range = {BlockIndex(first), BlockCount(count)},
          .kind = RunKind::kData,
          .position = {Generation(1), Seq(7)},
          .address = address,
          .block_crcs = {}};
  for (uint64_t i = 0; i < count; ++i) run.block_crcs.push_back(static_cast<uint32_t>(first + i));
  return run;
}

TEST(ForwardingEntry, HasTheGoldenBytes) {
  EXPECT_EQ(EncodeForwarding(Example()), Golden("map/forwarding.hex"));
  EXPECT_EQ(DecodeForwarding(SegmentNumber(9), Golden("map/forwarding.hex")).value(), Example());
  EXPECT_EQ(EncodeSegmentKey(Table::kForwarding, SegmentNumber(0x0a0b)),
            Golden("map/forwarding_key.hex"));
}

TEST(ForwardingEntry, RefusesWhatIsNotWholeOrPointsBack) {
  const std::string good = EncodeForwarding(Example());
  for (size_t length = 0; length + 1 < good.size(); ++length) {
    EXPECT_FALSE(DecodeForwarding(SegmentNumber(9), good.substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(DecodeForwarding(SegmentNumber(12), good).ok()) << "a target that is no later";
  ForwardingEntry split = Example();
  split.pieces.insert(split.pieces.begin() + 1, {1, At(12, 201)});
  EXPECT_FALSE(DecodeForwarding(SegmentNumber(9), EncodeForwarding(split)).ok());
  ForwardingEntry nothing;
  EXPECT_FALSE(DecodeForwarding(SegmentNumber(9), EncodeForwarding(nothing)).ok());
}

TEST(Forwarding, FindsABlockByItsRank) {
  Forwarding forwarding;
  forwarding.Add(SegmentNumber(9), 4, 2, At(12, 100));
  forwarding.Add(SegmentNumber(9), 7, 1, At(12, 102));  // goes on there: one piece
  forwarding.Add(SegmentNumber(9), 9, 1, At(13, 5));
  EXPECT_EQ(forwarding.Resolve(At(9, 4)), At(12, 100));
  EXPECT_EQ(forwarding.Resolve(At(9, 5)), At(12, 101));
  EXPECT_EQ(forwarding.Resolve(At(9, 7)), At(12, 102));
  EXPECT_EQ(forwarding.Resolve(At(9, 9)), At(13, 5));
  EXPECT_EQ(forwarding.Resolve(At(9, 6)), At(9, 6)) << "was not moved";
  EXPECT_EQ(forwarding.Resolve(At(8, 4)), At(8, 4));
}

TEST(Forwarding, CutsARunWhereItsBlocksWentApart) {
  Forwarding forwarding;
  forwarding.Add(SegmentNumber(9), 4, 2, At(12, 100));
  forwarding.Add(SegmentNumber(9), 6, 1, At(13, 5));
  const auto parts = forwarding.Resolve(DataRun(At(9, 3), 50, 5));
  ASSERT_EQ(parts.size(), 4u);
  EXPECT_EQ(parts[0], DataRun(At(9, 3), 50, 1));
  EXPECT_EQ(parts[1], DataRun(At(12, 100), 51, 2));
  EXPECT_EQ(parts[2], DataRun(At(13, 5), 53, 1));
  EXPECT_EQ(parts[3], DataRun(At(9, 7), 54, 1));
}

TEST(Forwarding, MovesZeroRecordsByTheirSegment) {
  Forwarding forwarding;
  forwarding.MoveZeros(SegmentNumber(9), SegmentNumber(12));
  forwarding.MoveZeros(SegmentNumber(12), SegmentNumber(15));
  EXPECT_EQ(forwarding.ResolveZeros(SegmentNumber(9)), SegmentNumber(15));
  EXPECT_EQ(forwarding.ResolveZeros(SegmentNumber(10)), SegmentNumber(10));
  EXPECT_EQ(forwarding.Resolve(At(9, 3)), At(9, 3)) << "payload stays";
}

TEST(Forwarding, MakesRunsSayWhereTheyLie) {
  Forwarding forwarding;
  RunList runs;
  runs.Insert(DataRun(At(9, 3), 50, 3));
  EXPECT_FALSE(forwarding.Resolve(&runs));
  forwarding.Add(SegmentNumber(9), 4, 1, At(12, 100));
  EXPECT_TRUE(forwarding.Resolve(&runs));
  ASSERT_EQ(runs.runs().size(), 3u);
  EXPECT_EQ(runs.runs()[1].address, At(12, 100));
  EXPECT_FALSE(forwarding.Resolve(&runs)) << "they do already";
}

// Against a table of single blocks: many segments, moved again and again, in parts, stored and
// loaded.
TEST(Forwarding, AgreesWithATableOfBlocksHoweverOftenTheyAreMovedM16) {
  Prng random(7);
  for (int round = 0; round < 50; ++round) {
    Forwarding forwarding;
    std::map<LogAddress, LogAddress> model;  // from where a block ever lay to where it lies
    std::map<uint64_t, std::vector<uint32_t>> holds;
    for (uint32_t block = 0; block < 60; ++block) {
      holds[1].push_back(block);
      model[At(1, block)] = At(1, block);
    }
    uint64_t next_segment = 2;
    std::map<uint64_t, uint32_t> used;
    std::map<std::string, std::string> stored;
    for (int move = 0; move < 12; ++move) {
      auto source = holds.begin();
      std::advance(source, random.Uniform(holds.size()));
      const uint64_t from = source->first;
      if (from + 1 > next_segment || random.OneIn(2)) ++next_segment;
      std::vector<uint32_t> stay;
      for (uint32_t block : source->second) {
        if (random.OneIn(5)) {
          stay.push_back(block);
          continue;
        }
        const uint64_t to = std::max(next_segment, from + 1);
        uint32_t& place = used[to];
        if (random.OneIn(4)) place += 3;
        forwarding.Add(SegmentNumber(from), block, 1, At(to, place));
        for (auto& [was, lies] : model) {
          if (lies == At(from, block)) lies = At(to, place);
        }
        model[At(to, place)] = At(to, place);
        holds[to].push_back(place);
        ++place;
      }
      if (stay.empty()) {
        holds.erase(from);
      } else {
        holds[from] = stay;
      }
      next_segment = std::max(next_segment, holds.rbegin()->first);
      if (random.OneIn(2)) forwarding.Collapse(SegmentNumber(from));
      MetadataBatch batch;
      forwarding.Freeze(&batch);
      for (const MetadataWrite& write : batch) stored[write.key] = write.value;
      if (random.OneIn(3)) {
        forwarding = Forwarding();
        ASSERT_TRUE(forwarding.Load({stored.begin(), stored.end()}).ok());
      }
      for (const auto& [was, lies] : model) {
        ASSERT_EQ(forwarding.Resolve(was), lies) << was.segment << ":" << was.block;
      }
    }
    // Collapsed, each points to the last place at once.
    forwarding.CollapseAll();
    MetadataBatch batch;
    forwarding.Freeze(&batch);
    for (const MetadataWrite& write : batch) stored[write.key] = write.value;
    for (const auto& [key, value] : stored) {
      const SegmentNumber from = *DecodeSegmentKey(key);
      for (const auto& [block, target] : DecodeForwarding(from, value)->Blocks()) {
        ASSERT_EQ(target, forwarding.Resolve(target));
      }
    }
  }
}

TEST(Forwarding, DropsEntriesThatWereNotAddedToSince) {
  Forwarding forwarding;
  forwarding.Add(SegmentNumber(3), 1, 1, At(12, 1));
  forwarding.Add(SegmentNumber(4), 1, 1, At(12, 2));
  const uint64_t begun = forwarding.serial();
  forwarding.Add(SegmentNumber(4), 2, 1, At(12, 3));
  EXPECT_GT(forwarding.MemoryBytes(), 0u);
  forwarding.Drop(begun);
  EXPECT_FALSE(forwarding.Has(SegmentNumber(3)));
  EXPECT_EQ(forwarding.Resolve(At(4, 1)), At(12, 2));
  MetadataBatch batch;
  forwarding.Freeze(&batch);
  ASSERT_EQ(batch.size(), 2u);
  EXPECT_EQ(batch[0].kind, MetadataWrite::Kind::kDelete);
  EXPECT_EQ(batch[1].kind, MetadataWrite::Kind::kPut);
  forwarding.Drop(forwarding.serial());
  EXPECT_TRUE(forwarding.empty());
  EXPECT_EQ(forwarding.MemoryBytes(), 0u);
}

}  // namespace
}  // namespace twofold
