// Administration: volumes, snapshots, groups, rollback; and that all of it outlives a restart.
#include "replication/volume/pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "storage/runtime/task_scope.h"
#include "tests/replication/test_pool.h"

namespace twofold {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

constexpr uint64_t kMiB = 1 << 20;

std::string Bytes(uint64_t length, char fill) { return std::string(length, fill); }

class PoolTest : public testing::Test {
 protected:
  void SetUp() override { pool_.MustAttach(); }

  void Restart() {
    pool_.Stop();
    pool_.MustAttach();
  }
  absl::StatusOr<std::vector<SnapshotInfo>> Snap(std::vector<SnapshotName> names) {
    return pool_.Run(pool_.pool().CreateSnapshots(std::move(names)));
  }
  void MustSnap(const std::string& volume, const std::string& snapshot) {
    const auto infos = Snap({{volume, snapshot}});
    ASSERT_TRUE(infos.ok()) << infos.status();
  }
  absl::StatusOr<SnapshotInfo> Rollback(const std::string& volume, const std::string& snapshot,
                                        bool force = false) {
    return pool_.Run(pool_.pool().Rollback({volume, snapshot}, force));
  }
  absl::Status Delete(const std::string& name, bool force = false) {
    return pool_.Run(pool_.pool().DeleteVolume(name, force));
  }
  absl::StatusOr<VolumeInfo> Resize(const std::string& name, uint64_t bytes, bool force = false) {
    return pool_.Run(pool_.pool().ResizeVolume(name, bytes, force));
  }
  // Opens, writes and closes.
  void Fill(const std::string& name, uint64_t offset, uint64_t length, char fill) {
    const std::unique_ptr<Mount> mount = pool_.Open(name);
    const absl::Status status = pool_.Write(*mount, offset, length, fill);
    ASSERT_TRUE(status.ok()) << status;
  }
  std::string Content(const std::string& name, uint64_t offset, uint64_t length) {
    const std::unique_ptr<Mount> mount = pool_.Open(name);
    return pool_.Read(*mount, offset, length);
  }
  std::vector<std::string> SnapshotNames(const std::string& volume) {
    std::vector<std::string> names;
    const std::vector<SnapshotInfo> infos = pool_.pool().Snapshots(volume).value();
    for (const SnapshotInfo& info : infos) {
      names.push_back(info.name);
    }
    return names;
  }

  TestPool pool_;
};

// ---- Volumes ----

TEST_F(PoolTest, AnEmptyPoolHasNothing) {
  EXPECT_TRUE(pool_.pool().Volumes().empty());
  EXPECT_TRUE(pool_.pool().ExportNames().empty());
  EXPECT_TRUE(absl::IsNotFound(pool_.pool().OpenMount("vol").status()));
  const PoolInfo info = pool_.pool().Info();
  EXPECT_EQ(info.state, "healthy");
  EXPECT_EQ(info.generation, Generation(1));
  ASSERT_EQ(info.replicas.size(), 2u);
  EXPECT_EQ(info.replicas[1].set, "b");
  EXPECT_EQ(info.replicas[1].state, "in-sync");
}

TEST_F(PoolTest, AVolumeOutlivesRestarts) {
  pool_.MakeVolume("vol", kMiB, AckMode::kWritten);
  Fill("vol", 0, 8192, 'x');
  for (int i = 0; i < 3; ++i) {
    Restart();
    const absl::StatusOr<VolumeInfo> info = pool_.pool().FindVolume("vol");
    ASSERT_TRUE(info.ok());
    EXPECT_EQ(info->size_bytes, kMiB);
    EXPECT_EQ(info->ack, AckMode::kWritten);
    EXPECT_EQ(info->state, "online");
    EXPECT_EQ(Content("vol", 0, 8192), Bytes(4096, 'x') + Bytes(4096, static_cast<char>('x' - i)));
    Fill("vol", 4096, 4096, static_cast<char>('x' - i - 1));
  }
  EXPECT_EQ(pool_.pool().Info().generation, Generation(4));
}

TEST_F(PoolTest, RefusesVolumesThatCantBe) {  // P8
  const auto create = [this](const std::string& name, uint64_t size) {
    return pool_.Run(pool_.pool().CreateVolume(name, size, AckMode::kDurable)).status();
  };
  EXPECT_TRUE(absl::IsInvalidArgument(create("bad name", kMiB)));
  EXPECT_TRUE(absl::IsInvalidArgument(create("vol", 0)));
  EXPECT_TRUE(absl::IsInvalidArgument(create("vol", 1000)));
  EXPECT_TRUE(absl::IsInvalidArgument(create("vol", kMaxVolumeBytes + kBlockSize)));
  EXPECT_TRUE(create("vol", kMaxVolumeBytes).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(create("vol", kMiB)));
}

TEST_F(PoolTest, IdsAreNeverReused) {  // M3
  pool_.MakeVolume("one");
  const VolumeInfo one = pool_.pool().FindVolume("one").value();
  ASSERT_TRUE(Delete("one").ok());
  Restart();
  pool_.MakeVolume("one");
  const VolumeInfo again = pool_.pool().FindVolume("one").value();
  EXPECT_GT(again.id, one.id);
  EXPECT_GT(again.timeline, one.timeline);
  EXPECT_EQ(Content("one", 0, 4096), Bytes(4096, 0));
}

TEST_F(PoolTest, DeletingAsksForForceWhereSomethingWouldGo) {
  pool_.MakeVolume("vol");
  MustSnap("vol", "snap");
  EXPECT_TRUE(absl::IsFailedPrecondition(Delete("vol")));
  ASSERT_TRUE(pool_.Run(pool_.pool().DeleteSnapshot({"vol", "snap"})).ok());
  std::unique_ptr<Mount> mount = pool_.Open("vol");
  EXPECT_TRUE(absl::IsFailedPrecondition(Delete("vol")));
  mount.reset();
  EXPECT_TRUE(Delete("vol").ok());
  EXPECT_TRUE(absl::IsNotFound(Delete("vol")));
  EXPECT_TRUE(pool_.pool().ExportNames().empty());
}

TEST_F(PoolTest, DeletingByForceDisconnectsClients) {  // R37
  pool_.MakeVolume("vol");
  MustSnap("vol", "snap");
  const std::unique_ptr<Mount> head = pool_.Open("vol");
  const std::unique_ptr<Mount> snapshot = pool_.Open("vol@snap");
  int hung_up = 0;
  head->OnRevoked([&hung_up] { ++hung_up; });
  snapshot->OnRevoked([&hung_up] { ++hung_up; });
  ASSERT_TRUE(Delete("vol", /*force=*/true).ok());
  EXPECT_EQ(hung_up, 2);
  EXPECT_TRUE(absl::IsAborted(pool_.Write(*head, 0, 4096, 'x')));
  EXPECT_TRUE(absl::IsAborted(pool_.Run(snapshot->Read(0, 4096)).status()));
  EXPECT_TRUE(absl::IsAborted(pool_.Run(head->Flush())));
  pool_.MakeVolume("vol");
  EXPECT_TRUE(absl::IsAborted(pool_.Write(*head, 0, 4096, 'x')));
}

TEST_F(PoolTest, GrowingAddsZeros) {
  pool_.MakeVolume("vol");
  const std::unique_ptr<Mount> mount = pool_.Open("vol");
  ASSERT_TRUE(Resize("vol", 2 * kMiB).ok());
  EXPECT_EQ(mount->size_bytes(), 2 * kMiB);
  EXPECT_EQ(pool_.Read(*mount, 2 * kMiB - 4096, 4096), Bytes(4096, 0));
  EXPECT_TRUE(absl::IsInvalidArgument(Resize("vol", 2 * kMiB + 1).status()));
  EXPECT_TRUE(absl::IsNotFound(Resize("nothing", kMiB).status()));
}

TEST_F(PoolTest, WhatAShrinkGaveUpDoesNotComeBack) {  // R37
  pool_.MakeVolume("vol");
  Fill("vol", 0, kMiB, 'x');
  MustSnap("vol", "before");
  EXPECT_TRUE(absl::IsFailedPrecondition(Resize("vol", kMiB / 2).status()));
  {
    const std::unique_ptr<Mount> mount = pool_.Open("vol");
    EXPECT_TRUE(absl::IsFailedPrecondition(Resize("vol", kMiB / 2, true).status()));
  }
  ASSERT_TRUE(Resize("vol", kMiB / 2, true).ok());
  EXPECT_EQ(pool_.pool().FindVolume("vol")->size_bytes, kMiB / 2);
  Restart();
  ASSERT_TRUE(Resize("vol", kMiB).ok());
  EXPECT_EQ(Content("vol", kMiB / 2 - 4096, 8192), Bytes(4096, 'x') + Bytes(4096, 0));
  const std::unique_ptr<Mount> snapshot = pool_.Open("vol@before");
  EXPECT_EQ(snapshot->size_bytes(), kMiB);
  EXPECT_EQ(pool_.Read(*snapshot, kMiB - 4096, 4096), Bytes(4096, 'x'));
}

// ---- Snapshots ----

TEST_F(PoolTest, ASnapshotStaysAsItWas) {  // P4
  pool_.MakeVolume("vol");
  Fill("vol", 0, 8192, 'a');
  MustSnap("vol", "one");
  Fill("vol", 4096, 8192, 'b');
  MustSnap("vol", "two");
  Fill("vol", 0, 4096, 'c');
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(Content("vol@one", 0, 12288), Bytes(8192, 'a') + Bytes(4096, 0));
    EXPECT_EQ(Content("vol@two", 0, 12288), Bytes(4096, 'a') + Bytes(8192, 'b'));
    EXPECT_EQ(Content("vol", 0, 12288), Bytes(4096, 'c') + Bytes(8192, 'b'));
    EXPECT_THAT(pool_.pool().ExportNames(), UnorderedElementsAre("vol", "vol@one", "vol@two"));
    Restart();
  }
}

TEST_F(PoolTest, ASnapshotIsReadOnly) {
  pool_.MakeVolume("vol");
  MustSnap("vol", "snap");
  const std::unique_ptr<Mount> mount = pool_.Open("vol@snap");
  EXPECT_TRUE(mount->read_only());
  EXPECT_TRUE(absl::IsPermissionDenied(pool_.Write(*mount, 0, 4096, 'x')));
  EXPECT_TRUE(absl::IsPermissionDenied(pool_.Run(mount->Trim(0, 4096, false))));
  EXPECT_TRUE(absl::IsPermissionDenied(pool_.Run(mount->WriteZeroes(0, 4096, {}))));
  EXPECT_TRUE(pool_.Run(mount->Flush()).ok());
}

TEST_F(PoolTest, SnapshotsCostOneRecord) {  // P4
  pool_.MakeVolume("vol");
  Fill("vol", 0, kMiB, 'x');
  for (int i = 0; i < 100; ++i) {
    const size_t before = pool_.disks()[0].log.size();
    MustSnap("vol", "s" + std::to_string(i));
    EXPECT_EQ(pool_.disks()[0].log.size(), before + 1);
  }
  EXPECT_EQ(pool_.pool().FindVolume("vol")->snapshots, 100u);
}

TEST_F(PoolTest, RefusesSnapshotsThatCantBe) {  // P8
  pool_.MakeVolume("vol");
  MustSnap("vol", "snap");
  EXPECT_TRUE(absl::IsAlreadyExists(Snap({{"vol", "snap"}}).status()));
  EXPECT_TRUE(absl::IsNotFound(Snap({{"nothing", "snap"}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Snap({{"vol", "a b"}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Snap({}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Snap({{"vol", "x"}, {"vol", "y"}}).status()));
  EXPECT_TRUE(absl::IsNotFound(pool_.pool().OpenMount("vol@nothing").status()));
  EXPECT_THAT(SnapshotNames("vol"), ElementsAre("snap"));
}

TEST_F(PoolTest, ASnapshotWithClientsIsNotDeleted) {
  pool_.MakeVolume("vol");
  MustSnap("vol", "snap");
  std::unique_ptr<Mount> mount = pool_.Open("vol@snap");
  const absl::Status refused = pool_.Run(pool_.pool().DeleteSnapshot({"vol", "snap"}));
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  mount.reset();
  ASSERT_TRUE(pool_.Run(pool_.pool().DeleteSnapshot({"vol", "snap"})).ok());
  EXPECT_TRUE(absl::IsNotFound(pool_.Run(pool_.pool().DeleteSnapshot({"vol", "snap"}))));
  MustSnap("vol", "snap");  // the name is free again
}

TEST_F(PoolTest, AGroupHasOneIdAndAllItsMembers) {  // R34
  pool_.MakeVolume("data");
  pool_.MakeVolume("log");
  const auto infos = Snap({{"data", "s"}, {"log", "t"}});
  ASSERT_TRUE(infos.ok()) << infos.status();
  ASSERT_EQ(infos->size(), 2u);
  EXPECT_NE((*infos)[0].group, GroupId());
  EXPECT_EQ((*infos)[0].group, (*infos)[1].group);
  EXPECT_EQ((*infos)[0].volume, "data");
  EXPECT_EQ((*infos)[1].name, "t");
  EXPECT_EQ(Snap({{"data", "alone"}}).value()[0].group, GroupId());
  // One that goes on purpose does not take the other with it, also not after a restart.
  ASSERT_TRUE(pool_.Run(pool_.pool().DeleteSnapshot({"data", "s"})).ok());
  Restart();
  EXPECT_THAT(SnapshotNames("data"), ElementsAre("alone"));
  EXPECT_THAT(SnapshotNames("log"), ElementsAre("t"));
}

// Writes alternate between two volumes, each after the answer of the one before. A snapshot of both
// never has a later write without the earlier one (P4).
Task<void> Alternate(TestPool* pool, Mount* a, Mount* b, const bool* stop, uint64_t* last) {
  for (uint64_t n = 1; !*stop; ++n) {
    Mount* mount = n % 2 == 1 ? a : b;
    Buffer payload = pool->Payload(*mount, 0, 4096, static_cast<char>(n % 128));
    const absl::Status status = co_await mount->Write(0, 4096, std::move(payload), false);
    EXPECT_TRUE(status.ok()) << status;
    *last = n;
  }
}

Task<void> SnapshotOften(TestPool* pool, Mount* a, Mount* b) {
  bool stop = false;
  uint64_t last = 0;
  TaskScope scope;
  scope.Spawn(Alternate(pool, a, b, &stop, &last));
  for (int i = 0; i < 40; ++i) {
    co_await pool->poller().Delay(static_cast<int64_t>(pool->poller().random().Uniform(1'000'000)));
    const std::string name = "s" + std::to_string(i);
    std::vector<SnapshotName> names = {{"a", name}, {"b", name}};
    const auto infos = co_await pool->pool().CreateSnapshots(std::move(names));
    EXPECT_TRUE(infos.ok()) << infos.status();
  }
  stop = true;
  co_await scope.Join();
}

TEST_F(PoolTest, AGroupIsOneInstant) {
  pool_.MakeVolume("a");
  pool_.MakeVolume("b");
  {
    const std::unique_ptr<Mount> a = pool_.Open("a");
    const std::unique_ptr<Mount> b = pool_.Open("b");
    pool_.Run(SnapshotOften(&pool_, a.get(), b.get()));
  }
  int differing = 0;
  for (int i = 0; i < 40; ++i) {
    const std::string name = "s" + std::to_string(i);
    const int a = Content("a@" + name, 0, 1)[0];
    const int b = Content("b@" + name, 0, 1)[0];
    // The last writes of the two are neighbours.
    const int distance = (a - b + 128) % 128;
    EXPECT_TRUE(distance == 1 || distance == 127 || (a == 0 && b == 0)) << a << " and " << b;
    differing += a != 0;
  }
  EXPECT_GT(differing, 20);
}

// ---- Rollback ----

TEST_F(PoolTest, ARollbackCanBeUndone) {  // P5
  pool_.MakeVolume("vol");
  Fill("vol", 0, 8192, 'a');
  MustSnap("vol", "good");
  Fill("vol", 4096, 8192, 'b');
  const absl::StatusOr<SnapshotInfo> kept = Rollback("vol", "good");
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_THAT(kept->name, StartsWith("before-rollback-2026"));
  EXPECT_TRUE(kept->before_rollback);
  EXPECT_EQ(Content("vol", 0, 12288), Bytes(8192, 'a') + Bytes(4096, 0));
  Fill("vol", 0, 4096, 'c');
  Restart();
  EXPECT_EQ(Content("vol", 0, 12288), Bytes(4096, 'c') + Bytes(4096, 'a') + Bytes(4096, 0));
  EXPECT_EQ(Content("vol@" + kept->name, 0, 12288), Bytes(4096, 'a') + Bytes(8192, 'b'));
  EXPECT_EQ(Content("vol@good", 0, 12288), Bytes(8192, 'a') + Bytes(4096, 0));
  // And forth again: to the state that the first rollback left.
  const absl::StatusOr<SnapshotInfo> second = Rollback("vol", kept->name);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(Content("vol", 0, 12288), Bytes(4096, 'a') + Bytes(8192, 'b'));
  EXPECT_EQ(Content("vol@" + second->name, 0, 4096), Bytes(4096, 'c'));
}

TEST_F(PoolTest, RollbacksInOneSecondHaveNamesOfTheirOwn) {
  pool_.MakeVolume("vol");
  MustSnap("vol", "base");
  const SnapshotInfo one = Rollback("vol", "base").value();
  const SnapshotInfo two = Rollback("vol", "base").value();
  const SnapshotInfo three = Rollback("vol", "base").value();
  EXPECT_EQ(two.name, one.name + "-2");
  EXPECT_EQ(three.name, one.name + "-3");
}

TEST_F(PoolTest, ARollbackBringsTheSizeBack) {
  pool_.MakeVolume("vol");
  MustSnap("vol", "small");
  ASSERT_TRUE(Resize("vol", 2 * kMiB).ok());
  Fill("vol", kMiB, 4096, 'x');
  ASSERT_TRUE(Rollback("vol", "small").ok());
  EXPECT_EQ(pool_.pool().FindVolume("vol")->size_bytes, kMiB);
  EXPECT_EQ(pool_.Open("vol")->size_bytes(), kMiB);
  ASSERT_TRUE(Resize("vol", 2 * kMiB).ok());
  EXPECT_EQ(Content("vol", kMiB, 4096), Bytes(4096, 0));
}

TEST_F(PoolTest, ARollbackUnderClientsNeedsForce) {  // R37
  pool_.MakeVolume("vol");
  Fill("vol", 0, 4096, 'a');
  MustSnap("vol", "good");
  const std::unique_ptr<Mount> mount = pool_.Open("vol");
  const std::unique_ptr<Mount> snapshot = pool_.Open("vol@good");
  const absl::Status refused = Rollback("vol", "good").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--force"));
  ASSERT_TRUE(pool_.Write(*mount, 0, 4096, 'b').ok());

  bool hung_up = false;
  mount->OnRevoked([&hung_up] { hung_up = true; });
  ASSERT_TRUE(Rollback("vol", "good", /*force=*/true).ok());
  EXPECT_TRUE(hung_up);
  EXPECT_TRUE(absl::IsAborted(pool_.Write(*mount, 0, 4096, 'c')));
  EXPECT_TRUE(absl::IsAborted(pool_.Run(mount->Read(0, 4096)).status()));
  EXPECT_TRUE(absl::IsAborted(pool_.Run(mount->BlockStatus(0, 4096, 1)).status()));
  EXPECT_EQ(pool_.Read(*snapshot, 0, 4096), Bytes(4096, 'a'));  // history does not change
  EXPECT_EQ(Content("vol", 0, 4096), Bytes(4096, 'a'));
}

// Many writes are under way when a rollback comes: each is in the state that it leaves, or refused.
Task<void> WriteUntilRefused(TestPool* pool, Mount* mount, uint64_t block, uint64_t* acknowledged) {
  for (uint64_t n = 1;; ++n) {
    Buffer payload = pool->Payload(*mount, block * 4096, 4096, static_cast<char>(n % 128));
    const absl::Status status =
        co_await mount->Write(block * 4096, 4096, std::move(payload), false);
    if (!status.ok()) {
      EXPECT_TRUE(absl::IsAborted(status)) << status;
      co_return;
    }
    *acknowledged = n;
  }
}

Task<void> RollBackUnderLoad(TestPool* pool, Mount* mount, std::vector<uint64_t>* acknowledged,
                             std::string* kept) {
  TaskScope scope;
  for (size_t i = 0; i < acknowledged->size(); ++i) {
    scope.Spawn(WriteUntilRefused(pool, mount, i, &(*acknowledged)[i]));
  }
  co_await pool->poller().Delay(2'000'000);
  SnapshotName base{"vol", "base"};
  const absl::StatusOr<SnapshotInfo> info =
      co_await pool->pool().Rollback(std::move(base), /*force=*/true);
  EXPECT_TRUE(info.ok()) << info.status();
  if (info.ok()) *kept = info->name;
  co_await scope.Join();
}

TEST_F(PoolTest, ARollbackUnderLoadKeepsWhatWasAcknowledged) {
  pool_.MakeVolume("vol");
  MustSnap("vol", "base");
  std::vector<uint64_t> acknowledged(16);
  std::string kept;
  {
    const std::unique_ptr<Mount> mount = pool_.Open("vol");
    pool_.Run(RollBackUnderLoad(&pool_, mount.get(), &acknowledged, &kept));
  }
  EXPECT_EQ(Content("vol", 0, 16 * 4096), Bytes(16 * 4096, 0));
  for (size_t i = 0; i < acknowledged.size(); ++i) {
    EXPECT_GT(acknowledged[i], 1u);
    EXPECT_EQ(Content("vol@" + kept, i * 4096, 1)[0], static_cast<char>(acknowledged[i] % 128));
  }
}

// ---- Offline ----

TEST_F(PoolTest, AdministrationIsRefusedWhenNoSetIsLeft) {  // R6
  pool_.MakeVolume("vol");
  MustSnap("vol", "snap");
  for (size_t i = 0; i < 2; ++i) pool_.replica(i).FailQuietly();
  EXPECT_TRUE(absl::IsUnavailable(Snap({{"vol", "x"}}).status()));
  EXPECT_TRUE(absl::IsUnavailable(Rollback("vol", "snap").status()));
  EXPECT_TRUE(absl::IsUnavailable(Resize("vol", 2 * kMiB).status()));
  EXPECT_TRUE(absl::IsUnavailable(Delete("vol", true)));
  EXPECT_TRUE(absl::IsUnavailable(
      pool_.Run(pool_.pool().CreateVolume("new", kMiB, AckMode::kDurable)).status()));
  EXPECT_THAT(SnapshotNames("vol"), ElementsAre("snap"));
}

// ---- One set alone (R21) ----

TEST_F(PoolTest, AdministrationGoesOnWithOneSet) {
  pool_.MakeVolume("vol");
  MustSnap("vol", "snap");
  pool_.replica(1).FailQuietly();
  EXPECT_TRUE(Snap({{"vol", "x"}}).ok());
  EXPECT_TRUE(Rollback("vol", "snap").ok());
  EXPECT_TRUE(Resize("vol", 2 * kMiB).ok());
  EXPECT_TRUE(Delete("vol", true).ok());
  EXPECT_TRUE(pool_.Run(pool_.pool().CreateVolume("new", kMiB, AckMode::kDurable)).ok());
  pool_.Stop();
  pool_.MustAttach();
  EXPECT_TRUE(pool_.pool().FindVolume("new").ok());
  EXPECT_NE(pool_.pool().Info().replicas[1].state, "in-sync");
}

TEST_F(PoolTest, AGroupOfSnapshotsSurvivesTheLossOfASet) {  // R34
  pool_.MakeVolume("one");
  pool_.MakeVolume("two");
  pool_.replica(0).FailNextAppend();
  EXPECT_TRUE(Snap({{"one", "s"}, {"two", "s"}}).ok());
  EXPECT_THAT(SnapshotNames("one"), ElementsAre("s"));
  EXPECT_THAT(SnapshotNames("two"), ElementsAre("s"));
}

TEST_F(PoolTest, ABlockingVolumeDoesNotOpenWithASetMissing) {  // R28
  pool_.MakeVolume("careful", kMiB, AckMode::kDurable, OnSetLoss::kBlock);
  pool_.MakeVolume("vol");
  MustSnap("careful", "snap");
  pool_.Stop();
  pool_.set_absent({0});
  pool_.MustAttach();
  const absl::Status status = pool_.pool().OpenMount("careful").status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("on-set-loss=block"));
  EXPECT_TRUE(pool_.pool().OpenMount("careful@snap").ok());
  EXPECT_TRUE(pool_.pool().OpenMount("vol").ok());
  EXPECT_EQ(pool_.pool().FindVolume("careful")->on_set_loss, OnSetLoss::kBlock);
}

}  // namespace
}  // namespace twofold
