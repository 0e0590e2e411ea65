// Reading and writing a volume over two replicas.
#include "replication/volume/volume.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "storage/runtime/executor.h"
#include "storage/runtime/task_scope.h"
#include "tests/replication/test_pool.h"

namespace twofold {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Bytes(uint64_t length, char fill) { return std::string(length, fill); }

class VolumeTest : public testing::Test {
 protected:
  void SetUp() override {
    pool_.MustAttach();
    pool_.MakeVolume("vol");
    mount_ = pool_.Open("vol");
  }

  TestPool pool_;
  std::unique_ptr<Mount> mount_;
};

TEST_F(VolumeTest, ReadsZerosWhereNothingWasWritten) {
  EXPECT_EQ(mount_->size_bytes(), 1u << 20);
  EXPECT_EQ(pool_.Read(*mount_, 0, 8192), Bytes(8192, 0));
  EXPECT_THAT(pool_.Extents(*mount_, 0, 1 << 20), ElementsAre(ByteExtent{1 << 20, true}));
}

TEST_F(VolumeTest, ReadsBackWhatWasWritten) {
  ASSERT_TRUE(pool_.Write(*mount_, 4096, 8192, 'x').ok());
  EXPECT_EQ(pool_.Read(*mount_, 0, 16384), Bytes(4096, 0) + Bytes(8192, 'x') + Bytes(4096, 0));
  EXPECT_THAT(pool_.Extents(*mount_, 0, 16384),
              ElementsAre(ByteExtent{4096, true}, ByteExtent{8192, false}, ByteExtent{4096, true}));
}

TEST_F(VolumeTest, AWriteIsOnBothSetsBeforeItIsAnswered) {  // P1
  const size_t before = pool_.disks()[0].log.size();
  ASSERT_TRUE(pool_.Write(*mount_, 0, 4096, 'x').ok());
  for (const sim::SimDisk& disk : pool_.disks()) {
    EXPECT_EQ(disk.log.size(), before + 1);
    EXPECT_EQ(disk.durable, disk.log.size());
    EXPECT_EQ(disk.log.back().entry.position, pool_.disks()[0].log.back().entry.position);
  }
}

TEST_F(VolumeTest, BytesAroundAnUnalignedWriteStay) {
  ASSERT_TRUE(pool_.Write(*mount_, 0, 16384, 'o').ok());
  ASSERT_TRUE(pool_.Write(*mount_, 100, 50, 'a').ok());
  ASSERT_TRUE(pool_.Write(*mount_, 4000, 8200, 'b').ok());
  EXPECT_EQ(pool_.Read(*mount_, 0, 16384), Bytes(100, 'o') + Bytes(50, 'a') + Bytes(3850, 'o') +
                                               Bytes(8200, 'b') + Bytes(4184, 'o'));
  EXPECT_EQ(pool_.Read(*mount_, 120, 40), Bytes(30, 'a') + Bytes(10, 'o'));
}

TEST_F(VolumeTest, AnUnalignedWriteIntoNothingHasZerosAround) {
  ASSERT_TRUE(pool_.Write(*mount_, 5000, 10, 'a').ok());
  EXPECT_EQ(pool_.Read(*mount_, 4096, 4096), Bytes(904, 0) + Bytes(10, 'a') + Bytes(3182, 0));
}

TEST_F(VolumeTest, ALargeWriteBecomesSeveralEntries) {  // R5
  pool_.MakeVolume("large", 64 << 20);
  const std::unique_ptr<Mount> large = pool_.Open("large");
  const size_t before = pool_.disks()[1].log.size();
  ASSERT_TRUE(pool_.Write(*large, 4096, (3 << 20) + 4096, 'L').ok());
  EXPECT_EQ(pool_.disks()[1].log.size(), before + 4);
  EXPECT_EQ(pool_.Read(*large, 0, 4 << 20),
            Bytes(4096, 0) + Bytes((3 << 20) + 4096, 'L') + Bytes((1 << 20) - 8192, 0));
}

TEST_F(VolumeTest, ZeroesMakeHolesAndKeepTheEdges) {  // R38
  ASSERT_TRUE(pool_.Write(*mount_, 0, 65536, 'x').ok());
  ASSERT_TRUE(pool_.Run(mount_->WriteZeroes(100, 20000, {})).ok());
  EXPECT_EQ(pool_.Read(*mount_, 0, 65536),
            Bytes(100, 'x') + Bytes(20000, 0) + Bytes(65536 - 20100, 'x'));
  EXPECT_THAT(pool_.Extents(*mount_, 0, 65536),
              ElementsAre(ByteExtent{4096, false}, ByteExtent{12288, true},
                          ByteExtent{65536 - 16384, false}));
}

TEST_F(VolumeTest, ZeroesOverHolesTakeNoSpace) {
  const size_t before = pool_.disks()[0].log.size();
  ASSERT_TRUE(pool_.Run(mount_->WriteZeroes(100, 200, {})).ok());
  EXPECT_EQ(pool_.disks()[0].log.size(), before);
  EXPECT_EQ(pool_.replica(0).promised_blocks(), 0u);
  EXPECT_EQ(pool_.replica(0).promised_entries(), 0u);
  EXPECT_THAT(pool_.Extents(*mount_, 0, 4096), ElementsAre(ByteExtent{4096, true}));
}

TEST_F(VolumeTest, ZeroesThatAllocateTakeSpace) {
  pool_.MakeVolume("large", 64 << 20);
  const std::unique_ptr<Mount> large = pool_.Open("large");
  ASSERT_TRUE(pool_.Write(*large, 0, 4096, 'x').ok());
  const uint64_t length = (9 << 20) + 77;
  ASSERT_TRUE(pool_.Run(large->WriteZeroes(50, length, {.fua = true, .allocate = true})).ok());
  EXPECT_EQ(pool_.Read(*large, 0, 4096), Bytes(50, 'x') + Bytes(4046, 0));
  EXPECT_THAT(pool_.Extents(*large, 0, 10 << 20),
              ElementsAre(ByteExtent{(9 << 20) + 4096, false}, ByteExtent{(1 << 20) - 4096, true}));
}

TEST_F(VolumeTest, TrimOfAnyLengthIsOneEntry) {  // R38
  ASSERT_TRUE(pool_.Write(*mount_, 0, 65536, 'x').ok());
  const size_t before = pool_.disks()[0].log.size();
  ASSERT_TRUE(pool_.Run(mount_->Trim(100, (1 << 20) - 100, false)).ok());
  EXPECT_EQ(pool_.disks()[0].log.size(), before + 1);
  EXPECT_EQ(pool_.Read(*mount_, 0, 65536), Bytes(4096, 'x') + Bytes(61440, 0));
  ASSERT_TRUE(pool_.Run(mount_->Trim(10, 20, false)).ok());  // no whole block in it
  EXPECT_EQ(pool_.disks()[0].log.size(), before + 1);
}

TEST_F(VolumeTest, RefusesWhatPassesTheEnd) {  // P8
  EXPECT_TRUE(absl::IsOutOfRange(pool_.Write(*mount_, (1 << 20) - 10, 11, 'x')));
  EXPECT_TRUE(absl::IsOutOfRange(pool_.Run(mount_->Read(1 << 20, 1)).status()));
  EXPECT_TRUE(absl::IsOutOfRange(pool_.Run(mount_->Trim(0, (1 << 20) + 1, false))));
  EXPECT_TRUE(absl::IsOutOfRange(pool_.Run(mount_->WriteZeroes(1, 1 << 20, {}))));
  EXPECT_TRUE(absl::IsOutOfRange(pool_.Run(mount_->BlockStatus(0, 2 << 20, 1)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(pool_.Run(mount_->Read(0, 0)).status()));
  EXPECT_TRUE(pool_.Write(*mount_, (1 << 20) - 10, 10, 'x').ok());
}

TEST_F(VolumeTest, ReadsTakeTurnsBetweenTheSets) {
  ASSERT_TRUE(pool_.Write(*mount_, 0, 4096, 'x').ok());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(pool_.Read(*mount_, 0, 4096), Bytes(4096, 'x'));
  EXPECT_EQ(pool_.replica(0).reads(), 5u);
  EXPECT_EQ(pool_.replica(1).reads(), 5u);
}

TEST_F(VolumeTest, ABadBlockIsReadFromTheOtherSet) {  // P7
  ASSERT_TRUE(pool_.Write(*mount_, 0, 16384, 'x').ok());
  const TimelineId timeline = pool_.pool().FindVolume("vol")->timeline;
  // Each set has lost another block of the range.
  pool_.disks()[0].bad_blocks.insert({timeline, BlockIndex(1)});
  pool_.disks()[1].bad_blocks.insert({timeline, BlockIndex(2)});
  for (int i = 0; i < 4; ++i) EXPECT_EQ(pool_.Read(*mount_, 0, 16384), Bytes(16384, 'x'));
  pool_.disks()[1].bad_blocks.insert({timeline, BlockIndex(1)});
  EXPECT_TRUE(absl::IsDataLoss(pool_.Run(mount_->Read(0, 16384)).status()));
  EXPECT_EQ(pool_.Read(*mount_, 0, 4096), Bytes(4096, 'x'));
}

// A block that no set has whole must not get a new checksum from a write of a part of it (R10).
TEST_F(VolumeTest, APartialWriteOfABadBlockFails) {
  ASSERT_TRUE(pool_.Write(*mount_, 0, 4096, 'x').ok());
  const TimelineId timeline = pool_.pool().FindVolume("vol")->timeline;
  for (sim::SimDisk& disk : pool_.disks()) disk.bad_blocks.insert({timeline, BlockIndex(0)});
  const Position before = pool_.pool().FindVolume("vol")->position;
  EXPECT_TRUE(absl::IsDataLoss(pool_.Write(*mount_, 10, 10, 'y')));
  EXPECT_TRUE(absl::IsDataLoss(pool_.Run(mount_->WriteZeroes(10, 10, {}))));
  EXPECT_EQ(pool_.pool().FindVolume("vol")->position, before);
  EXPECT_EQ(pool_.replica(0).promised_blocks(), 0u);
  // The whole block can be written, and is good then.
  ASSERT_TRUE(pool_.Write(*mount_, 0, 4096, 'z').ok());
  EXPECT_EQ(pool_.Read(*mount_, 0, 4096), Bytes(4096, 'z'));
}

TEST_F(VolumeTest, AnAbandonedWriteGetsNoSeq) {  // R9
  bool gone = false;
  mount_->SetAbandonedProbe([&gone] { return gone; });
  ASSERT_TRUE(pool_.Write(*mount_, 0, 4096, 'x').ok());
  gone = true;
  EXPECT_TRUE(absl::IsCancelled(pool_.Write(*mount_, 0, 4096, 'y')));
  EXPECT_TRUE(absl::IsCancelled(pool_.Run(mount_->Trim(0, 4096, false))));
  EXPECT_EQ(pool_.Read(*mount_, 0, 4096), Bytes(4096, 'x'));
  EXPECT_EQ(pool_.replica(1).promised_entries(), 0u);
}

TEST_F(VolumeTest, DurableVolumesFlushAtOnce) {
  ASSERT_TRUE(pool_.Write(*mount_, 0, 4096, 'x', /*fua=*/true).ok());
  ASSERT_TRUE(pool_.Run(mount_->Flush()).ok());
  EXPECT_EQ(pool_.replica(0).flushes(), 0u);
}

TEST_F(VolumeTest, WrittenVolumesFlushBothSets) {  // R33
  pool_.MakeVolume("fast", 1 << 20, AckMode::kWritten);
  const std::unique_ptr<Mount> fast = pool_.Open("fast");
  const size_t durable = pool_.disks()[0].durable;
  ASSERT_TRUE(pool_.Write(*fast, 0, 4096, 'x').ok());
  EXPECT_EQ(pool_.disks()[0].durable, durable);
  ASSERT_TRUE(pool_.Run(fast->Flush()).ok());
  for (const sim::SimDisk& disk : pool_.disks()) EXPECT_EQ(disk.durable, disk.log.size());
  ASSERT_TRUE(pool_.Write(*fast, 0, 4096, 'y').ok());
  ASSERT_TRUE(pool_.Write(*fast, 4096, 4096, 'z', /*fua=*/true).ok());
  for (const sim::SimDisk& disk : pool_.disks()) EXPECT_EQ(disk.durable, disk.log.size());
}

TEST_F(VolumeTest, AFullSetRefusesBeforeASeqIsGiven) {  // R6, M22
  TestPool small(1, {.capacity_blocks = 10});
  small.MustAttach();
  small.MakeVolume("vol");
  const std::unique_ptr<Mount> mount = small.Open("vol");
  ASSERT_TRUE(small.Write(*mount, 0, 8 * 4096, 'x').ok());
  const Position before = small.pool().FindVolume("vol")->position;
  EXPECT_TRUE(absl::IsResourceExhausted(small.Write(*mount, 0, 3 * 4096, 'y')));
  EXPECT_EQ(small.pool().FindVolume("vol")->position, before);
  EXPECT_EQ(small.pool().Info().state, "healthy");
  EXPECT_EQ(small.Read(*mount, 0, 4096), Bytes(4096, 'x'));
  EXPECT_TRUE(small.Run(mount->Trim(0, 8192, false)).ok());
  EXPECT_TRUE(small.Write(*mount, 0, 2 * 4096, 'y').ok());
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(small.replica(i).promised_blocks(), 0u);
}

// ---- What is under way at the same time ----

Task<void> WriteInto(Mount* mount, uint64_t offset, uint64_t length, Buffer payload,
                     absl::Status* result, bool* done) {
  *result = co_await mount->Write(offset, length, std::move(payload), false);
  *done = true;
}

Task<void> ReadInto(Mount* mount, uint64_t offset, uint64_t length,
                    absl::StatusOr<ReadReply>* result, bool* done) {
  *result = co_await mount->Read(offset, length);
  *done = true;
}

Task<void> Join(TaskScope* scope) { co_await scope->Join(); }

Task<void> Wait(sim::SimPoller* poller, int64_t nanos) { co_await poller->Delay(nanos); }

class ConcurrentTest : public VolumeTest {
 protected:
  void SpawnWrite(uint64_t offset, uint64_t length, char fill) {
    writes_.push_back(std::make_unique<Write>());
    pool_.Run(Spawn(&scope_, WriteInto(mount_.get(), offset, length,
                                       pool_.Payload(*mount_, offset, length, fill),
                                       &writes_.back()->status, &writes_.back()->done)));
  }
  void SpawnRead(uint64_t offset, uint64_t length) {
    pool_.Run(Spawn(&scope_, ReadInto(mount_.get(), offset, length, &read_, &read_done_)));
  }
  static Task<void> Spawn(TaskScope* scope, Task<void> task) {
    scope->Spawn(std::move(task));
    co_return;
  }
  void HoldReads(bool hold) {
    pool_.Call([this, hold] {
      for (size_t i = 0; i < 2; ++i) pool_.replica(i).HoldReads(hold);
    });
  }
  void HoldAppends(size_t replica, bool hold) {
    pool_.Call([this, replica, hold] { pool_.replica(replica).HoldAppends(hold); });
  }
  static Task<void> Hold(Mount* mount, Buffer payload, absl::Status* status) {
    *status = co_await mount->Write(0, 4096, std::move(payload), false);
  }
  static Task<void> HoldTrim(Mount* mount, absl::Status* status) {
    *status = co_await mount->Trim(8192, 4096, false);
  }
  void LetRun() { pool_.Run(Wait(&pool_.poller(), 50 * kNanosPerMilli)); }
  void JoinAll() { pool_.Run(Join(&scope_)); }
  std::string ReadBytes() {
    EXPECT_TRUE(read_.ok()) << read_.status();
    if (!read_.ok()) return "";
    return std::string(reinterpret_cast<const char*>(read_->buffer.data()) + read_->skip,
                       read_->extents.empty() ? 0 : read_->extents[0].length);
  }

  struct Write {
    absl::Status status;
    bool done = false;
  };
  TaskScope scope_;
  std::vector<std::unique_ptr<Write>> writes_;
  absl::StatusOr<ReadReply> read_ = absl::UnknownError("not yet");
  bool read_done_ = false;
};

TEST_F(ConcurrentTest, NoAnswerBeforeBothSetsHaveIt) {  // P1
  HoldAppends(1, true);
  SpawnWrite(0, 4096, 'x');
  LetRun();
  EXPECT_FALSE(writes_[0]->done);
  HoldAppends(1, false);
  JoinAll();
  EXPECT_TRUE(writes_[0]->status.ok());
}

TEST_F(ConcurrentTest, AReadWaitsForAnEarlierWrite) {  // R7
  HoldAppends(0, true);
  SpawnWrite(0, 4096, 'x');
  LetRun();
  SpawnRead(0, 4096);
  LetRun();
  EXPECT_FALSE(read_done_);
  EXPECT_EQ(pool_.Read(*mount_, 4096, 4096), Bytes(4096, 0));  // elsewhere nobody waits
  HoldAppends(0, false);
  JoinAll();
  EXPECT_EQ(ReadBytes(), Bytes(4096, 'x'));
}

TEST_F(ConcurrentTest, AReadIsHeldForAWriteThatCameMeanwhile) {  // R7
  HoldReads(true);
  SpawnRead(0, 4096);
  LetRun();
  HoldAppends(0, true);
  SpawnWrite(0, 4096, 'x');
  LetRun();
  HoldReads(false);
  LetRun();
  EXPECT_FALSE(read_done_);
  HoldAppends(0, false);
  JoinAll();
  EXPECT_TRUE(read_done_);
}

TEST_F(ConcurrentTest, PartialWritesOfOneBlockDoNotLoseEachOther) {
  for (uint64_t i = 0; i < 64; ++i) SpawnWrite(i * 64, 64, static_cast<char>('A' + i));
  JoinAll();
  for (const auto& write : writes_) EXPECT_TRUE(write->status.ok()) << write->status;
  std::string expected;
  for (uint64_t i = 0; i < 64; ++i) expected += Bytes(64, static_cast<char>('A' + i));
  EXPECT_EQ(pool_.Read(*mount_, 0, 4096), expected);
}

// A whole-block write that comes between the read and the write of a partial one must not be lost.
TEST_F(ConcurrentTest, AWholeWriteDoesNotSlipIntoAPartialOne) {
  ASSERT_TRUE(pool_.Write(*mount_, 0, 4096, 'o').ok());
  HoldReads(true);
  SpawnWrite(0, 10, 'p');
  LetRun();
  SpawnWrite(0, 4096, 'w');
  LetRun();
  HoldReads(false);
  JoinAll();
  EXPECT_EQ(pool_.Read(*mount_, 0, 4096), Bytes(4096, 'w'));
}

TEST_F(ConcurrentTest, MoreRequestsThanTheBoundWaitTheirTurn) {
  for (size_t i = 0; i < kMaxInFlightPerVolume + 500; ++i) {
    SpawnWrite((i % 256) * 4096, 4096, static_cast<char>('a' + i % 26));
  }
  JoinAll();
  for (const auto& write : writes_) ASSERT_TRUE(write->status.ok()) << write->status;
}

// ---- A replica fails ----

TEST_F(ConcurrentTest, AFailedSetIsDroppedAndTheOtherGoesOn) {  // R21
  ASSERT_TRUE(pool_.Write(*mount_, 0, 4096, 'x').ok());
  pool_.replica(1).FailNextAppend();
  SpawnWrite(0, 4096, 'y');
  JoinAll();
  EXPECT_TRUE(writes_[0]->status.ok()) << writes_[0]->status;
  EXPECT_THAT(pool_.witness()->in_sync, ElementsAre(pool_.disks()[0].store_id));
  EXPECT_EQ(pool_.disks()[0].recorded.membership_version, pool_.witness()->version);
  EXPECT_TRUE(pool_.Write(*mount_, 8192, 4096, 'z').ok());
  const uint64_t reads = pool_.disks()[1].reads;
  for (int i = 0; i < 4; ++i) EXPECT_EQ(pool_.Read(*mount_, 0, 4096), Bytes(4096, 'y'));
  EXPECT_EQ(pool_.disks()[1].reads, reads);  // P6
  const PoolInfo info = pool_.pool().Info();
  EXPECT_EQ(info.state, "degraded");
  ASSERT_TRUE(info.degraded.has_value());
  EXPECT_EQ(info.degraded->since, pool_.witness()->degraded_since);
  EXPECT_THAT(info.degraded->sets, ElementsAre("b"));
  EXPECT_THAT(info.degraded->why, HasSubstr("the disk said no"));
  EXPECT_THAT(info.degraded->at_risk, HasSubstr("set a alone"));
  EXPECT_EQ(info.replicas[0].state, "in-sync");
  EXPECT_EQ(info.replicas[1].state, "dropped");
  EXPECT_EQ(pool_.pool().FindVolume("vol")->state, "online");
}

// The witness has the drop, and its answer gets lost: what counts is what it holds (R25).
TEST(LostAnswer, OfADropDoesNotEndTheHead) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    TestPool pool(seed);
    pool.MustAttach();
    pool.MakeVolume("vol");
    const std::unique_ptr<Mount> mount = pool.Open("vol");
    pool.live_witness().LoseAnswers();
    pool.replica(1).FailNextAppend();
    const absl::Status status = pool.Write(*mount, 0, 4096, 'y');
    EXPECT_TRUE(status.ok()) << "seed " << seed << ": " << status;
    EXPECT_THAT(pool.witness()->in_sync, ElementsAre(pool.disks()[0].store_id));
  }
}

// Until the witness has it nothing that the failed one lacks is acknowledged, or seen (R21).
TEST_F(ConcurrentTest, NothingIsAcknowledgedBeforeTheWitnessHasTheDrop) {
  ASSERT_TRUE(pool_.Write(*mount_, 0, 4096, 'x').ok());
  pool_.live_witness().SetSilent(true);
  pool_.replica(1).FailNextAppend();
  SpawnWrite(0, 4096, 'y');
  LetRun();
  EXPECT_FALSE(writes_[0]->done);
  pool_.Call([this] { pool_.live_witness().SetSilent(false); });
  JoinAll();  // it is asked again
  EXPECT_TRUE(writes_[0]->status.ok()) << writes_[0]->status;
}

TEST_F(ConcurrentTest, WithoutTheWitnessNoSetIsDropped) {
  ASSERT_TRUE(pool_.Write(*mount_, 0, 4096, 'x').ok());
  const Membership before = *pool_.witness();
  pool_.live_witness().SetSilent(true);
  pool_.replica(1).FailNextAppend();
  for (int i = 0; i < 3; ++i) SpawnWrite(0, 4096, 'y');
  JoinAll();
  for (const auto& write : writes_) EXPECT_TRUE(absl::IsUnavailable(write->status));
  EXPECT_EQ(*pool_.witness(), before);
  const absl::Status later = pool_.Write(*mount_, 8192, 4096, 'z');
  EXPECT_THAT(std::string(later.message()), HasSubstr("set b (/sim/b) failed"));
  EXPECT_THAT(std::string(later.message()), HasSubstr("/sim/witness"));
  // Reads go on, and show what was acknowledged, not what one set alone has.
  for (int i = 0; i < 4; ++i) EXPECT_EQ(pool_.Read(*mount_, 0, 4096), Bytes(4096, 'x'));
}

TEST_F(ConcurrentTest, TheLastSetIsNotDropped) {  // R6
  pool_.replica(1).FailNextAppend();
  ASSERT_TRUE(pool_.Write(*mount_, 0, 4096, 'x').ok());
  const Membership before = *pool_.witness();
  pool_.replica(0).FailNextAppend();
  EXPECT_TRUE(absl::IsUnavailable(pool_.Write(*mount_, 0, 4096, 'y')));
  EXPECT_EQ(*pool_.witness(), before);
  const absl::Status later = pool_.Write(*mount_, 8192, 4096, 'z');
  EXPECT_THAT(std::string(later.message()), HasSubstr("no other set is in-sync"));
  EXPECT_THAT(pool_.pool().FindVolume("vol")->state, HasSubstr("set a"));
}

TEST_F(ConcurrentTest, WritesBehindAFailedOneAreCompletedWithoutIt) {
  HoldAppends(0, true);
  for (int i = 0; i < 5; ++i) SpawnWrite(0, 4096, static_cast<char>('a' + i));
  LetRun();
  pool_.replica(0).FailQuietly();
  HoldAppends(0, false);
  JoinAll();
  for (const auto& write : writes_) EXPECT_TRUE(write->status.ok()) << write->status;
  EXPECT_EQ(pool_.Read(*mount_, 0, 4096), Bytes(4096, 'e'));
}

TEST_F(ConcurrentTest, ASetThatFailedQuietlyIsNotRead) {  // P6
  ASSERT_TRUE(pool_.Write(*mount_, 0, 4096, 'x').ok());
  pool_.replica(0).FailQuietly();
  const uint64_t reads = pool_.disks()[0].reads;
  for (int i = 0; i < 4; ++i) EXPECT_EQ(pool_.Read(*mount_, 0, 4096), Bytes(4096, 'x'));
  EXPECT_EQ(pool_.disks()[0].reads, reads);
  EXPECT_TRUE(pool_.Write(*mount_, 0, 4096, 'y').ok());
}

TEST_F(ConcurrentTest, ASetThatFailedQuietlyIsDroppedWithoutBeingUsed) {
  pool_.replica(0).FailQuietly();
  pool_.Run(pool_.pool().CheckReplicas());
  pool_.Run(Wait(&pool_.poller(), 10'000'000));
  EXPECT_THAT(pool_.witness()->in_sync, ElementsAre(pool_.disks()[1].store_id));
}

// ---- on-set-loss=block (R28) ----

TEST_F(ConcurrentTest, ABlockedVolumeHoldsItsWritesAndGoesOnReading) {
  pool_.MakeVolume("careful", 1 << 20, AckMode::kDurable, OnSetLoss::kBlock);
  {
    const std::unique_ptr<Mount> careful = pool_.Open("careful");
    ASSERT_TRUE(pool_.Write(*careful, 0, 4096, 'x').ok());
    pool_.replica(1).FailNextAppend();
    ASSERT_TRUE(pool_.Write(*mount_, 0, 4096, 'y').ok());  // the other volume goes on
    std::vector<absl::Status> held(2, absl::UnknownError("held"));
    TaskScope scope;
    pool_.Call([this, &scope, &held, &careful] {
      scope.Spawn(Hold(careful.get(), pool_.Payload(*careful, 0, 4096, 'z'), &held[0]));
      scope.Spawn(HoldTrim(careful.get(), &held[1]));
    });
    pool_.Run(Wait(&pool_.poller(), 20'000'000'000));
    for (const absl::Status& status : held) EXPECT_TRUE(absl::IsUnknown(status)) << status;
    EXPECT_EQ(pool_.Read(*careful, 0, 4096), Bytes(4096, 'x'));
    EXPECT_THAT(pool_.pool().FindVolume("careful")->state, HasSubstr("blocked"));
    EXPECT_TRUE(absl::IsUnavailable(pool_.pool().OpenMount("careful").status()));
    // A deletion by force ends them.
    EXPECT_TRUE(pool_.Run(pool_.pool().DeleteVolume("careful", /*force=*/true)).ok());
    pool_.Run(Join(&scope));
    for (const absl::Status& status : held) EXPECT_TRUE(absl::IsAborted(status)) << status;
  }
}

TEST_F(ConcurrentTest, ABlockedVolumesWriteUnderWayIsNotAnsweredWithOneCopy) {
  pool_.MakeVolume("careful", 1 << 20, AckMode::kDurable, OnSetLoss::kBlock);
  const std::unique_ptr<Mount> careful = pool_.Open("careful");
  pool_.replica(1).FailNextAppend();
  absl::Status held = absl::UnknownError("held");
  TaskScope scope;
  pool_.Call([this, &scope, &held, &careful] {
    scope.Spawn(Hold(careful.get(), pool_.Payload(*careful, 0, 4096, 'z'), &held));
  });
  pool_.Run(Wait(&pool_.poller(), 20'000'000'000));
  EXPECT_TRUE(absl::IsUnknown(held)) << held;
  EXPECT_EQ(pool_.Read(*careful, 0, 4096), Bytes(4096, 'z'));
  // The last set goes too: then the client hears that it failed.
  pool_.replica(0).FailQuietly();
  pool_.Run(pool_.pool().CheckReplicas());
  pool_.Run(Join(&scope));
  EXPECT_TRUE(absl::IsUnavailable(held)) << held;
}

TEST_F(ConcurrentTest, WithBothSetsGoneReadsFailClearly) {
  for (size_t i = 0; i < 2; ++i) pool_.replica(i).FailQuietly();
  EXPECT_TRUE(absl::IsUnavailable(pool_.Run(mount_->Read(0, 4096)).status()));
}

}  // namespace
}  // namespace twofold
