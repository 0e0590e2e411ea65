// Rollback upon rollback: what it costs a lookup, and what it gives back (M8, M20). Each checkpoint
// of the world compares the live accounting with a recount, and each look with a plain model.

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "tests/map/extent_map_world.h"

namespace twofold {
namespace {

class ExtentMapLineageTest : public testing::Test {
 protected:
  void Make(WorldOptions options = {}) {
    options.segment_blocks = 256;
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
  void Do(std::function<void()> function) { world().Run(Call(std::move(function))); }
  static Task<void> Call(std::function<void()> function) {
    function();
    co_return;
  }
  void Write(uint64_t first, uint64_t count) {
    Do([=, this] { world().Write(volume(), first, count); });
  }
  SnapshotId Snapshot() {
    SnapshotId id;
    Do([&, this] { id = world().Snapshot(volume()); });
    return id;
  }
  void Delete(SnapshotId id) {
    Do([=, this] { world().DeleteSnapshot(id); });
  }
  // Gives the snapshot of the state that it left.
  SnapshotId Rollback(SnapshotId id) {
    Do([=, this] { world().Rollback(volume(), id); });
    SnapshotId left;
    for (const auto& [snapshot, record] : world().catalogue().snapshots()) {
      left = std::max(left, snapshot);
    }
    return left;
  }
  void DeleteAllSnapshots() {
    const std::map<SnapshotId, SnapshotRecord> snapshots = world().catalogue().snapshots();
    for (const auto& [id, record] : snapshots) Delete(id);
  }
  void Checkpoint() { TF_CHECK_OK(world().Run(world().Checkpoint())); }
  void ReclaimAll() { TF_CHECK_OK(world().Run(world().ReclaimAll())); }
  // Everything from the metadata store, after as little as a crash leaves.
  void CheckCold() {
    Checkpoint();
    world().Run(world().Crash());
    world().Run(world().CheckAll());
  }
  uint64_t live() { return world().table().live_blocks(); }
  // Blocks that the volume shows now.
  uint64_t shown() {
    uint64_t count = 0;
    for (const World::Cell& cell : world().Shown(world().Current(volume()))) count += cell.data;
    return count;
  }
  // Reads of the metadata store for a cold look at one block.
  uint64_t ColdReads(uint64_t block) {
    Checkpoint();
    world().Run(world().Crash());
    const uint64_t before = world().disk().reads();
    world().Run(world().Check(world().Current(volume()), kLastPosition,
                              {BlockIndex(block), BlockCount(1)}));
    return world().disk().reads() - before;
  }

 private:
  std::unique_ptr<World> world_;
  VolumeId volume_;
};

TEST_F(ExtentMapLineageTest, RollbackUponRollbackGivesItsSpaceBackM20) {
  Write(0, 64);
  for (uint64_t i = 0; i < 12; ++i) {
    const SnapshotId before = Snapshot();
    Write(i, 20);
    Write(100 + i, 1);
    Rollback(before);
    Write(40 + i, 3);
    Do([=, this] { world().Zero(volume(), 30 - i, 1); });
  }
  ReclaimAll();
  EXPECT_GT(live(), shown());
  DeleteAllSnapshots();
  ReclaimAll();
  EXPECT_EQ(live(), shown()) << "nothing but the current contents";
  CheckCold();
  // And so it goes on: what was taken over dies like what the timeline wrote itself.
  Write(0, 64);
  CheckCold();
  EXPECT_EQ(live(), shown());
  Do([this] { world().DeleteVolume(volume()); });
  ReclaimAll();
  Checkpoint();
  EXPECT_EQ(live(), 0);
  for (const Table table : {Table::kChunk, Table::kVersion, Table::kDead, Table::kLineage}) {
    EXPECT_EQ(world().CountKeys(table), 0) << "table " << static_cast<char>(table);
  }
}

TEST_F(ExtentMapLineageTest, WhatOnlySnapshotsOfTheHeirShowIsListedDeadThere) {
  Write(0, 32);
  const SnapshotId base = Snapshot();
  const SnapshotId left = Rollback(base);
  Write(0, 4);  // no state of the heir shows what was there
  const SnapshotId first = Snapshot();
  Write(4, 4);  // `first` shows it
  const SnapshotId second = Snapshot();
  Write(8, 4);  // both do
  Delete(base);
  Delete(left);
  ReclaimAll();
  EXPECT_EQ(live(), 28 + 4 + 4 + 4);
  CheckCold();
  Delete(first);
  ReclaimAll();
  EXPECT_EQ(live(), 24 + 4 + 4 + 4);
  CheckCold();
  Delete(second);
  ReclaimAll();
  EXPECT_EQ(live(), shown());
  CheckCold();
}

TEST_F(ExtentMapLineageTest, AnUndoIsARollbackToTheSnapshotThatWasLeft) {
  Write(0, 40);
  const SnapshotId good = Snapshot();
  Write(10, 10);
  const SnapshotId left = Rollback(good);
  Write(5, 3);
  const World::Cells before_undo = world().Shown(world().Current(volume()));
  const SnapshotId left_again = Rollback(left);
  world().Run(world().CheckAll());
  Rollback(left_again);
  EXPECT_EQ(world().Shown(world().Current(volume())), before_undo);
  world().Run(world().CheckAll());
  DeleteAllSnapshots();
  ReclaimAll();
  EXPECT_EQ(live(), shown());
  CheckCold();
}

TEST_F(ExtentMapLineageTest, AYearOfRollbacksDoesNotSlowDownAColdReadM8) {
  Write(0, 8);
  std::set<SnapshotId> kept;
  uint64_t most_lineages = 0;
  for (int night = 0; night < 365; ++night) {
    const SnapshotId snapshot = Snapshot();
    kept.insert(snapshot);
    Write(200, 1);
    kept.insert(Rollback(snapshot));
    if (night % 7 == 0) ReclaimAll();
    most_lineages = std::max<uint64_t>(most_lineages, world().catalogue().timelines().size());
  }
  EXPECT_EQ(most_lineages, 366) << "every timeline is kept by a snapshot";
  ReclaimAll();
  // One for each timeline of the chain.
  EXPECT_LE(ColdReads(0), kMaxLineageDepth + 1);
  EXPECT_LE(ColdReads(150), kMaxLineageDepth + 1) << "never written anywhere";
  CheckCold();
}

TEST_F(ExtentMapLineageTest, FlatteningMovesNoDataAndFreesNothing) {
  WorldOptions options;
  options.map.max_lineage_depth = 0;
  Make(options);
  Write(0, 100);
  const SnapshotId snapshot = Snapshot();
  Rollback(snapshot);
  Write(0, 1);
  Checkpoint();
  const uint64_t before = live();
  ReclaimAll();
  EXPECT_EQ(live(), before);
  EXPECT_EQ(ColdReads(50), 1);
  CheckCold();
  // It is the base's as before.
  Delete(snapshot);
  DeleteAllSnapshots();
  ReclaimAll();
  EXPECT_EQ(live(), shown());
}

TEST_F(ExtentMapLineageTest, ARollbackIsOneEntryWhateverCameBefore) {
  for (int i = 0; i < 50; ++i) {
    Write(0, 8);
    Rollback(Snapshot());
  }
  ReclaimAll();
  const SnapshotId snapshot = Snapshot();
  Checkpoint();
  const uint64_t reads = world().disk().reads();
  Rollback(snapshot);
  EXPECT_EQ(world().disk().reads(), reads) << "nothing is looked up";
}

// The work is interrupted after each of its steps, with and without a checkpoint.
TEST_F(ExtentMapLineageTest, ACrashAtAnyStepLeavesItToBeginAgain) {
  for (int steps = 0; steps < 40; ++steps) {
    SCOPED_TRACE(steps);
    Make();
    Write(0, 200);
    const SnapshotId base = Snapshot();
    Write(50, 100);
    Rollback(base);
    Write(20, 30);
    const SnapshotId first = Snapshot();
    Write(10, 30);
    Checkpoint();
    for (const auto& [id, record] : std::map(world().catalogue().snapshots())) {
      if (id != first) Delete(id);
    }
    for (int step = 0; step < steps; ++step) {
      if (!world().map().has_reclaim_work()) Checkpoint();
      TF_CHECK_OK(world().Run(world().map().ReclaimStep()));
      if (step % 3 == 1) Write(static_cast<uint64_t>(step) * 4, 6);
    }
    if (steps % 2 == 0) Checkpoint();
    world().Run(world().Crash());
    world().Run(world().CheckAll());
    Write(90, 10);
    ReclaimAll();
    CheckCold();
    Delete(first);
    ReclaimAll();
    EXPECT_EQ(live(), shown());
    CheckCold();
    if (HasFailure()) break;
  }
}

TEST_F(ExtentMapLineageTest, ADeletedVolumeEndsAFoldHalfWay) {
  for (int steps = 0; steps < 40; ++steps) {
    SCOPED_TRACE(steps);
    Make();
    Write(0, 200);
    Rollback(Snapshot());
    Write(20, 30);
    Checkpoint();
    DeleteAllSnapshots();
    for (int step = 0; step < steps; ++step) {
      if (!world().map().has_reclaim_work()) Checkpoint();
      TF_CHECK_OK(world().Run(world().map().ReclaimStep()));
    }
    Do([this] { world().DeleteVolume(volume()); });
    if (steps % 2 == 0) {
      Checkpoint();
      world().Run(world().Crash());
    }
    ReclaimAll();
    Checkpoint();
    EXPECT_EQ(live(), 0);
    EXPECT_EQ(world().CountKeys(Table::kLineage), 0);
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace twofold
