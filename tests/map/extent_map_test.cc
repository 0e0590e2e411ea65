// The rules of the extent map, one by one. What they do together is in extent_map_property_test.cc.
#include "storage/map/extent_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "storage/map/run_list.h"
#include "storage/map/value_codec.h"
#include "tests/map/extent_map_world.h"

namespace twofold {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kChunk = kChunkBlocks;

class ExtentMapTest : public testing::Test {
 protected:
  void Make(WorldOptions options = {}) {
    world_ = std::make_unique<World>(options);
    Do([this] { volume_ = world_->CreateVolume(); });
  }
  World& world() {
    if (world_ == nullptr) Make();
    return *world_;
  }
  VolumeId volume() {
    world();
    return volume_;
  }
  TimelineId timeline() { return world().Current(volume()); }

  // As a task of the executor, and then whatever it started.
  void Do(std::function<void()> function) { world_->Run(Call(std::move(function))); }
  static Task<void> Call(std::function<void()> function) {
    function();
    co_return;
  }
  void Checkpoint() { TF_CHECK_OK(world().Run(world().Checkpoint())); }
  void ReclaimAll() { TF_CHECK_OK(world().Run(world().ReclaimAll())); }
  void Crash() { world().Run(world().Crash()); }
  void CheckAll() { world().Run(world().CheckAll()); }
  // Large trims have reached their chunks.
  void FinishTrims() {
    while (world().map().counters().tombstones > 0) world().Run(PassTurn());
  }
  static Task<void> PassTurn() { co_await Yield(); }
  // A cold cache: all that is shown comes from the metadata store.
  void Cool() {
    Checkpoint();
    Crash();
  }
  void CheckCold() {
    Cool();
    CheckAll();
    FinishTrims();
    Cool();
    CheckAll();
  }
  std::vector<Piece> Lookup(uint64_t first, uint64_t count, Position as_of = kLastPosition) {
    auto found = world().Run(
        world().map().Lookup(timeline(), as_of, {BlockIndex(first), BlockCount(count)}));
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() ? *std::move(found) : std::vector<Piece>();
  }
  bool TryLookup(uint64_t first, uint64_t count) {
    std::vector<Piece> pieces;
    return world().map().TryLookup(timeline(), kLastPosition,
                                   {BlockIndex(first), BlockCount(count)}, &pieces);
  }
  uint64_t live() { return world().table().live_blocks(); }
  uint64_t zeros() {
    uint64_t zeros = 0;
    for (const auto& [segment, info] : world().table().segments()) zeros += info.zero_blocks;
    return zeros;
  }
  void Write(uint64_t first, uint64_t count) {
    volume();
    Do([=, this] { world().Write(volume_, first, count); });
  }
  void Zero(uint64_t first, uint64_t count) {
    volume();
    Do([=, this] { world().Zero(volume_, first, count); });
  }
  SnapshotId Snapshot() {
    volume();
    SnapshotId id;
    Do([&, this] { id = world().Snapshot(volume_); });
    return id;
  }
  void Delete(SnapshotId id) {
    Do([=, this] { world().DeleteSnapshot(id); });
  }
  void Rollback(SnapshotId id, bool keep_end = true) {
    Do([=, this] { world().Rollback(volume_, id, keep_end); });
  }

 private:
  std::unique_ptr<World> world_;
  VolumeId volume_;
};

// ---- Insert and lookup --------------------------------------------------------------------------

TEST_F(ExtentMapTest, ShowsNothingBeforeTheFirstWrite) {
  const std::vector<Piece> pieces = Lookup(0, 3 * kChunk);
  ASSERT_EQ(pieces.size(), 1) << "unmapped chunks are one piece";
  EXPECT_FALSE(pieces[0].mapped);
  EXPECT_EQ(pieces[0].run.range, (BlockRange{BlockIndex(0), BlockCount(3 * kChunk)}));
}

TEST_F(ExtentMapTest, JoinsTheRunOfOneEntryAcrossChunks) {
  Write(kChunk - 2, 4);
  const std::vector<Piece> pieces = Lookup(kChunk - 4, 8);
  ASSERT_EQ(pieces.size(), 3);
  EXPECT_EQ(pieces[1].run.range, (BlockRange{BlockIndex(kChunk - 2), BlockCount(4)}));
  EXPECT_EQ(pieces[1].run.block_crcs.size(), 4);
}

TEST_F(ExtentMapTest, AnswersWithoutTheBaseWhereAllWasJustWritten) {
  // M10: the metadata store is not on the way of a write, nor of reading it back.
  WorldOptions options;
  options.delays.max_read_delay_ns = 1'000'000'000;
  Make(options);
  Do([this] {
    world().Write(volume(), 4, 8);
    EXPECT_TRUE(TryLookup(5, 6));
    EXPECT_FALSE(TryLookup(3, 3)) << "block 3 is not known before its base was read";
    EXPECT_EQ(world().map().counters().partial_chunks, 1);
  });
  EXPECT_EQ(Lookup(3, 3).size(), 2);
  EXPECT_EQ(world().map().counters().partial_chunks, 0);
}

TEST_F(ExtentMapTest, MergesABaseWithWhatCameMeanwhileAlsoAcrossASnapshot) {
  WorldOptions options;
  options.delays.max_read_delay_ns = 1'000'000;
  Make(options);
  Write(0, 8);
  Cool();
  SnapshotId between;
  Do([&, this] {
    world().Write(volume(), 2, 2);  // The chunk is not in memory: partial.
    between = world().Snapshot(volume());
    world().Write(volume(), 3, 2);
    EXPECT_EQ(world().map().counters().partial_chunks, 1);
  });
  CheckAll();
  EXPECT_EQ(live(), 8 + 2) << "blocks 3 and 4 as the snapshot sees them, and 8 current ones";
  CheckCold();
  EXPECT_EQ(live(), 8 + 2);
}

TEST_F(ExtentMapTest, KeepsPartialChunksThroughACheckpoint) {
  WorldOptions options;
  options.delays.max_read_delay_ns = 1'000'000'000;
  Make(options);
  Write(0, 8);
  Checkpoint();
  Crash();
  Do([this] { world().Write(volume(), 2, 2); });
  // As when the write came between PrepareFreeze and Freeze.
  ExtentMap::Frozen frozen = world().map().Freeze(SegmentNumber(1), SegmentNumber(1));
  int partial = 0;
  for (const MetadataWrite& write : frozen.batch) {
    if (write.key[0] == static_cast<char>(Table::kPartial)) {
      ++partial;
      EXPECT_EQ(write.kind, MetadataWrite::Kind::kPut);
    }
    EXPECT_NE(write.key[0], static_cast<char>(Table::kChunk));
  }
  EXPECT_EQ(partial, 1);
  world().map().FreezeDone();
  Crash();
  CheckAll();
}

TEST_F(ExtentMapTest, InsertingTheSameRunAgainChangesNoAccounting) {
  // R18.
  const auto insert_again = [this](bool cold) {
    const twofold::Run run = Lookup(4, 4).at(0).run;
    if (cold) Cool();
    const uint64_t live_before = live();
    Do([&] { world().map().Insert(timeline(), run); });
    EXPECT_EQ(Lookup(4, 4).size(), 1);
    EXPECT_EQ(live(), live_before);
    Checkpoint();
  };
  Write(4, 4);
  insert_again(/*cold=*/false);
  insert_again(/*cold=*/true);  // Over a base that is read later, and has it.
  Snapshot();
  const std::vector<Piece> before = Lookup(4, 4);
  Write(5, 1);
  Cool();
  // An older run loses where a newer one is.
  Do([&, this] {
    twofold::Run old = before.at(0).run;
    world().map().Insert(timeline(), old);
  });
  CheckAll();
  Checkpoint();
}

TEST_F(ExtentMapTest, ACopyThatIsNewerInTheLogReplacesTheOldOne) {
  // M2, R18: a repaired block has the old position and a newer place.
  Write(4, 4);
  const twofold::Run old = Lookup(4, 4).at(0).run;
  twofold::Run copy = old;
  Do([&, this] {
    copy.address = {SegmentNumber(1), 40};
    world().map().Insert(timeline(), copy);
  });
  EXPECT_EQ(Lookup(4, 4).at(0).run.address, copy.address);
  EXPECT_EQ(live(), 4);
  Do([&, this] { world().map().Insert(timeline(), old); });
  EXPECT_EQ(Lookup(4, 4).at(0).run.address, copy.address);
  EXPECT_EQ(live(), 4);
}

TEST_F(ExtentMapTest, ReadErrorsAreNeverTakenForUnmapped) {
  // M12.
  Write(0, 4);
  Checkpoint();
  Crash();
  world().disk().FailNextReads(1, absl::UnavailableError("disk"));
  auto found =
      world().Run(world().map().Lookup(timeline(), kLastPosition, {BlockIndex(0), BlockCount(4)}));
  EXPECT_EQ(found.status().code(), absl::StatusCode::kUnavailable);
  CheckAll();

  Crash();
  std::string key;
  for (const auto& [k, v] : world().disk().contents()) {
    if (k[0] == static_cast<char>(Table::kChunk)) key = k;
  }
  world().disk().Overwrite(key, "damaged");
  found =
      world().Run(world().map().Lookup(timeline(), kLastPosition, {BlockIndex(0), BlockCount(4)}));
  EXPECT_EQ(found.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(found.status().message()), testing::HasSubstr("chunk 0"));
}

// ---- Memory -------------------------------------------------------------------------------------

TEST_F(ExtentMapTest, KeepsTheCacheWithinItsBoundAndDirtyChunksInIt) {
  WorldOptions options;
  options.volume_blocks = 400 * kChunk;
  options.map.cache_bytes = 20'000;
  Make(options);
  for (uint64_t chunk = 0; chunk < 400; ++chunk) Write(chunk * kChunk, 1);
  CheckAll();
  EXPECT_EQ(world().map().counters().dirty_chunks, 400) << "nothing else has them";
  Checkpoint();
  EXPECT_LE(world().map().counters().memory_bytes, 20'000);
  CheckAll();
  EXPECT_LE(world().map().counters().memory_bytes, 20'000);
}

TEST_F(ExtentMapTest, IsCrowdedWithPartialChunksUntilTheirBasesAreRead) {
  // M10: at the bound new batches wait.
  WorldOptions options;
  options.delays.max_read_delay_ns = 1'000'000;
  options.map.max_partial_chunks = 2;
  Make(options);
  Do([this] {
    for (uint64_t chunk = 0; chunk < 4; ++chunk) world().Write(volume(), chunk * kChunk, 1);
    EXPECT_TRUE(world().map().crowded());
  });
  TF_CHECK_OK(world().Run(world().map().WaitForRoom()));
  EXPECT_FALSE(world().map().crowded());
}

TEST_F(ExtentMapTest, SaysWhyThereIsNoRoomWhenBasesCannotBeRead) {
  WorldOptions options;
  options.map.max_partial_chunks = 2;
  Make(options);
  world().disk().FailNextReads(100, absl::UnavailableError("disk"));
  Do([this] {
    for (uint64_t chunk = 0; chunk < 4; ++chunk) world().Write(volume(), chunk * kChunk, 1);
  });
  EXPECT_EQ(world().Run(world().map().WaitForRoom()).code(), absl::StatusCode::kUnavailable);
  world().disk().FailNextReads(0, absl::OkStatus());
  Checkpoint();
  CheckAll();
}

TEST_F(ExtentMapTest, AsksForACheckpointBeforeDirtyChunksCrowdIt) {
  WorldOptions options;
  options.volume_blocks = 20'000 * kChunk;
  options.map.cache_bytes = 0;
  options.map.max_partial_chunks = 1 << 20;
  Make(options);
  bool due_first = false;
  Do([&, this] {
    for (uint64_t chunk = 0; chunk < 20'000 && !world().map().crowded(); ++chunk) {
      world().Write(volume(), chunk * kChunk, 1);
      due_first = due_first || (world().map().checkpoint_due() && !world().map().crowded());
    }
    EXPECT_TRUE(world().map().crowded());
  });
  EXPECT_TRUE(due_first);
  Checkpoint();
  EXPECT_FALSE(world().map().crowded());
  EXPECT_FALSE(world().map().checkpoint_due());
}

// ---- Epochs and checkpoints ---------------------------------------------------------------------

TEST_F(ExtentMapTest, CopiesTheRunsOfAChunkOnTheFirstChangeInAnEpoch) {
  // M5: and nothing else of the volume.
  Write(0, 4);
  Write(kChunk, 4);
  Snapshot();
  Write(1, 1);
  CheckCold();
  EXPECT_EQ(world().CountKeys(Table::kChunk), 3);
  EXPECT_EQ(world().CountKeys(Table::kVersion), 3);
}

TEST_F(ExtentMapTest, ASnapshotCostsTheMapNothing) {
  // P4.
  Write(0, 4);
  Checkpoint();
  for (int i = 0; i < 50; ++i) Snapshot();
  const ExtentMap::Frozen frozen = world().map().Freeze(SegmentNumber(1), SegmentNumber(1));
  EXPECT_TRUE(frozen.batch.empty());
  world().map().FreezeDone();
  CheckAll();
}

TEST_F(ExtentMapTest, AVersionThatNoPointSeesBecomesTheNewOne) {
  Write(0, 4);
  Delete(Snapshot());
  Checkpoint();
  ReclaimAll();
  Write(1, 1);
  CheckCold();
  EXPECT_EQ(world().CountKeys(Table::kChunk), 1);
  EXPECT_EQ(live(), 4);
}

TEST_F(ExtentMapTest, WritesOnlyTheChangedRunsOfALargeChunk) {
  for (uint64_t block = 0; block < kChunk; ++block) Write(block, 1);
  Checkpoint();
  Write(7, 1);
  const ExtentMap::Frozen frozen = world().map().Freeze(SegmentNumber(1), SegmentNumber(1));
  int merges = 0;
  for (const MetadataWrite& write : frozen.batch) {
    if (write.key[0] != static_cast<char>(Table::kChunk)) continue;
    EXPECT_EQ(write.kind, MetadataWrite::Kind::kMerge);
    EXPECT_LT(write.value.size(), 40);
    ++merges;
  }
  EXPECT_EQ(merges, 1);
  // The batch is lost; so is the map.
  Crash();
  CheckCold();
}

TEST_F(ExtentMapTest, ChangesDuringACommitBelongToTheNextCheckpoint) {
  // M9.
  WorldOptions options;
  options.delays.max_commit_delay_ns = 1'000'000;
  Make(options);
  Write(0, 8);
  const auto both = [](World* world, VolumeId volume) -> Task<void> {
    TaskScope scope;
    struct Commit {
      static Task<void> Run(World* w) {
        const absl::Status status = co_await w->Checkpoint();
        TF_CHECK_OK(status);
      }
    };
    scope.Spawn(Commit::Run(world));
    world->Write(volume, 2, 2);
    const SnapshotId snapshot = world->Snapshot(volume);
    world->Write(volume, 3, 2);
    EXPECT_NE(snapshot, SnapshotId());
    co_await world->CheckAll();
    co_await scope.Join();
    co_await world->CheckAll();
  };
  world().Run(both(&world(), volume()));
  Crash();
  CheckAll();
  CheckCold();
}

// ---- Space --------------------------------------------------------------------------------------

TEST_F(ExtentMapTest, WhatNoPointSeesDiesWhenItIsOverwritten) {
  Write(0, 8);
  Write(2, 4);
  EXPECT_EQ(live(), 8);
  Snapshot();
  Write(0, 1);
  EXPECT_EQ(live(), 9) << "the snapshot sees the old block 0";
  Write(0, 1);
  EXPECT_EQ(live(), 9) << "nothing sees the one between";
  Checkpoint();
  EXPECT_EQ(world().CountKeys(Table::kDead), 1);
}

TEST_F(ExtentMapTest, ADeletedSnapshotFreesWhatItAloneSaw) {
  // M19, in the middle: born before it, died behind it, seen by no neighbour.
  Write(0, 1);
  const SnapshotId first = Snapshot();
  Write(0, 1);
  Write(1, 1);
  const SnapshotId middle = Snapshot();
  Write(0, 1);
  const SnapshotId last = Snapshot();
  Write(0, 2);
  EXPECT_EQ(live(), 3 + 1 + 2);
  Delete(middle);
  ReclaimAll();
  EXPECT_EQ(live(), 2 + 1 + 2) << "block 0 of the middle; block 1 is seen by the last";
  CheckCold();
  Delete(last);
  ReclaimAll();
  EXPECT_EQ(live(), 1 + 2);
  CheckCold();
  Delete(first);
  ReclaimAll();
  EXPECT_EQ(live(), 2);
  CheckCold();
  EXPECT_EQ(world().CountKeys(Table::kDead), 0);
  EXPECT_EQ(world().CountKeys(Table::kChunk), 1);
  EXPECT_EQ(world().CountKeys(Table::kVersion), 1);
  EXPECT_EQ(world().CountKeys(Table::kJob), 0);
}

TEST_F(ExtentMapTest, ReclaimBeginsAfterTheCheckpointAndRepeatsAfterACrash) {
  Write(0, 8);
  const SnapshotId snapshot = Snapshot();
  Write(0, 8);
  Checkpoint();
  Delete(snapshot);
  EXPECT_EQ(world().map().reclaim_jobs(), 1);
  EXPECT_FALSE(world().map().has_reclaim_work());
  Checkpoint();
  EXPECT_TRUE(world().map().has_reclaim_work());
  TF_CHECK_OK(world().Run(world().Reclaim()));
  EXPECT_EQ(live(), 8);
  Crash();  // Before the checkpoint that would have held it.
  EXPECT_EQ(live(), 16);
  EXPECT_EQ(world().map().reclaim_jobs(), 1);
  ReclaimAll();
  EXPECT_EQ(live(), 8);
  CheckCold();
}

TEST_F(ExtentMapTest, OneWriteMayDisplaceBlocksOfManyAges) {
  for (uint64_t block = 0; block < 8; ++block) Write(block, 1);
  const SnapshotId a = Snapshot();
  Write(2, 2);
  const SnapshotId b = Snapshot();
  Write(0, 8);
  EXPECT_EQ(live(), 8 + 2 + 8);
  Delete(a);
  ReclaimAll();
  EXPECT_EQ(live(), 6 + 2 + 8);
  Delete(b);
  ReclaimAll();
  EXPECT_EQ(live(), 8);
  CheckCold();
}

// ---- Timelines ----------------------------------------------------------------------------------

TEST_F(ExtentMapTest, ARolledBackTimelineSeesItsParentAtTheFork) {
  Write(0, 8);
  const SnapshotId snapshot = Snapshot();
  Write(2, 2);
  Rollback(snapshot);
  CheckAll();
  Write(4, 1);
  CheckCold();
  EXPECT_EQ(live(), 8 + 2 + 1) << "the state before the rollback is kept (P5)";
  EXPECT_EQ(Lookup(0, 8).size(), 3);
}

TEST_F(ExtentMapTest, InheritedBlocksDoNotDieWhenAChildDisplacesThem) {
  // M20: the fork point holds them.
  Write(0, 8);
  const SnapshotId snapshot = Snapshot();
  Rollback(snapshot);
  Write(0, 8);
  EXPECT_EQ(live(), 16);
  Delete(snapshot);
  ReclaimAll();
  EXPECT_EQ(live(), 16) << "the fork point stays while the child is there";
  CheckCold();
}

TEST_F(ExtentMapTest, AnAbandonedEndIsFreedWithItsLastSnapshot) {
  Write(0, 8);
  const SnapshotId snapshot = Snapshot();
  Write(2, 2);
  Do([&, this] { world().Rollback(volume(), snapshot, /*keep_end=*/true); });
  ReclaimAll();
  EXPECT_EQ(live(), 10);
  SnapshotId end;
  for (const auto& [id, record] : world().catalogue().snapshots()) end = std::max(end, id);
  Delete(end);
  ReclaimAll();
  EXPECT_EQ(live(), 8);
  CheckCold();
}

TEST_F(ExtentMapTest, AnEndThatNothingKeepsIsFreedByTheRollback) {
  Write(0, 8);
  const SnapshotId snapshot = Snapshot();
  Write(2, 2);
  Rollback(snapshot, /*keep_end=*/false);
  ReclaimAll();
  EXPECT_EQ(live(), 8);
  CheckCold();
}

TEST_F(ExtentMapTest, ATimelineThatNothingRetainsIsFreedWhole) {
  Write(0, 8);
  const SnapshotId first = Snapshot();
  Rollback(first, /*keep_end=*/false);
  Write(0, 4);
  const SnapshotId second = Snapshot();
  Write(4, 4);
  // Back to the first: the timeline between is kept by `second` alone.
  Rollback(first, /*keep_end=*/false);
  Write(8, 2);
  Checkpoint();
  ReclaimAll();
  EXPECT_EQ(live(), 8 + 4 + 2);
  Delete(second);
  ReclaimAll();
  EXPECT_EQ(live(), 8 + 2);
  CheckCold();
}

TEST_F(ExtentMapTest, ADeletedVolumeLeavesNothing) {
  Write(0, 8);
  const SnapshotId snapshot = Snapshot();
  Write(2, 2);
  Rollback(snapshot);
  Write(3, 7);
  Zero(0, 2);
  Zero(0, 8 * kChunk);
  Do([this] { world().DeleteVolume(volume()); });
  ReclaimAll();
  Checkpoint();
  EXPECT_EQ(live(), 0);
  EXPECT_EQ(zeros(), 0);
  for (const Table table : {Table::kChunk, Table::kVersion, Table::kDead, Table::kTombstone,
                            Table::kJob, Table::kPartial}) {
    EXPECT_EQ(world().CountKeys(table), 0) << "table " << static_cast<char>(table);
  }
}

TEST_F(ExtentMapTest, ACloneHoldsItsForkPointWhenItsOriginGoes) {
  Write(0, 8);
  const SnapshotId snapshot = Snapshot();
  Write(0, 4);
  VolumeId clone;
  Do([&, this] {
    clone = world().Clone(snapshot);
    world().Write(clone, 4, 2);
  });
  CheckAll();
  Do([this] { world().DeleteVolume(volume()); });
  ReclaimAll();
  EXPECT_EQ(live(), 6 + 2) << "what the fork point shows through the clone, and what that wrote";
  CheckCold();
  Do([&, this] { world().DeleteVolume(clone); });
  ReclaimAll();
  EXPECT_EQ(live(), 0);
}

// ---- Zeros --------------------------------------------------------------------------------------

TEST_F(ExtentMapTest, ATrimOfWhatWasNeverWrittenLeavesNothing) {
  // M7.
  Zero(0, 2);
  Zero(kChunk, kChunk);
  Zero(0, 8 * kChunk);  // A tombstone.
  CheckAll();
  CheckCold();
  EXPECT_EQ(zeros(), 0);
  EXPECT_EQ(world().CountKeys(Table::kChunk), 0);
  EXPECT_EQ(world().CountKeys(Table::kTombstone), 0);
}

TEST_F(ExtentMapTest, ATrimFreesBlocksAndHoldsItsRecord) {
  // R17: the record's segment is needed while the map holds zeros of it.
  Write(0, 8);
  Zero(2, 4);
  EXPECT_EQ(live(), 4);
  CheckCold();
  EXPECT_EQ(zeros(), 4);
  Write(2, 4);
  EXPECT_EQ(live(), 8);
  CheckAll();
  EXPECT_EQ(zeros(), 0);
}

TEST_F(ExtentMapTest, AZeroOverAnAncestorsBlocksIsKept) {
  Write(0, 8);
  const SnapshotId snapshot = Snapshot();
  CheckCold();
  Rollback(snapshot);
  Zero(2, 2);
  Zero(kChunk, 2);  // Nothing there, in no ancestor.
  CheckAll();
  CheckCold();
  EXPECT_EQ(zeros(), 2);
}

class ExtentMapTrimTest : public ExtentMapTest, public testing::WithParamInterface<bool> {
 protected:
  ExtentMapTrimTest() {
    WorldOptions options;
    // 0: each trim is a tombstone.
    options.map.max_zeroed_chunks = GetParam() ? 0 : 100;
    Make(options);
  }
};
INSTANTIATE_TEST_SUITE_P(LargeAndSmall, ExtentMapTrimTest, testing::Bool());

TEST_P(ExtentMapTrimTest, ShowsZerosAtOnceAndAfterwards) {
  Write(0, 8);
  Write(2 * kChunk, 8);
  Do([this] {
    world().Zero(volume(), 4, 2 * kChunk);
    EXPECT_FALSE(world().Shown(timeline())[4].data);
  });
  CheckAll();
  Write(5, 1);
  CheckAll();
  CheckCold();
  EXPECT_EQ(live(), 4 + 1 + 4);
}

TEST_P(ExtentMapTrimTest, BelongsToTheEpochItCameIn) {
  // R19, M4: a snapshot before it sees the blocks, one after it sees zeros, whenever it is done.
  Write(0, 8);
  Write(kChunk, 8);
  const SnapshotId before = Snapshot();
  SnapshotId after;
  Do([&, this] {
    world().Zero(volume(), 0, 2 * kChunk);
    after = world().Snapshot(volume());
    world().Write(volume(), 2, 1);
  });
  CheckAll();
  CheckCold();
  Delete(before);
  ReclaimAll();
  EXPECT_EQ(live(), 1) << "only the new block";
  CheckCold();
  Delete(after);
  ReclaimAll();
  CheckCold();
}

TEST_P(ExtentMapTrimTest, HidesWhatAncestorsHave) {
  Write(0, 8);
  Write(3 * kChunk, 8);
  const SnapshotId snapshot = Snapshot();
  CheckCold();
  Rollback(snapshot);
  Zero(0, 8 * kChunk);
  CheckAll();
  CheckCold();
  Rollback(snapshot);
  CheckAll();
}

TEST_P(ExtentMapTrimTest, SurvivesACrashBeforeAndAfterACheckpoint) {
  Write(0, 8);
  CheckCold();
  Do([this] { world().Zero(volume(), 0, 2 * kChunk); });
  Crash();
  CheckAll();
  Do([this] {
    world().Write(volume(), 1, 2);
    world().Zero(volume(), 0, kChunk);
  });
  Checkpoint();
  Crash();
  CheckAll();
  CheckCold();
  EXPECT_EQ(live(), 0);
  EXPECT_EQ(world().CountKeys(Table::kTombstone), 0);
}

TEST_F(ExtentMapTest, IsCrowdedWithTombstones) {
  WorldOptions options;
  options.map.max_zeroed_chunks = 0;
  Make(options);
  Do([this] {
    for (uint64_t i = 0; i <= kMaxTombstones; ++i) world().Zero(volume(), 0, kChunk);
    EXPECT_TRUE(world().map().crowded());
  });
  TF_CHECK_OK(world().Run(world().map().WaitForRoom()));
  EXPECT_FALSE(world().map().crowded());
}

// ---- The recount itself -------------------------------------------------------------------------

TEST_F(ExtentMapTest, TheRecountFindsEveryKindOfDifference) {
  const auto corrupted = [this](const std::function<void(sim::SimMetadataDisk&)>& corrupt) {
    Make();
    Write(0, 8);
    Snapshot();
    Write(2, 2);
    Zero(6, 1);
    Checkpoint();
    EXPECT_TRUE(world().Run(world().Verify()).ok());
    corrupt(world().disk());
    const absl::Status status = world().Run(world().Verify()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    return std::string(status.message());
  };
  const auto live_key = EncodeSegmentKey(Table::kLive, SegmentNumber(1));
  const auto change_bitmap = [&](uint32_t block, bool live) {
    return [=](sim::SimMetadataDisk& disk) {
      LiveBitmap bitmap = *LiveBitmap::Decode(disk.contents().at(live_key));
      bitmap.Set(block, 1, live);
      disk.Overwrite(live_key, bitmap.Encode());
    };
  };
  EXPECT_THAT(corrupted(change_bitmap(1, false)), testing::HasSubstr("is needed and not live"));
  EXPECT_THAT(corrupted(change_bitmap(40, true)), testing::HasSubstr("is live and not needed"));
  EXPECT_THAT(corrupted([](sim::SimMetadataDisk& disk) {
                disk.Overwrite(EncodeSegmentKey(Table::kUsage, SegmentNumber(1)),
                               EncodeUsage({SegmentNumber(1), 9, 1}));
              }),
              testing::HasSubstr("blocks are counted as live"));
  EXPECT_THAT(corrupted([](sim::SimMetadataDisk& disk) {
                disk.Overwrite(EncodeSegmentKey(Table::kUsage, SegmentNumber(1)),
                               EncodeUsage({SegmentNumber(1), 10, 5}));
              }),
              testing::HasSubstr("counted as zero"));
  EXPECT_THAT(corrupted([](sim::SimMetadataDisk& disk) {
                // A version from before the volume's time, which no point sees.
                const ChunkKey key{TimelineId(1), 0, {}};
                const std::string value = disk.contents().at(EncodeChunkKey(key));
                disk.Overwrite(EncodeChunkKey({TimelineId(9), 0, {}}), value);
              }),
              testing::HasSubstr("that nothing sees"));
}

}  // namespace
}  // namespace twofold
