// A whole pool over two simulated disks: passes begun by themselves, by hand and at once, ended
// with their set, healed on the way, and the two sets compared while a client writes.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "replication/local_replica.h"
#include "replication/volume/mount.h"
#include "replication/volume/pool.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/prng.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task_scope.h"
#include "storage/store/store.h"
#include "tests/replication/sim_witness.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_metadata_store.h"
#include "tests/sim/sim_poller.h"
#include "tests/sim/store_world.h"

namespace twofold {
namespace {

constexpr uint64_t kVolumeBlocks = 512;
constexpr int64_t kMinute = int64_t{60} * kNanosPerSecond;

class PoolScrubTest : public testing::Test {
 public:
  PoolScrubTest()
      : random_(3),
        poller_(3),
        executor_(poller_),
        disk_a_("a"),
        disk_b_("b"),
        map_a_(4, {}),
        map_b_(5, {}) {
    SetLogLevel(LogLevel::kError);
  }

  // Runs `test` on a pool with a volume that holds data, and stops the pool.
  void Run(ScrubSchedule schedule, Task<void> (PoolScrubTest::*test)()) {
    executor_.Run(RunAll(schedule, test));
  }
  Task<void> RunAll(ScrubSchedule schedule, Task<void> (PoolScrubTest::*test)()) {
    Pool::Parts parts;
    std::vector<std::string> ids;
    for (auto& [disk, map] : {std::pair(&disk_a_, &map_a_), std::pair(&disk_b_, &map_b_)}) {
      const absl::Status formatted = co_await sim::FormatStoreOn(&poller_, disk, {});
      EXPECT_TRUE(formatted.ok()) << formatted;
      auto store = co_await sim::OpenStoreOn(&poller_, disk, map, StoreOptions());
      EXPECT_TRUE(store.ok()) << store.status();
      if (!store.ok()) co_return;
      stores_.push_back(store->get());
      ids.push_back((*store)->superblock().store_id);
      parts.replicas.push_back(std::make_unique<LocalReplica>(*std::move(store)));
    }
    parts.witness = std::make_unique<sim::SimWitness>(&stored_);
    parts.buffer_pool_bytes = kDefaultBufferPoolBytes;
    parts.scrub = schedule;
    const absl::Status made =
        co_await Pool::Format(parts.witness.get(), std::string(32, '1'), std::move(ids));
    EXPECT_TRUE(made.ok()) << made;
    auto pool = co_await Pool::Attach(std::move(parts));
    EXPECT_TRUE(pool.ok()) << pool.status();
    if (!pool.ok()) co_return;
    pool_ = *std::move(pool);
    const auto volume = co_await pool_->CreateVolume("vol", kVolumeBlocks * kBlockSize,
                                                     AckMode::kDurable, OnSetLoss::kContinue);
    EXPECT_TRUE(volume.ok()) << volume.status();
    auto mount = pool_->OpenMount("vol");
    EXPECT_TRUE(mount.ok()) << mount.status();
    if (mount.ok()) {
      mount_ = *std::move(mount);
      for (int i = 0; i < 300; ++i) co_await WriteOnce();
      co_await (this->*test)();
      mount_.reset();
    }
    co_await pool_->Stop();
    pool_.reset();
  }

  Task<void> WriteOnce() {
    const uint64_t block = random_.Uniform(kVolumeBlocks);
    Buffer payload = mount_->buffers().TryAllocate(kBlockSize);
    EXPECT_FALSE(payload.empty());
    std::memset(payload.data(), static_cast<int>(1 + random_.Uniform(200)), kBlockSize);
    const absl::Status status =
        co_await mount_->Write(block * kBlockSize, kBlockSize, std::move(payload), /*fua=*/false);
    EXPECT_TRUE(status.ok()) << status;
    ++writes_;
  }
  Task<void> KeepWriting() {
    while (writing_ && !HasFailure()) {
      co_await WriteOnce();
      co_await poller_.Delay(static_cast<int64_t>(random_.Uniform(kNanosPerMilli)));
    }
  }

  ScrubInfo Of(const std::string& set) {
    for (ScrubInfo& info : pool_->Scrubs().sets) {
      if (info.set == set) return std::move(info);
    }
    ADD_FAILURE() << "no set " << set;
    return {};
  }
  bool AnyRuns() { return Of("a").state == "running" || Of("b").state == "running"; }
  Task<void> WaitForEnd() {
    while (AnyRuns() || pool_->Scrubs().compare.state == "running") {
      co_await poller_.Delay(10 * kNanosPerMilli);
    }
  }
  // Where some block of the volume lies in a set.
  Task<LogAddress> SomePlace(Store* store) {
    const BlockRange all{BlockIndex(0), BlockCount(kVolumeBlocks)};
    const auto pieces = co_await store->map().Lookup(TimelineId(1), kLastPosition, all);
    EXPECT_TRUE(pieces.ok()) << pieces.status();
    if (!pieces.ok()) co_return LogAddress();
    for (const Piece& piece : *pieces) {
      if (piece.mapped) co_return store->map().forwarding().Resolve(piece.run.address);
    }
    co_return LogAddress();
  }

  // ---- The tests --------------------------------------------------------------------------------

  Task<void> TestBothAtOnce() {
    EXPECT_FALSE(Of("a").proof.has_value());
    EXPECT_TRUE(pool_->StartScrub(std::nullopt, 0).ok());
    co_await WaitForEnd();
    for (const char* set : {"a", "b"}) {
      EXPECT_EQ(Of(set).state, "whole") << Of(set).what;
      EXPECT_TRUE(Of(set).proof.has_value());
    }
    EXPECT_EQ(pool_->StartScrub("c", 0).code(), absl::StatusCode::kNotFound);
    EXPECT_EQ(pool_->StopScrub("c").code(), absl::StatusCode::kNotFound);
  }

  Task<void> TestStopAndRate() {
    EXPECT_TRUE(pool_->StartScrub("a", 4096).ok());
    co_await poller_.Delay(kNanosPerSecond);
    EXPECT_EQ(Of("a").state, "running");
    EXPECT_EQ(Of("b").state, "never");
    EXPECT_TRUE(pool_->StopScrub("a").ok());
    co_await WaitForEnd();
    EXPECT_EQ(Of("a").state, "stopped");
    EXPECT_FALSE(Of("a").proof.has_value());
    // The second start joins the first, at its rate.
    EXPECT_TRUE(pool_->StartScrub("a", 1 << 20).ok());
    EXPECT_TRUE(pool_->StartScrub("a", 0).ok());
    const MonoNanos began = poller_.Now();
    co_await WaitForEnd();
    EXPECT_EQ(Of("a").state, "whole") << Of("a").what;
    EXPECT_LT(poller_.Now() - began, 2 * kNanosPerSecond);
    // What runs when the pool stops ends with it.
    EXPECT_TRUE(pool_->StartScrub("b", 4096).ok());
  }

  Task<void> TestSchedule() {
    co_await poller_.Delay(5 * kMinute);
    EXPECT_FALSE(Of("a").proof.has_value() || Of("b").proof.has_value()) << "right after the start";
    co_await poller_.Delay(60 * kMinute);
    EXPECT_TRUE(Of("a").proof.has_value());
    EXPECT_TRUE(Of("b").proof.has_value());
    EXPECT_NE(Of("a").started, Of("b").started) << "one at a time";
    const WallNanos first = Of("a").proof->ended;
    co_await poller_.Delay(40 * kMinute);
    EXPECT_EQ(Of("a").proof->ended, first) << "before it was due";
    co_await poller_.Delay(30 * kMinute);
    EXPECT_GT(Of("a").proof->ended, first);
  }

  Task<void> TestHealing() {
    const LogAddress place = co_await SomePlace(stores_[0]);
    const std::string where = stores_[0]->log().Locate({place.segment, 0});
    disk_a_.FlipBit(where.substr(2, where.find(" at byte") - 2),
                    uint64_t{place.block} * kBlockSize + 9, 2);
    EXPECT_TRUE(pool_->StartScrub("a", 0).ok());
    co_await WaitForEnd();
    EXPECT_EQ(Of("a").state, "whole") << Of("a").damaged_places;
    EXPECT_EQ(Of("a").healed_places, 1u);
    EXPECT_EQ(Of("a").proof->healed_places, 1u);
  }

  Task<void> TestCompare() {
    std::vector<SnapshotName> names;
    names.push_back({"vol", "kept"});
    const auto kept = co_await pool_->CreateSnapshots(std::move(names));
    EXPECT_TRUE(kept.ok()) << kept.status();
    TaskScope clients;
    writing_ = true;
    for (int i = 0; i < 3; ++i) clients.Spawn(KeepWriting());
    for (int rounds = 0; rounds < 5; ++rounds) {
      const absl::Status started = pool_->StartComparison();
      EXPECT_TRUE(started.ok()) << started;
      EXPECT_EQ(pool_->StartComparison().code(), absl::StatusCode::kFailedPrecondition);
      co_await WaitForEnd();
      const CompareInfo compare = pool_->Scrubs().compare;
      EXPECT_EQ(compare.state, "equal") << compare.what;
      EXPECT_EQ(compare.points_done, 2u);
      EXPECT_GT(compare.blocks, 100u);
    }
    const uint64_t before = writes_;
    while (writes_ < before + 20 && !HasFailure()) co_await poller_.Delay(kNanosPerMilli);
    writing_ = false;
    co_await clients.Join();
    // What it froze is gone.
    EXPECT_EQ(stores_[0]->catalogue().snapshots().size(), 1u);
    // One is ended by hand, and one by the end of the pool.
    EXPECT_TRUE(pool_->StartComparison().ok());
    EXPECT_TRUE(pool_->StopScrub(std::nullopt).ok());
    co_await WaitForEnd();
    EXPECT_EQ(pool_->Scrubs().compare.state, "stopped");
    EXPECT_TRUE(pool_->StartComparison().ok());
  }

  Task<void> TestLoss() {
    EXPECT_TRUE(pool_->StartScrub("b", 4096).ok());
    disk_b_.FailWrites("", 0, sim::SimDisk::kToTheEnd);
    co_await WriteOnce();
    co_await WaitForEnd();
    EXPECT_EQ(Of("b").state, "failed");
    EXPECT_EQ(pool_->StartComparison().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(pool_->StartScrub("b", 0).code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(pool_->StartScrub(std::nullopt, 0).ok());
    co_await WaitForEnd();
    EXPECT_EQ(Of("a").state, "whole") << Of("a").what;
  }

  Prng random_;
  sim::SimPoller poller_;
  Executor executor_;
  sim::SimDisk disk_a_;
  sim::SimDisk disk_b_;
  sim::SimMetadataDisk map_a_;
  sim::SimMetadataDisk map_b_;
  std::optional<Membership> stored_;
  std::unique_ptr<Pool> pool_;
  std::vector<Store*> stores_;
  std::unique_ptr<Mount> mount_;
  bool writing_ = false;
  uint64_t writes_ = 0;
};

TEST_F(PoolScrubTest, ProvesBothSetsAtOnce) { Run({}, &PoolScrubTest::TestBothAtOnce); }

TEST_F(PoolScrubTest, IsStoppedAndSpedUp) { Run({}, &PoolScrubTest::TestStopAndRate); }

TEST_F(PoolScrubTest, BeginsByItselfWhenItIsDueOneSetAtATime) {
  Run({.every_seconds = 3600, .bytes_per_second = 0}, &PoolScrubTest::TestSchedule);
}

TEST_F(PoolScrubTest, ProvesASetThatWasHealedOnTheWay) { Run({}, &PoolScrubTest::TestHealing); }

TEST_F(PoolScrubTest, ComparesWhileClientsWrite) { Run({}, &PoolScrubTest::TestCompare); }

TEST_F(PoolScrubTest, EndsWithItsSet) { Run({}, &PoolScrubTest::TestLoss); }

}  // namespace
}  // namespace twofold
