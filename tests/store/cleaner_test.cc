// Cleaning one segment, on a simulated disk: what moves, what it leaves, and what it refuses.
#include "storage/store/cleaner.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
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
constexpr uint64_t kBlocks = 4096;
constexpr Generation kGeneration{1};

class CleanerTest : public ::testing::Test {
 protected:
  CleanerTest() : executor_(poller_), disk_("a"), metadata_(5, {}) {
    SetLogLevel(LogLevel::kError);
    executor_.Run(Format());
    Open();
  }
  ~CleanerTest() override { Close(); }

  Task<void> Format() {
    const sim::StoreShape shape;
    const absl::Status status = co_await sim::FormatStoreOn(&poller_, &disk_, shape);
    EXPECT_TRUE(status.ok()) << status;
  }

  void Open(bool read_only = false) { executor_.Run(OpenTask(read_only)); }
  Task<void> OpenTask(bool read_only) {
    StoreOptions options;
    options.read_only = read_only;
    auto store = co_await sim::OpenStoreOn(&poller_, &disk_, &metadata_, options);
    EXPECT_TRUE(store.ok()) << store.status();
    if (!store.ok()) co_return;
    store_ = *std::move(store);
    if (read_only || seq_[kCatalogueVolume] > 0) co_return;
    LogEntry create;
    create.kind = EntryKind::kVolumeCreate;
    VolumeCreateBody body;
    body.id = kVolume;
    body.name = "vol";
    body.size_bytes = kBlocks * kBlockSize;
    body.first_timeline = kTimeline;
    create.body = EncodeVolumeCreate(body);
    co_await Append(kCatalogueVolume, std::move(create), {});
  }
  void Close() {
    if (store_ != nullptr) executor_.Run(store_->Stop());
    store_.reset();
  }
  // Nothing is lost but what was not logged.
  void Crash() {
    Prng random(1);
    disk_.Crash(sim::CrashKind::kProcess, random);
    metadata_.Crash();
    Close();
  }
  // Stops it, looks at it as `twofold inspect --verify` does, and opens it again.
  void ExpectWhole() {
    Close();
    Open(/*read_only=*/true);
    executor_.Run(VerifyTask());
    Close();
    Open();
  }
  Task<void> VerifyTask() {
    const std::vector<std::string> problems = co_await sim::ProblemsOf(store_.get());
    for (const std::string& problem : problems) ADD_FAILURE() << problem;
  }

  Task<void> Append(VolumeId volume, LogEntry entry, std::vector<uint64_t> values) {
    AlignedBytes payload(values.size() * kBlockSize);
    for (size_t i = 0; i < values.size(); ++i) {
      const auto block = payload.span().subspan(i * kBlockSize, kBlockSize);
      Fill(block, values[i]);
      entry.block_crcs.push_back(Crc32c(block));
    }
    absl::Status status = co_await store_->Reserve(
        BlockCount(values.size()), 1, values.empty() ? RoomFor::kRecord : RoomFor::kWrite);
    EXPECT_TRUE(status.ok()) << status;
    entry.volume = volume;
    entry.position = {kGeneration, Seq(++seq_[volume])};
    status = co_await store_->Append(kGeneration, entry, payload.span(), Durability::kDurable);
    EXPECT_TRUE(status.ok()) << status;
    store_->Commit(volume, entry.position);
    store_->map();  // It is applied here: the tests look from outside of the executor.
  }
  void Write(uint64_t first, uint64_t count, uint64_t value) {
    LogEntry entry;
    entry.timeline = kTimeline;
    entry.range = {BlockIndex(first), BlockCount(count)};
    executor_.Run(Append(kVolume, std::move(entry), std::vector<uint64_t>(count, value)));
    for (uint64_t i = 0; i < count; ++i) content_[first + i] = value;
  }
  void Zero(uint64_t first, uint64_t count) {
    LogEntry entry;
    entry.kind = EntryKind::kZero;
    entry.timeline = kTimeline;
    entry.range = {BlockIndex(first), BlockCount(count)};
    // g++ 12 takes the room for a checksum that a move would carry along for uninitialized.
    const LogEntry zero = entry;
    executor_.Run(Append(kVolume, zero, {}));
    for (uint64_t i = 0; i < count; ++i) content_[first + i] = 0;
  }
  // Fills the open segment with what is overwritten at once, and writes a checkpoint, so that all
  // that was written before can be cleaned.
  SegmentNumber SealAndCheckpoint() {
    const SegmentNumber segment = store_->log().end().segment;
    while (store_->log().end().segment == segment) Write(kBlocks - 64, 64, 77);
    Checkpoint();
    return segment;
  }
  void Checkpoint() {
    const absl::Status status = executor_.Run(store_->Checkpoint());
    EXPECT_TRUE(status.ok()) << status;
  }
  absl::StatusOr<CleanOutcome> Clean(SegmentNumber segment, BlockSource source = nullptr) {
    return executor_.Run(store_->Clean(segment, std::move(source)));
  }
  void ExpectContent() {
    for (uint64_t first = 0; first < kBlocks; first += 256) executor_.Run(CheckContent(first));
  }
  Task<void> CheckContent(uint64_t first) {
    AlignedBytes bytes(256 * kBlockSize);
    const BlockRange range{BlockIndex(first), BlockCount(256)};
    const auto extents = co_await store_->Read(kTimeline, kLastPosition, range, bytes.span());
    EXPECT_TRUE(extents.ok()) << extents.status();
    for (uint64_t i = 0; extents.ok() && i < 256; ++i) {
      uint64_t value = 0;
      std::memcpy(&value, bytes.data() + i * kBlockSize, sizeof(value));
      EXPECT_EQ(value, content_[first + i]) << "block " << first + i;
    }
  }
  Task<void> CleanWhileOverwriting(SegmentNumber segment) {
    TaskScope scope;
    scope.Spawn(CleanAndExpectOk(segment));
    for (uint64_t block = 0; block < 600; block += 7) {
      LogEntry entry;
      entry.timeline = kTimeline;
      entry.range = {BlockIndex(block), BlockCount(1)};
      co_await Append(kVolume, std::move(entry), std::vector<uint64_t>(1, block + 100));
      content_[block] = block + 100;
    }
    co_await scope.Join();
  }
  Task<void> CleanAndExpectOk(SegmentNumber segment) {
    const auto outcome = co_await store_->Clean(segment, nullptr);
    EXPECT_TRUE(outcome.ok()) << outcome.status();
  }
  static Task<absl::Status> GiveBlock(absl::Span<std::byte> into, uint64_t value) {
    Fill(into, value);
    co_return absl::OkStatus();
  }
  static void Fill(absl::Span<std::byte> block, uint64_t value) {
    for (size_t i = 0; i < block.size(); i += sizeof(value)) {
      std::memcpy(block.data() + i, &value, sizeof(value));
    }
  }
  bool Has(SegmentNumber segment) { return store_->segment_table().segments().contains(segment); }
  // Where the block lies now.
  LogAddress PlaceOf(uint64_t block) {
    std::vector<Piece> pieces;
    const BlockRange range{BlockIndex(block), BlockCount(1)};
    EXPECT_TRUE(store_->map().TryLookup(kTimeline, kLastPosition, range, &pieces));
    return store_->map().forwarding().Resolve(pieces.at(0).run.address);
  }
  void Damage(LogAddress place) {
    // Slots are taken in order, and none was recycled yet.
    disk_.FlipBit(absl::StrFormat("log/%08d.seg", place.segment.value() - 1),
                  uint64_t{place.block} * kBlockSize + 100, 3);
  }

  sim::SimPoller poller_{1};
  Executor executor_;
  sim::SimDisk disk_;
  sim::SimMetadataDisk metadata_;
  std::unique_ptr<Store> store_;
  std::map<VolumeId, uint64_t> seq_;
  std::map<uint64_t, uint64_t> content_;
};

TEST_F(CleanerTest, MovesWhatLivesAndTheNextCheckpointFreesTheSegmentM14) {
  Write(0, 100, 1);
  Write(50, 10, 2);
  Write(3000, 1, 3);
  const SegmentNumber segment = SealAndCheckpoint();
  const auto outcome = Clean(segment);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->moved_blocks, 101u);
  EXPECT_TRUE(Has(segment)) << "only a checkpoint frees it";
  ExpectContent();
  Checkpoint();
  EXPECT_FALSE(Has(segment));
  ExpectContent();
  ExpectWhole();
  ExpectContent();
}

TEST_F(CleanerTest, LeavesNothingBehindOfWhatDiesMeanwhile) {
  for (uint64_t first = 0; first < 600; first += 200) Write(first, 200, 1);
  const SegmentNumber segment = SealAndCheckpoint();
  executor_.Run(CleanWhileOverwriting(segment));
  Checkpoint();
  EXPECT_FALSE(Has(segment));
  ExpectContent();
  ExpectWhole();
}

TEST_F(CleanerTest, CarriesZeroRecordsWhileTheMapNeedsThemM17) {
  Write(0, 64, 1);
  Zero(10, 5);
  const SegmentNumber segment = SealAndCheckpoint();
  const auto outcome = Clean(segment);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->moved_zero_records, 1u);
  Checkpoint();
  EXPECT_FALSE(Has(segment));
  const SegmentNumber target = store_->map().forwarding().ResolveZeros(segment);
  EXPECT_EQ(store_->segment_table().segments().at(target).zero_blocks, 5u);
  ExpectContent();
  Write(0, 64, 2);  // Nothing is zero because of it any more.
  EXPECT_EQ(store_->segment_table().segments().at(target).zero_blocks, 0u);
  ExpectWhole();
}

TEST_F(CleanerTest, MovesWhatWasMovedBeforeM16) {
  Write(0, 40, 1);
  SegmentNumber segment = SealAndCheckpoint();
  for (int round = 0; round < 4; ++round) {
    ASSERT_TRUE(Clean(segment).ok());
    Checkpoint();
    EXPECT_FALSE(Has(segment));
    segment = PlaceOf(0).segment;
    SealAndCheckpoint();
    ExpectContent();
  }
  ExpectWhole();
  ExpectContent();
}

TEST_F(CleanerTest, TakesTheMovesOfALifeThatCrashedM15) {
  Write(0, 40, 1);
  Zero(30, 5);
  const SegmentNumber segment = SealAndCheckpoint();
  ASSERT_TRUE(Clean(segment).ok());
  Crash();
  Open();
  EXPECT_EQ(store_->segment_table().segments().at(segment).live_blocks, 0u);
  EXPECT_EQ(store_->segment_table().segments().at(segment).zero_blocks, 0u);
  Checkpoint();
  EXPECT_FALSE(Has(segment)) << "to be moved once more";
  ExpectContent();
  ExpectWhole();
}

TEST_F(CleanerTest, LetsForwardingEntriesGoAfterAReferencePassM16) {
  Write(0, 100, 1);
  Zero(20, 10);
  const SegmentNumber segment = SealAndCheckpoint();
  ASSERT_TRUE(Clean(segment).ok());
  Checkpoint();
  Close();
  Open();  // Nothing of the chunks is in memory.
  EXPECT_TRUE(store_->map().forwarding().Has(segment));
  ExpectContent();  // Now they are, with the old places.
  const absl::Status status = executor_.Run(store_->RenewReferences());
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(store_->map().forwarding().empty());
  ExpectContent();
  Write(0, 15, 2);  // What dies now is accounted for where it lies.
  Write(20, 5, 2);
  ExpectContent();
  ExpectWhole();
  EXPECT_TRUE(store_->map().forwarding().empty());
  ExpectContent();
}

TEST_F(CleanerTest, LeavesASegmentWithABadBlockAlone) {
  Write(0, 40, 1);
  const SegmentNumber segment = SealAndCheckpoint();
  Damage(PlaceOf(7));
  const auto outcome = Clean(segment);
  EXPECT_EQ(outcome.status().code(), absl::StatusCode::kDataLoss) << outcome.status();
  Checkpoint();
  EXPECT_TRUE(Has(segment));
  EXPECT_EQ(PlaceOf(7).segment, segment);
}

TEST_F(CleanerTest, EvacuatesADamagedSegmentWithBytesFromElsewhere) {
  Write(0, 40, 1);
  const SegmentNumber segment = SealAndCheckpoint();
  Damage(PlaceOf(7));
  std::vector<BlockIdentity> asked;
  const auto source = [&asked](BlockIdentity identity, absl::Span<std::byte> into) {
    asked.push_back(identity);
    return GiveBlock(into, 1);
  };
  const auto outcome = Clean(segment, source);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->replaced_blocks, 1u);
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].block, BlockIndex(7));
  EXPECT_EQ(asked[0].timeline, kTimeline);
  EXPECT_EQ(asked[0].position, (Position{kGeneration, Seq(1)}));
  Checkpoint();
  EXPECT_FALSE(Has(segment));
  ExpectContent();
  ExpectWhole();
}

TEST_F(CleanerTest, TakesNoBytesThatFailTheChecksumOfTheWrite) {
  Write(0, 40, 1);
  const SegmentNumber segment = SealAndCheckpoint();
  Damage(PlaceOf(7));
  const auto source = [](BlockIdentity, absl::Span<std::byte> into) { return GiveBlock(into, 9); };
  EXPECT_EQ(Clean(segment, source).status().code(), absl::StatusCode::kDataLoss);
  Checkpoint();
  EXPECT_TRUE(Has(segment));
}

TEST_F(CleanerTest, RefusesWhatIsBeingWrittenAndWhatIsNotThere) {
  Write(0, 1, 1);
  EXPECT_EQ(Clean(store_->log().end().segment).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Clean(SegmentNumber(1000)).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace twofold
