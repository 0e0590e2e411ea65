// A set is brought level from one that has bad blocks, on simulated disks (P7, R10, R18, R29;
// docs/decisions/0024-a-resync-goes-on-without-what-is-lost.md).
//
// What the source can't read, and the target does not have from before, is an error on both sets
// afterwards, never other bytes; everything else is there. Also through crashes in the middle, and
// a rebuild of the map. A seed replays a run.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "storage/base/log.h"
#include "storage/store/scrub.h"
#include "tests/sim/pair_world.h"

namespace twofold {
namespace {

using sim::kVolumeBlocks;
using sim::Pair;
using sim::Side;

class ResyncRotTest : public testing::Test {
 protected:
  void Run(Task<void> body) {
    SetLogLevel(LogLevel::kError);
    pair_.executor().Run(Start(std::move(body)));
  }

  Task<LogAddress> SourceOf(Pair::View view, uint64_t block) {
    const std::optional<LogAddress> address = co_await pair_.AddressOf(0, view, block);
    EXPECT_TRUE(address.has_value());
    co_return address.value_or(LogAddress());
  }
  Task<void> Flip(Pair::View view, uint64_t block) {
    const LogAddress at = co_await SourceOf(view, block);
    source().disk().FlipBit(source().PathOf(at.segment), at.block * kBlockSize + 77, 5);
  }
  Task<void> Zero(Pair::View view, uint64_t block) {
    const LogAddress at = co_await SourceOf(view, block);
    source().disk().ZeroBlock(source().PathOf(at.segment), at.block);
  }
  Task<void> MakeUnreadable(Pair::View view, uint64_t block) {
    const LogAddress at = co_await SourceOf(view, block);
    source().disk().FailReads(source().PathOf(at.segment), at.block * kBlockSize, kBlockSize);
  }

  // Each block of the view on one side by itself: what was written, or an error where it is lost.
  Task<void> CheckView(size_t index, Pair::View view, std::set<uint64_t> lost) {
    AlignedBytes bytes(kBlockSize);
    for (uint64_t block = 0; block < kVolumeBlocks; ++block) {
      const BlockRange range{BlockIndex(block), BlockCount(1)};
      const auto read =
          co_await pair_.side(index).replica().Read(view.timeline, view.as_of, range, bytes.span());
      EXPECT_EQ(read.ok(), !lost.contains(block)) << "block " << block << ": " << read.status();
      if (read.ok()) pair_.Compare(view, block, bytes.span());
      if (HasFailure()) co_return;
    }
  }

  DamageReport DamageOf(size_t index) { return pair_.side(index).store().damage_list().Report(); }
  Side& source() { return pair_.side(0); }
  Side& target() { return pair_.side(1); }

  Task<void> GoOnWithoutWhatIsLost() {
    for (uint64_t first = 0; first < kVolumeBlocks; first += 32) co_await pair_.Write(first, 32);
    const bool left = co_await pair_.LeaveBehind();
    EXPECT_TRUE(left);
    if (!left) co_return;
    co_await pair_.Write(10, 50);
    const SnapshotId snapshot = co_await pair_.Snapshot();
    co_await pair_.Write(20, 4);
    co_await Flip(pair_.Now(), 12);
    co_await Zero(pair_.Now(), 40);
    co_await MakeUnreadable(pair_.Now(), 13);
    co_await Flip(pair_.Of(snapshot), 21);
    co_await Flip(pair_.Now(), 300);  // the target has it since before
    const absl::Status saved = co_await source().store().Checkpoint();
    EXPECT_TRUE(saved.ok()) << saved;

    ResyncProgress progress;
    const absl::Status status = co_await pair_.BringLevel(&progress);
    EXPECT_TRUE(status.ok()) << status;
    if (!status.ok()) co_return;
    EXPECT_EQ(progress.lost_blocks, 4u);
    EXPECT_EQ(DamageOf(1).bad(), 4u) << "status shows them";
    EXPECT_EQ(DamageOf(1).places.at(0).what,
              "a block is lost: no set had it when this one was brought level");
    const std::set<uint64_t> now = {12, 13, 40};
    const std::set<uint64_t> then = {12, 13, 21, 40};
    co_await CheckView(1, pair_.Now(), now);
    co_await CheckView(1, pair_.Of(snapshot), then);
    if (HasFailure()) co_return;
    // What the target had all the time heals the source.
    const std::set<uint64_t> theirs = {12, 13, 40, 300};
    co_await CheckView(0, pair_.Now(), theirs);
    co_await pair_.repairer().Pass();
    co_await CheckView(0, pair_.Now(), now);
    co_await CheckView(0, pair_.Of(snapshot), then);
    EXPECT_EQ(DamageOf(1).bad(), 4u) << "nobody has them";
    if (HasFailure()) co_return;

    co_await CheckScrub();
    co_await Reopen(/*lose_map=*/false);
    co_await CheckView(1, pair_.Now(), now);
    co_await Reopen(/*lose_map=*/true);
    co_await CheckView(1, pair_.Now(), now);
    co_await CheckView(1, pair_.Of(snapshot), then);
    if (HasFailure()) co_return;

    // A write over them, and a delete of what shows them, ends it.
    co_await pair_.Write(12, 2);
    co_await pair_.Zero(40, 1);
    co_await pair_.DeleteSnapshot(snapshot);
    co_await pair_.ReadAll(0, /*whole=*/false);
    co_await pair_.ReadAll(1, /*whole=*/false);
    co_await pair_.HealAll();
    co_await pair_.ReadAll(0, /*whole=*/true);
    co_await pair_.ReadAll(1, /*whole=*/true);
  }

  // The target says so itself, block by block.
  Task<void> CheckScrub() {
    const absl::StatusOr<ScrubReport> report = co_await target().replica().Scrub(ScrubOptions());
    EXPECT_TRUE(report.ok()) << report.status();
    if (!report.ok()) co_return;
    EXPECT_EQ(report->damaged_places, 4u);
    for (const ScrubFinding& finding : report->findings) {
      EXPECT_TRUE(absl::StrContains(finding.what, "is lost: no set had it")) << finding.what;
    }
  }

  Task<void> Reopen(bool lose_map) {
    co_await pair_.Close();
    if (lose_map) target().LoseMap();
    const bool opened = co_await pair_.Open();
    EXPECT_TRUE(opened);
  }

  // A whole device that reads nothing any more has lost nothing yet.
  Task<void> TakeNoDeadDeviceForLostBlocks() {
    for (uint64_t first = 0; first < kVolumeBlocks; first += 32) co_await pair_.Write(first, 32);
    const bool left = co_await pair_.LeaveBehind();
    EXPECT_TRUE(left);
    if (!left) co_return;
    for (uint64_t first = 0; first < kVolumeBlocks; first += 32) co_await pair_.Write(first, 32);
    const absl::Status saved = co_await source().store().Checkpoint();
    EXPECT_TRUE(saved.ok()) << saved;
    source().disk().FailReads("", 0, sim::SimDisk::kToTheEnd);
    ResyncProgress progress;
    const absl::Status status = co_await pair_.BringLevel(&progress);
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_EQ(progress.lost_blocks, 0u);
    EXPECT_EQ(DamageOf(1).bad(), 0u);
  }

  Pair pair_{7};

 private:
  Task<void> Start(Task<void> body) {
    const bool started = co_await pair_.Start();
    EXPECT_TRUE(started);
    if (started) co_await std::move(body);
    co_await pair_.Close();
  }
};

TEST_F(ResyncRotTest, GoesOnWithoutWhatIsLostAndSaysSo) { Run(GoOnWithoutWhatIsLost()); }

TEST_F(ResyncRotTest, ADeviceThatReadsNothingHasLostNothing) {
  Run(TakeNoDeadDeviceForLostBlocks());
}

// ---- Through crashes ----------------------------------------------------------------------------

class World {
 public:
  explicit World(uint64_t seed) : pair_(seed) {}
  void Run() { pair_.executor().Run(RunAll()); }
  uint64_t lost() const { return lost_; }
  uint64_t crashes() const { return crashes_; }
  uint64_t errors() const { return errors_; }

 private:
  Task<void> RunAll() {
    bool going = co_await pair_.Start();
    if (!going) co_return;
    co_await Change(20 + random().Uniform(40));
    going = co_await pair_.LeaveBehind();
    if (!going) co_return;
    co_await Change(20 + random().Uniform(60));
    for (int i = 0; i < 6; ++i) co_await FlipSomething();
    const uint64_t crashes = random().Uniform(4);
    for (uint64_t i = 0; i < crashes && !::testing::Test::HasFailure(); ++i) {
      co_await CrashInTheMiddle();
    }
    if (::testing::Test::HasFailure()) co_return;
    ResyncProgress progress;
    const absl::Status status = co_await pair_.BringLevel(&progress);
    EXPECT_TRUE(status.ok()) << status;
    lost_ += progress.lost_blocks;
    if (status.ok()) co_await Check();
    if (::testing::Test::HasFailure()) co_return;
    co_await pair_.Close();
    if (random().OneIn(2)) pair_.side(1).LoseMap();
    going = co_await pair_.Open();
    EXPECT_TRUE(going);
    if (going) co_await Check();
    co_await pair_.Close();
  }

  Task<void> Change(uint64_t steps) {
    for (uint64_t i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
      co_await pair_.ChangeOnce();
    }
  }

  Task<void> FlipSomething() {
    const std::vector<Pair::View> views = pair_.Views();
    const Pair::View view = views[random().Uniform(views.size())];
    const std::optional<LogAddress> at =
        co_await pair_.AddressOf(0, view, random().Uniform(kVolumeBlocks));
    Side& source = pair_.side(0);
    if (!at.has_value() || !source.store().segment_table().segments().contains(at->segment)) {
      co_return;
    }
    source.disk().FlipBit(source.PathOf(at->segment),
                          at->block * kBlockSize + random().Uniform(kBlockSize), 3);
  }

  // Of the target: the source's end may be what is bad.
  Task<void> CrashInTheMiddle() {
    TaskScope scope;
    scope.Spawn(CrashSoon());
    ResyncProgress progress;
    const absl::Status status = co_await pair_.BringLevel(&progress);
    static_cast<void>(status);
    lost_ += progress.lost_blocks;
    co_await scope.Join();
    if (!pair_.stale()) {
      // It was level before that, and misses what comes now.
      const bool left = co_await pair_.LeaveBehind();
      EXPECT_TRUE(left);
      if (left) co_await Change(10);
      co_return;
    }
    co_await pair_.Close();
    const bool opened = co_await pair_.Open();
    EXPECT_TRUE(opened);
    ++crashes_;
  }

  Task<void> CrashSoon() {
    co_await pair_.poller().Delay(static_cast<int64_t>(random().Uniform(60 * kNanosPerMilli)));
    if (pair_.stale()) pair_.side(1).Crash();
  }

  // Whatever the target says is what was written; and what it does not say, the source can't
  // either.
  Task<void> Check() {
    AlignedBytes bytes(kBlockSize);
    for (const Pair::View& view : pair_.Views()) {
      for (uint64_t block = 0; block < kVolumeBlocks; ++block) {
        const BlockRange range{BlockIndex(block), BlockCount(1)};
        const auto read =
            co_await pair_.side(1).replica().Read(view.timeline, view.as_of, range, bytes.span());
        if (read.ok()) {
          pair_.Compare(view, block, bytes.span());
        } else {
          ++errors_;
          const auto theirs =
              co_await pair_.side(0).replica().Read(view.timeline, view.as_of, range, bytes.span());
          EXPECT_FALSE(theirs.ok()) << "block " << block << ": " << read.status();
        }
        if (::testing::Test::HasFailure()) co_return;
      }
    }
  }

  Prng& random() { return pair_.random(); }

  Pair pair_;
  uint64_t lost_ = 0;
  uint64_t crashes_ = 0;
  uint64_t errors_ = 0;
};

TEST(ResyncRot, NothingButWhatIsLostIsLostThroughCrashes) {
  SetLogLevel(LogLevel::kError);
  const uint64_t first = sim::FromEnvironment("TWOFOLD_SEED", 1);
  const uint64_t count = sim::FromEnvironment("TWOFOLD_SEEDS", 40);
  uint64_t lost = 0;
  uint64_t crashes = 0;
  uint64_t errors = 0;
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("TWOFOLD_SEED=", seed, " TWOFOLD_SEEDS=1"));
    World world(seed);
    world.Run();
    lost += world.lost();
    crashes += world.crashes();
    errors += world.errors();
  }
  if (count < 40) return;
  EXPECT_GT(lost, count / 2);
  EXPECT_GT(errors, count / 2);
  EXPECT_GT(crashes, count / 2);
}

}  // namespace
}  // namespace twofold
