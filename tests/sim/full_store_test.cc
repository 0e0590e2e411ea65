// A store that is full of what snapshots retain, and is killed again and again while clients trim
// and snapshots are taken until it refuses them: deleting works in each of its lives, and once
// enough is deleted it takes writes again (M22, R6, docs/decisions/0017). It is killed within
// opening, attaching and cleaning too, as often as anybody likes, with or without an end of its log
// that nobody has committed: it opens (docs/decisions/0003), and shows what was acknowledged.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/base/crc32c.h"
#include "storage/base/log.h"
#include "storage/base/prng.h"
#include "storage/io/aligned_bytes.h"
#include "storage/map/catalogue_codec.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task_scope.h"
#include "storage/store/store.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_metadata_store.h"
#include "tests/sim/sim_poller.h"
#include "tests/sim/store_world.h"

namespace twofold {
namespace {

constexpr VolumeId kVolume{1};
constexpr TimelineId kTimeline{1};
constexpr uint64_t kBlocks = 4096;
constexpr uint64_t kMostRecords = 2000;  // more than any step of what is kept back has room for

class FullStore {
 public:
  explicit FullStore(uint64_t seed)
      : random_(seed), poller_(seed), executor_(poller_), disk_("a"), metadata_(seed, {}) {
    executor_.Run(Format());
  }

  void Run(int lives) {
    for (int life = 0; life < lives && !::testing::Test::HasFailure(); ++life) {
      executor_.Run(Live(/*crashes=*/true));
    }
    if (!::testing::Test::HasFailure()) executor_.Run(Live(/*crashes=*/false));
  }
  uint64_t refused_trims() const { return refused_trims_; }

  // Full, and then killed `crashes` times in a row before it has served anybody; `stops`: or opened
  // and stopped.
  void RunCutShort(int lives, int crashes, bool stops) {
    for (int life = 0; life < lives && !::testing::Test::HasFailure(); ++life) {
      executor_.Run(Fill(/*leave_pending=*/random_.OneIn(2)));
      for (int i = 0; i < crashes && !::testing::Test::HasFailure(); ++i) {
        executor_.Run(stops && random_.OneIn(2) ? OpenAndStop() : CutOpening());
      }
    }
    if (!::testing::Test::HasFailure()) executor_.Run(Live(/*crashes=*/false));
  }
  struct Probes {
    uint64_t cut_openings = 0;    // before it was open
    uint64_t cut_attaches = 0;    // open, sealed, and no more
    uint64_t cut_afterwards = 0;  // with the cleaner and reclaim at work
  };
  const Probes& probes() const { return probes_; }

 private:
  Task<void> Format() {
    const absl::Status status = co_await sim::FormatStoreOn(&poller_, &disk_, sim::StoreShape());
    EXPECT_TRUE(status.ok()) << status;
  }

  Task<void> Open() {
    const int64_t began = poller_.Now();
    auto store = co_await sim::OpenStoreOn(&poller_, &disk_, &metadata_, StoreOptions());
    EXPECT_TRUE(store.ok()) << store.status();
    if (store.ok()) store_ = *std::move(store);
    opening_takes_ = poller_.Now() - began;
  }

  void Crash() {
    disk_.Crash(random_.OneIn(2) ? sim::CrashKind::kPower : sim::CrashKind::kProcess, random_);
    metadata_.Crash();
  }

  Task<void> Close() {
    co_await store_->Stop();
    store_.reset();
  }

  Task<void> Live(bool crashes) {
    co_await Open();
    if (store_ == nullptr) co_return;
    co_await Attach();
    co_await CheckContent();
    if (crashes) {
      co_await FillUp();
      if (!::testing::Test::HasFailure()) co_await DeleteOne();
      Crash();
    } else {
      co_await EmptyAndWrite();
      co_await CheckContent();
    }
    co_await Close();
  }

  // `leave_pending`: the last entries are logged, and nobody says that they are committed.
  Task<void> Fill(bool leave_pending) {
    co_await Open();
    if (store_ == nullptr) co_return;
    co_await Attach();
    co_await CheckContent();
    if (snapshots_.size() > 10) co_await DeleteOne();
    co_await FillUp();
    if (leave_pending && !::testing::Test::HasFailure()) {
      commits_ = false;
      if (snapshots_.size() > 2) co_await DeleteOne();
      commits_ = true;
    }
    Crash();
    co_await Close();
  }

  // The process dies at some moment between the beginning of opening and a little after it has
  // attached, with what goes on in the background meanwhile.
  Task<void> CutOpening() {
    crashed_ = false;
    TaskScope scope;
    scope.Spawn(CrashAfter(
        static_cast<int64_t>(random_.Uniform(static_cast<uint64_t>(2 * opening_takes_)))));
    auto store = co_await sim::OpenStoreOn(&poller_, &disk_, &metadata_, StoreOptions());
    EXPECT_TRUE(store.ok() || crashed_) << store.status();
    if (!store.ok()) {
      ++probes_.cut_openings;
      co_await scope.Join();
      co_return;
    }
    store_ = *std::move(store);
    generation_ = generation_.Next();
    const absl::Status sealed = co_await store_->Seal(generation_);
    EXPECT_TRUE(sealed.ok() || crashed_) << sealed;
    const bool attaches = sealed.ok() && random_.OneIn(2);
    if (attaches) CommitAll();
    if (!crashed_) ++(attaches ? probes_.cut_afterwards : probes_.cut_attaches);
    co_await scope.Join();
    co_await Close();
  }

  // A daemon that finds no way to attach ends, and is started again.
  Task<void> OpenAndStop() {
    co_await Open();
    if (store_ == nullptr) co_return;
    if (random_.OneIn(2)) {
      generation_ = generation_.Next();
      const absl::Status sealed = co_await store_->Seal(generation_);
      EXPECT_TRUE(sealed.ok()) << sealed;
    }
    co_await Close();
  }

  Task<void> CrashAfter(int64_t delay_ns) {
    co_await poller_.Delay(delay_ns);
    crashed_ = true;
    Crash();
  }

  void CommitAll() {
    for (VolumeId volume : {kCatalogueVolume, kVolume}) {
      const auto stream = store_->streams().streams().find(volume);
      if (stream == store_->streams().streams().end()) continue;
      const Position end = stream->second.pending.empty()
                               ? stream->second.committed
                               : stream->second.pending.back().entry.position;
      store_->Commit(volume, end);
    }
  }

  Task<void> CheckContent() {
    if (seq_ == 0) co_return;
    constexpr uint64_t kStep = 256;
    AlignedBytes bytes(kStep * kBlockSize);
    for (uint64_t first = 0; first < kBlocks; first += kStep) {
      const BlockRange range{BlockIndex(first), BlockCount(kStep)};
      const auto extents = co_await store_->Read(kTimeline, kLastPosition, range, bytes.span());
      EXPECT_TRUE(extents.ok()) << extents.status();
      if (!extents.ok()) co_return;
      for (uint64_t i = 0; i < kStep; ++i) {
        uint64_t value = 0;
        std::memcpy(&value, bytes.data() + i * kBlockSize, sizeof(value));
        EXPECT_EQ(value, content_[first + i]) << "block " << first + i;
        if (::testing::Test::HasFailure()) co_return;
      }
    }
  }

  // As a pool with this one replica. All that was sent was acknowledged, and is there.
  Task<void> Attach() {
    generation_ = generation_.Next();
    const absl::Status sealed = co_await store_->Seal(generation_);
    EXPECT_TRUE(sealed.ok()) << sealed;
    CommitAll();
    if (seq_ > 0) co_return;
    VolumeCreateBody body;
    body.id = kVolume;
    body.name = "vol";
    body.size_bytes = kBlocks * kBlockSize;
    body.first_timeline = kTimeline;
    LogEntry create;
    create.kind = EntryKind::kVolumeCreate;
    create.volume = kCatalogueVolume;
    create.position = {generation_, Seq(1)};
    create.body = EncodeVolumeCreate(body);
    const absl::Status created = co_await SendEntry(create, {}, RoomFor::kRecord);
    EXPECT_TRUE(created.ok()) << created;
  }

  Task<absl::Status> SendEntry(LogEntry entry, absl::Span<const std::byte> payload, RoomFor use) {
    const BlockCount blocks(entry.block_crcs.size());
    absl::Status status = co_await store_->Reserve(blocks, 1, use);
    TF_CO_RETURN_IF_ERROR(status);
    status = co_await store_->Append(generation_, entry, payload, Durability::kDurable);
    EXPECT_TRUE(status.ok()) << status;
    if (commits_) store_->Commit(entry.volume, entry.position);
    co_return status;
  }

  // What was refused leaves no gap in the volume's positions.
  Task<absl::Status> Send(EntryKind kind, BlockRange range, std::string body, RoomFor use) {
    AlignedBytes payload(kind == EntryKind::kWrite ? range.count.value() * kBlockSize : 0);
    LogEntry entry;
    entry.kind = kind;
    entry.volume = kVolume;
    entry.timeline = kTimeline;
    entry.range = range;
    entry.position = {generation_, Seq(seq_ + 1)};
    entry.body = std::move(body);
    if (kind == EntryKind::kWrite) {
      for (uint64_t i = 0; i < range.count.value(); ++i) {
        const auto block = payload.span().subspan(i * kBlockSize, kBlockSize);
        const uint64_t value = seq_ + 1;
        std::memcpy(block.data(), &value, sizeof(value));
        entry.block_crcs.push_back(Crc32c(block));
      }
    }
    const absl::Status status = co_await SendEntry(entry, payload.span(), use);
    if (status.ok()) {
      ++seq_;
      for (uint64_t i = 0; i < range.count.value(); ++i) {
        content_[range.first.value() + i] = kind == EntryKind::kWrite ? seq_ : 0;
      }
    }
    EXPECT_TRUE(status.ok() || absl::IsResourceExhausted(status)) << status;
    co_return status;
  }

  Task<absl::Status> Write() {
    const BlockRange range{BlockIndex(random_.Uniform(kBlocks - 8)), BlockCount(8)};
    co_return co_await Send(EntryKind::kWrite, range, "", RoomFor::kWrite);
  }
  Task<absl::Status> Trim() {
    const BlockRange range{BlockIndex(random_.Uniform(kBlocks)), BlockCount(1)};
    co_return co_await Send(EntryKind::kZero, range, "", RoomFor::kTrim);
  }
  Task<absl::Status> TakeSnapshot() {
    SnapshotBody body;
    body.id = SnapshotId(++last_snapshot_);
    body.name = absl::StrCat("s", last_snapshot_);
    const absl::Status status =
        co_await Send(EntryKind::kSnapshot, BlockRange(), EncodeSnapshot(body), RoomFor::kRecord);
    if (status.ok()) snapshots_.push_back(body.id);
    co_return status;
  }

  // Writes, then trims, each to the last that fits, with a snapshot now and then, so that next to
  // nothing of it is dead; then snapshots.
  Task<void> FillUp() {
    for (const bool trims : {false, true}) {
      absl::Status status;
      for (uint64_t i = 0; status.ok() && i < 40 * kMostRecords; ++i) {
        if (trims) {
          status = co_await Trim();
        } else {
          status = co_await Write();
        }
        if (i % 200 == 50) {
          const absl::Status taken = co_await TakeSnapshot();
          EXPECT_TRUE(taken.ok() || absl::IsResourceExhausted(taken)) << taken;
        }
      }
      EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
      refused_trims_ += trims;
    }
    absl::Status status;
    for (uint64_t i = 0; status.ok() && i < kMostRecords; ++i) status = co_await TakeSnapshot();
  }

  Task<void> DeleteOne() {
    EXPECT_FALSE(snapshots_.empty());
    if (snapshots_.empty()) co_return;
    const SnapshotId id = snapshots_.back();
    const absl::Status status = co_await Send(EntryKind::kSnapshotDelete, BlockRange(),
                                              EncodeSnapshotDelete({id}), RoomFor::kDelete);
    EXPECT_TRUE(status.ok()) << "a full store refuses to delete: " << status;
    snapshots_.pop_back();
  }

  Task<void> EmptyAndWrite() {
    while (!snapshots_.empty() && !::testing::Test::HasFailure()) co_await DeleteOne();
    for (int i = 0; i < 200 && !::testing::Test::HasFailure(); ++i) {
      const absl::Status status = co_await Write();
      EXPECT_TRUE(status.ok()) << "after everything was deleted: " << status;
    }
  }

  Prng random_;
  sim::SimPoller poller_;
  Executor executor_;
  sim::SimDisk disk_;
  sim::SimMetadataDisk metadata_;
  std::unique_ptr<Store> store_;
  Generation generation_{0};
  uint64_t seq_ = 0;
  uint64_t last_snapshot_ = 0;
  uint64_t refused_trims_ = 0;
  std::vector<SnapshotId> snapshots_;
  std::vector<uint64_t> content_ = std::vector<uint64_t>(kBlocks, 0);  // 0: zeros
  bool commits_ = true;
  bool crashed_ = false;
  int64_t opening_takes_ = 0;
  Probes probes_;
};

TEST(FullStore, DeletesInEachLifeAndTakesWritesAgainM22) {
  SetLogLevel(LogLevel::kError);
  const uint64_t first = sim::FromEnvironment("TWOFOLD_SEED", 1);
  const uint64_t count = sim::FromEnvironment("TWOFOLD_SEEDS", 1);
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("TWOFOLD_SEED=", seed, " TWOFOLD_SEEDS=1"));
    FullStore store(seed);
    store.Run(6);
    EXPECT_GE(store.refused_trims(), 6u);
  }
}

// A dozen lives in a row, each cut short, three times over.
void RunCutShort(bool stops) {
  SetLogLevel(LogLevel::kError);
  const uint64_t first = sim::FromEnvironment("TWOFOLD_SEED", 1);
  const uint64_t count = sim::FromEnvironment("TWOFOLD_SEEDS", 1);
  FullStore::Probes probes;
  for (uint64_t seed = first; seed < first + count && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("TWOFOLD_SEED=", seed, " TWOFOLD_SEEDS=1"));
    FullStore store(seed);
    store.RunCutShort(/*lives=*/3, /*crashes=*/12, stops);
    probes.cut_openings += store.probes().cut_openings;
    probes.cut_attaches += store.probes().cut_attaches;
    probes.cut_afterwards += store.probes().cut_afterwards;
  }
  EXPECT_GT(probes.cut_openings, 0u);
  EXPECT_GT(probes.cut_attaches, 0u);
  EXPECT_GT(probes.cut_afterwards, 0u);
}

TEST(FullStore, OpensHoweverOftenItWasKilledBeforeItServedM22) { RunCutShort(/*stops=*/false); }

TEST(FullStore, OpensHoweverOftenItWasStoppedBeforeItServedM22) { RunCutShort(/*stops=*/true); }

}  // namespace
}  // namespace twofold
