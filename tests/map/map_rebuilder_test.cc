// What is made of chosen histories; random ones are made anew in extent_map_property_test.cc.
#include "storage/map/map_rebuilder.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "storage/map/chunk.h"
#include "storage/map/key_codec.h"
#include "storage/map/recount.h"
#include "storage/map/value_codec.h"
#include "storage/runtime/executor.h"
#include "tests/map/history.h"
#include "tests/sim/sim_metadata_store.h"
#include "tests/sim/sim_poller.h"

namespace twofold {
namespace {

using LoggedRun = std::pair<TimelineId, Run>;

LoggedRun Data(TimelineId timeline, BlockRange range, Position position, uint64_t segment) {
  Run run;
  run.range = range;
  run.position = position;
  run.address = {SegmentNumber(segment), 2};
  run.block_crcs.assign(range.count.value(), 7);
  return {timeline, run};
}
LoggedRun Zeros(TimelineId timeline, BlockRange range, Position position, uint64_t segment) {
  return {timeline, {range, RunKind::kZero, position, {SegmentNumber(segment), 0}, {}}};
}
BlockRange Blocks(uint64_t first, uint64_t count) { return {BlockIndex(first), BlockCount(count)}; }

class MapRebuilderTest : public testing::Test {
 protected:
  MapRebuilderTest()
      : executor_(poller_), store_(disk_.Open()), volume_(history_.CreateVolume("v")) {}
  ~MapRebuilderTest() override { executor_.Run(store_->Close()); }

  // The whole of the map, as before the checkpoint counts; it must agree with a recount (M21).
  void Rebuild(const std::vector<LoggedRun>& logged) { executor_.Run(Make(&logged)); }

  std::map<SegmentNumber, SegmentUsage> Usages() const {
    std::map<SegmentNumber, SegmentUsage> usages;
    for (const auto& [key, value] : disk_.contents()) {
      if (key.front() != static_cast<char>(Table::kUsage)) continue;
      const SegmentNumber segment = *DecodeSegmentKey(key);
      usages[segment] = *DecodeUsage(segment, value);
    }
    return usages;
  }
  size_t KeysIn(Table table) const {
    size_t keys = 0;
    for (const auto& [key, value] : disk_.contents()) {
      if (key.front() == static_cast<char>(table)) ++keys;
    }
    return keys;
  }
  std::vector<ChunkKey> VersionsOf(TimelineId timeline) const {
    std::vector<ChunkKey> versions;
    for (const auto& [key, value] : disk_.contents()) {
      const auto chunk = DecodeChunkKey(key);
      if (chunk.ok() && chunk->timeline == timeline) versions.push_back(*chunk);
    }
    return versions;
  }

  sim::SimPoller poller_{1};
  Executor executor_;
  sim::SimMetadataDisk disk_{1};
  std::unique_ptr<MetadataStore> store_;
  History history_;
  VolumeId volume_;

 private:
  Task<void> Make(const std::vector<LoggedRun>* logged) {
    MapRebuilder rebuilder(store_.get(), &history_.catalogue());
    absl::Status status = co_await rebuilder.Begin();
    EXPECT_TRUE(status.ok()) << status;
    for (const auto& [timeline, run] : *logged) rebuilder.Add(timeline, run);
    status = co_await rebuilder.Build(nullptr);
    EXPECT_TRUE(status.ok()) << status;
    status = co_await store_->Commit(rebuilder.TakeRest());
    EXPECT_TRUE(status.ok()) << status;
    const auto recount = co_await VerifyAccounting(store_.get(), &history_.catalogue());
    EXPECT_TRUE(recount.ok()) << recount.status();
  }
};

// The free rule: a segment may go when nothing of it is live (M14), so what any retained point
// shows must be.
TEST_F(MapRebuilderTest, KeepsASegmentThatASnapshotAloneNeedsM21) {
  const TimelineId timeline = history_.Current(volume_);
  const Position old = history_.Write(volume_, 0, 4);
  const SnapshotId snapshot = history_.Snapshot(volume_, "s");
  const Position overwrite = history_.Write(volume_, 0, 4);
  const std::vector<LoggedRun> logged = {Data(timeline, Blocks(0, 4), old, 5),
                                         Data(timeline, Blocks(0, 4), overwrite, 6)};
  Rebuild(logged);
  EXPECT_EQ(Usages()[SegmentNumber(5)].live_blocks, 4);
  EXPECT_EQ(Usages()[SegmentNumber(6)].live_blocks, 4);
  EXPECT_EQ(KeysIn(Table::kDead), 1);

  history_.DeleteSnapshot(snapshot);
  Rebuild(logged);
  EXPECT_EQ(Usages()[SegmentNumber(5)].live_blocks, 0) << "nobody needs it any more";
  EXPECT_EQ(Usages()[SegmentNumber(6)].live_blocks, 4);
  EXPECT_EQ(KeysIn(Table::kDead), 0);
}

TEST_F(MapRebuilderTest, KeepsASegmentThatATimelineInheritsM20) {
  const TimelineId left = history_.Current(volume_);
  const Position inherited = history_.Write(volume_, 0, 4);
  const SnapshotId snapshot = history_.Snapshot(volume_, "s");
  const Position behind = history_.Write(volume_, 0, 4);
  const TimelineId current = history_.StartTimeline(volume_, snapshot);
  history_.DeleteSnapshot(snapshot);  // The fork point goes on without it.
  const Position own = history_.Write(volume_, 0, 2);
  Rebuild({Data(left, Blocks(0, 4), inherited, 5), Data(left, Blocks(0, 4), behind, 6),
           Data(current, Blocks(0, 2), own, 7)});
  EXPECT_EQ(Usages()[SegmentNumber(5)].live_blocks, 4);
  EXPECT_EQ(Usages()[SegmentNumber(6)].live_blocks, 0) << "only what was left behind showed it";
  EXPECT_EQ(Usages()[SegmentNumber(7)].live_blocks, 2);
}

TEST_F(MapRebuilderTest, KeepsASegmentWithZerosThatHideWhatAnAncestorHasM17) {
  const TimelineId left = history_.Current(volume_);
  const Position inherited = history_.Write(volume_, 0, 4);
  history_.StartTimeline(volume_, history_.Snapshot(volume_, "s1"));  // with nothing of its own
  const TimelineId current = history_.StartTimeline(volume_, history_.Snapshot(volume_, "s2"));
  const Position zeroed = history_.Write(volume_, 0, 3 * kChunkBlocks);
  Rebuild({Zeros(current, Blocks(0, 3 * kChunkBlocks), zeroed, 6),
           Data(left, Blocks(0, 4), inherited, 5)});
  ASSERT_EQ(VersionsOf(current).size(), 1) << "of the chunks that an ancestor has, alone (M7)";
  EXPECT_EQ(VersionsOf(current)[0].chunk, 0);
  EXPECT_EQ(Usages()[SegmentNumber(6)].zero_blocks, kChunkBlocks);
  EXPECT_EQ(Usages()[SegmentNumber(5)].live_blocks, 4);
}

TEST_F(MapRebuilderTest, DividesAWriteBetweenChunks) {
  const Position position = history_.Write(volume_, kChunkBlocks - 1, 2);
  Rebuild({Data(history_.Current(volume_), Blocks(kChunkBlocks - 1, 2), position, 5)});
  EXPECT_EQ(VersionsOf(history_.Current(volume_)).size(), 2);
  EXPECT_EQ(Usages()[SegmentNumber(5)].live_blocks, 2);
}

TEST_F(MapRebuilderTest, LeavesNothingOfWhatWasThereAndNothingOfItsSorting) {
  const TimelineId timeline = history_.Current(volume_);
  const Position written = history_.Write(volume_, 0, 4);
  const Position zeroed = history_.Write(volume_, 2, 1);
  // Another rebuild, which was cut off in the middle, and the map before it.
  MetadataBatch before;
  for (const Table table :
       {Table::kMeta, Table::kChunk, Table::kVersion, Table::kDead, Table::kLive, Table::kUsage,
        Table::kTombstone, Table::kPartial, Table::kForwarding, Table::kJob, Table::kLineage,
        Table::kSortRun, Table::kSortZero}) {
    before.push_back({MetadataWrite::Kind::kPut, TablePrefix(table) + "left over", "x"});
  }
  ASSERT_TRUE(executor_.Run(store_->Commit(std::move(before))).ok());
  Rebuild({Data(timeline, Blocks(0, 4), written, 5), Zeros(timeline, Blocks(2, 1), zeroed, 5)});
  for (const auto& [key, value] : disk_.contents()) EXPECT_NE(value, "x") << key;
  EXPECT_EQ(KeysIn(Table::kSortRun), 0);
  EXPECT_EQ(KeysIn(Table::kSortZero), 0);
  EXPECT_EQ(KeysIn(Table::kChunk), 1);
}

}  // namespace
}  // namespace twofold
