// What an attach makes of what crashes, operators and damage leave behind.
#include "replication/pair/attach.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "storage/base/crc32c.h"
#include "storage/map/catalogue_codec.h"
#include "tests/replication/test_pool.h"

namespace twofold {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Bytes(uint64_t length, char fill) { return std::string(length, fill); }

class AttachTest : public testing::Test {
 protected:
  // A pool with volumes "one" and "two" that was stopped cleanly, everything committed.
  void SetUp() override {
    pool_.MustAttach();
    pool_.MakeVolume("one");
    pool_.MakeVolume("two");
    for (const char* name : {"one", "two"}) {
      const std::unique_ptr<Mount> mount = pool_.Open(name);
      ASSERT_TRUE(pool_.Write(*mount, 0, 4096, 'a').ok());
      infos_.push_back(pool_.pool().FindVolume(name).value());
    }
    pool_.Stop();
  }

  sim::SimDisk& disk(size_t index) { return pool_.disks()[index]; }

  Position NextPosition(size_t disk_index, size_t volume) {
    Position last;
    for (const sim::SimLogItem& item : disk(disk_index).log) {
      if (item.entry.volume == infos_[volume].id) last = item.entry.position;
    }
    last.seq = last.seq.Next();
    return last;
  }

  // As if it had been in flight when the head died: logged, not committed.
  void LogWrite(size_t disk_index, size_t volume, char fill, Position position) {
    sim::SimLogItem item;
    item.entry.kind = EntryKind::kWrite;
    item.entry.volume = infos_[volume].id;
    item.entry.timeline = infos_[volume].timeline;
    item.entry.range = {BlockIndex(0), BlockCount(1)};
    item.entry.position = position;
    item.payload =
        std::make_shared<const std::vector<std::byte>>(kBlockSize, static_cast<std::byte>(fill));
    item.entry.block_crcs = {Crc32c(*item.payload)};
    disk(disk_index).log.push_back(std::move(item));
  }
  void LogWrite(size_t disk_index, size_t volume, char fill) {
    LogWrite(disk_index, volume, fill, NextPosition(disk_index, volume));
  }

  void LogGroupSnapshot(size_t disk_index, size_t volume, SnapshotId id) {
    SnapshotBody body;
    body.id = id;
    body.name = "group";
    body.group = GroupId(1);
    body.group_members = {infos_[0].id, infos_[1].id};
    sim::SimLogItem item;
    item.entry.kind = EntryKind::kSnapshot;
    item.entry.volume = infos_[volume].id;
    item.entry.timeline = infos_[volume].timeline;
    item.entry.position = NextPosition(disk_index, volume);
    item.entry.body = EncodeSnapshot(body);
    disk(disk_index).log.push_back(std::move(item));
  }

  std::string Content(const std::string& name) {
    const std::unique_ptr<Mount> mount = pool_.Open(name);
    // Twice: from each set.
    const std::string first = pool_.Read(*mount, 0, 4096);
    EXPECT_EQ(pool_.Read(*mount, 0, 4096), first);
    return first;
  }

  std::vector<std::string> SnapshotNames() {
    std::vector<std::string> names;
    const std::vector<SnapshotInfo> infos = pool_.pool().Snapshots(std::nullopt).value();
    for (const SnapshotInfo& info : infos) {
      names.push_back(info.volume + "@" + info.name);
    }
    return names;
  }

  std::string RefusedWith(absl::StatusCode code) {
    const absl::Status status = pool_.Attach();
    EXPECT_EQ(status.code(), code) << status;
    return std::string(status.message());
  }

  TestPool pool_;
  std::vector<VolumeInfo> infos_;
};

// ---- The order of R20 ----

TEST_F(AttachTest, EachAttachTakesAGenerationAndSealsBothSets) {
  ASSERT_EQ(pool_.witness()->generation, Generation(1));
  pool_.MustAttach();
  EXPECT_EQ(pool_.witness()->generation, Generation(2));
  for (const sim::SimDisk& one : pool_.disks()) {
    EXPECT_EQ(one.recorded.sealed, Generation(2));
    EXPECT_EQ(one.recorded.membership_version, pool_.witness()->version);
  }
}

TEST_F(AttachTest, NewEntriesBearTheNewGeneration) {  // R1
  pool_.MustAttach();
  const std::unique_ptr<Mount> mount = pool_.Open("one");
  ASSERT_TRUE(pool_.Write(*mount, 0, 4096, 'b').ok());
  EXPECT_EQ(pool_.pool().FindVolume("one")->position, (Position{Generation(2), Seq(2)}));
}

// ---- Levelling (R8) ----

TEST_F(AttachTest, TheLongerLogWins) {
  for (size_t longer = 0; longer < 2; ++longer) {
    LogWrite(longer, 0, 'b');
    LogWrite(longer, 0, 'c');
    LogWrite(1 - longer, 1, 'd');  // each set is ahead in another volume
    pool_.MustAttach();
    EXPECT_EQ(Content("one"), Bytes(4096, 'c'));
    EXPECT_EQ(Content("two"), Bytes(4096, 'd'));
    pool_.Stop();
    EXPECT_EQ(disk(0).log.size(), disk(1).log.size());
  }
}

TEST_F(AttachTest, BothHaveTheTail) {
  for (size_t i = 0; i < 2; ++i) LogWrite(i, 0, 'b');
  const size_t entries = disk(0).log.size();
  pool_.MustAttach();
  EXPECT_EQ(Content("one"), Bytes(4096, 'b'));
  EXPECT_EQ(disk(0).log.size(), entries);  // nothing was sent
}

TEST_F(AttachTest, LevelledEntriesKeepTheirPositions) {
  LogWrite(0, 0, 'b');
  const Position position = disk(0).log.back().entry.position;
  pool_.MustAttach();
  EXPECT_EQ(disk(1).log.back().entry.position, position);
  EXPECT_EQ(disk(1).log.back().entry, disk(0).log.back().entry);
}

// More than one read of the tail.
TEST_F(AttachTest, ALongTailIsSentWhole) {
  for (int i = 0; i < 3000; ++i) LogWrite(0, 0, static_cast<char>(i % 100));
  pool_.MustAttach();
  EXPECT_EQ(Content("one"), Bytes(4096, static_cast<char>(2999 % 100)));
  EXPECT_EQ(disk(0).log.size(), disk(1).log.size());
}

// A dead tail of an old generation against a history that went on without it: never mixed (R1).
TEST_F(AttachTest, HistoriesThatPartAreRefused) {
  Position position = NextPosition(0, 0);
  LogWrite(0, 0, 'x', position);
  position.generation = Generation(9);
  LogWrite(1, 0, 'y', position);
  position.seq = position.seq.Next();
  LogWrite(1, 0, 'z', position);
  EXPECT_THAT(RefusedWith(absl::StatusCode::kDataLoss), HasSubstr("not copies of one history"));
  // Nothing was committed by the refusal.
  EXPECT_LT(disk(0).committed[infos_[0].id], position);
  EXPECT_LT(disk(1).committed[infos_[0].id], position);
}

TEST_F(AttachTest, AHigherGenerationWithALowerSeqIsRefused) {
  for (int i = 0; i < 3; ++i) LogWrite(0, 0, 'x');
  Position position = NextPosition(1, 0);
  position.generation = Generation(9);
  LogWrite(1, 0, 'y', position);
  EXPECT_THAT(RefusedWith(absl::StatusCode::kDataLoss), HasSubstr("not copies of one history"));
}

TEST_F(AttachTest, CataloguesThatDifferAreRefused) {
  // The same positions, other content: nothing that a crash can make.
  for (size_t i = 0; i < 2; ++i) LogWrite(i, 0, 'x');
  disk(1).log.back().entry.stamp = 12345;
  disk(1).log.back().entry.kind = EntryKind::kResize;
  disk(1).log.back().entry.block_crcs.clear();
  disk(1).log.back().payload = nullptr;
  disk(1).log.back().entry.body = EncodeResize({1 << 21});
  EXPECT_THAT(RefusedWith(absl::StatusCode::kDataLoss), HasSubstr("lists of volumes"));
}

// One set has applied the delete, and forgotten the volume's stream with a checkpoint; the other
// one has the delete in its log and the volume still there.
TEST_F(AttachTest, AVolumeThatOneSetHasDeletedIsLevelledByItsDelete) {
  for (size_t i = 0; i < 2; ++i) {
    sim::SimLogItem item;
    item.entry.kind = EntryKind::kVolumeDelete;
    item.entry.volume = kCatalogueVolume;
    for (const sim::SimLogItem& logged : disk(i).log) {
      if (logged.entry.volume == kCatalogueVolume) item.entry.position = logged.entry.position;
    }
    item.entry.position.seq = item.entry.position.seq.Next();
    item.entry.body = EncodeVolumeDelete({infos_[0].id});
    disk(i).log.push_back(std::move(item));
  }
  disk(1).committed[kCatalogueVolume] = disk(1).log.back().entry.position;
  std::erase_if(disk(1).log,
                [&](const sim::SimLogItem& item) { return item.entry.volume == infos_[0].id; });
  disk(1).committed.erase(infos_[0].id);
  pool_.MustAttach();
  EXPECT_FALSE(pool_.pool().FindVolume("one").ok());
  EXPECT_EQ(Content("two"), Bytes(4096, 'a'));
}

// ---- Snapshot groups (R34) ----

TEST_F(AttachTest, AnIncompleteGroupIsGivenUp) {
  for (size_t holder = 0; holder < 2; ++holder) {
    LogGroupSnapshot(holder, 0, SnapshotId(1 + holder));
    LogWrite(holder, 0, 'w');  // later writes are not given up with it
    pool_.MustAttach();
    EXPECT_THAT(SnapshotNames(), IsEmpty());
    EXPECT_EQ(Content("one"), Bytes(4096, 'w'));
    pool_.Stop();
  }
}

TEST_F(AttachTest, ACompleteGroupIsKeptWhereverItsPartsAre) {
  LogGroupSnapshot(0, 0, SnapshotId(1));
  LogGroupSnapshot(1, 1, SnapshotId(2));
  pool_.MustAttach();
  EXPECT_THAT(SnapshotNames(), ElementsAre("one@group", "two@group"));
}

// The other member is committed already: then every record is in every log, and the group is
// complete.
TEST_F(AttachTest, AHalfCommittedGroupIsComplete) {
  for (size_t i = 0; i < 2; ++i) {
    LogGroupSnapshot(i, 0, SnapshotId(1));
    LogGroupSnapshot(i, 1, SnapshotId(2));
    disk(i).committed[infos_[0].id] = disk(i).log[disk(i).log.size() - 2].entry.position;
  }
  pool_.MustAttach();
  EXPECT_THAT(SnapshotNames(), ElementsAre("one@group", "two@group"));
}

// An attach that dies anywhere leaves the group to the next one.
TEST_F(AttachTest, GivingUpAGroupCanBeCutShort) {
  LogGroupSnapshot(0, 0, SnapshotId(1));
  bool attached = false;
  for (int i = 1; i <= 60 && !attached; ++i) {
    attached = pool_.AttachOrCrashAfter(i * 20'000, /*power_loss=*/true);
  }
  EXPECT_TRUE(attached);
  EXPECT_THAT(SnapshotNames(), IsEmpty());
  pool_.Stop();
  pool_.MustAttach();
  EXPECT_THAT(SnapshotNames(), IsEmpty());
}

// ---- What is refused (P6) ----

TEST_F(AttachTest, AWitnessFromThePastIsRefusedWhileASetIsAway) {  // R25
  const std::optional<Membership> old = pool_.witness();
  pool_.MustAttach();
  pool_.Stop();
  pool_.witness() = old;
  pool_.set_absent({1});
  EXPECT_THAT(RefusedWith(absl::StatusCode::kFailedPrecondition), HasSubstr("copy from the past"));
  EXPECT_EQ(pool_.witness(), old);
}

// It lists a, which was dropped since: only the sets' records know.
TEST_F(AttachTest, AWitnessFromThePastIsHealedWhereEverySetIsThere) {  // R22, R25
  const std::optional<Membership> old = pool_.witness();
  pool_.set_absent({1});
  pool_.MustAttach();
  const uint64_t version = pool_.witness()->version;
  pool_.Stop();
  pool_.set_absent({});
  pool_.witness() = old;
  pool_.MustAttach();
  EXPECT_THAT(pool_.witness()->in_sync, ElementsAre(disk(0).store_id));
  EXPECT_GT(pool_.witness()->version, version);
}

TEST_F(AttachTest, ADamagedWitnessIsHealedWhereEverySetIsThere) {  // R22
  pool_.set_absent({1});
  pool_.MustAttach();
  const Membership before = *pool_.witness();
  pool_.Stop();
  pool_.set_absent({});
  pool_.DamageWitness();
  pool_.MustAttach();
  EXPECT_THAT(pool_.witness()->in_sync, ElementsAre(disk(0).store_id));
  EXPECT_GT(pool_.witness()->version, before.version);
  EXPECT_GT(pool_.witness()->generation, before.generation);
}

TEST_F(AttachTest, ADamagedWitnessIsRefusedWhileASetIsAway) {  // R22
  pool_.set_absent({1});
  pool_.DamageWitness();
  EXPECT_THAT(RefusedWith(absl::StatusCode::kDataLoss),
              testing::AllOf(HasSubstr("DAMAGED"), HasSubstr(disk(1).store_id)));
}

TEST_F(AttachTest, AWitnessThatIsDamagedUnderThePoolGetsBackWhatItHeld) {
  pool_.MustAttach();
  const Membership before = *pool_.witness();
  pool_.witness()->in_sync.clear();  // what is there is not believed
  pool_.live_witness().Damage();
  pool_.Run([](sim::SimPoller* poller) -> Task<void> {
    co_await poller->Delay(3 * kNanosPerSecond);
  }(&pool_.poller()));
  EXPECT_EQ(*pool_.witness(), before);
}

TEST_F(AttachTest, AnEmptyWitnessIsRefused) {
  pool_.witness().reset();
  EXPECT_THAT(RefusedWith(absl::StatusCode::kNotFound), HasSubstr("--new-witness"));
}

TEST_F(AttachTest, AStaleSetAloneIsRefusedAndNothingChanges) {  // P6
  pool_.witness()->in_sync = {disk(0).store_id};
  pool_.witness()->degraded_since = 1'764'067'327'000'000'000;
  const Membership before = *pool_.witness();
  pool_.set_absent({0});
  const std::string message = RefusedWith(absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(message, HasSubstr("set b (/sim/b, store " + disk(1).store_id + ") is stale"));
  EXPECT_THAT(message, HasSubstr("without it since 2025-11-25 10:42:07Z"));
  EXPECT_THAT(message, HasSubstr("store " + disk(0).store_id));
  EXPECT_THAT(message, HasSubstr("set a (/sim/a): no disk"));
  EXPECT_THAT(message, HasSubstr("--force-stale b"));
  EXPECT_EQ(*pool_.witness(), before);
  EXPECT_EQ(disk(1).recorded.sealed, Generation(1));
}

TEST_F(AttachTest, AStaleSetBesideAWholeOneIsLeftAlone) {  // P6
  pool_.witness()->in_sync = {disk(0).store_id};
  const size_t entries = disk(1).log.size();
  pool_.MustAttach();
  EXPECT_EQ(Content("one"), Bytes(4096, 'a'));
  const PoolInfo info = pool_.pool().Info();
  EXPECT_EQ(info.state, "degraded");
  EXPECT_NE(info.replicas[1].state, "in-sync");
  EXPECT_EQ(pool_.replica(1).reads(), 0u);
  EXPECT_EQ(disk(1).log.size(), entries);
}

TEST_F(AttachTest, WithASetMissingTheOtherGoesOnDegraded) {  // R20, R21, R28
  pool_.set_absent({1});
  pool_.MustAttach();
  EXPECT_THAT(pool_.witness()->in_sync, ElementsAre(disk(0).store_id));
  EXPECT_GT(pool_.witness()->degraded_since, 0);
  EXPECT_EQ(disk(0).recorded.membership_version, pool_.witness()->version);
  EXPECT_THAT(disk(0).recorded.in_sync, ElementsAre(disk(0).store_id));
  const std::unique_ptr<Mount> mount = pool_.Open("one");
  EXPECT_TRUE(pool_.Write(*mount, 0, 4096, 'n').ok());
  const PoolInfo info = pool_.pool().Info();
  ASSERT_TRUE(info.degraded.has_value());
  EXPECT_THAT(info.degraded->sets, ElementsAre("b"));
  EXPECT_THAT(info.degraded->why, HasSubstr("no disk"));
}

TEST_F(AttachTest, SinceWhenItIsDegradedSurvivesARestart) {
  pool_.set_absent({1});
  pool_.MustAttach();
  const WallNanos since = pool_.witness()->degraded_since;
  pool_.Stop();
  pool_.MustAttach();
  EXPECT_EQ(pool_.witness()->degraded_since, since);
  EXPECT_EQ(pool_.pool().Info().degraded->since, since);
}

// What two-copy systems get wrong: one goes on alone, dies, and the other comes back.
TEST_F(AttachTest, TheOneThatMissedWritesIsRefusedWhenItComesBackAlone) {  // P6
  pool_.set_absent({1});
  pool_.MustAttach();
  {
    const std::unique_ptr<Mount> mount = pool_.Open("one");
    ASSERT_TRUE(pool_.Write(*mount, 0, 4096, 'n').ok());
  }
  pool_.Stop();
  pool_.set_absent({0});
  EXPECT_THAT(RefusedWith(absl::StatusCode::kFailedPrecondition), HasSubstr("is stale"));
  pool_.set_absent({});
  pool_.MustAttach();
  EXPECT_EQ(Content("one"), Bytes(4096, 'n'));
}

TEST_F(AttachTest, ForceTakesAStaleSetAfterSayingWhatThatLoses) {
  pool_.witness()->in_sync = {disk(0).store_id};
  const Membership before = *pool_.witness();
  pool_.set_absent({0});
  pool_.options().force_stale = "b";
  std::string told;
  pool_.options().confirm = [&told](const std::string& what) {
    told = what;
    return absl::FailedPreconditionError("said no");
  };
  EXPECT_THAT(RefusedWith(absl::StatusCode::kFailedPrecondition), HasSubstr("said no"));
  EXPECT_THAT(told, HasSubstr("set b (/sim/b"));
  EXPECT_THAT(told, HasSubstr("given up"));
  EXPECT_EQ(*pool_.witness(), before);

  pool_.options().confirm = [](const std::string&) { return absl::OkStatus(); };
  pool_.MustAttach();
  EXPECT_THAT(pool_.witness()->in_sync, ElementsAre(disk(1).store_id));
  EXPECT_GT(pool_.witness()->generation, before.generation);  // R1: the histories are told apart
  pool_.Stop();
  // From then on the other one is the stale one.
  pool_.options() = AttachOptions();
  pool_.set_absent({1});
  EXPECT_THAT(RefusedWith(absl::StatusCode::kFailedPrecondition), HasSubstr("set a"));
}

TEST_F(AttachTest, ForceIsRefusedWhileASetIsWhole) {
  pool_.options().force_stale = "b";
  EXPECT_THAT(RefusedWith(absl::StatusCode::kFailedPrecondition), HasSubstr("not needed"));
}

// A record that the witness did not get takes nothing away from those that stay (R21).
TEST_F(AttachTest, ADropThatWasCutShortIsHeeded) {
  disk(0).recorded.membership_version = pool_.witness()->version + 1;
  disk(0).recorded.in_sync = {disk(0).store_id};
  pool_.MustAttach();
  EXPECT_THAT(pool_.witness()->in_sync, ElementsAre(disk(0).store_id));
  EXPECT_GT(pool_.witness()->version, disk(0).recorded.membership_version - 1);
}

TEST_F(AttachTest, ADropThatWasCutShortDoesNotKeepTheOtherFromAttaching) {
  disk(0).recorded.membership_version = pool_.witness()->version + 1;
  disk(0).recorded.in_sync = {disk(0).store_id};
  pool_.set_absent({0});
  pool_.MustAttach();  // nothing was acknowledged without it
  EXPECT_THAT(pool_.witness()->in_sync, ElementsAre(disk(1).store_id));
}

TEST_F(AttachTest, ALostWitnessIsMadeAnewFromWhatTheSetsKnow) {  // R22
  const Membership before = *pool_.witness();
  pool_.witness().reset();
  pool_.options().new_witness = true;
  pool_.MustAttach();
  EXPECT_EQ(pool_.witness()->in_sync, before.in_sync);
  EXPECT_GT(pool_.witness()->version, before.version);
  EXPECT_GT(pool_.witness()->generation, before.generation);
}

TEST_F(AttachTest, WithoutTheWitnessEverySetMustBeThere) {  // R22
  pool_.witness().reset();
  pool_.options().new_witness = true;
  pool_.set_absent({1});
  EXPECT_THAT(RefusedWith(absl::StatusCode::kUnavailable), HasSubstr(disk(1).store_id));
  EXPECT_FALSE(pool_.witness().has_value());
}

TEST_F(AttachTest, WithoutTheWitnessASetThatWasDroppedStaysStale) {
  pool_.set_absent({1});
  pool_.MustAttach();
  pool_.Stop();
  pool_.set_absent({});
  pool_.witness().reset();
  pool_.options().new_witness = true;
  pool_.MustAttach();
  EXPECT_THAT(pool_.witness()->in_sync, ElementsAre(disk(0).store_id));
  EXPECT_GT(pool_.witness()->degraded_since, 0);
}

TEST_F(AttachTest, AnotherPoolsSetIsRefused) {
  disk(1).pool_id = std::string(32, '8');
  EXPECT_THAT(RefusedWith(absl::StatusCode::kFailedPrecondition), HasSubstr("belongs to pool"));
}

TEST_F(AttachTest, AStoreThatWasNotConfiguredIsRefused) {
  disk(1).store_id = std::string(32, 'c');
  EXPECT_THAT(RefusedWith(absl::StatusCode::kFailedPrecondition), HasSubstr("not a member"));
}

}  // namespace
}  // namespace twofold
