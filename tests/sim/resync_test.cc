// A stale or empty copy is brought level, on simulated disks, through crashes of either side.
//
// Two real stores. Random history goes to both, then to the source alone; then a resync runs while
// the source goes on being changed, and target, source or both die at a random instant, as often as
// the seed says. In the end the target must equal the source in every volume, snapshot and
// timeline, down to positions and checksums, with the same catalogue and exact accounting (R1-R4,
// R29-R31, M21); and after each crash it must be whole by itself, its state before the resync still
// there (R30). A seed replays a run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "replication/local_replica.h"
#include "replication/pair/attach.h"
#include "replication/pair/compare.h"
#include "replication/pair/resync.h"
#include "replication/volume/mount.h"
#include "replication/volume/pool.h"
#include "replication/volume/pool_resync.h"
#include "replication/volume/pool_state.h"
#include "replication/volume/volume.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/prng.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/departure_group.h"
#include "storage/map/catalogue_codec.h"
#include "storage/map/chunk.h"
#include "storage/map/key_codec.h"
#include "storage/map/resync_plan.h"
#include "storage/map/run_list.h"
#include "storage/runtime/cancel.h"
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

// Over 64 chunks: a trim of all of it is a tombstone (R38).
constexpr uint64_t kVolumeBlocks = (kMaxZeroedChunks + 8) * kChunkBlocks;
constexpr uint64_t kBusyBlocks = 160;  // where most of the writes go

// What a block shows: the identity of the entry that wrote it. Zeros have none: they are dropped
// where there is nothing below them (M7), which each copy finds out for itself.
struct Shown {
  Position position;
  uint32_t crc = 0;
  bool operator==(const Shown&) const = default;
};
using View = std::map<uint64_t, Shown>;

class Node {
 public:
  Node(std::string name, uint64_t seed, sim::SimPoller* poller, DepartureGroup* departures,
       Prng* random)
      : name_(std::move(name)),
        poller_(*poller),
        departures_(*departures),
        random_(*random),
        disk_(name_),
        metadata_(seed, {}) {}

  Task<void> Format() {
    sim::StoreShape shape;
    shape.segments = 48;
    const absl::Status status = co_await sim::FormatStoreOn(&poller_, &disk_, shape);
    EXPECT_TRUE(status.ok()) << status;
  }

  Task<bool> Open(bool read_only) {
    crashed_ = false;
    StoreOptions options = sim::RandomStoreOptions(random_, read_only);
    options.departures = &departures_;
    auto store = co_await sim::OpenStoreOn(&poller_, &disk_, &metadata_, options);
    EXPECT_TRUE(store.ok()) << name_ << ": " << store.status();
    if (!store.ok()) co_return false;
    store_ = store->get();
    replica_ = std::make_unique<LocalReplica>(*std::move(store));
    co_return true;
  }

  Task<void> Close() {
    if (replica_ != nullptr) co_await replica_->Stop();
    replica_.reset();
    store_ = nullptr;
  }

  void Crash() {
    if (crashed_) return;
    crashed_ = true;
    disk_.Crash(random_.OneIn(2) ? sim::CrashKind::kPower : sim::CrashKind::kProcess, random_);
    metadata_.Crash();
  }

  // It is rebuilt from the log when the store is opened again (M12).
  void LoseMap() { metadata_.Lose(); }

  // What an opening says that may be refused; closed again where it is not.
  Task<absl::Status> TryOpen() {
    const StoreOptions options = sim::RandomStoreOptions(random_, /*read_only=*/false);
    auto store = co_await sim::OpenStoreOn(&poller_, &disk_, &metadata_, options);
    if (store.ok()) co_await (*store)->Stop();
    co_return store.status();
  }

  // Opened read-only after a crash: whole by itself (P9), and with nothing of its old state lost.
  Task<void> Inspect() {
    const bool opened = co_await Open(/*read_only=*/true);
    if (opened) {
      const std::vector<std::string> problems = co_await sim::ProblemsOf(store_);
      for (const std::string& problem : problems) ADD_FAILURE() << name_ << ": " << problem;
    }
    co_await Close();
  }

  // The end of each stream becomes committed, as by attaching with this replica alone.
  Task<void> AttachAlone(Generation generation, bool commit) {
    const absl::StatusOr<SealReport> sealed = co_await replica_->Seal(generation);
    EXPECT_TRUE(sealed.ok()) << sealed.status();
    if (!sealed.ok() || !commit) co_return;
    for (const SealReport::Stream& stream : sealed->streams) {
      replica_->Commit(stream.volume, stream.end);
    }
  }

  // Gives the block that `position` wrote another checksum in every version of its chunk, past all
  // caches. False: the map does not say it there yet.
  bool Falsify(BlockIndex block, Position position) {
    for (const auto& [key_bytes, value] : metadata_.contents()) {
      const absl::StatusOr<ChunkKey> key = DecodeChunkKey(key_bytes);
      if (!key.ok() || key->chunk != ChunkOf(block)) continue;
      const absl::StatusOr<RunList> runs = RunList::Decode(key->chunk, value);
      EXPECT_TRUE(runs.ok()) << runs.status();
      RunList changed;
      bool any = false;
      for (Run run : runs->runs()) {
        if (run.position == position && run.kind == RunKind::kData && run.range.first <= block &&
            block < run.range.end()) {
          run.block_crcs[Distance(run.range.first, block).value()] ^= 0x10;
          any = true;
        }
        changed.Insert(run);
      }
      if (any) falsified_[key_bytes] = {value, changed.Encode(key->chunk)};
    }
    for (const auto& [key, values] : falsified_) metadata_.Overwrite(key, values.second);
    return !falsified_.empty();
  }
  // Where nothing was written over it meanwhile.
  void Restore() {
    for (const auto& [key, values] : falsified_) {
      const auto found = metadata_.contents().find(key);
      if (found != metadata_.contents().end() && found->second == values.second) {
        metadata_.Overwrite(key, values.first);
      }
    }
    falsified_.clear();
  }

  // For a pool, which stops it.
  std::unique_ptr<Replica> Give() { return std::move(replica_); }

  Store& store() { return *store_; }
  LocalReplica& replica() { return *replica_; }
  bool crashed() const { return crashed_; }
  bool open() const { return store_ != nullptr; }

 private:
  const std::string name_;
  sim::SimPoller& poller_;
  DepartureGroup& departures_;
  Prng& random_;
  sim::SimDisk disk_;
  sim::SimMetadataDisk metadata_;
  std::map<std::string, std::pair<std::string, std::string>> falsified_;  // what was, what is
  std::unique_ptr<LocalReplica> replica_;
  Store* store_ = nullptr;
  bool crashed_ = false;
};

class World {
 public:
  // `lose_maps`: whoever starts again may have lost its map meanwhile.
  explicit World(uint64_t seed, bool lose_maps = false)
      : lose_maps_(lose_maps),
        random_(seed),
        poller_(seed),
        executor_(poller_),
        source_("a", seed ^ 0xa, &poller_, &departures_, &random_),
        target_("b", seed ^ 0xb, &poller_, &departures_, &random_) {}

  void Run() { executor_.Run(RunAll()); }
  void RunTargetLosesMap() { executor_.Run(TargetLosesMap()); }
  // `fold`: what was trimmed was in a timeline that has been folded into another one since.
  void RunTrimBeforeRebuild(bool fold) { executor_.Run(TrimBeforeRebuild(fold)); }
  // Both have `blocks` written blocks, the source alone has rewritten `changed` of them since. The
  // bytes that the resync sends.
  uint64_t BytesOfDelta(uint64_t blocks, uint64_t changed, ResyncOptions options = {}) {
    uint64_t bytes = 0;
    executor_.Run(Delta(blocks, changed, std::move(options), &bytes));
    return bytes;
  }
  int64_t filling_nanos() const { return filling_nanos_; }
  uint64_t crashes() const { return crashes_; }
  uint64_t resumed() const { return resumed_; }
  uint64_t compared_blocks() const { return compared_blocks_; }
  uint64_t lies_found() const { return lies_found_; }
  uint64_t maps_lost() const { return maps_lost_; }
  uint64_t refused() const { return refused_; }

 private:
  Task<void> RunAll() {
    co_await source_.Format();
    co_await target_.Format();
    bool opened = co_await source_.Open(false);
    if (opened) opened = co_await target_.Open(false);
    if (!opened) co_return;
    co_await Seal(true);
    in_sync_ = true;
    if (!random_.OneIn(4)) co_await Change(random_.Uniform(120), /*structure=*/true);
    if (random_.OneIn(2)) co_await LeaveDeadTail();
    in_sync_ = false;
    co_await Seal(false);
    co_await RememberOldState();
    // At once: how far the target was committed may not be in its log yet.
    if (!random_.OneIn(3)) co_await Change(random_.Uniform(200), true);
    if (lose_maps_) co_await LoseMaps();
    if (::testing::Test::HasFailure()) co_return;

    const uint64_t crashes = random_.Uniform(4);
    for (uint64_t i = 0; i < crashes && !::testing::Test::HasFailure(); ++i) {
      co_await TryResync(/*crash=*/true);
      co_await ReopenAfterCrash();
      if (::testing::Test::HasFailure()) co_return;
      if (random_.OneIn(2)) co_await Change(random_.Uniform(60), true);
    }
    if (::testing::Test::HasFailure()) co_return;
    co_await ResyncToTheEnd();
    if (!::testing::Test::HasFailure()) co_await CheckEqual();
    EXPECT_FALSE(target_.store().proof().has_value()) << "what it was given was not looked at";
    // Both take what comes, as after joining.
    in_sync_ = true;
    if (!::testing::Test::HasFailure()) co_await Change(random_.Uniform(80), true);
    if (!::testing::Test::HasFailure()) co_await CheckEqual();
    if (!::testing::Test::HasFailure()) co_await CompareWhileChanging();
    // Last: what it has read of the lie stays in memory.
    if (!::testing::Test::HasFailure()) co_await CompareWithALie();
    co_await source_.Close();
    co_await target_.Close();
    if (!::testing::Test::HasFailure()) co_await target_.Inspect();
  }

  // A volume that is deleted before its tail was sent takes with it which ids were given in it; the
  // next pass brings them.
  Task<void> ResyncToTheEnd() {
    for (int passes = 0; passes < 4; ++passes) {
      volume_deleted_ = false;
      co_await TryResync(/*crash=*/false);
      if (::testing::Test::HasFailure()) co_return;
      if (!volume_deleted_) break;
      if (target_.store().catalogue().Encode() == catalogue().Encode()) break;
    }
  }

  // Stopped and started again, their maps gone; the target's is no one's but its own to make (P9).
  Task<void> LoseMaps() {
    if (random_.OneIn(4)) source_.Crash();
    co_await ReopenWithoutMap(&source_);
    if (random_.OneIn(2)) co_await ReopenWithoutMap(&target_);
    if (::testing::Test::HasFailure()) co_return;
    co_await Seal(false);
    co_await target_.AttachAlone(generation_, /*commit=*/false);
    if (random_.OneIn(2)) co_await Change(random_.Uniform(60), true);
  }

  Task<void> ReopenWithoutMap(Node* node) {
    co_await node->Close();
    node->LoseMap();
    ++maps_lost_;
    bool opened = co_await node->Open(false);
    if (opened && random_.OneIn(2)) {
      co_await node->Close();
      co_await node->Inspect();
      opened = co_await node->Open(false);
    }
    EXPECT_TRUE(opened);
  }

  // The target's process ends in the middle of a resync, and its map is gone as well. What it was
  // given may be in its log without the catalogue that goes with it: then it is refused, however
  // often it is tried, and never served as something older. Else the resync goes on.
  Task<void> TargetLosesMap() {
    co_await source_.Format();
    co_await target_.Format();
    bool opened = co_await source_.Open(false);
    if (opened) opened = co_await target_.Open(false);
    if (!opened) co_return;
    co_await Seal(true);
    in_sync_ = true;
    co_await CreateVolume();
    co_await Change(60, true);
    in_sync_ = false;
    co_await Seal(false);
    co_await Change(150, true);
    if (::testing::Test::HasFailure()) co_return;
    co_await target_.AttachAlone(generation_, /*commit=*/false);
    TaskScope scope;
    scope.Spawn(CrashTargetOnceItIsFilled());
    co_await TryResync(/*crash=*/false);
    co_await scope.Join();
    const bool crashed = target_.crashed();
    co_await target_.Close();
    if (::testing::Test::HasFailure() || !crashed) {
      co_await source_.Close();
      co_return;
    }
    target_.LoseMap();
    ++maps_lost_;
    absl::Status status = co_await target_.TryOpen();
    if (!status.ok()) {
      ++refused_;
      EXPECT_TRUE(absl::IsDataLoss(status)) << status;
      EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("being brought level"));
      const absl::Status again = co_await target_.TryOpen();
      EXPECT_EQ(again, status);
      co_await source_.Close();
      co_return;
    }
    opened = co_await target_.Open(false);
    if (!opened) co_return;
    co_await Seal(false);
    co_await target_.AttachAlone(generation_, /*commit=*/false);
    co_await ResyncToTheEnd();
    if (!::testing::Test::HasFailure()) co_await CheckEqual();
    co_await source_.Close();
    co_await target_.Close();
  }

  Task<void> CrashTargetOnceItIsFilled() {
    while (!target_.store().resyncing()) co_await poller_.Delay(100'000);
    co_await poller_.Delay(static_cast<int64_t>(random_.Uniform(5 * kNanosPerMilli)));
    if (target_.store().resyncing()) target_.Crash();
  }

  // What the source trimmed while the target was away, and of which its log has nothing left but
  // the trim: its map, made anew, does not say since when it is zero.
  Task<void> TrimBeforeRebuild(bool fold) {
    co_await source_.Format();
    co_await target_.Format();
    bool opened = co_await source_.Open(false);
    if (opened) opened = co_await target_.Open(false);
    if (!opened) co_return;
    co_await Seal(true);
    in_sync_ = true;
    co_await CreateVolume();
    const VolumeRecord volume = catalogue().volumes().begin()->second;
    for (uint64_t block = 0; block < kBusyBlocks; ++block) co_await Write(block, 1);
    // The trims come into another segment: they stay, and what they are over goes.
    co_await WriteUpToSegment(source_.store().log().end().segment.Next());
    in_sync_ = false;
    co_await Seal(false);
    co_await Zero(3, 5);
    co_await Zero(kChunkBlocks, 2 * kChunkBlocks);
    co_await Write(0, 3);
    co_await Write(8, kChunkBlocks - 8);
    for (uint64_t block = 3 * kChunkBlocks; block < kBusyBlocks; ++block) co_await Write(block, 1);
    co_await Write(kBusyBlocks, 32);
    co_await Write(kBusyBlocks + 32, 32);
    bool kept = co_await Snapshot(volume, "trimmed");
    EXPECT_TRUE(kept);
    co_await Zero(0, kVolumeBlocks);
    kept = co_await Snapshot(volume, "empty");
    EXPECT_TRUE(kept);
    // Until all that the first segments held is gone, and they were used again.
    co_await WriteUpToSegment(SegmentNumber(2 * source_.store().usage().segments));
    if (::testing::Test::HasFailure()) co_return;
    co_await ReopenWithoutMap(&source_);
    if (::testing::Test::HasFailure()) co_return;
    const BlockRange trimmed{BlockIndex(kChunkBlocks), BlockCount(2 * kChunkBlocks)};
    const auto pieces =
        co_await source_.store().map().Lookup(volume.current_timeline, kLastPosition, trimmed);
    EXPECT_TRUE(pieces.ok()) << pieces.status();
    EXPECT_FALSE((*pieces)[0].mapped) << "the map still says it: this shows nothing";
    co_await Seal(false);
    if (fold) co_await FoldBase(volume.id);
    if (::testing::Test::HasFailure()) co_return;
    co_await target_.AttachAlone(generation_, /*commit=*/false);
    co_await TryResync(/*crash=*/false);
    if (!::testing::Test::HasFailure()) co_await CheckEqual();
    co_await source_.Close();
    co_await target_.Close();
    // What it was told is in its own log.
    if (!::testing::Test::HasFailure()) co_await ReopenWithoutMap(&target_);
    if (!::testing::Test::HasFailure()) opened = co_await source_.Open(false);
    if (!::testing::Test::HasFailure()) co_await CheckEqual();
    co_await source_.Close();
    co_await target_.Close();
  }

  // A timeline that is nothing but the base of the current one, folded into that in the source.
  Task<void> FoldBase(VolumeId volume) {
    // What the target has, and what the end of the base shows again.
    co_await Write(kBusyBlocks / 2, 8);
    const bool kept = co_await Snapshot(catalogue().volumes().at(volume), "base");
    EXPECT_TRUE(kept);
    const SnapshotRecord base = *catalogue().FindSnapshot(volume, "base");
    LogEntry start;
    start.kind = EntryKind::kTimelineStart;
    start.volume = volume;
    start.timeline = catalogue().next_timeline_id();
    TimelineStartBody body;
    body.id = start.timeline;
    body.parent = base.timeline;
    body.fork = base.position;
    body.size_bytes = base.size_bytes;
    start.body = EncodeTimelineStart(body);
    const bool started = co_await Append(std::move(start), AlignedBytes());
    EXPECT_TRUE(started);
    co_await Write(kBusyBlocks / 2 + 4, 8);
    std::vector<SnapshotRecord> snapshots;
    for (const auto& [id, snapshot] : catalogue().snapshots()) snapshots.push_back(snapshot);
    for (const SnapshotRecord& snapshot : snapshots) {
      LogEntry entry;
      entry.kind = EntryKind::kSnapshotDelete;
      entry.volume = snapshot.volume;
      entry.timeline = snapshot.timeline;
      entry.body = EncodeSnapshotDelete({snapshot.id});
      const bool deleted = co_await Append(std::move(entry), AlignedBytes());
      EXPECT_TRUE(deleted);
    }
    for (int i = 0; i < 1000 && source_.store().map().counters().folded == 0; ++i) {
      const absl::Status status = co_await source_.store().Checkpoint();
      EXPECT_TRUE(status.ok()) << status;
      co_await poller_.Delay(kNanosPerMilli);
    }
    EXPECT_EQ(source_.store().map().counters().folded, 1u);
  }

  Task<void> WriteUpToSegment(SegmentNumber segment) {
    for (uint64_t i = 0; source_.store().log().end().segment < segment; ++i) {
      co_await Write(kBusyBlocks + 32 * (i % 2), 32);
      EXPECT_LT(i, 100'000u);
      if (::testing::Test::HasFailure()) co_return;
    }
  }

  Task<void> Zero(uint64_t first, uint64_t count) {
    LogEntry entry;
    entry.kind = EntryKind::kZero;
    entry.volume = catalogue().volumes().begin()->first;
    entry.timeline = catalogue().volumes().begin()->second.current_timeline;
    entry.range = {BlockIndex(first), BlockCount(count)};
    const bool zeroed = co_await Append(std::move(entry), AlignedBytes());
    EXPECT_TRUE(zeroed);
  }

  Task<void> Delta(uint64_t blocks, uint64_t changed, ResyncOptions options, uint64_t* bytes) {
    co_await source_.Format();
    co_await target_.Format();
    bool opened = co_await source_.Open(false);
    if (opened) opened = co_await target_.Open(false);
    if (!opened) co_return;
    co_await Seal(true);
    in_sync_ = true;
    co_await CreateVolume();
    for (uint64_t block = 0; block < blocks; ++block) co_await Write(block, 1);
    in_sync_ = false;
    co_await Seal(false);
    for (uint64_t i = 0; i < changed; ++i) co_await Write(i * blocks / changed, 1);
    co_await target_.AttachAlone(generation_, /*commit=*/false);
    absl::Status status = co_await source_.replica().PinForResync();
    EXPECT_TRUE(status.ok()) << status;
    co_await Freeze();
    absl::StatusOr<Catalogue> goal = MakeGoal(catalogue());
    EXPECT_TRUE(goal.ok()) << goal.status();
    Resync resync(&source_.replica(), &target_.replica(), generation_, std::move(options));
    const int64_t began = poller_.Now();
    status = co_await resync.FillTo(*std::move(goal));
    EXPECT_TRUE(status.ok()) << status;
    filling_nanos_ = poller_.Now() - began;
    *bytes = resync.progress().bytes_done;
    co_await Finish(&resync);
    source_.replica().UnpinForResync();
    frozen_.clear();
    co_await CheckEqual();
    co_await source_.Close();
    co_await target_.Close();
  }

  Task<void> Write(uint64_t first, uint64_t count) {
    LogEntry entry;
    entry.kind = EntryKind::kWrite;
    entry.volume = catalogue().volumes().begin()->first;
    entry.timeline = catalogue().volumes().begin()->second.current_timeline;
    entry.range = {BlockIndex(first), BlockCount(count)};
    AlignedBytes payload = NextPayload(&entry);
    const bool written = co_await Append(std::move(entry), std::move(payload));
    EXPECT_TRUE(written);
  }

  // Different in each block, its checksums in `entry`.
  AlignedBytes NextPayload(LogEntry* entry) {
    AlignedBytes payload(entry->range.count.value() * kBlockSize);
    for (size_t at = 0; at < payload.size(); at += kBlockSize) {
      const auto block = payload.span().subspan(at, kBlockSize);
      ++value_;
      for (size_t i = 0; i < kBlockSize; i += sizeof(value_)) {
        std::memcpy(block.data() + i, &value_, sizeof(value_));
      }
      entry->block_crcs.push_back(Crc32c(block));
    }
    return payload;
  }

  Task<void> Seal(bool target_too) {
    generation_ = generation_.Next();
    co_await source_.AttachAlone(generation_, /*commit=*/true);
    if (target_too) co_await target_.AttachAlone(generation_, /*commit=*/true);
  }

  // ---- Changing -------------------------------------------------------------------------------

  const Catalogue& catalogue() { return source_.store().catalogue(); }

  Position NextPosition(VolumeId volume) {
    const auto stream = catalogue().streams().find(volume);
    const Seq last = stream == catalogue().streams().end() ? Seq() : stream->second.applied.seq;
    return {generation_, last.Next()};
  }

  // To the source, and to the target while it is in-sync; committed when it returns true.
  Task<bool> Append(LogEntry entry, AlignedBytes payload) {
    const BlockCount blocks(entry.block_crcs.size());
    const RoomFor use = blocks.value() > 0 ? RoomFor::kWrite : RoomFor::kRecord;
    absl::Status status = co_await source_.replica().Reserve(blocks, 1, use);
    if (absl::IsResourceExhausted(status)) co_return false;
    if (source_.crashed()) co_return false;
    EXPECT_TRUE(status.ok()) << status;
    if (!status.ok()) co_return false;
    // Only now: what was appended meanwhile is behind it.
    entry.position = NextPosition(entry.volume);
    entry.stamp = ++stamp_;
    status =
        co_await source_.replica().Append(generation_, entry, payload.span(), Durability::kDurable);
    if (source_.crashed()) co_return false;
    EXPECT_TRUE(status.ok()) << status;
    if (in_sync_) {
      status = co_await target_.replica().Reserve(blocks, 1, use);
      EXPECT_TRUE(status.ok()) << status;
      status = co_await target_.replica().Append(generation_, entry, payload.span(),
                                                 Durability::kDurable);
      EXPECT_TRUE(status.ok()) << status;
      target_.replica().Commit(entry.volume, entry.position);
    }
    source_.replica().Commit(entry.volume, entry.position);
    EXPECT_TRUE(source_.store().health().ok()) << source_.store().health();
    co_return status.ok();
  }

  Task<void> Change(uint64_t steps, bool structure) {
    for (uint64_t i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
      co_await ChangeOnce(structure);
      if (source_.crashed()) co_return;
    }
  }

  Task<void> ChangeOnce(bool structure) {
    const uint64_t choice = random_.Uniform(100);
    if (catalogue().volumes().empty() || (structure && choice < 2)) {
      if (catalogue().volumes().size() < 3) co_await CreateVolume();
      co_return;
    }
    auto it = catalogue().volumes().begin();
    std::advance(it, random_.Uniform(catalogue().volumes().size()));
    const VolumeRecord volume = it->second;
    if (structure && choice >= 85) {
      co_await ChangeStructure(volume, choice);
    } else {
      co_await ChangeBlocks(volume, choice);
    }
  }

  Task<void> ChangeBlocks(VolumeRecord volume, uint64_t choice) {
    LogEntry entry;
    entry.volume = volume.id;
    entry.timeline = volume.current_timeline;
    const uint64_t size = volume.size_bytes / kBlockSize;
    const uint64_t reach = random_.OneIn(6) ? size : std::min(size, kBusyBlocks);
    const uint64_t first = random_.Uniform(reach);
    const uint64_t count =
        1 + random_.Uniform(std::min<uint64_t>(reach - first, random_.OneIn(5) ? 48 : 4));
    entry.range = {BlockIndex(first), BlockCount(count)};
    AlignedBytes payload;
    if (choice < 72) {
      entry.kind = EntryKind::kWrite;
      payload = NextPayload(&entry);
    } else {
      entry.kind = EntryKind::kZero;
      if (random_.OneIn(6)) entry.range = {BlockIndex(0), BlockCount(size)};
    }
    const bool ignored = co_await Append(std::move(entry), std::move(payload));
    (void)ignored;
  }

  Task<void> ChangeStructure(VolumeRecord volume, uint64_t choice) {
    std::vector<SnapshotRecord> snapshots;
    for (const auto& [id, snapshot] : catalogue().snapshots()) {
      if (snapshot.volume == volume.id && !frozen_.contains(id)) snapshots.push_back(snapshot);
    }
    if (choice < 91 || (snapshots.empty() && choice < 98)) {
      const bool ignored = co_await Snapshot(volume, absl::StrCat("s", ++names_));
      (void)ignored;
      co_return;
    }
    LogEntry entry;
    entry.volume = volume.id;
    if (choice < 98) {
      const SnapshotRecord snapshot = snapshots[random_.Uniform(snapshots.size())];
      if (choice < 95) {
        entry.kind = EntryKind::kSnapshotDelete;
        entry.timeline = snapshot.timeline;
        entry.body = EncodeSnapshotDelete({snapshot.id});
      } else {
        if (random_.OneIn(2)) {
          const bool kept = co_await Snapshot(volume, absl::StrCat("before-", ++names_));
          if (!kept) co_return;
        }
        entry.kind = EntryKind::kTimelineStart;
        TimelineStartBody body;
        body.id = catalogue().next_timeline_id();
        body.parent = snapshot.timeline;
        body.fork = snapshot.position;
        body.size_bytes = snapshot.size_bytes;
        entry.timeline = body.id;
        entry.body = EncodeTimelineStart(body);
      }
    } else if (choice < 99) {
      entry.kind = EntryKind::kResize;
      entry.timeline = volume.current_timeline;
      entry.body = EncodeResize({(kVolumeBlocks + random_.Uniform(64)) * kBlockSize});
    } else {
      volume_deleted_ = true;
      entry.kind = EntryKind::kVolumeDelete;
      entry.body = EncodeVolumeDelete({volume.id});
      entry.volume = kCatalogueVolume;
    }
    const bool ignored = co_await Append(std::move(entry), AlignedBytes());
    (void)ignored;
  }

  Task<void> DeleteASnapshot() {
    for (const auto& [id, snapshot] : catalogue().snapshots()) {
      if (frozen_.contains(id) || random_.OneIn(2)) continue;
      LogEntry entry;
      entry.kind = EntryKind::kSnapshotDelete;
      entry.volume = snapshot.volume;
      entry.timeline = snapshot.timeline;
      entry.body = EncodeSnapshotDelete({id});
      const bool ignored = co_await Append(std::move(entry), AlignedBytes());
      (void)ignored;
      co_return;
    }
  }

  Task<bool> Snapshot(VolumeRecord volume, std::string name) {
    LogEntry entry;
    entry.kind = EntryKind::kSnapshot;
    entry.volume = volume.id;
    entry.timeline = volume.current_timeline;
    SnapshotBody body;
    body.id = catalogue().next_snapshot_id();
    body.name = std::move(name);
    entry.body = EncodeSnapshot(body);
    co_return co_await Append(std::move(entry), AlignedBytes());
  }

  Task<void> CreateVolume() {
    LogEntry entry;
    entry.kind = EntryKind::kVolumeCreate;
    entry.volume = kCatalogueVolume;
    VolumeCreateBody body;
    body.id = catalogue().next_volume_id();
    body.name = absl::StrCat("v", body.id.value());
    body.size_bytes = kVolumeBlocks * kBlockSize;
    body.first_timeline = catalogue().next_timeline_id();
    entry.body = EncodeVolumeCreate(body);
    const bool ignored = co_await Append(std::move(entry), AlignedBytes());
    (void)ignored;
  }

  // Entries that the target logs, and that no head ever acknowledged: another head gives their Seqs
  // to others (R1, R3).
  Task<void> LeaveDeadTail() {
    if (catalogue().volumes().empty()) co_return;
    const VolumeRecord volume = catalogue().volumes().begin()->second;
    Position position = NextPosition(volume.id);
    for (uint64_t i = 0; i < 1 + random_.Uniform(4); ++i) {
      LogEntry entry;
      entry.kind = EntryKind::kZero;
      entry.volume = volume.id;
      entry.timeline = volume.current_timeline;
      entry.range = {BlockIndex(0), BlockCount(kVolumeBlocks)};
      entry.position = position;
      position.seq = position.seq.Next();
      absl::Status status = co_await target_.replica().Reserve(BlockCount(0), 1, RoomFor::kRecord);
      EXPECT_TRUE(status.ok()) << status;
      status = co_await target_.replica().Append(generation_, entry, {}, Durability::kDurable);
      EXPECT_TRUE(status.ok()) << status;
    }
  }

  // ---- The resync -----------------------------------------------------------------------------

  // Ends level, or with a crash of somebody.
  Task<void> TryResync(bool crash) {
    if (!target_.store().resyncing()) co_await RememberOldState();
    if (target_.store().resyncing()) ++resumed_;
    absl::Status status = co_await source_.replica().PinForResync();
    EXPECT_TRUE(status.ok()) << status;
    co_await Freeze();
    if (::testing::Test::HasFailure()) co_return;
    absl::StatusOr<Catalogue> goal = MakeGoal(catalogue());
    EXPECT_TRUE(goal.ok()) << goal.status();
    if (!goal.ok()) co_return;

    Resync resync(&source_.replica(), &target_.replica(), generation_, {});
    TaskScope scope;
    working_ = true;
    scope.Spawn(KeepChanging());
    if (crash) scope.Spawn(CrashSomebody());
    status = co_await resync.FillTo(*std::move(goal));
    EXPECT_TRUE(status.ok() || source_.crashed() || target_.crashed()) << status;
    for (int rounds = 0; status.ok() && rounds < 3; ++rounds) {
      const absl::StatusOr<Resync::Sent> sent = co_await resync.SendTail();
      status = sent.status();
      EXPECT_TRUE(status.ok() || source_.crashed() || target_.crashed()) << status;
    }
    working_ = false;
    co_await scope.Join();
    if (status.ok() && !source_.crashed() && !target_.crashed()) co_await Finish(&resync);
    if (!source_.crashed()) source_.replica().UnpinForResync();
    frozen_.clear();
  }

  // As joining: nothing new is given a Seq meanwhile.
  Task<void> Finish(Resync* resync) {
    co_await DeleteFrozen();
    for (;;) {
      const absl::StatusOr<Resync::Sent> sent = co_await resync->SendTail();
      EXPECT_TRUE(sent.ok()) << sent.status();
      if (!sent.ok() || sent->entries == 0) co_return;
    }
  }

  Task<void> Freeze() {
    frozen_.clear();
    const std::map<VolumeId, VolumeRecord> volumes = catalogue().volumes();
    for (const auto& [id, volume] : volumes) {
      const SnapshotId snapshot = catalogue().next_snapshot_id();
      const bool taken = co_await Snapshot(volume, absl::StrCat("frozen-", ++names_));
      EXPECT_TRUE(taken);
      frozen_.insert(snapshot);
    }
  }

  Task<void> KeepChanging() {
    while (working_ && !source_.crashed() && !::testing::Test::HasFailure()) {
      // What the source lets go of now is still to be sent.
      if (random_.OneIn(4)) co_await DeleteASnapshot();
      if (!source_.crashed()) co_await ChangeOnce(/*structure=*/true);
      if (!source_.crashed() && random_.OneIn(8)) {
        const absl::Status status = co_await source_.store().Checkpoint();
        EXPECT_TRUE(status.ok() || source_.crashed()) << status;
      }
      co_await poller_.Delay(static_cast<int64_t>(random_.Uniform(2 * kNanosPerMilli)));
    }
  }

  Task<void> CrashSomebody() {
    const int64_t longest = random_.OneIn(2) ? 60 * kNanosPerMilli : 600 * kNanosPerMilli;
    const int64_t until = poller_.Now() + static_cast<int64_t>(random_.Uniform(longest));
    while (poller_.Now() < until && working_) {
      co_await poller_.Delay(static_cast<int64_t>(random_.Uniform(kNanosPerMilli)));
    }
    if (working_) ++crashes_;
    const uint64_t who = random_.Uniform(3);
    if (who != 0) target_.Crash();
    if (who != 1) source_.Crash();
  }

  Task<void> ReopenAfterCrash() {
    for (Node* node : {&source_, &target_}) {
      if (!node->crashed()) continue;
      co_await node->Close();
      co_await node->Inspect();
      // One that is being brought level has no map but its own (docs/decisions/0050).
      if (lose_maps_ && node == &source_ && random_.OneIn(2)) {
        node->LoseMap();
        ++maps_lost_;
      }
      const bool opened = co_await node->Open(false);
      if (!opened) co_return;
    }
    generation_ = generation_.Next();
    co_await source_.AttachAlone(generation_, /*commit=*/true);
    co_await target_.AttachAlone(generation_, /*commit=*/false);
    if (target_.store().resyncing()) co_await CheckOldState();
  }

  // ---- Comparing the two maps -----------------------------------------------------------------

  // As of one position of each volume, whatever comes meanwhile.
  Task<absl::StatusOr<CompareReport>> CompareMaps(bool changing) {
    for (Node* node : {&source_, &target_}) {
      const absl::Status held = co_await node->replica().HoldPoints();
      EXPECT_TRUE(held.ok()) << held;
    }
    co_await Freeze();
    absl::StatusOr<Catalogue> first = MakeGoal(catalogue());
    absl::StatusOr<Catalogue> second = MakeGoal(target_.store().catalogue());
    EXPECT_TRUE(first.ok()) << first.status();
    EXPECT_TRUE(second.ok()) << second.status();
    absl::StatusOr<CompareReport> report = absl::UnknownError("");
    if (first.ok() && second.ok()) {
      Comparison comparison(&source_.replica(), &target_.replica());
      TaskScope scope;
      working_ = changing;
      if (changing) scope.Spawn(KeepChanging());
      report = co_await comparison.Run(*std::move(first), *std::move(second));
      working_ = false;
      co_await scope.Join();
    }
    for (Node* node : {&source_, &target_}) node->replica().LetPointsGo();
    co_await DeleteFrozen();
    frozen_.clear();
    co_return report;
  }

  Task<void> CompareWhileChanging() {
    const absl::StatusOr<CompareReport> report = co_await CompareMaps(/*changing=*/true);
    EXPECT_TRUE(report.ok()) << report.status();
    if (!report.ok()) co_return;
    for (const Difference& difference : report->differences) {
      ADD_FAILURE() << difference.volume << "@" << difference.snapshot << " block "
                    << difference.range.first << ": " << difference.first << " and "
                    << difference.second;
    }
    EXPECT_EQ(report->different_blocks, 0u);
    compared_blocks_ += report->blocks;
  }

  // One checksum in the target's map is not what it was given: found, with the volume and the
  // block.
  Task<void> CompareWithALie() {
    if (catalogue().volumes().empty()) co_return;
    const absl::Status saved = co_await target_.store().Checkpoint();
    EXPECT_TRUE(saved.ok()) << saved;
    const VolumeRecord volume = catalogue().volumes().begin()->second;
    View shown = co_await Look(&target_, volume.current_timeline, kLastPosition);
    // Of what it wrote itself there is one copy in the map; what it has from others may be repeated
    // in it (MAP_AND_SPACE M8), and it is those that are compared.
    const Position opened = catalogue().timelines().at(volume.current_timeline).opened;
    std::erase_if(shown, [&opened](const auto& block) { return block.second.position < opened; });
    if (shown.empty()) co_return;
    auto chosen = shown.begin();
    std::advance(chosen, random_.Uniform(shown.size()));
    if (!target_.Falsify(BlockIndex(chosen->first), chosen->second.position)) co_return;
    const absl::StatusOr<CompareReport> report = co_await CompareMaps(/*changing=*/false);
    target_.Restore();
    EXPECT_TRUE(report.ok()) << report.status();
    if (!report.ok()) co_return;
    bool found = false;
    for (const Difference& difference : report->differences) {
      const BlockIndex block(chosen->first);
      found = found || (difference.volume == volume.name && difference.range.first <= block &&
                        block < difference.range.end());
      EXPECT_NE(difference.first, difference.second);
    }
    EXPECT_TRUE(found) << "block " << chosen->first << " of " << volume.name;
    ++lies_found_;
  }

  Task<void> DeleteFrozen() {
    for (const SnapshotId id : frozen_) {
      const auto found = catalogue().snapshots().find(id);
      if (found == catalogue().snapshots().end()) continue;
      LogEntry entry;
      entry.kind = EntryKind::kSnapshotDelete;
      entry.volume = found->second.volume;
      entry.timeline = found->second.timeline;
      entry.body = EncodeSnapshotDelete({id});
      const bool deleted = co_await Append(std::move(entry), AlignedBytes());
      EXPECT_TRUE(deleted);
    }
  }

  // ---- Looking --------------------------------------------------------------------------------

  Task<View> Look(Node* node, TimelineId timeline, Position as_of) {
    View view;
    const BlockRange all{BlockIndex(0), BlockCount(kVolumeBlocks + 64)};
    const auto pieces = co_await node->store().map().Lookup(timeline, as_of, all);
    EXPECT_TRUE(pieces.ok()) << pieces.status();
    if (!pieces.ok()) co_return view;
    for (const Piece& piece : *pieces) {
      if (!piece.mapped || piece.run.kind == RunKind::kZero) continue;
      for (size_t i = 0; i < piece.run.block_crcs.size(); ++i) {
        view[piece.run.range.first.value() + i] = {piece.run.position, piece.run.block_crcs[i]};
      }
    }
    co_return view;
  }

  Task<void> RememberOldState() {
    old_.clear();
    const Catalogue& had = target_.store().catalogue();
    for (const auto& [id, volume] : had.volumes()) {
      const Position applied = had.streams().at(id).applied;
      old_[{volume.current_timeline, {applied.generation, applied.seq.Next()}}] =
          co_await Look(&target_, volume.current_timeline, kLastPosition);
    }
  }

  Task<void> CheckOldState() {
    const std::vector<PinRecord> pins = target_.store().catalogue().pins();
    for (const PinRecord& pin : pins) {
      if (!pin.old_state) continue;
      const auto old = old_.find({pin.timeline, pin.position});
      EXPECT_NE(old, old_.end());
      if (old == old_.end()) co_return;
      const View now = co_await Look(&target_, pin.timeline, pin.position);
      EXPECT_EQ(now == old->second, true)
          << "the state before the resync, timeline " << pin.timeline;
    }
  }

  Task<void> CheckEqual() {
    const Catalogue& ours = target_.store().catalogue();
    EXPECT_EQ(ours.Encode() == catalogue().Encode(), true);
    EXPECT_TRUE(ours.pins().empty());
    EXPECT_FALSE(target_.store().resyncing());
    const std::map<TimelineId, TimelineRecord> timelines = catalogue().timelines();
    for (const auto& [id, timeline] : timelines) {
      // What a fork point without a name shows, its children show: each set folds it into the last
      // of them when it gets to it.
      std::vector<Position> points;
      for (const auto& [snapshot, record] : catalogue().snapshots()) {
        if (record.timeline == id) points.push_back(record.position);
      }
      const auto volume = catalogue().volumes().find(timeline.volume);
      if (volume != catalogue().volumes().end() && volume->second.current_timeline == id) {
        points.push_back(kLastPosition);
      }
      for (const Position& point : points) {
        const View theirs = co_await Look(&source_, id, point);
        const View mine = co_await Look(&target_, id, point);
        EXPECT_EQ(mine == theirs, true) << "timeline " << id << " at " << point;
        for (const auto& [block, shown] : theirs) {
          const auto found = mine.find(block);
          if (found != mine.end() && found->second == shown) continue;
          ADD_FAILURE() << "block " << block << " of " << shown.position << ", there "
                        << (found == mine.end() ? Position() : found->second.position);
          co_return;
        }
        if (::testing::Test::HasFailure()) co_return;
      }
    }
  }

  const bool lose_maps_;
  uint64_t maps_lost_ = 0;
  uint64_t refused_ = 0;
  Prng random_;
  sim::SimPoller poller_;
  Executor executor_;
  DepartureGroup departures_;
  Node source_;
  Node target_;
  Generation generation_;
  bool in_sync_ = false;
  WallNanos stamp_ = 0;
  uint64_t value_ = 0;
  uint64_t names_ = 0;
  uint64_t crashes_ = 0;
  uint64_t resumed_ = 0;
  uint64_t compared_blocks_ = 0;
  uint64_t lies_found_ = 0;
  std::set<SnapshotId> frozen_;
  bool working_ = false;
  bool volume_deleted_ = false;
  int64_t filling_nanos_ = 0;
  std::map<std::pair<TimelineId, Position>, View> old_;  // by the pin that should keep it
};

TEST(Resync, MakesAStaleCopyEqualThroughCrashes) {
  SetLogLevel(LogLevel::kError);
  const uint64_t first = sim::FromEnvironment("TWOFOLD_SEED", 1);
  const uint64_t count = sim::FromEnvironment("TWOFOLD_SEEDS", 60);
  uint64_t crashes = 0;
  uint64_t resumed = 0;
  uint64_t compared_blocks = 0;
  uint64_t lies_found = 0;
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("TWOFOLD_SEED=", seed, " TWOFOLD_SEEDS=1"));
    World world(seed);
    world.Run();
    crashes += world.crashes();
    resumed += world.resumed();
    compared_blocks += world.compared_blocks();
    lies_found += world.lies_found();
  }
  // What the test is for did happen.
  if (count >= 60) {
    EXPECT_GT(crashes, count / 4);
    EXPECT_GT(resumed, count / 10);
    EXPECT_GT(compared_blocks, 10 * count);
    EXPECT_GT(lies_found, count / 4);
  }
}

TEST(Resync, MakesAStaleCopyEqualFromARebuiltMapR19) {
  SetLogLevel(LogLevel::kError);
  const uint64_t first = sim::FromEnvironment("TWOFOLD_SEED", 1);
  const uint64_t count = sim::FromEnvironment("TWOFOLD_SEEDS", 60);
  uint64_t lost = 0;
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("TWOFOLD_SEED=", seed, " TWOFOLD_SEEDS=1"));
    World world(seed, /*lose_maps=*/true);
    world.Run();
    lost += world.maps_lost();
  }
  EXPECT_GE(lost, count);
}

TEST(Resync, ATargetThatLosesItsMapInTheMiddleIsRefusedOrGoesOnM12) {
  SetLogLevel(LogLevel::kError);
  const uint64_t first = sim::FromEnvironment("TWOFOLD_SEED", 1);
  const uint64_t count = sim::FromEnvironment("TWOFOLD_SEEDS", 30);
  uint64_t lost = 0;
  uint64_t refused = 0;
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("TWOFOLD_SEED=", seed, " TWOFOLD_SEEDS=1"));
    World world(seed);
    world.RunTargetLosesMap();
    lost += world.maps_lost();
    refused += world.refused();
  }
  if (count < 30) return;
  EXPECT_GT(lost, count / 4);
  EXPECT_GT(refused, 0u);
  EXPECT_LT(refused, lost);
}

TEST(Resync, ARebuiltSourceLeavesNothingThatWasTrimmedR19) {
  SetLogLevel(LogLevel::kError);
  World(11, /*lose_maps=*/true).RunTrimBeforeRebuild(/*fold=*/false);
}

TEST(Resync, ARebuiltSourceThatHasFoldedLeavesNothingThatWasTrimmedR19) {
  SetLogLevel(LogLevel::kError);
  World(11, /*lose_maps=*/true).RunTrimBeforeRebuild(/*fold=*/true);
}

// A pool with one replica, clients that write, and a copy that joins.
class PoolWorld {
 public:
  explicit PoolWorld(uint64_t seed)
      : random_(seed),
        poller_(seed),
        executor_(poller_),
        source_("a", seed ^ 0xa, &poller_, &departures_, &random_),
        target_("b", seed ^ 0xb, &poller_, &departures_, &random_) {}

  // `rate`: of the resync, bytes a second; 0: no limit.
  void Run(bool admitted, uint64_t rate = 0) {
    rate_ = rate;
    // The three clients write about twice what it lets through.
    if (rate > 0) longest_pause_nanos_ = 3 * kBlockSize * kNanosPerSecond / rate;
    executor_.Run(RunAll(admitted));
  }

  // How long a client waited for a write at most.
  int64_t longest_write_nanos() const { return longest_write_nanos_; }

 private:
  Task<void> RunAll(bool admitted) {
    co_await source_.Format();
    co_await target_.Format();
    bool opened = co_await source_.Open(false);
    if (opened) opened = co_await target_.Open(false);
    if (!opened) co_return;
    // As attached with the source alone.
    Attached attached;
    attached.membership.pool_id = std::string(32, '1');
    attached.membership.generation = Generation(1);
    attached.membership.in_sync.push_back(source_.replica().store_id());
    co_await source_.AttachAlone(Generation(1), /*commit=*/true);
    Pool::Parts parts;
    parts.replicas.push_back(source_.Give());
    Replica* const source = parts.replicas[0].get();
    attached.in_sync.push_back(source);
    parts.witness = std::make_unique<sim::SimWitness>(&stored_);
    parts.buffer_pool_bytes = kDefaultBufferPoolBytes;
    {
      PoolState pool(std::move(parts), attached);
      co_await BringIn(&pool, source, admitted);
    }
    co_await target_.Close();
    if (!::testing::Test::HasFailure()) co_await target_.Inspect();
  }

  Task<void> BringIn(PoolState* pool, Replica* source, bool admitted) {
    const Generation generation = pool->set.generation();
    co_await target_.AttachAlone(generation, /*commit=*/false);
    Volume* const volume = co_await MakeVolume(pool);
    {
      Mount mount(volume, "vol", volume->timeline(), kLastPosition, 0);
      for (int i = 0; i < 100; ++i) co_await WriteOnce(&mount);
      std::vector<SnapshotName> names;
      names.push_back({"vol", "kept"});
      const auto kept = co_await CreateSnapshots(pool, names);
      EXPECT_TRUE(kept.ok()) << kept.status();

      TaskScope clients;
      writing_ = true;
      for (int i = 0; i < 3; ++i) clients.Spawn(KeepWriting(&mount));
      ResyncOptions options;
      options.rate_bytes_per_second = rate_;
      options.client_requests = [pool] { return pool->set.begun(); };
      Resync resync(source, &target_.replica(), generation, std::move(options));
      const std::function<Task<absl::Status>()> admit = [this, source, volume, admitted] {
        return Admit(source, volume, admitted);
      };
      const absl::Status status =
          co_await BringLevel(pool, &resync, source, &target_.replica(), admit);
      EXPECT_EQ(status.ok(), admitted) << status;
      EXPECT_TRUE(asked_);
      EXPECT_EQ(resync.progress().phase,
                admitted ? ResyncProgress::Phase::kDone : ResyncProgress::Phase::kFailed);
      // Clients go on, whatever came of it.
      const uint64_t before = writes_;
      while (writes_ < before + 20 && !::testing::Test::HasFailure()) {
        co_await poller_.Delay(kNanosPerMilli);
      }
      writing_ = false;
      co_await clients.Join();
      for (const auto& [id, snapshot] : pool->catalogue().snapshots()) {
        EXPECT_EQ(snapshot.name, "kept");
      }
    }
    pool->stopped = true;
    co_await pool->set.Stop();
    for (const auto& replica : pool->parts.replicas) co_await replica->Stop();
  }

  Task<Volume*> MakeVolume(PoolState* pool) {
    VolumeCreateBody body;
    body.id = pool->catalogue().next_volume_id();
    body.name = "vol";
    body.size_bytes = kVolumeBlocks * kBlockSize;
    body.first_timeline = pool->catalogue().next_timeline_id();
    LogEntry entry;
    entry.kind = EntryKind::kVolumeCreate;
    entry.timeline = body.first_timeline;
    entry.body = EncodeVolumeCreate(body);
    const absl::Status status =
        co_await pool->AppendToCatalogue(std::move(entry), RoomFor::kRecord);
    EXPECT_TRUE(status.ok()) << status;
    const VolumeRecord& record = pool->catalogue().volumes().at(body.id);
    pool->volumes[body.id] =
        std::make_unique<Volume>(record, pool->volume_parts(), kFirstPosition, /*last_stamp=*/0);
    co_return pool->volumes[body.id].get();
  }

  Task<void> WriteOnce(Mount* mount) {
    const uint64_t block = random_.Uniform(kVolumeBlocks);
    Buffer payload = mount->buffers().TryAllocate(kBlockSize);
    EXPECT_FALSE(payload.empty());
    std::memset(payload.data(), static_cast<int>(1 + random_.Uniform(200)), kBlockSize);
    const int64_t began = poller_.Now();
    const absl::Status status =
        co_await mount->Write(block * kBlockSize, kBlockSize, std::move(payload), /*fua=*/false);
    EXPECT_TRUE(status.ok()) << status;
    longest_write_nanos_ = std::max(longest_write_nanos_, poller_.Now() - began);
    ++writes_;
  }

  Task<void> KeepWriting(Mount* mount) {
    while (writing_ && !::testing::Test::HasFailure()) {
      co_await WriteOnce(mount);
      co_await poller_.Delay(static_cast<int64_t>(random_.Uniform(longest_pause_nanos_)));
    }
  }

  // Nothing is given a Seq meanwhile, and the copy has all of it (R23).
  Task<absl::Status> Admit(Replica* source, Volume* volume, bool admitted) {
    asked_ = true;
    const Position end = volume->position();
    co_await poller_.Delay(20 * kNanosPerMilli);
    EXPECT_EQ(volume->position(), end);
    const Replica& copy = target_.replica();
    EXPECT_EQ(copy.catalogue().streams().at(volume->id()).applied, end);
    EXPECT_EQ(copy.catalogue().Encode() == source->catalogue().Encode(), true);
    AlignedBytes ours(kVolumeBlocks * kBlockSize);
    AlignedBytes theirs(kVolumeBlocks * kBlockSize);
    const BlockRange all{BlockIndex(0), BlockCount(kVolumeBlocks)};
    const auto mine =
        co_await target_.replica().Read(volume->timeline(), kLastPosition, all, ours.span());
    const auto other = co_await source->Read(volume->timeline(), kLastPosition, all, theirs.span());
    EXPECT_TRUE(mine.ok() && other.ok());
    EXPECT_EQ(std::memcmp(ours.data(), theirs.data(), ours.size()), 0);
    co_return admitted ? absl::OkStatus() : absl::UnavailableError("the witness is silent");
  }

  Prng random_;
  sim::SimPoller poller_;
  Executor executor_;
  DepartureGroup departures_;
  Node source_;
  Node target_;
  std::optional<Membership> stored_;
  bool writing_ = false;
  bool asked_ = false;
  uint64_t writes_ = 0;
  uint64_t rate_ = 0;
  uint64_t longest_pause_nanos_ = kNanosPerMilli;  // of a client
  int64_t longest_write_nanos_ = 0;
};

TEST(Resync, ACopyJoinsWhileClientsWriteAndHasAllWhenItDoes) {
  SetLogLevel(LogLevel::kError);
  for (uint64_t seed = 1; seed <= 5 && !HasFailure(); ++seed)
    PoolWorld(seed).Run(/*admitted=*/true);
}

TEST(Resync, ACopyThatIsNotAdmittedLeavesThePoolAsItWas) {
  SetLogLevel(LogLevel::kError);
  for (uint64_t seed = 1; seed <= 5 && !HasFailure(); ++seed) {
    PoolWorld(seed).Run(/*admitted=*/false);
  }
}

TEST(Resync, ClientsDontWaitForWhatTheRateHoldsBack) {
  SetLogLevel(LogLevel::kError);
  PoolWorld world(1);
  world.Run(/*admitted=*/true, kMinResyncRateBytes);
  EXPECT_LT(world.longest_write_nanos(), kNanosPerSecond / 4);
}

TEST(Resync, MovesLittleMoreThanWhatChanged) {
  constexpr uint64_t kBlocks = 2000;
  World world(7);
  const uint64_t bytes = world.BytesOfDelta(kBlocks, kBlocks / 100);
  EXPECT_GE(bytes, kBlocks / 100 * kBlockSize);
  EXPECT_LE(bytes, kBlocks / 100 * 2 * kBlockSize);
}

TEST(Resync, FillsMoreChunksThanAPageHas) {
  static_assert(kVolumeBlocks / kChunkBlocks > 64);
  World world(7);
  EXPECT_EQ(world.BytesOfDelta(kVolumeBlocks, kVolumeBlocks), kVolumeBlocks * kBlockSize);
}

TEST(Resync, GoesNoFasterThanItsRate) {
  constexpr uint64_t kBlocks = 1500;
  ResyncOptions options;
  options.rate_bytes_per_second = uint64_t{1} << 20;
  World world(7);
  const uint64_t bytes = world.BytesOfDelta(kBlocks, kBlocks, options);
  EXPECT_EQ(bytes, kBlocks * kBlockSize);
  // The first piece goes at once.
  const uint64_t waited = bytes - kMaxEntryBlocks * kBlockSize;
  EXPECT_GE(world.filling_nanos(), static_cast<int64_t>(waited * kNanosPerSecond >> 20));
}

}  // namespace
}  // namespace twofold
