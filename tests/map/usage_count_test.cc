// What is used by what, counted, against a plain model that keeps whole images, and against what
// deletes really give back.

#include "storage/map/usage_count.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/map/extent_map_world.h"

namespace twofold {
namespace {

Task<absl::StatusOr<UsageCount>> Count(World* world,
                                       std::optional<VolumeId> volume = std::nullopt) {
  const std::unique_ptr<MetadataView> view = world->metadata().View();
  const absl::StatusOr<std::optional<std::string>> bytes = view->GetBlocking(MetaKey("catalogue"));
  if (!bytes.ok()) co_return bytes.status();
  const absl::StatusOr<Catalogue> catalogue = Catalogue::Decode(**bytes);
  if (!catalogue.ok()) co_return catalogue.status();
  UsageCounter counter(view.get(), &*catalogue, volume);
  for (bool done = false; !done;) {
    const auto step = [&counter, &done]() -> absl::Status {
      const absl::StatusOr<bool> stepped = counter.Step();
      if (stepped.ok()) done = *stepped;
      return stepped.status();
    };
    absl::Status status = co_await view->Run(step);
    if (!status.ok()) co_return status;
  }
  co_return counter.TakeResult();
}

// ---- Chosen histories ---------------------------------------------------------------------------

class UsageCountTest : public testing::Test {
 protected:
  UsageCountTest() : world_(Options()) {
    Do([this] { volume_ = world_.CreateVolume(); });
  }
  static WorldOptions Options() {
    WorldOptions options;
    options.segment_blocks = 256;
    return options;
  }
  void Do(std::function<void()> function) { world_.Run(Call(std::move(function))); }
  static Task<void> Call(std::function<void()> function) {
    function();
    co_return;
  }
  void Write(uint64_t first, uint64_t count) {
    Do([=, this] { world_.Write(volume_, first, count); });
  }
  SnapshotId Snapshot() {
    SnapshotId id;
    Do([&, this] { id = world_.Snapshot(volume_); });
    return id;
  }
  void Delete(SnapshotId id) {
    Do([=, this] { world_.DeleteSnapshot(id); });
  }
  // Gives the snapshot of the state that it left.
  SnapshotId Rollback(SnapshotId id) {
    Do([=, this] { world_.Rollback(volume_, id); });
    return world_.catalogue().snapshots().rbegin()->first;
  }
  void Settle() {
    TF_CHECK_OK(world_.Run(world_.ReclaimAll()));
    TF_CHECK_OK(world_.Run(world_.Checkpoint()));
  }
  UsageCount CountNow(std::optional<VolumeId> volume = std::nullopt) {
    TF_CHECK_OK(world_.Run(world_.Checkpoint()));
    absl::StatusOr<UsageCount> count = world_.Run(Count(&world_, volume));
    TF_CHECK_OK(count.status());
    return *std::move(count);
  }
  uint64_t Own(SnapshotId id) { return CountNow().snapshots.at(id).own_blocks; }
  // What is live less after it is deleted.
  uint64_t FreedBy(SnapshotId id) {
    Settle();
    const uint64_t before = world_.table().live_blocks();
    Delete(id);
    Settle();
    return before - world_.table().live_blocks();
  }

  World world_;
  VolumeId volume_;
};

TEST_F(UsageCountTest, SaysWhatThePresentAndItsHistoryHold) {
  Write(0, 64);
  UsageCount count = CountNow();
  EXPECT_EQ(count.volumes.at(volume_).present_blocks, 64);
  EXPECT_EQ(count.volumes.at(volume_).history_blocks, 0);
  EXPECT_EQ(count.live_blocks, 64);

  const SnapshotId first = Snapshot();
  Write(0, 10);
  const SnapshotId second = Snapshot();
  Write(5, 10);
  Do([this] { world_.Zero(volume_, 60, 4); });
  count = CountNow();
  EXPECT_EQ(count.volumes.at(volume_).present_blocks, 60);
  EXPECT_EQ(count.volumes.at(volume_).history_blocks, 5 + 10 + 5 + 4);
  EXPECT_EQ(count.volumes.at(volume_).total_blocks(), count.live_blocks);
  EXPECT_EQ(count.to_give_back_blocks, 0);
  EXPECT_EQ(count.snapshots.at(first).shown_blocks, 64);
  EXPECT_EQ(count.snapshots.at(second).shown_blocks, 64);
  EXPECT_EQ(count.snapshots.at(first).own_blocks, 10) << "what the second does not show";
  EXPECT_EQ(count.snapshots.at(second).own_blocks, 5) << "written between the two, and over again";
  EXPECT_EQ(count.volumes.at(volume_).snapshots_own_blocks, 15);
  EXPECT_EQ(FreedBy(first), 10);
  EXPECT_EQ(Own(second), 5 + 5 + 4) << "what both showed is its own now";
}

TEST_F(UsageCountTest, OneVolumeCostsOnlyItsOwnVersions) {
  Write(0, 64);
  VolumeId other;
  Do([&, this] {
    other = world_.CreateVolume();
    world_.Write(other, 0, 200);
  });
  const UsageCount all = CountNow();
  const UsageCount count = CountNow(volume_);
  EXPECT_EQ(count.volumes.size(), 1);
  EXPECT_EQ(count.volumes.at(volume_).present_blocks, 64);
  EXPECT_LT(count.versions, all.versions);
  EXPECT_EQ(all.volumes.at(other).present_blocks, 200);
}

TEST_F(UsageCountTest, WhatARollbackLeftIsHistory) {
  Write(0, 64);
  const SnapshotId base = Snapshot();
  Write(0, 10);
  Write(100, 5);
  const SnapshotId left = Rollback(base);
  Write(32, 8);
  const UsageCount count = CountNow();
  EXPECT_EQ(count.volumes.at(volume_).present_blocks, 64);
  EXPECT_EQ(count.volumes.at(volume_).history_blocks, 15 + 8);
  EXPECT_EQ(count.snapshots.at(base).shown_blocks, 64);
  EXPECT_EQ(count.snapshots.at(left).shown_blocks, 69);
  EXPECT_EQ(count.snapshots.at(left).own_blocks, 15);
  EXPECT_EQ(count.snapshots.at(base).own_blocks, 0) << "the fork point stays";
  EXPECT_EQ(FreedBy(left), 15);
}

// M20: the timeline that was left is then the base of one other and nothing else.
TEST_F(UsageCountTest, TheLastSnapshotOfATimelineThatIsFoldedGivesBackWhatItsHeirDoesNotShow) {
  Write(0, 64);
  const SnapshotId base = Snapshot();
  Write(0, 10);
  const SnapshotId left = Rollback(base);
  Write(32, 8);
  const SnapshotId kept = Snapshot();
  Write(40, 8);
  Delete(left);
  Settle();
  EXPECT_EQ(Own(base), 8) << "the new timeline never showed them; 40 to 48 are for `kept`";
  EXPECT_EQ(FreedBy(base), 8);
  EXPECT_EQ(Own(kept), 8);
  EXPECT_EQ(CountNow().to_give_back_blocks, 0);
}

TEST_F(UsageCountTest, ASnapshotThatIsAllThatATimelineIsThereForTakesItsForkPointAlong) {
  Write(0, 64);
  const SnapshotId base = Snapshot();
  Write(0, 20);
  const SnapshotId later = Snapshot();
  Rollback(base);  // the second timeline; the first one keeps `later` and a state that is like it
  Write(0, 5);
  const SnapshotId second_left = Rollback(later);  // the third; the second is for this one alone
  Delete(base);
  Settle();
  EXPECT_EQ(Own(second_left), 5 + 20) << "and what the fork point at `base` held for it";
  EXPECT_EQ(FreedBy(second_left), 25);
}

// The two that are left of a fork: with the one gone the other takes over.
TEST_F(UsageCountTest, OfTwoTimelinesAtAForkEachHoldsForTheOther) {
  Write(0, 64);
  const SnapshotId base = Snapshot();
  const SnapshotId left = Rollback(base);  // nothing was written since
  Write(0, 10);
  const SnapshotId second_left = Rollback(base);
  Write(0, 10);  // now neither of the two shows what is there at the fork
  Write(20, 1);  // and this the other one alone
  Delete(base);
  Delete(left);
  Settle();
  EXPECT_EQ(CountNow().live_blocks, 64 + 10 + 10 + 1);
  EXPECT_EQ(Own(second_left), 10 + 10 + 1);
  EXPECT_EQ(FreedBy(second_left), 21);
}

// M10: what came to chunks whose bases were not read yet, which the checkpoint keeps apart.
TEST_F(UsageCountTest, PartialChunksShowWhatCameToThem) {
  Write(0, 64);
  const SnapshotId snapshot = Snapshot();
  Write(8, 2);
  CountNow();
  world_.Run(world_.Reopen());
  world_.BeforeCuts([this] {
    world_.Write(volume_, 0, 4);
    world_.Write(volume_, 9, 1);
    world_.Zero(volume_, 40, 8);
  });
  const UsageCount count = CountNow();
  world_.BeforeCuts(nullptr);
  EXPECT_GT(world_.CountKeys(Table::kPartial), 0);
  EXPECT_EQ(count.volumes.at(volume_).present_blocks, 64 - 8);
  EXPECT_EQ(count.volumes.at(volume_).history_blocks, 2 + 4 + 8);
  EXPECT_EQ(count.snapshots.at(snapshot).own_blocks, 14);
  EXPECT_EQ(count.to_give_back_blocks, 1) << "the map has not seen yet that it is displaced";
  Settle();
  EXPECT_EQ(CountNow().to_give_back_blocks, 0);
  EXPECT_EQ(FreedBy(snapshot), 14);
}

TEST_F(UsageCountTest, DeletedButNotYetGivenBackIsSaidApart) {
  Write(0, 64);
  const SnapshotId snapshot = Snapshot();
  Write(0, 10);
  CountNow();
  Delete(snapshot);
  UsageCount count = CountNow();
  EXPECT_EQ(count.volumes.at(volume_).history_blocks, 0);
  EXPECT_EQ(count.to_give_back_blocks, 10);
  EXPECT_EQ(count.live_blocks, 74);
  Settle();
  count = CountNow();
  EXPECT_EQ(count.to_give_back_blocks, 0);
  EXPECT_EQ(count.live_blocks, 64);
}

TEST_F(UsageCountTest, ACloneSharesWithTheVolumeThatItIsOf) {
  Write(0, 64);
  const SnapshotId base = Snapshot();
  VolumeId clone;
  Do([&, this] {
    clone = world_.Clone(base);
    world_.Write(clone, 0, 4);
  });
  Write(60, 4);
  const UsageCount count = CountNow(volume_);
  EXPECT_EQ(count.volumes.at(volume_).present_blocks, 64);
  EXPECT_EQ(count.volumes.at(volume_).history_blocks, 4);
  EXPECT_EQ(count.volumes.at(clone).present_blocks, 64);
  EXPECT_EQ(count.volumes.at(clone).foreign_blocks, 60);
  EXPECT_EQ(count.volumes.at(clone).total_blocks(), 4);
  EXPECT_EQ(CountNow().live_blocks, 64 + 4 + 4);
}

TEST_F(UsageCountTest, DamageIsAnErrorM12) {
  Write(0, 64);
  CountNow();
  for (const auto& [key, value] : world_.disk().contents()) {
    if (key[0] == static_cast<char>(Table::kChunk)) {
      world_.disk().Damage(key);
      break;
    }
  }
  EXPECT_EQ(world_.Run(Count(&world_)).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(UsageCountTest, AVolumeThatIsNotInTheCheckpointIsNotFound) {
  CountNow();
  EXPECT_EQ(world_.Run(Count(&world_, VolumeId(99))).status().code(), absl::StatusCode::kNotFound);
}

// ---- Random ones --------------------------------------------------------------------------------

WorldOptions OptionsFor(uint64_t seed) {
  Prng random(seed * 7919);
  WorldOptions options;
  options.seed = seed;
  if (random.Uniform(3) == 0) {
    options.delays.max_read_delay_ns = static_cast<int64_t>(1 + random.Uniform(30'000));
  }
  const size_t caches[] = {0, 2'000, 1 << 20};
  options.map.cache_bytes = caches[random.Uniform(3)];
  options.map.max_zeroed_chunks = random.Uniform(4);
  if (random.Uniform(2) == 0)
    options.map.max_lineage_depth = static_cast<uint32_t>(random.Uniform(3));
  options.volume_blocks = kChunkBlocks * (1 + random.Uniform(4));
  return options;
}

// The same for the same seed, each time: so there can be copies.
class RandomUsage {
 public:
  explicit RandomUsage(uint64_t seed) : random_(seed), world_(OptionsFor(seed)) {}

  void Make(int steps) { world_.Run(MakeAll(steps)); }
  World& world() { return world_; }

  // Counts, and compares all that the plain model tells.
  UsageCount CountAndCheck(bool settled) {
    absl::StatusOr<UsageCount> count = world_.Run(Count(&world_));
    EXPECT_TRUE(count.ok()) << count.status();
    if (!count.ok()) return {};
    uint64_t held = count->clones_blocks;
    for (const auto& [id, volume] : world_.catalogue().volumes()) {
      const VolumeUsage& usage = count->volumes.at(id);
      EXPECT_EQ(usage.present_blocks, Data(world_.Shown(volume.current_timeline)))
          << "volume " << id;
      held += usage.total_blocks();
    }
    EXPECT_EQ(count->volumes.size(), world_.catalogue().volumes().size());
    for (const auto& [id, snapshot] : world_.catalogue().snapshots()) {
      EXPECT_EQ(count->snapshots.at(id).shown_blocks,
                Data(world_.Shown(snapshot.timeline, snapshot.position)))
          << "snapshot " << id;
    }
    EXPECT_EQ(held + count->to_give_back_blocks, count->live_blocks);
    if (settled) {  // Else large trims are worked off behind the checkpoint's back.
      EXPECT_EQ(count->live_blocks, world_.table().live_blocks());
      EXPECT_EQ(count->to_give_back_blocks, 0);
    }
    CheckHistory(*count, held);
    return *std::move(count);
  }

  // At rest: nothing is left to give back, and no timeline that the next delete would take.
  void Settle() { world_.Run(SettleAll()); }

 private:
  static uint64_t Data(const World::Cells& cells) {
    return static_cast<uint64_t>(std::count_if(cells.begin(), cells.end(),
                                               [](const World::Cell& cell) { return cell.data; }));
  }
  using Places = std::set<std::pair<uint64_t, uint32_t>>;
  void AddPlaces(TimelineId timeline, Position as_of, Places* places) const {
    for (const World::Cell& cell : world_.Shown(timeline, as_of)) {
      if (cell.data) places->emplace(cell.address.segment.value(), cell.address.block);
    }
  }

  // All that is shown is held; what is held and not shown a fork point holds.
  void CheckHistory(const UsageCount& count, uint64_t held) {
    Places shown;
    for (const auto& [timeline, as_of] : world_.Points()) AddPlaces(timeline, as_of, &shown);
    EXPECT_GE(held, shown.size());
    // By the plain model alone: what nothing else shows. A fork point may hold some of it.
    uint64_t forks = 0;
    for (const auto& [id, timeline] : world_.catalogue().timelines()) {
      forks += timeline.parent != TimelineId() ? 1 : 0;
    }
    if (forks > 0) return;
    EXPECT_EQ(held, shown.size());
    for (const auto& [id, snapshot] : world_.catalogue().snapshots()) {
      Places others;
      for (const auto& [timeline, as_of] : world_.Points()) {
        if (timeline == snapshot.timeline && as_of == snapshot.position) continue;
        AddPlaces(timeline, as_of, &others);
      }
      EXPECT_EQ(count.snapshots.at(id).own_blocks, shown.size() - others.size());
    }
  }

  Task<void> MakeAll(int steps) {
    volumes_.push_back(world_.CreateVolume());
    rollbacks_ = random_.Uniform(3) > 0;
    for (int i = 0; i < steps && !testing::Test::HasFailure(); ++i) {
      if (random_.Uniform(100) == 0) co_await world_.Crash();
      absl::Status status;
      const uint64_t dice = random_.Uniform(100);
      if (dice < 70) {
        Change(dice);
      } else if (dice < 80) {
        status = co_await world_.Checkpoint();
      } else if (dice < 90) {
        const uint64_t reclaims = random_.Uniform(20);
        for (uint64_t n = 0; n < reclaims && world_.map().has_reclaim_work() && status.ok(); ++n) {
          status = co_await world_.map().ReclaimStep();
        }
      } else {
        Change(random_.Uniform(40));
      }
      EXPECT_TRUE(status.ok()) << status;
      if (random_.Uniform(3) == 0) co_await Yield();
    }
    // The last one finds cold chunks, now and then, and something comes to them right before it.
    if (random_.Uniform(2) == 0) co_await world_.Reopen();
    const auto change = [this] {
      const uint64_t changes = random_.Uniform(6);
      for (uint64_t i = 0; i < changes; ++i) Change(random_.Uniform(40));
    };
    world_.BeforeCuts(change);
    const absl::Status status = co_await world_.Checkpoint();
    world_.BeforeCuts(nullptr);
    EXPECT_TRUE(status.ok()) << status;
  }

  void Change(uint64_t dice) {
    const VolumeId volume = volumes_[random_.Uniform(volumes_.size())];
    const uint64_t blocks = world_.options().volume_blocks;
    const uint64_t count = 1 + random_.Uniform(random_.Uniform(4) == 0 ? 40 : 6);
    const std::vector<SnapshotId> snapshots = Snapshots();
    if (dice < 36) {
      world_.Write(volume, random_.Uniform(blocks - std::min(count, blocks) + 1),
                   std::min(count, blocks));
    } else if (dice < 40) {
      const uint64_t zeros = 1 + random_.Uniform(random_.Uniform(2) == 0 ? blocks - 1 : 8);
      world_.Zero(volume, random_.Uniform(blocks - zeros + 1), zeros);
    } else if (dice < 50) {
      world_.Snapshot(volume);
    } else if (snapshots.empty()) {
      return;
    } else if (dice < 60) {
      world_.DeleteSnapshot(snapshots[random_.Uniform(snapshots.size())]);
    } else if (dice < 66 && rollbacks_) {
      const SnapshotId to = snapshots[random_.Uniform(snapshots.size())];
      world_.Rollback(world_.catalogue().snapshots().at(to).volume, to, random_.Uniform(4) > 0);
    } else if (dice < 68 && rollbacks_ && volumes_.size() < 3) {
      volumes_.push_back(world_.Clone(snapshots[random_.Uniform(snapshots.size())]));
    } else if (dice == 68 && volumes_.size() > 1) {
      const size_t which = random_.Uniform(volumes_.size());
      world_.DeleteVolume(volumes_[which]);
      volumes_.erase(volumes_.begin() + static_cast<ptrdiff_t>(which));
    }
  }

  Task<void> SettleAll() {
    for (const auto& [id, volume] : std::map(world_.catalogue().volumes())) {
      world_.DeleteSnapshot(world_.Snapshot(id));
    }
    absl::Status status = co_await world_.ReclaimAll();
    EXPECT_TRUE(status.ok()) << status;
    status = co_await world_.Checkpoint();
    EXPECT_TRUE(status.ok()) << status;
  }

  std::vector<SnapshotId> Snapshots() const {
    std::vector<SnapshotId> ids;
    for (const auto& [id, record] : world_.catalogue().snapshots()) ids.push_back(id);
    return ids;
  }

  Prng random_;
  World world_;
  std::vector<VolumeId> volumes_;
  bool rollbacks_ = true;
};

int StepsOf(uint64_t seed) { return static_cast<int>(20 + seed % 150); }

void CheckSeed(uint64_t seed, size_t copies) {
  RandomUsage usage(seed);
  usage.Make(StepsOf(seed));
  const UsageCount before = usage.CountAndCheck(/*settled=*/false);
  if (testing::Test::HasFailure()) return;
  usage.Settle();
  const UsageCount settled = usage.CountAndCheck(/*settled=*/true);
  if (testing::Test::HasFailure()) return;
  for (const auto& [id, volume] : usage.world().catalogue().volumes()) {
    EXPECT_EQ(before.volumes.at(id).history_blocks, settled.volumes.at(id).history_blocks)
        << "volume " << id << ": what is to be given back was counted";
  }
  std::vector<SnapshotId> snapshots;
  for (const auto& [id, snapshot] : usage.world().catalogue().snapshots()) {
    EXPECT_EQ(before.snapshots.at(id).own_blocks, settled.snapshots.at(id).own_blocks)
        << "snapshot " << id;
    snapshots.push_back(id);
  }
  Prng random(seed + 1);
  for (size_t i = 0; i < copies && !snapshots.empty(); ++i) {
    const size_t which = random.Uniform(snapshots.size());
    const SnapshotId snapshot = snapshots[which];
    snapshots.erase(snapshots.begin() + static_cast<ptrdiff_t>(which));
    RandomUsage copy(seed);
    copy.Make(StepsOf(seed));
    copy.Settle();
    const uint64_t live = copy.world().table().live_blocks();
    ASSERT_EQ(live, settled.live_blocks) << "the copy is none";
    copy.world().DeleteSnapshot(snapshot);
    copy.Settle();
    EXPECT_EQ(live - copy.world().table().live_blocks(), settled.snapshots.at(snapshot).own_blocks)
        << "deleting snapshot " << snapshot;
    copy.CountAndCheck(/*settled=*/true);
  }
}

void CheckSeeds(uint64_t first, uint64_t count, size_t copies, bool say) {
  for (uint64_t seed = first; seed < first + count && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    if (say) std::cerr << "seed " << seed << '\n';
    CheckSeed(seed, copies);
  }
}

class UsageCountProperty : public testing::TestWithParam<uint64_t> {};

TEST_P(UsageCountProperty, SaysWhatAPlainModelShowsAndWhatDeletesGiveBack) {
  constexpr uint64_t kSeeds = 40;
  CheckSeeds(1 + GetParam() * kSeeds, kSeeds, /*copies=*/3, /*say=*/false);
}
INSTANTIATE_TEST_SUITE_P(Seeds, UsageCountProperty, testing::Range<uint64_t>(0, 4));

// TWOFOLD_SEEDS=first,count: others than the above, each snapshot of each.
TEST(UsageCountMoreSeeds, SaysWhatAPlainModelShowsAndWhatDeletesGiveBack) {
  const char* text = std::getenv("TWOFOLD_SEEDS");
  if (text == nullptr) GTEST_SKIP() << "TWOFOLD_SEEDS=first,count is not set";
  const std::vector<std::string> parts = absl::StrSplit(text, ',');
  uint64_t first = 0;
  uint64_t count = 0;
  ASSERT_TRUE(parts.size() == 2 && absl::SimpleAtoi(parts[0], &first) &&
              absl::SimpleAtoi(parts[1], &count))
      << text;
  CheckSeeds(first, count, /*copies=*/1000, /*say=*/true);
}

}  // namespace
}  // namespace twofold
