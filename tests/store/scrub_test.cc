// A scrub of one store on a simulated disk: what it finds, where, and what it remembers. That it
// raises no false alarm while everything else goes on is shown by tests/sim/store_crash_test.cc.
#include "storage/store/scrub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/codec.h"
#include "storage/map/catalogue_codec.h"
#include "storage/map/key_codec.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task_scope.h"
#include "storage/store/store.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_metadata_store.h"
#include "tests/sim/sim_poller.h"
#include "tests/sim/store_world.h"

namespace twofold {
namespace {

using ::testing::HasSubstr;

constexpr VolumeId kVolume{1};
constexpr TimelineId kTimeline{1};
constexpr uint64_t kBlocks = 4096;
constexpr Generation kGeneration{1};

class ScrubTest : public ::testing::Test {
 protected:
  ScrubTest() : executor_(poller_), disk_("a"), metadata_(5, {}) {
    SetLogLevel(LogLevel::kError);
    const absl::Status status = executor_.Run(sim::FormatStoreOn(&poller_, &disk_, {}));
    EXPECT_TRUE(status.ok()) << status;
    Open();
    LogEntry create;
    create.kind = EntryKind::kVolumeCreate;
    VolumeCreateBody body;
    body.id = kVolume;
    body.name = "vol";
    body.size_bytes = kBlocks * kBlockSize;
    body.first_timeline = kTimeline;
    create.body = EncodeVolumeCreate(body);
    executor_.Run(Append(kCatalogueVolume, std::move(create), 0, 0));
  }
  ~ScrubTest() override { Close(); }

  void Open() {
    auto store = executor_.Run(sim::OpenStoreOn(&poller_, &disk_, &metadata_, StoreOptions()));
    EXPECT_TRUE(store.ok()) << store.status();
    if (store.ok()) store_ = *std::move(store);
  }
  void Close() {
    if (store_ != nullptr) executor_.Run(store_->Stop());
    store_.reset();
  }
  void Reopen() {
    Close();
    Open();
  }

  Task<void> Append(VolumeId volume, LogEntry entry, uint64_t count, uint64_t value) {
    AlignedBytes payload(count * kBlockSize);
    for (uint64_t i = 0; i < count; ++i) {
      const auto block = payload.span().subspan(i * kBlockSize, kBlockSize);
      std::memset(block.data(), static_cast<int>(value + i), block.size());
      entry.block_crcs.push_back(Crc32c(block));
    }
    absl::Status status = co_await store_->Reserve(BlockCount(count), 1,
                                                   count == 0 ? RoomFor::kRecord : RoomFor::kWrite);
    EXPECT_TRUE(status.ok()) << status;
    entry.volume = volume;
    entry.position = {kGeneration, Seq(++seq_[volume])};
    status = co_await store_->Append(kGeneration, entry, payload.span(), Durability::kDurable);
    EXPECT_TRUE(status.ok()) << status;
    store_->Commit(volume, entry.position);
  }
  void Write(uint64_t first, uint64_t count, uint64_t value) {
    executor_.Run(WriteTask(first, count, value));
  }
  Task<void> WriteTask(uint64_t first, uint64_t count, uint64_t value) {
    LogEntry entry;
    entry.timeline = kTimeline;
    entry.range = {BlockIndex(first), BlockCount(count)};
    co_await Append(kVolume, std::move(entry), count, value);
  }
  // Leaves the segment that is being written, whose copies are there when this returns.
  SegmentNumber SealAndCheckpoint() {
    const SegmentNumber segment = store_->log().end().segment;
    while (store_->log().end().segment == segment) Write(kBlocks - 64, 64, 77);
    Checkpoint();
    while (store_->segment_table().segments().at(segment).state != SegmentState::kSealed) {
      Write(kBlocks - 1, 1, 78);
    }
    return segment;
  }
  void Checkpoint() {
    const absl::Status status = executor_.Run(store_->Checkpoint());
    EXPECT_TRUE(status.ok()) << status;
  }

  ScrubReport Scrub(ScrubOptions options = {.bytes_per_second = 0}) {
    StoreScrub scrub(store_.get(), options);
    const absl::StatusOr<ScrubReport> report = executor_.Run(scrub.Run());
    EXPECT_TRUE(report.ok()) << report.status();
    if (!report.ok()) return {};
    EXPECT_EQ(scrub.progress().damaged_places, report->damaged_places);
    return *report;
  }
  // Exactly one place, and it is this one.
  void ExpectFound(LogAddress place, const std::string& what) {
    const ScrubReport report = Scrub();
    ASSERT_EQ(report.findings.size(), 1u);
    EXPECT_EQ(report.findings[0].segment, place.segment);
    EXPECT_EQ(report.findings[0].block, place.block);
    EXPECT_THAT(report.findings[0].what, HasSubstr(what));
  }

  Task<absl::StatusOr<ScrubReport>> RunBeside(StoreScrub* scrub, Task<void> other) {
    TaskScope scope;
    scope.Spawn(std::move(other));
    absl::StatusOr<ScrubReport> report = co_await scrub->Run();
    co_await scope.Join();
    co_return report;
  }
  Task<void> CancelIn(StoreScrub* scrub, int64_t nanos) {
    co_await poller_.Delay(nanos);
    scrub->Cancel();
  }
  Task<void> KeepWriting() {
    for (uint64_t i = 0; i < 100; ++i) {
      co_await WriteTask(i * 17 % 1900, 60, i);
      co_await poller_.Delay(10 * kNanosPerMilli);
      if (i % 10 != 0) continue;
      const absl::Status status = co_await store_->Checkpoint();
      EXPECT_TRUE(status.ok()) << status;
    }
  }
  Task<void> OverwriteOnceFound(StoreScrub* scrub) {
    while (scrub->progress().damaged_places == 0) co_await poller_.Delay(kNanosPerMilli);
    co_await WriteTask(7, 1, 99);
  }

  // Where the block lies now.
  LogAddress PlaceOf(uint64_t block) { return executor_.Run(FindPlace(block)); }
  Task<LogAddress> FindPlace(uint64_t block) {
    const BlockRange range{BlockIndex(block), BlockCount(1)};
    const auto pieces = co_await store_->map().Lookup(kTimeline, kLastPosition, range);
    EXPECT_TRUE(pieces.ok()) << pieces.status();
    if (!pieces.ok()) co_return LogAddress();
    co_return store_->map().forwarding().Resolve(pieces->at(0).run.address);
  }
  // Slots are taken in order, and none was recycled yet.
  static std::string FileOf(SegmentNumber segment) {
    return absl::StrFormat("log/%08d.seg", segment.value() - 1);
  }
  void Flip(LogAddress place, uint64_t byte) {
    disk_.FlipBit(FileOf(place.segment), uint64_t{place.block} * kBlockSize + byte, 3);
  }
  std::vector<LoggedBatch> Batches(SegmentNumber segment) {
    auto batches = executor_.Run(store_->ReadSegment(segment));
    EXPECT_TRUE(batches.ok()) << batches.status();
    return batches.ok() ? *std::move(batches) : std::vector<LoggedBatch>();
  }

  sim::SimPoller poller_{1};
  Executor executor_;
  sim::SimDisk disk_;
  sim::SimMetadataDisk metadata_;
  std::unique_ptr<Store> store_;
  std::map<VolumeId, uint64_t> seq_;
};

constexpr uint32_t kLastBlock = kMinSegmentBytes / kBlockSize - 1;

TEST_F(ScrubTest, AWholeStoreIsProvenAndStaysSoAfterARestart) {
  EXPECT_FALSE(store_->proof().has_value());
  Write(0, 200, 1);
  SealAndCheckpoint();
  Write(200, 20, 5);
  const ScrubReport report = Scrub();
  EXPECT_TRUE(report.whole());
  EXPECT_EQ(report.blocks, 200u + 20u + 64u);
  EXPECT_GT(report.bytes, report.blocks * kBlockSize);
  ASSERT_TRUE(store_->proof().has_value());
  const ProofRecord proof = *store_->proof();
  EXPECT_EQ(proof.bytes, report.bytes);
  EXPECT_EQ(proof.incarnation, store_->superblock().incarnation);
  Reopen();
  ASSERT_TRUE(store_->proof().has_value());
  EXPECT_EQ(*store_->proof(), proof);
}

TEST_F(ScrubTest, AProofThatCantBeReadIsNone) {
  EXPECT_TRUE(Scrub().whole());
  Close();
  metadata_.Overwrite(MetaKey(kProofName), "nonsense");
  Open();
  EXPECT_FALSE(store_->proof().has_value());
}

TEST_F(ScrubTest, FindsABadBlockAndProvesNothing) {
  Write(0, 20, 1);
  SealAndCheckpoint();
  Write(100, 20, 9);
  const LogAddress place = PlaceOf(7);
  Flip(place, 1000);
  ExpectFound(place, "block 7 of volume 1 (timeline 1, entry 1.1) fails its checksum");
  EXPECT_FALSE(store_->proof().has_value());
  // It is known as damage from now on.
  EXPECT_EQ(store_->damage_list().Segments(), std::vector<SegmentNumber>{place.segment});
  Flip(place, 1000);
  EXPECT_TRUE(Scrub().whole());
  EXPECT_TRUE(store_->proof().has_value());
}

TEST_F(ScrubTest, FindsABadBlockOfTheSegmentThatIsBeingWritten) {
  Write(0, 20, 1);
  const LogAddress place = PlaceOf(19);
  Flip(place, 5);
  ExpectFound(place, "block 19 of volume 1");
}

TEST_F(ScrubTest, SaysWhatAMovedBlockIs) {
  Write(10, 5, 1);
  const SegmentNumber segment = SealAndCheckpoint();
  const auto cleaned = executor_.Run(store_->Clean(segment, nullptr));
  ASSERT_TRUE(cleaned.ok()) << cleaned.status();
  const LogAddress place = PlaceOf(12);
  ASSERT_NE(place.segment, segment);
  Flip(place, 0);
  ExpectFound(place, "block 12 of volume 1 (timeline 1, entry 1.1)");
}

TEST_F(ScrubTest, WhatNobodyNeedsMayBeBad) {
  Write(0, 20, 1);
  const LogAddress place = PlaceOf(7);
  Write(7, 1, 9);
  Flip(place, 1000);
  EXPECT_TRUE(Scrub().whole());
}

TEST_F(ScrubTest, FindsAPlaceThatCantBeRead) {
  Write(0, 20, 1);
  const SegmentNumber segment = SealAndCheckpoint();
  const LogAddress place = PlaceOf(3);
  disk_.FailReads(FileOf(segment), uint64_t{place.block} * kBlockSize, kBlockSize);
  ExpectFound(place, "block 3 of volume 1 (timeline 1, entry 1.1) can't be read");
}

TEST_F(ScrubTest, AReadThatFailsOnceIsNoDamage) {
  Write(0, 20, 1);
  const SegmentNumber segment = SealAndCheckpoint();
  const LogAddress place = PlaceOf(3);
  disk_.FailReads(FileOf(segment), uint64_t{place.block} * kBlockSize, kBlockSize, 1);
  EXPECT_TRUE(Scrub().whole());
}

TEST_F(ScrubTest, EndsWhereTheDeviceDoesNotReadAtAll) {
  for (uint64_t first = 0; first < 2000; first += 2) Write(first, 1, 1);
  disk_.FailReads("", 0, sim::SimDisk::kToTheEnd);
  StoreScrub scrub(store_.get(), {.bytes_per_second = 0});
  const absl::StatusOr<ScrubReport> report = executor_.Run(scrub.Run());
  if (report.ok()) {
    EXPECT_FALSE(report->whole());
  } else {
    EXPECT_EQ(report.status().code(), absl::StatusCode::kUnavailable) << report.status();
  }
  EXPECT_FALSE(store_->proof().has_value());
  disk_.ClearFaults();
}

TEST_F(ScrubTest, FindsABadDescriptorOfASealedSegment) {
  Write(0, 5, 1);
  Write(5, 5, 2);
  const SegmentNumber segment = SealAndCheckpoint();
  const std::vector<LoggedBatch> batches = Batches(segment);
  ASSERT_GT(batches.size(), 2u);
  const LogAddress place{segment, batches[1].start.block};
  Flip(place, 60);
  ExpectFound(place, absl::StrCat("the descriptor of batch ", batches[1].start.batch.value()));
}

TEST_F(ScrubTest, FindsABadDescriptorOfTheSegmentThatIsBeingWritten) {
  Write(0, 5, 1);
  Write(5, 5, 2);
  const SegmentNumber segment = store_->log().end().segment;
  const LogAddress place{segment, Batches(segment).back().start.block};
  Flip(place, 60);
  const ScrubReport report = Scrub();
  ASSERT_GE(report.findings.size(), 1u);
  EXPECT_EQ(report.findings[0].block, place.block);
  EXPECT_THAT(report.findings[0].what, HasSubstr("descriptor"));
}

TEST_F(ScrubTest, FindsEachCopyOfAHeader) {
  Write(0, 5, 1);
  const SegmentNumber segment = SealAndCheckpoint();
  for (const size_t byte : {format::kHeaderCopy1Offset + 20, format::kHeaderCopy2Offset + 20}) {
    const LogAddress place{segment, 0};
    Flip(place, byte);
    ExpectFound(place, "the header is damaged");
    Flip(place, byte);
  }
  const LogAddress copy{segment, kLastBlock};
  Flip(copy, format::kTrailerHeaderOffset + 20);
  ExpectFound(copy, "the copy of the header is damaged");
}

TEST_F(ScrubTest, FindsBadCopiesOfDescriptorsAndStillChecksThePayload) {
  Write(0, 5, 1);
  const SegmentNumber segment = SealAndCheckpoint();
  const LogAddress trailer{segment, kLastBlock};
  Flip(trailer, format::kTrailerOffset + 20);
  ExpectFound(trailer, "the end of the segment is damaged");
  const LogAddress place = PlaceOf(4);
  Flip(place, 77);
  const ScrubReport both = Scrub();
  ASSERT_EQ(both.findings.size(), 2u);
  EXPECT_EQ(both.findings[0].block, place.block);
  EXPECT_EQ(both.findings[1].block, trailer.block);
  Flip(trailer, format::kTrailerOffset + 20);
  Flip(place, 77);
  // The copies themselves lie before the trailer.
  const std::string file = FileOf(segment);
  const absl::StatusOr<SegmentIdentity> identity =
      DecodeHeaderBlock(disk_.Peek(file, 0, kBlockSize));
  ASSERT_TRUE(identity.ok());
  const absl::StatusOr<SealRecord> seal =
      DecodeTrailer(disk_.Peek(file, uint64_t{kLastBlock} * kBlockSize, kBlockSize), *identity);
  ASSERT_TRUE(seal.ok());
  const LogAddress copies{segment, seal->first_block};
  Flip(copies, 30);
  ExpectFound(copies, "the copies of the descriptors are damaged");
}

TEST_F(ScrubTest, SaysWhenNothingTellsWhatABlockIs) {
  Write(0, 5, 1);
  Write(5, 5, 2);
  const SegmentNumber segment = SealAndCheckpoint();
  const std::vector<LoggedBatch> batches = Batches(segment);
  Flip({segment, kLastBlock}, format::kTrailerOffset + 20);
  Flip({segment, batches[1].start.block}, 60);
  const ScrubReport report = Scrub();
  bool unknown = false;
  for (const ScrubFinding& finding : report.findings) {
    unknown = unknown || absl::StrContains(finding.what, "the records of");
  }
  EXPECT_TRUE(unknown);
}

TEST_F(ScrubTest, FindsEachCopyOfTheSuperblock) {
  for (const uint64_t slot : {0u, 1u}) {
    disk_.FlipBit("SUPERBLOCK", slot * kBlockSize + 300, 1);
    const ScrubReport report = Scrub();
    ASSERT_EQ(report.findings.size(), 1u);
    EXPECT_THAT(report.findings[0].what, HasSubstr(absl::StrCat("copy ", slot, " in ")));
    disk_.FlipBit("SUPERBLOCK", slot * kBlockSize + 300, 1);
  }
  EXPECT_TRUE(Scrub().whole());
}

TEST_F(ScrubTest, FindsWhatTheMapCantGiveBack) {
  Write(0, 20, 1);
  Checkpoint();
  const std::string key = EncodeChunkKey({kTimeline, 0, kFirstPosition});
  ASSERT_TRUE(metadata_.contents().contains(key));
  const std::string value = metadata_.contents().at(key);
  metadata_.Damage(key);
  const ScrubReport report = Scrub();
  EXPECT_GE(report.damaged_places, 1u);
  EXPECT_EQ(report.findings.at(0).segment, SegmentNumber());
  EXPECT_FALSE(store_->proof().has_value());
  // The only copy goes on, and the next open rebuilds its map.
  EXPECT_TRUE(store_->health().ok()) << store_->health();
  EXPECT_NE(metadata_.marked(), "");
}

TEST_F(ScrubTest, WhereThereIsAnotherCopyAStoreWithADamagedMapLeavesM12) {
  Write(0, 20, 1);
  Checkpoint();
  AttachState two;
  two.membership_version = 7;
  two.in_sync = {std::string(32, 'a'), std::string(32, 'b')};
  two.configured = two.in_sync;
  EXPECT_TRUE(executor_.Run(store_->RecordMembership(two)).ok());
  Reopen();  // Nothing is in memory.
  metadata_.Damage(EncodeChunkKey({kTimeline, 0, kFirstPosition}));
  AlignedBytes block(kBlockSize);
  const BlockRange range{BlockIndex(3), BlockCount(1)};
  const auto read = executor_.Run(store_->Read(kTimeline, kLastPosition, range, block.span()));
  EXPECT_EQ(read.status().code(), absl::StatusCode::kDataLoss) << read.status();
  EXPECT_TRUE(store_->map_damaged());
  EXPECT_NE(metadata_.marked(), "") << "it would be opened again as it is";
  EXPECT_FALSE(store_->health().ok());
  EXPECT_THAT(std::string(store_->health().message()), HasSubstr("DAMAGED"));
}

TEST_F(ScrubTest, FindsAValueOfTheMapThatDoesNotDecode) {
  Write(0, 20, 1);
  Checkpoint();
  for (const std::string& key :
       {EncodeChunkKey({kTimeline, 0, kFirstPosition}), MetaKey(kCatalogueName),
        EncodeSegmentKey(Table::kLive, PlaceOf(0).segment),
        EncodeSegmentKey(Table::kUsage, PlaceOf(0).segment)}) {
    ASSERT_TRUE(metadata_.contents().contains(key));
    const std::string value = metadata_.contents().at(key);
    metadata_.Overwrite(key, value + "x");
    EXPECT_FALSE(Scrub().whole()) << absl::CHexEscape(key);
    metadata_.Overwrite(key, value);
  }
  EXPECT_TRUE(Scrub().whole());
}

TEST_F(ScrubTest, KeepsToItsRate) {
  for (uint64_t first = 0; first < 2000; first += 200) Write(first, 200, 1);
  const ScrubReport report = Scrub({.bytes_per_second = 1 << 20});
  EXPECT_TRUE(report.whole());
  const double seconds = static_cast<double>(report.duration_nanos) / kNanosPerSecond;
  EXPECT_NEAR(seconds, static_cast<double>(report.bytes) / (1 << 20), 1.0);
}

TEST_F(ScrubTest, EndsWhenItIsCancelled) {
  for (uint64_t first = 0; first < 2000; first += 200) Write(first, 200, 1);
  StoreScrub scrub(store_.get(), {.bytes_per_second = 1 << 20});
  const absl::StatusOr<ScrubReport> report =
      executor_.Run(RunBeside(&scrub, CancelIn(&scrub, 2 * kNanosPerSecond)));
  EXPECT_EQ(report.status().code(), absl::StatusCode::kCancelled);
  EXPECT_GT(scrub.progress().bytes_done, 0u);
  EXPECT_GT(scrub.progress().bytes_total, scrub.progress().bytes_done);
  EXPECT_FALSE(store_->proof().has_value());
}

// What is overwritten while it is read is no damage, nor is what is freed.
TEST_F(ScrubTest, WritersAndCheckpointsGoOn) {
  for (uint64_t first = 0; first < 2000; first += 100) Write(first, 100, 1);
  StoreScrub scrub(store_.get(), {.bytes_per_second = 4 << 20});
  const absl::StatusOr<ScrubReport> report = executor_.Run(RunBeside(&scrub, KeepWriting()));
  ASSERT_TRUE(report.ok()) << report.status();
  for (const ScrubFinding& finding : report->findings) ADD_FAILURE() << finding.what;
}

// What is bad and repaired while the pass still runs does not keep the store from being proven.
TEST_F(ScrubTest, WhatIsHealedMeanwhileIsReadAgain) {
  Write(0, 20, 1);
  SealAndCheckpoint();
  const LogAddress place = PlaceOf(7);
  Flip(place, 1000);
  StoreScrub scrub(store_.get(), {.bytes_per_second = 0});
  const absl::StatusOr<ScrubReport> report =
      executor_.Run(RunBeside(&scrub, OverwriteOnceFound(&scrub)));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->whole());
  EXPECT_EQ(report->healed_places, 1u);
  ASSERT_TRUE(store_->proof().has_value());
  EXPECT_EQ(store_->proof()->healed_places, 1u);
}

}  // namespace
}  // namespace twofold
