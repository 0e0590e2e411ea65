// A store that is overwritten at random for many times its size: it never stops while there is dead
// space, its writers are slowed down rather than stopped, and its accounting stays exact (M21-M23).
// With TWOFOLD_SPACE_MEASURE=1 it prints the write amplification at several utilizations (M25).
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
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
constexpr Generation kGeneration{1};

struct Shape {
  uint64_t segment_bytes = kMinSegmentBytes;
  uint64_t segments = 24;
  double utilization = 0.5;  // of what clients may fill
  uint64_t writers = 16;     // entries under way: about so many in a batch
};

class Overwriting {
 public:
  explicit Overwriting(const Shape& shape)
      : shape_(shape), random_(7), executor_(poller_), disk_("a"), metadata_(5, {}) {
    SetLogLevel(LogLevel::kError);
    executor_.Run(Format());
    Open(/*read_only=*/false);
    capacity_ = store_->usage().capacity_blocks;
    values_.resize(static_cast<size_t>(static_cast<double>(capacity_) * shape.utilization));
    executor_.Run(Create());
  }
  ~Overwriting() { Close(); }

  uint64_t capacity_blocks() const { return capacity_; }
  uint64_t volume_blocks() const { return values_.size(); }
  Store& store() { return *store_; }

  // Every block once.
  void FillUp() { executor_.Run(WriteAll(values_.size(), /*in_order=*/true)); }
  void Overwrite(uint64_t blocks) { executor_.Run(WriteAll(blocks, /*in_order=*/false)); }
  void Trim(uint64_t first, uint64_t count) { executor_.Run(TrimTask(first, count)); }
  void Reopen() {
    Close();
    Open(/*read_only=*/false);
  }
  void ForgetWaits() { longest_wait_ = 0; }
  int64_t longest_wait_ms() const { return longest_wait_ / kNanosPerMilli; }
  int64_t now() const { return poller_.Now(); }

  void ExpectWhole() {
    executor_.Run(CheckContent());
    Close();
    Open(/*read_only=*/true);
    executor_.Run(Verify());
    Close();
    Open(/*read_only=*/false);
  }

 private:
  Task<void> Format() {
    const sim::StoreShape shape{shape_.segments, shape_.segment_bytes};
    const absl::Status status = co_await sim::FormatStoreOn(&poller_, &disk_, shape);
    EXPECT_TRUE(status.ok()) << status;
  }
  void Open(bool read_only) { executor_.Run(OpenTask(read_only)); }
  Task<void> OpenTask(bool read_only) {
    StoreOptions options;
    options.read_only = read_only;
    auto store = co_await sim::OpenStoreOn(&poller_, &disk_, &metadata_, options);
    EXPECT_TRUE(store.ok()) << store.status();
    if (store.ok()) store_ = *std::move(store);
  }
  void Close() {
    if (store_ != nullptr) executor_.Run(store_->Stop());
    store_.reset();
  }
  Task<void> Create() {
    LogEntry create;
    create.kind = EntryKind::kVolumeCreate;
    create.position = {kGeneration, Seq(1)};
    VolumeCreateBody body;
    body.id = kVolume;
    body.name = "vol";
    body.size_bytes = values_.size() * kBlockSize;
    body.first_timeline = kTimeline;
    create.body = EncodeVolumeCreate(body);
    absl::Status status = co_await store_->Reserve(BlockCount(0), 1, RoomFor::kRecord);
    EXPECT_TRUE(status.ok()) << status;
    status = co_await store_->Append(kGeneration, create, {}, Durability::kDurable);
    EXPECT_TRUE(status.ok()) << status;
    store_->Commit(kCatalogueVolume, create.position);
  }

  Task<void> WriteAll(uint64_t blocks, bool in_order) {
    left_ = blocks;
    next_ = 0;
    TaskScope scope;
    for (uint64_t i = 0; i < shape_.writers; ++i) scope.Spawn(Writer(in_order));
    co_await scope.Join();
  }
  Task<void> Writer(bool in_order) {
    while (left_ > 0 && !::testing::Test::HasFailure()) {
      --left_;
      const uint64_t block = in_order ? next_++ : random_.Uniform(values_.size());
      const MonoNanos began = poller_.Now();
      const absl::Status room = co_await store_->Reserve(BlockCount(1), 1, RoomFor::kWrite);
      EXPECT_TRUE(room.ok()) << room;
      if (!room.ok()) co_return;
      AlignedBytes payload(kBlockSize);
      LogEntry entry;
      entry.volume = kVolume;
      entry.timeline = kTimeline;
      entry.range = {BlockIndex(block), BlockCount(1)};
      entry.position = {kGeneration, Seq(++seq_)};
      values_[block] = seq_;
      std::memcpy(payload.data(), &seq_, sizeof(seq_));
      entry.block_crcs.push_back(Crc32c(payload.span()));
      const absl::Status status =
          co_await store_->Append(kGeneration, entry, payload.span(), Durability::kDurable);
      EXPECT_TRUE(status.ok()) << status;
      store_->Commit(kVolume, entry.position);
      longest_wait_ = std::max(longest_wait_, poller_.Now() - began);
    }
  }
  Task<void> TrimTask(uint64_t first, uint64_t count) {
    const absl::Status room = co_await store_->Reserve(BlockCount(0), 1, RoomFor::kRecord);
    EXPECT_TRUE(room.ok()) << room;
    LogEntry entry;
    entry.kind = EntryKind::kZero;
    entry.volume = kVolume;
    entry.timeline = kTimeline;
    entry.range = {BlockIndex(first), BlockCount(count)};
    entry.position = {kGeneration, Seq(++seq_)};
    const absl::Status status =
        co_await store_->Append(kGeneration, entry, {}, Durability::kDurable);
    EXPECT_TRUE(status.ok()) << status;
    store_->Commit(kVolume, entry.position);
    for (uint64_t i = 0; i < count; ++i) values_[first + i] = 0;
  }

  Task<void> CheckContent() {
    constexpr uint64_t kStep = 256;
    AlignedBytes bytes(kStep * kBlockSize);
    for (uint64_t first = 0; first < values_.size(); first += kStep) {
      const BlockRange range{BlockIndex(first),
                             BlockCount(std::min<uint64_t>(kStep, values_.size() - first))};
      const auto extents = co_await store_->Read(
          kTimeline, kLastPosition, range, bytes.span().first(range.count.value() * kBlockSize));
      EXPECT_TRUE(extents.ok()) << extents.status();
      if (!extents.ok()) co_return;
      for (uint64_t i = 0; i < range.count.value(); ++i) {
        uint64_t value = 0;
        std::memcpy(&value, bytes.data() + i * kBlockSize, sizeof(value));
        EXPECT_EQ(value, values_[first + i]) << "block " << first + i;
      }
    }
  }
  Task<void> Verify() {
    const std::vector<std::string> problems = co_await sim::ProblemsOf(store_.get());
    for (const std::string& problem : problems) ADD_FAILURE() << problem;
  }

  const Shape shape_;
  Prng random_;
  sim::SimPoller poller_{1};
  Executor executor_;
  sim::SimDisk disk_;
  sim::SimMetadataDisk metadata_;
  std::unique_ptr<Store> store_;
  uint64_t capacity_ = 0;
  std::vector<uint64_t> values_;
  uint64_t seq_ = 0;
  uint64_t left_ = 0;
  uint64_t next_ = 0;
  MonoNanos longest_wait_ = 0;
};

TEST(Space, IsEnoughForOverwritingTenTimesTheStoresSizeM22) {
  Overwriting world({.segments = 16, .utilization = 0.5});
  world.FillUp();
  for (int round = 0; round < 5; ++round) {
    world.Overwrite(2 * world.capacity_blocks());
    world.ExpectWhole();
  }
  EXPECT_GT(world.store().log().free_segments(), 0u);
}

TEST(Space, AFullStoreOpensAndCleansAgainAndAgain) {
  Overwriting world({.segments = 16, .utilization = 0.6});
  world.FillUp();
  for (int round = 0; round < 8; ++round) {
    world.Overwrite(world.capacity_blocks() / 3);
    world.Reopen();
  }
  world.ExpectWhole();
}

TEST(Space, SlowsWritersDownRatherThanStoppingThemM23) {
  Overwriting world({.segments = 32, .utilization = 0.6});
  world.FillUp();
  world.Overwrite(3 * world.capacity_blocks());
  EXPECT_LT(world.longest_wait_ms(), 500);
}

// What the cleaner uses is lent to writers, so that more dead
// space can lie before it begins (docs/decisions/0018).
TEST(Space, CopiesLittleAndHoldsNobodyUpM23M25) {
  Overwriting world({.segment_bytes = uint64_t{8} << 20, .segments = 40, .utilization = 0.8});
  world.FillUp();
  world.Overwrite(2 * world.capacity_blocks());
  const uint64_t moved = world.store().cleaning_counters().moved_blocks;
  world.ForgetWaits();
  world.Overwrite(world.capacity_blocks());
  EXPECT_LT(static_cast<double>(world.store().cleaning_counters().moved_blocks - moved),
            1.8 * static_cast<double>(world.capacity_blocks()));
  EXPECT_LT(world.longest_wait_ms(), 150);
}

TEST(Space, MeasuresWriteAmplificationM25) {
  if (std::getenv("TWOFOLD_SPACE_MEASURE") == nullptr) {
    GTEST_SKIP() << "a measurement: set TWOFOLD_SPACE_MEASURE=1";
  }
  for (const double utilization : {0.5, 0.7, 0.8}) {
    for (const uint64_t writers : {1, 4, 16}) {
      Overwriting world({.segment_bytes = uint64_t{16} << 20,
                         .segments = 40,
                         .utilization = utilization,
                         .writers = writers});
      world.FillUp();
      world.Overwrite(3 * world.capacity_blocks());
      const SegmentLog::Counters before = world.store().log().counters();
      const uint64_t moved = world.store().cleaning_counters().moved_blocks;
      const int64_t began = world.now();
      const uint64_t blocks = 2 * world.capacity_blocks();
      world.Overwrite(blocks);
      const SegmentLog::Counters after = world.store().log().counters();
      const double written =
          static_cast<double>(after.payload_blocks - before.payload_blocks +
                              after.descriptor_blocks - before.descriptor_blocks);
      std::printf(
          "live %.0f %% of the capacity (%.0f %% of the segments), %lu writers: %.2f blocks "
          "written "
          "a block, %.2f moved, %.0f blocks a virtual second, longest wait %ld ms\n",
          100 * utilization,
          100.0 * static_cast<double>(world.volume_blocks()) * kBlockSize / (40.0 * (16 << 20)),
          writers, written / static_cast<double>(blocks),
          static_cast<double>(world.store().cleaning_counters().moved_blocks - moved) /
              static_cast<double>(blocks),
          static_cast<double>(blocks) * 1e9 / static_cast<double>(world.now() - began),
          world.longest_wait_ms());
      std::fflush(stdout);
    }
  }
}

}  // namespace
}  // namespace twofold
