// Bytes rot in one set while clients write, on simulated disks (R10, R15, R18, P7).
//
// Two real stores under a ReplicaSet and a Repairer. A client changes a volume (writes, trims,
// snapshots, deletes, rollbacks) and reads it, the cleaner and checkpoints run, and one store's
// segment files are damaged: bits flip, blocks become zero, change places, or are what they were
// before; ends of files go, places can't be read. The client must never see a wrong byte; in the
// end all that is needed must be whole on each store by itself, also after it was closed and opened
// again, and after crashes in the middle of repairs. A seed replays a run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "replication/local_replica.h"
#include "replication/pair/repair.h"
#include "replication/pair/replica_set.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/prng.h"
#include "storage/io/aligned_bytes.h"
#include "storage/map/catalogue_codec.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task_scope.h"
#include "storage/store/store.h"
#include "tests/sim/pair_world.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_metadata_store.h"
#include "tests/sim/sim_poller.h"
#include "tests/sim/store_world.h"

namespace twofold {
namespace {

using sim::FillBlock;
using sim::kSegmentBlocks;
using sim::kVolumeBlocks;
using sim::Pair;
using sim::Side;

// ---- A campaign ---------------------------------------------------------------------------------

class World {
 public:
  explicit World(uint64_t seed) : pair_(seed) {}

  void Run() { pair_.executor().Run(RunAll()); }
  uint64_t damaged() const { return damaged_; }
  uint64_t healed() const { return healed_; }
  uint64_t crashes() const { return crashes_; }

 private:
  Task<void> RunAll() {
    const bool started = co_await pair_.Start();
    if (!started) co_return;
    for (uint64_t round = 0; round < 2 && !::testing::Test::HasFailure(); ++round) {
      co_await FillSegments(20 + random().Uniform(60));
      co_await Change(40 + random().Uniform(80));
      victim_ = random().Uniform(2);
      if (random().OneIn(2)) {
        co_await RotWhileClientsRun();
      } else {
        co_await CrashWhileItHeals();
      }
      if (::testing::Test::HasFailure()) co_return;
      co_await CheckHealed();
    }
    if (!::testing::Test::HasFailure()) co_await Reopen();
    if (!::testing::Test::HasFailure()) co_await CheckHealed();
    co_await pair_.Close();
    for (size_t i = 0; i < 2 && !::testing::Test::HasFailure(); ++i) {
      co_await pair_.side(i).Inspect();
    }
  }

  Prng& random() { return pair_.random(); }
  Side& victim() { return pair_.side(victim_); }

  Task<void> Change(uint64_t steps) {
    for (uint64_t i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
      co_await pair_.ChangeOnce();
      if (random().OneIn(3)) co_await pair_.ReadSome();
      if (random().OneIn(12)) co_await CleanSomething();
      if (random().OneIn(20)) KeepACopy();
    }
  }

  Task<void> FillSegments(uint64_t writes) {
    for (uint64_t i = 0; i < writes && !::testing::Test::HasFailure(); ++i) {
      co_await pair_.Write(random().Uniform(kVolumeBlocks - 48), 48);
      if (random().OneIn(8)) co_await pair_.ChangeOnce();
      if (random().OneIn(20)) KeepACopy();
    }
  }

  Task<void> CleanSomething() {
    Store& store = pair_.side(random().Uniform(2)).store();
    std::vector<SegmentNumber> sealed;
    for (const auto& [segment, info] : store.segment_table().segments()) {
      if (info.state == SegmentState::kSealed) sealed.push_back(segment);
    }
    if (sealed.empty()) co_return;
    // Where it meets what is bad it leaves it: without a source of other bytes.
    const auto ignored = co_await store.Clean(sealed[random().Uniform(sealed.size())], nullptr);
    (void)ignored;
  }

  // ---- Damage -----------------------------------------------------------------------------------

  std::optional<SegmentNumber> RandomSealed(SegmentNumber before) {
    std::vector<SegmentNumber> sealed;
    for (const auto& [segment, info] : victim().store().segment_table().segments()) {
      if (info.state == SegmentState::kSealed && segment < before) sealed.push_back(segment);
    }
    if (sealed.empty()) return std::nullopt;
    return sealed[random().Uniform(sealed.size())];
  }

  // As a person or a file system may put it back later.
  void KeepACopy() {
    const std::optional<SegmentNumber> segment = RandomSealed(SegmentNumber(~uint64_t{0}));
    const SegmentNumber kept =
        segment.has_value() && random().OneIn(2) ? *segment : victim().store().log().end().segment;
    const std::string path = victim().PathOf(kept);
    copy_path_ = path;
    copy_victim_ = victim_;
    copy_ = victim().disk().Peek(path, 0, kMinSegmentBytes);
  }

  void DamageBlocks(const std::string& path, uint64_t first, uint64_t end) {
    sim::SimDisk& disk = victim().disk();
    const uint64_t block = first + random().Uniform(end - first);
    switch (random().Uniform(5)) {
      case 0:
        disk.FlipBit(path, block * kBlockSize + random().Uniform(kBlockSize),
                     static_cast<unsigned>(random().Uniform(8)));
        break;
      case 1:
        for (uint64_t i = block; i < std::min(end, block + 1 + random().Uniform(4)); ++i) {
          disk.ZeroBlock(path, i);
        }
        break;
      case 2: {
        const uint64_t other = first + random().Uniform(end - first);
        const std::vector<std::byte> kept = disk.Peek(path, block * kBlockSize, kBlockSize);
        disk.CopyBlock(path, other, path, block);
        disk.Overwrite(path, other * kBlockSize, kept);
        break;
      }
      case 3:
        for (uint64_t i = block; i < end; ++i) disk.ZeroBlock(path, i);
        break;
      default:
        disk.FailReads(path, block * kBlockSize, kBlockSize * (1 + random().Uniform(8)),
                       1 + random().Uniform(6));
        break;
    }
    ++damaged_;
  }

  // Of sealed segments anything; of the one that is being written what is shown.
  Task<void> Damage() {
    if (random().OneIn(3)) {
      const std::vector<Pair::View> views = pair_.Views();
      const Pair::View view = views[random().Uniform(views.size())];
      const std::optional<LogAddress> address =
          co_await pair_.AddressOf(victim_, view, random().Uniform(kVolumeBlocks));
      if (!address.has_value()) co_return;
      if (!victim().store().segment_table().segments().contains(address->segment)) co_return;
      victim().disk().FlipBit(victim().PathOf(address->segment),
                              address->block * kBlockSize + random().Uniform(kBlockSize), 3);
      ++damaged_;
      co_return;
    }
    const std::optional<SegmentNumber> segment = RandomSealed(SegmentNumber(~uint64_t{0}));
    if (!segment.has_value()) co_return;
    const std::string path = victim().PathOf(*segment);
    if (random().OneIn(4) && copy_victim_ == victim_ && path == copy_path_) {
      victim().disk().Overwrite(path, 0, copy_);
      ++damaged_;
      co_return;
    }
    DamageBlocks(path, 0, kSegmentBlocks);
  }

  Task<void> KeepDamaging(uint64_t times) {
    for (uint64_t i = 0; i < times && !::testing::Test::HasFailure(); ++i) {
      co_await Damage();
      co_await pair_.poller().Delay(static_cast<int64_t>(random().Uniform(200 * kNanosPerMilli)));
    }
  }

  Task<void> KeepHealing() {
    while (working_) {
      co_await pair_.repairer().Pass();
      co_await pair_.poller().Delay(100 * kNanosPerMilli);
    }
  }

  Task<void> RotWhileClientsRun() {
    TaskScope healing;
    TaskScope damaging;
    working_ = true;
    healing.Spawn(KeepHealing());
    damaging.Spawn(KeepDamaging(2 + random().Uniform(8)));
    co_await Change(40 + random().Uniform(100));
    co_await damaging.Join();
    co_await Change(10);
    working_ = false;
    co_await healing.Join();
    // Sectors that were written anew can be read.
    victim().disk().ClearFaults();
  }

  // What recovery reads is whole: damage to that is for rebuilding.
  Task<void> CrashWhileItHeals() {
    absl::Status status = co_await victim().store().Checkpoint();
    EXPECT_TRUE(status.ok()) << status;
    const SegmentNumber before = victim().store().last_checkpoint().replay_from.segment;
    for (uint64_t i = 0; i < 1 + random().Uniform(6); ++i) {
      const std::optional<SegmentNumber> segment = RandomSealed(before);
      if (segment.has_value()) DamageBlocks(victim().PathOf(*segment), 1, kSegmentBlocks - 1);
    }
    co_await pair_.ReadAll(victim_, /*whole=*/false);
    if (::testing::Test::HasFailure()) co_return;
    TaskScope healing;
    working_ = true;
    healing.Spawn(KeepHealing());
    co_await pair_.poller().Delay(static_cast<int64_t>(random().Uniform(400 * kNanosPerMilli)));
    for (size_t i = 0; i < 2; ++i) pair_.side(i).Crash();
    ++crashes_;
    working_ = false;
    co_await healing.Join();
    victim().disk().ClearFaults();
    co_await Reopen();
  }

  Task<void> Reopen() {
    co_await pair_.Close();
    const bool opened = co_await pair_.Open();
    EXPECT_TRUE(opened);
  }

  // Everything is read once, what is found is healed, and then there is nothing to be found.
  Task<void> CheckHealed() {
    co_await pair_.ReadAll(victim_, /*whole=*/false);
    if (::testing::Test::HasFailure()) co_return;
    co_await pair_.HealAll();
    healed_ += victim().store().damage_list().Report().healed;
    for (size_t i = 0; i < 2 && !::testing::Test::HasFailure(); ++i) {
      co_await pair_.ReadAll(i, /*whole=*/true);
    }
  }

  Pair pair_;
  size_t victim_ = 0;
  std::string copy_path_;
  size_t copy_victim_ = 0;
  std::vector<std::byte> copy_;
  uint64_t damaged_ = 0;
  uint64_t healed_ = 0;
  uint64_t crashes_ = 0;
  bool working_ = false;
};

TEST(Repair, HealsWhatRotsWhileClientsRunAndThroughCrashes) {
  SetLogLevel(LogLevel::kError);
  const uint64_t first = sim::FromEnvironment("TWOFOLD_SEED", 1);
  const uint64_t count = sim::FromEnvironment("TWOFOLD_SEEDS", 30);
  uint64_t damaged = 0;
  uint64_t healed = 0;
  uint64_t crashes = 0;
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("TWOFOLD_SEED=", seed, " TWOFOLD_SEEDS=1"));
    World world(seed);
    world.Run();
    damaged += world.damaged();
    healed += world.healed();
    crashes += world.crashes();
  }
  // What the test is for did happen.
  if (count >= 30) {
    EXPECT_GT(damaged, count);
    EXPECT_GT(healed, 2 * count);
    EXPECT_GT(crashes, count / 4);
  }
}

// ---- One by one ---------------------------------------------------------------------------------

class RepairTest : public testing::Test {
 protected:
  // Bad on one side, as any read finds it.
  Task<void> FlipShown(size_t index, Pair::View view, uint64_t block) {
    const std::optional<LogAddress> address = co_await pair_.AddressOf(index, view, block);
    EXPECT_TRUE(address.has_value());
    if (!address.has_value()) co_return;
    Side& side = pair_.side(index);
    side.disk().FlipBit(side.PathOf(address->segment), address->block * kBlockSize + 77, 5);
  }
  Task<void> WriteSome(uint64_t entries) {
    for (uint64_t i = 0; i < entries; ++i) co_await pair_.Write((i * 32) % kVolumeBlocks, 32);
  }
  DamageReport DamageOf(size_t index) { return pair_.side(index).store().damage_list().Report(); }
  void Run(Task<void> body) {
    SetLogLevel(LogLevel::kError);
    pair_.executor().Run(Start(std::move(body)));
  }

  Task<void> HealAnOldVersion() {
    co_await WriteSome(16);
    const SnapshotId snapshot = co_await pair_.Snapshot();
    co_await pair_.Write(10, 4);
    co_await FlipShown(0, pair_.Of(snapshot), 11);
    co_await pair_.ReadAll(0, /*whole=*/false);
    EXPECT_EQ(DamageOf(0).bad(), 1u);
    EXPECT_EQ(DamageOf(0).places.at(0).what, "a block fails its checksum");
    EXPECT_NE(DamageOf(0).places.at(0).where.find("a/log/0"), std::string::npos);
    co_await pair_.repairer().Pass();
    EXPECT_EQ(DamageOf(0).bad(), 0u);
    EXPECT_EQ(DamageOf(0).healed, 1u);
    co_await pair_.ReadAll(0, /*whole=*/true);
  }

  Task<void> LoseABlock() {
    co_await WriteSome(16);
    for (size_t index : {0, 1}) co_await FlipShown(index, pair_.Now(), 20);
    co_await FlipShown(0, pair_.Now(), 21);
    for (size_t index : {0, 1}) co_await pair_.ReadAll(index, /*whole=*/false);
    co_await pair_.repairer().Pass();
    EXPECT_EQ(DamageOf(0).found, 2u);
    EXPECT_EQ(DamageOf(0).bad(), 1u);
    EXPECT_NE(DamageOf(0).places.at(0).why_not, "");
    EXPECT_EQ(DamageOf(1).bad(), 1u);

    AlignedBytes bytes(2 * kBlockSize);
    const TimelineId timeline = pair_.Now().timeline;
    BlockRange range{BlockIndex(20), BlockCount(2)};
    auto read = co_await pair_.set().Read(timeline, kLastPosition, range, bytes.span());
    EXPECT_TRUE(absl::IsDataLoss(read.status())) << read.status();
    range = {BlockIndex(21), BlockCount(1)};
    const absl::Span<std::byte> one = bytes.span().first(kBlockSize);
    read = co_await pair_.set().Read(timeline, kLastPosition, range, one);
    EXPECT_TRUE(read.ok()) << read.status();

    co_await pair_.Write(20, 1);
    co_await pair_.HealAll();
    for (size_t index : {0, 1}) co_await pair_.ReadAll(index, /*whole=*/true);
  }

  Task<void> HealInTheOpenSegment() {
    co_await pair_.Write(3, 2);
    co_await FlipShown(1, pair_.Now(), 4);
    co_await pair_.ReadAll(1, /*whole=*/false);
    EXPECT_EQ(DamageOf(1).bad(), 1u);
    const SegmentNumber segment = DamageOf(1).places.at(0).first.segment;
    EXPECT_EQ(segment, pair_.side(1).store().log().end().segment);
    co_await pair_.repairer().Pass();
    EXPECT_EQ(DamageOf(1).bad(), 0u);
    EXPECT_FALSE(pair_.side(1).store().segment_table().segments().contains(segment));
    co_await pair_.ReadAll(1, /*whole=*/true);
  }

  Task<void> HealAWholeSegment(bool lose_map) {
    co_await pair_.Write(0, 100);
    co_await pair_.Zero(5, 40);
    const SegmentNumber segment = pair_.side(0).store().log().end().segment;
    co_await WriteSome(40);
    co_await pair_.Zero(200, 60);
    const SnapshotId snapshot = co_await pair_.Snapshot();
    co_await pair_.Rollback(snapshot);
    co_await WriteSome(4);
    EXPECT_GT(pair_.side(0).store().log().end().segment, segment);
    sim::SimDisk& disk = pair_.side(0).disk();
    const std::string path = pair_.side(0).PathOf(segment);
    const std::vector<std::byte> junk(kMinSegmentBytes, std::byte{0x5a});
    disk.Overwrite(path, 0, junk);
    co_await pair_.ReadAll(0, /*whole=*/false);
    EXPECT_GT(DamageOf(0).bad(), 0u);
    co_await pair_.HealAll();
    co_await pair_.ReadAll(0, /*whole=*/true);
    EXPECT_FALSE(pair_.side(0).store().segment_table().segments().contains(segment));
    // The next opening meets nothing that it can't tell, also with the log alone to go by.
    co_await pair_.Close();
    if (lose_map) pair_.side(0).LoseMap();
    const bool opened = co_await pair_.Open();
    EXPECT_TRUE(opened);
    if (opened) co_await pair_.ReadAll(0, /*whole=*/true);
  }

  Task<void> HealAfterReturn() {
    co_await WriteSome(16);
    co_await FlipShown(0, pair_.Now(), 20);
    co_await pair_.ReadAll(0, /*whole=*/false);
    // As nobody can be asked.
    const BlockSource nobody = [](BlockIdentity, absl::Span<std::byte>) { return Nobody(); };
    const SegmentNumber segment = DamageOf(0).places.at(0).first.segment;
    const auto outcome = co_await pair_.side(0).replica().Repair(segment, nobody);
    EXPECT_TRUE(absl::IsUnavailable(outcome.status())) << outcome.status();
    EXPECT_EQ(DamageOf(0).bad(), 1u);
    co_await pair_.repairer().Pass();
    EXPECT_EQ(DamageOf(0).bad(), 0u);
    co_await pair_.ReadAll(0, /*whole=*/true);
  }

  Pair pair_{7};

 private:
  static Task<absl::Status> Nobody() { co_return absl::UnavailableError("nobody is there"); }

  Task<void> Start(Task<void> body) {
    const bool started = co_await pair_.Start();
    EXPECT_TRUE(started);
    if (started) co_await std::move(body);
    co_await pair_.Close();
  }
};

// R18: the newest version would be at hand, and is not what is asked for.
TEST_F(RepairTest, AnOldVersionIsHealedFromTheSnapshotThatShowsIt) { Run(HealAnOldVersion()); }

// P7: the client is told, everything else goes on; and when the block is not needed any more
// nothing is bad any more.
TEST_F(RepairTest, ABlockThatIsBadOnBothSetsIsLostAndNothingElseIs) { Run(LoseABlock()); }

TEST_F(RepairTest, ABlockOfTheSegmentThatIsBeingWrittenIsHealed) { Run(HealInTheOpenSegment()); }

// R15: only the map says what its blocks are.
TEST_F(RepairTest, ASegmentOfWhichNothingIsLeftIsHealed) {
  Run(HealAWholeSegment(/*lose_map=*/false));
}

TEST_F(RepairTest, AFileThatWasMadeAnewIsNotTakenForLostWithTheMapM12) {
  Run(HealAWholeSegment(/*lose_map=*/true));
}

TEST_F(RepairTest, WhatCouldNotBeHealedIsHealedWhenTheOtherSetIsBack) { Run(HealAfterReturn()); }

}  // namespace
}  // namespace twofold
