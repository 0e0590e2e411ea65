#include "storage/map/chunk_history.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "storage/map/chunk.h"
#include "storage/map/key_codec.h"
#include "storage/map/value_codec.h"
#include "tests/map/history.h"

namespace twofold {
namespace {

constexpr uint64_t kChunk = 5;
constexpr SegmentNumber kSegment{7};

using Runs = std::vector<Run>;  // in a test `Run` is a function of its class

// Blocks are counted from the chunk's first one; `place` is the block of the segment.
Run Data(uint64_t first, uint64_t count, Position position, uint32_t place,
         SegmentNumber segment = kSegment) {
  Run run;
  run.range = {ChunkRange(kChunk).first + BlockCount(first), BlockCount(count)};
  run.position = position;
  run.address = {segment, place};
  for (uint64_t i = 0; i < count; ++i) {
    run.block_crcs.push_back(place + static_cast<uint32_t>(i));
  }
  return run;
}
Run Zeros(uint64_t first, uint64_t count, Position position) {
  Run run = Data(first, count, position, 0);
  run.kind = RunKind::kZero;
  run.block_crcs.clear();
  return run;
}

class ChunkHistoryTest : public testing::Test {
 protected:
  ChunkHistoryTest() : volume_(history_.CreateVolume("v")) {}

  Position Next() { return history_.Write(volume_); }
  Position Point(const std::string& name) {
    return history_.Record(history_.Snapshot(volume_, name)).position;
  }
  const TimelineRecord& Timeline(uint64_t id = 1) const {
    return history_.catalogue().timelines().at(TimelineId(id));
  }
  TimelineWindows Windows(uint64_t id = 1) const { return {history_.catalogue(), Timeline(id)}; }

  struct Version {
    Epoch epoch;
    RunList runs;
  };
  std::vector<Version> Versions() const {
    std::vector<Version> versions;
    size_t indexed = 0;
    for (const MetadataWrite& write : built_.batch) {
      const auto key = DecodeChunkKey(write.key);
      if (DecodeVersionKey(write.key).ok()) ++indexed;
      if (!key.ok()) continue;
      EXPECT_EQ(key->chunk, kChunk);
      versions.push_back({key->epoch, *RunList::Decode(kChunk, write.value)});
    }
    EXPECT_EQ(versions.size(), built_.versions);
    EXPECT_EQ(versions.size(), indexed) << "each version is in the index of versions (M6)";
    return versions;
  }
  struct Dead {
    DeadKey key;
    BlockCount count;
  };
  std::vector<Dead> DeadRuns() const {
    std::vector<Dead> dead;
    for (const MetadataWrite& write : built_.batch) {
      const auto key = DecodeDeadKey(write.key);
      if (key.ok()) dead.push_back({*key, *DecodeDeadCount(write.value)});
    }
    return dead;
  }
  uint64_t LiveBlocks() const {
    uint64_t blocks = 0;
    for (const LiveChange& change : built_.changes) {
      EXPECT_TRUE(change.live);
      blocks += change.count;
    }
    return blocks;
  }

  History history_;
  VolumeId volume_;
  RebuiltMap built_;
};

TEST_F(ChunkHistoryTest, APointShowsWhatCameBeforeIt) {
  const Position before = Next();
  const Position point = Point("s");
  const Position after = Next();
  const TimelineWindows windows = Windows();
  EXPECT_EQ(windows.WindowOf(before), 0);
  EXPECT_EQ(windows.WindowOf(point), 1);
  EXPECT_EQ(windows.WindowOf(after), 1);
  EXPECT_EQ(windows.EpochOf(0), Timeline().opened);
  EXPECT_EQ(windows.EpochOf(1), point);
}

TEST_F(ChunkHistoryTest, NobodySeesWhatCameBehindTheLastPointOfATimelineThatWasLeft) {
  const Position before = Next();
  const SnapshotId snapshot = history_.Snapshot(volume_, "s");
  const Position after = Next();
  history_.StartTimeline(volume_, snapshot);
  const TimelineWindows windows = Windows();
  EXPECT_TRUE(windows.IsSeen(0));
  EXPECT_FALSE(windows.IsSeen(1));
  ChunkHistory chunk(windows, kChunk, /*below=*/false, &built_);
  chunk.Add(Data(0, 2, before, 10));
  chunk.Add(Data(0, 2, after, 20));
  chunk.Finish();
  ASSERT_EQ(Versions().size(), 1);
  EXPECT_EQ(Versions()[0].runs.runs(), Runs{Data(0, 2, before, 10)});
  EXPECT_TRUE(DeadRuns().empty());
  EXPECT_EQ(LiveBlocks(), 2);
}

TEST_F(ChunkHistoryTest, ATimelineThatNothingNeedsStaysWholeM20) {
  TimelineRecord left;
  left.id = TimelineId(9);
  left.volume = volume_;
  const TimelineWindows windows(history_.catalogue(), left);
  EXPECT_TRUE(windows.IsSeen(0));
}

TEST_F(ChunkHistoryTest, EachWindowInWhichItChangedHasAVersionAndNoOther) {
  const Position first = Next();
  Point("s1");
  const Position second_point = Point("s2");
  const Position last = Next();
  const TimelineWindows windows = Windows();
  ChunkHistory chunk(windows, kChunk, /*below=*/false, &built_);
  chunk.Add(Data(0, 2, first, 10));
  chunk.Add(Data(4, 1, last, 20));
  chunk.Finish();
  const std::vector<Version> versions = Versions();
  ASSERT_EQ(versions.size(), 2);
  EXPECT_EQ(versions[0].epoch, Timeline().opened);
  EXPECT_EQ(versions[0].runs.runs(), Runs{Data(0, 2, first, 10)});
  EXPECT_EQ(versions[1].epoch, second_point);
  EXPECT_EQ(versions[1].runs.runs(), (Runs{Data(0, 2, first, 10), Data(4, 1, last, 20)}))
      << "a version is whole: it repeats what the one before says";
  EXPECT_EQ(built_.usages[kSegment].live_blocks, 3) << "what two versions say is counted once";
  EXPECT_EQ(LiveBlocks(), 3);
}

TEST_F(ChunkHistoryTest, WhatAPointSeesAndTheNextStateDoesNotIsListedAsDeadM19) {
  const Position old = Next();
  const Position point = Point("s");
  const Position overwrite = Next();
  const TimelineWindows windows = Windows();
  ChunkHistory chunk(windows, kChunk, /*below=*/false, &built_);
  chunk.Add(Data(0, 4, old, 10));
  chunk.Add(Data(1, 2, overwrite, 20));
  chunk.Finish();
  const std::vector<Dead> dead = DeadRuns();
  ASSERT_EQ(dead.size(), 1);
  const DeadKey expected{.timeline = TimelineId(1),
                         .death = point,
                         .birth = Timeline().opened,
                         .chunk = kChunk,
                         .block = ChunkRange(kChunk).first + BlockCount(1),
                         .position = old};
  EXPECT_EQ(dead[0].key, expected);
  EXPECT_EQ(dead[0].count, BlockCount(2));
  EXPECT_EQ(LiveBlocks(), 6) << "the point still needs what is dead for the head (M21)";
}

TEST_F(ChunkHistoryTest, WhatDiedBeforeAnyPointSawItIsNeitherLiveNorDead) {
  const Position old = Next();
  const Position overwrite = Next();
  Point("s");
  const TimelineWindows windows = Windows();
  ChunkHistory chunk(windows, kChunk, /*below=*/false, &built_);
  chunk.Add(Data(0, 4, old, 10));
  chunk.Add(Data(0, 3, overwrite, 20));
  chunk.Finish();
  EXPECT_TRUE(DeadRuns().empty());
  EXPECT_EQ(built_.usages[kSegment].live_blocks, 4);
  EXPECT_EQ(LiveBlocks(), 4);
}

TEST_F(ChunkHistoryTest, ZerosOverNothingAreNotSaidM7) {
  const TimelineWindows windows = Windows();
  ChunkHistory chunk(windows, kChunk, /*below=*/false, &built_);
  chunk.Add(Zeros(0, 8, Next()));
  chunk.Finish();
  EXPECT_TRUE(built_.batch.empty());
  EXPECT_TRUE(built_.usages.empty());
}

TEST_F(ChunkHistoryTest, ZerosOverWhatAnAncestorHasAreSaidM7) {
  const Position position = Next();
  const TimelineWindows windows = Windows();
  ChunkHistory chunk(windows, kChunk, /*below=*/true, &built_);
  chunk.Add(Zeros(0, 8, position));
  chunk.Finish();
  ASSERT_EQ(Versions().size(), 1);
  EXPECT_EQ(Versions()[0].runs.runs(), Runs{Zeros(0, 8, position)});
  EXPECT_EQ(built_.usages[kSegment].zero_blocks, 8) << "M17";
  EXPECT_EQ(built_.usages[kSegment].live_blocks, 0);
}

TEST_F(ChunkHistoryTest, OfTwoCopiesTheLaterPlaceCountsM2) {
  const Position position = Next();
  const TimelineWindows windows = Windows();
  ChunkHistory chunk(windows, kChunk, /*below=*/false, &built_);
  chunk.Add(Data(0, 2, position, 10));
  chunk.Add(Data(0, 2, position, 10, SegmentNumber(8)));
  chunk.Finish();
  ASSERT_EQ(Versions().size(), 1);
  EXPECT_EQ(Versions()[0].runs.runs()[0].address.segment, SegmentNumber(8));
  EXPECT_EQ(built_.usages[SegmentNumber(8)].live_blocks, 2);
  EXPECT_FALSE(built_.usages.contains(kSegment)) << "the older copy keeps no segment from reuse";
}

}  // namespace
}  // namespace twofold
