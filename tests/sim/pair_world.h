// Two real stores on simulated disks under a ReplicaSet and a Repairer, and a client with its model
// of what it wrote: what tests of rot share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "replication/local_replica.h"
#include "replication/pair/repair.h"
#include "replication/pair/replica_set.h"
#include "replication/pair/resync.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "storage/base/status_macros.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/departure_group.h"
#include "storage/map/catalogue_codec.h"
#include "storage/map/resync_plan.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/sync.h"
#include "storage/store/store.h"
#include "tests/replication/sim_witness.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_metadata_store.h"
#include "tests/sim/sim_poller.h"
#include "tests/sim/store_world.h"

namespace twofold::sim {

inline constexpr uint64_t kVolumeBlocks = 512;
inline constexpr uint64_t kSegmentBlocks = kMinSegmentBytes / kBlockSize;
inline constexpr size_t kMaxSnapshots = 4;
inline constexpr uint64_t kSegments = 24;

// What each block holds; one that is not here holds zeros.
using Content = std::map<uint64_t, uint64_t>;

inline void FillBlock(uint64_t value, absl::Span<std::byte> block) {
  for (size_t i = 0; i < kBlockSize; i += sizeof(value)) {
    std::memcpy(block.data() + i, &value, sizeof(value));
  }
}

class Side {
 public:
  Side(std::string name, uint64_t seed, SimPoller* poller, DepartureGroup* departures, Prng* random)
      : poller_(*poller),
        departures_(*departures),
        random_(*random),
        disk_(std::move(name)),
        metadata_(seed, {}) {}

  Task<bool> Format() {
    const absl::Status status = co_await FormatStoreOn(&poller_, &disk_, {.segments = kSegments});
    EXPECT_TRUE(status.ok()) << status;
    co_return status.ok();
  }

  Task<bool> Open() {
    StoreOptions options = RandomStoreOptions(random_, /*read_only=*/false);
    options.departures = &departures_;
    auto store = co_await OpenStoreOn(&poller_, &disk_, &metadata_, options);
    EXPECT_TRUE(store.ok()) << disk_.name() << ": " << store.status();
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

  // By itself, closed.
  Task<void> Inspect() {
    StoreOptions options;
    options.read_only = true;
    auto store = co_await OpenStoreOn(&poller_, &disk_, &metadata_, options);
    EXPECT_TRUE(store.ok()) << store.status();
    if (!store.ok()) co_return;
    const std::vector<std::string> problems = co_await ProblemsOf(store->get());
    for (const std::string& problem : problems) ADD_FAILURE() << disk_.name() << ": " << problem;
    co_await (*store)->Stop();
  }

  void Crash() {
    disk_.Crash(random_.OneIn(2) ? CrashKind::kPower : CrashKind::kProcess, random_);
    metadata_.Crash();
  }

  // It is rebuilt from the log when the store is opened again (M12). Closed.
  void LoseMap() { metadata_.Lose(); }

  // The file of a segment, as the disk knows it.
  std::string PathOf(SegmentNumber segment) {
    const std::string where = store_->log().Locate({segment, 0});
    const std::string path = where.substr(0, where.find(" at byte"));
    return path.substr(disk_.name().size() + 1);
  }

  Store& store() { return *store_; }
  LocalReplica& replica() { return *replica_; }
  SimDisk& disk() { return disk_; }

 private:
  SimPoller& poller_;
  DepartureGroup& departures_;
  Prng& random_;
  SimDisk disk_;
  SimMetadataDisk metadata_;
  std::unique_ptr<LocalReplica> replica_;
  Store* store_ = nullptr;
};

// The two stores, the set, and a client with its model of what it wrote.
class Pair {
 public:
  explicit Pair(uint64_t seed)
      : random_(seed), poller_(seed), executor_(poller_), witness_(&stored_) {
    sides_.push_back(std::make_unique<Side>("a", seed ^ 0xa, &poller_, &departures_, &random_));
    sides_.push_back(std::make_unique<Side>("b", seed ^ 0xb, &poller_, &departures_, &random_));
  }

  Executor& executor() { return executor_; }
  SimPoller& poller() { return poller_; }
  Prng& random() { return random_; }
  Side& side(size_t index) { return *sides_[index]; }
  ReplicaSet& set() { return *set_; }
  Repairer& repairer() { return *repairer_; }

  Task<bool> Start() {
    for (auto& side : sides_) {
      const bool formatted = co_await side->Format();
      if (!formatted) co_return false;
    }
    const bool opened = co_await Open();
    if (opened) co_await CreateVolume();
    co_return opened;
  }

  // Both, as attached: sealed, and level since nothing was in flight.
  Task<bool> Open() {
    generation_ = generation_.Next();
    for (auto& side : sides_) {
      const bool opened = co_await side->Open();
      if (!opened) co_return false;
      const absl::StatusOr<SealReport> sealed = co_await side->replica().Seal(generation_);
      EXPECT_TRUE(sealed.ok()) << sealed.status();
      if (!sealed.ok()) co_return false;
      if (IsStale(*side)) continue;
      for (const SealReport::Stream& stream : sealed->streams) {
        side->replica().Commit(stream.volume, stream.end);
      }
    }
    Membership membership;
    membership.pool_id = std::string(32, '1');
    membership.generation = generation_;
    membership.version = ++version_;
    std::vector<Replica*> replicas;
    for (auto& side : sides_) {
      membership.configured.push_back(side->replica().store_id());
      if (IsStale(*side)) continue;
      replicas.push_back(&side->replica());
      membership.in_sync.push_back(side->replica().store_id());
    }
    stored_ = membership;
    set_ = std::make_unique<ReplicaSet>(replicas, membership, &witness_);
    repairer_ = std::make_unique<Repairer>(set_.get());
    co_return true;
  }

  Task<void> Close() {
    repairer_->Cancel();
    co_await set_->Stop();
    repairer_.reset();
    set_.reset();
    for (auto& side : sides_) co_await side->Close();
  }

  // ---- A set that misses what is written, and comes back
  // -----------------------------------------

  // The second side misses all that comes from now on. As after a restart.
  Task<bool> LeaveBehind() {
    co_await Close();
    stale_ = true;
    co_return co_await Open();
  }

  // Brings it level from the first one, up to joining the set. Without clients.
  Task<absl::Status> BringLevel(ResyncProgress* progress) {
    Replica& source = side(0).replica();
    Resync resync(&source, &side(1).replica(), generation_, {});
    absl::Status status = co_await BringLevel(&resync);
    source.UnpinForResync();
    *progress = resync.progress();
    if (status.ok()) status = co_await set_->Admit(&side(1).replica());
    if (status.ok()) stale_ = false;
    co_return status;
  }
  bool stale() const { return stale_; }

  // ---- The client -------------------------------------------------------------------------------

  const Catalogue& catalogue() { return set_->catalogue(); }
  const VolumeRecord& volume() { return catalogue().volumes().begin()->second; }

  // Committed on both when it returns.
  Task<bool> Append(LogEntry entry, AlignedBytes payload) {
    const BlockCount blocks(entry.block_crcs.size());
    const absl::Status reserved =
        co_await set_->Reserve(blocks, 1, blocks.value() > 0 ? RoomFor::kWrite : RoomFor::kRecord);
    EXPECT_TRUE(reserved.ok()) << reserved;
    if (!reserved.ok()) co_return false;
    const auto stream = catalogue().streams().find(entry.volume);
    const Seq last = stream == catalogue().streams().end() ? Seq() : stream->second.applied.seq;
    entry.position = {generation_, last.Next()};
    entry.stamp = ++stamp_;
    std::vector<Task<absl::Status>> appends;
    for (auto& side : sides_) {
      if (IsStale(*side)) continue;
      appends.push_back(
          side->replica().Append(generation_, entry, payload.span(), Durability::kDurable));
    }
    const std::vector<absl::Status> results = co_await WhenAll(std::move(appends));
    const absl::Status status = FirstError(results);
    EXPECT_TRUE(status.ok()) << status;
    if (status.ok()) set_->Commit(entry.volume, entry.position);
    co_return status.ok();
  }

  Task<void> Write(uint64_t first, uint64_t count) {
    LogEntry entry;
    entry.kind = EntryKind::kWrite;
    entry.volume = volume().id;
    entry.timeline = volume().current_timeline;
    entry.range = {BlockIndex(first), BlockCount(count)};
    AlignedBytes payload(count * kBlockSize);
    Content changed = now_;
    for (uint64_t i = 0; i < count; ++i) {
      const absl::Span<std::byte> block = payload.span().subspan(i * kBlockSize, kBlockSize);
      changed[first + i] = ++value_;
      FillBlock(value_, block);
      entry.block_crcs.push_back(Crc32c(block));
    }
    const bool done = co_await Append(std::move(entry), std::move(payload));
    if (done) now_ = std::move(changed);
  }

  Task<void> Zero(uint64_t first, uint64_t count) {
    LogEntry entry;
    entry.kind = EntryKind::kZero;
    entry.volume = volume().id;
    entry.timeline = volume().current_timeline;
    entry.range = {BlockIndex(first), BlockCount(count)};
    const bool done = co_await Append(std::move(entry), AlignedBytes());
    if (done) now_.erase(now_.lower_bound(first), now_.lower_bound(first + count));
  }

  Task<SnapshotId> Snapshot() {
    const SnapshotId id = catalogue().next_snapshot_id();
    const bool done = co_await TakeSnapshot(absl::StrCat("s", id.value()));
    if (done) snapshots_[id] = now_;
    co_return id;
  }

  Task<bool> TakeSnapshot(std::string name) {
    LogEntry entry;
    entry.kind = EntryKind::kSnapshot;
    entry.volume = volume().id;
    entry.timeline = volume().current_timeline;
    SnapshotBody body;
    body.id = catalogue().next_snapshot_id();
    body.name = std::move(name);
    entry.body = EncodeSnapshot(body);
    co_return co_await Append(std::move(entry), AlignedBytes());
  }

  Task<void> DeleteSnapshot(SnapshotId id) {
    LogEntry entry;
    entry.kind = EntryKind::kSnapshotDelete;
    entry.volume = volume().id;
    entry.timeline = catalogue().snapshots().at(id).timeline;
    entry.body = EncodeSnapshotDelete({id});
    const bool done = co_await Append(std::move(entry), AlignedBytes());
    if (done) snapshots_.erase(id);
  }

  Task<void> Rollback(SnapshotId id) {
    const SnapshotRecord snapshot = catalogue().snapshots().at(id);
    LogEntry entry;
    entry.kind = EntryKind::kTimelineStart;
    entry.volume = volume().id;
    TimelineStartBody body;
    body.id = catalogue().next_timeline_id();
    body.parent = snapshot.timeline;
    body.fork = snapshot.position;
    body.size_bytes = snapshot.size_bytes;
    entry.timeline = body.id;
    entry.body = EncodeTimelineStart(body);
    const bool done = co_await Append(std::move(entry), AlignedBytes());
    if (done) now_ = snapshots_.at(id);
  }

  Task<void> ChangeOnce() {
    const uint64_t choice = random_.Uniform(100);
    const uint64_t first = random_.Uniform(kVolumeBlocks);
    const uint64_t most = std::min<uint64_t>(kVolumeBlocks - first, random_.OneIn(5) ? 48 : 6);
    const uint64_t count = 1 + random_.Uniform(most);
    if (choice < 76) {
      co_await Write(first, count);
    } else if (choice < 86) {
      co_await Zero(first, count);
    } else if (choice < 88) {
      co_await Zero(0, kVolumeBlocks);
    } else if (snapshots_.size() < kMaxSnapshots && choice < 94) {
      const SnapshotId ignored = co_await Snapshot();
      (void)ignored;
    } else if (!snapshots_.empty()) {
      const SnapshotId id = RandomSnapshot();
      if (choice < 97) {
        co_await DeleteSnapshot(id);
      } else {
        co_await Rollback(id);
      }
    }
  }

  SnapshotId RandomSnapshot() {
    auto it = snapshots_.begin();
    std::advance(it, random_.Uniform(snapshots_.size()));
    return it->first;
  }

  struct View {
    TimelineId timeline;
    Position as_of;
    const Content* content;
  };
  View Now() { return {volume().current_timeline, kLastPosition, &now_}; }
  View Of(SnapshotId id) {
    const SnapshotRecord& record = catalogue().snapshots().at(id);
    return {record.timeline, record.position, &snapshots_.at(id)};
  }
  std::vector<View> Views() {
    std::vector<View> views = {Now()};
    for (const auto& [id, content] : snapshots_) views.push_back(Of(id));
    return views;
  }

  // What a client reads of a part of a view: always right.
  Task<void> ReadSome() {
    const View view = random_.OneIn(2) || snapshots_.empty() ? Now() : Of(RandomSnapshot());
    const uint64_t first = random_.Uniform(kVolumeBlocks);
    const uint64_t count = 1 + random_.Uniform(std::min<uint64_t>(kVolumeBlocks - first, 32));
    AlignedBytes bytes(count * kBlockSize);
    const auto read = co_await set_->Read(view.timeline, view.as_of,
                                          {BlockIndex(first), BlockCount(count)}, bytes.span());
    EXPECT_TRUE(read.ok()) << read.status();
    if (read.ok()) Compare(view, first, bytes.span());
  }

  void Compare(const View& view, uint64_t first, absl::Span<const std::byte> bytes) {
    for (uint64_t i = 0; i < bytes.size() / kBlockSize; ++i) {
      AlignedBytes wanted(kBlockSize);
      const auto value = view.content->find(first + i);
      if (value != view.content->end()) FillBlock(value->second, wanted.span());
      if (std::memcmp(wanted.data(), bytes.data() + i * kBlockSize, kBlockSize) == 0) continue;
      ADD_FAILURE() << "block " << first + i << " of timeline " << view.timeline << " at "
                    << view.as_of << " is wrong";
      return;
    }
  }

  // ---- Looking at one store ---------------------------------------------------------------------

  // Reads all that it shows and all records, so that what is bad is known. `whole`: nothing is.
  Task<void> ReadAll(size_t index, bool whole) {
    AlignedBytes bytes(kBlockSize);
    std::vector<View> views = Views();
    // What a rollback left without a snapshot is kept until the next delete, and nobody sees it.
    for (const auto& [id, timeline] : catalogue().timelines()) {
      if (id == volume().current_timeline || !catalogue().RetainedPoints(id).empty()) continue;
      views.push_back({id, kLastPosition, nullptr});
    }
    for (const View& view : views) {
      for (uint64_t block = 0; block < kVolumeBlocks; ++block) {
        const BlockRange range{BlockIndex(block), BlockCount(1)};
        const auto read =
            co_await side(index).replica().Read(view.timeline, view.as_of, range, bytes.span());
        if (read.ok() && view.content != nullptr) Compare(view, block, bytes.span());
        EXPECT_TRUE(read.ok() || !whole) << read.status();
        if (::testing::Test::HasFailure()) co_return;
      }
    }
    std::vector<SegmentNumber> sealed;
    for (const auto& [segment, info] : side(index).store().segment_table().segments()) {
      if (info.state == SegmentState::kSealed) sealed.push_back(segment);
    }
    for (SegmentNumber segment : sealed) {
      const absl::Status status = co_await side(index).store().CheckRecords(segment);
      EXPECT_TRUE(status.ok() || absl::IsNotFound(status) || !whole) << status;
    }
    if (whole) {
      EXPECT_EQ(side(index).store().damage_list().Report().bad(), 0u);
    }
  }

  // Until nothing is known to be bad any more; what could not be healed is tried again later.
  Task<void> HealAll() {
    for (int tries = 0; tries < 100; ++tries) {
      bool bad = false;
      for (auto& side : sides_) bad = bad || side->store().damage_list().Report().bad() > 0;
      if (!bad) co_return;
      co_await repairer_->Pass();
      co_await poller_.Delay(3 * kNanosPerSecond);
      for (auto& side : sides_) {
        const absl::Status status = co_await side->store().Checkpoint();
        EXPECT_TRUE(status.ok()) << status;
      }
    }
    for (auto& side : sides_) {
      for (const DamagedPlace& place : side->store().damage_list().places()) {
        if (place.healed != 0) continue;
        ADD_FAILURE() << "not healed: segment " << place.first.segment << " block "
                      << place.first.block << ": " << place.what << "; " << place.why_not;
      }
    }
  }

  // Where the version of a block lies that a view shows; nothing where it shows zeros.
  Task<std::optional<LogAddress>> AddressOf(size_t index, View view, uint64_t block) {
    const BlockRange range{BlockIndex(block), BlockCount(1)};
    const auto pieces = co_await side(index).store().map().Lookup(view.timeline, view.as_of, range);
    EXPECT_TRUE(pieces.ok()) << pieces.status();
    if (!pieces.ok() || !pieces->front().mapped) co_return std::nullopt;
    const Run& run = pieces->front().run;
    if (run.kind != RunKind::kData) co_return std::nullopt;
    co_return side(index).store().map().forwarding().Resolve(run.address);
  }

  size_t snapshot_count() const { return snapshots_.size(); }

 private:
  bool IsStale(const Side& side) const { return stale_ && &side == sides_[1].get(); }

  Task<absl::Status> BringLevel(Resync* resync) {
    const SnapshotId frozen = catalogue().next_snapshot_id();
    absl::Status status = co_await side(0).replica().PinForResync();
    TF_CO_RETURN_IF_ERROR(status);
    const bool taken = co_await TakeSnapshot(absl::StrCat(kInternalSnapshotPrefix, frozen.value()));
    EXPECT_TRUE(taken);
    absl::StatusOr<Catalogue> goal = MakeGoal(catalogue());
    TF_CO_RETURN_IF_ERROR(goal);
    status = co_await resync->FillTo(*std::move(goal));
    // Those of tries that failed, too.
    std::vector<SnapshotId> internal;
    for (const auto& [id, snapshot] : catalogue().snapshots()) {
      if (IsInternalSnapshotName(snapshot.name)) internal.push_back(id);
    }
    for (const SnapshotId id : internal) co_await DeleteSnapshot(id);
    TF_CO_RETURN_IF_ERROR(status);
    for (;;) {
      const absl::StatusOr<Resync::Sent> sent = co_await resync->SendTail();
      TF_CO_RETURN_IF_ERROR(sent);
      if (sent->entries == 0) break;
    }
    co_return co_await side(1).replica().Flush();
  }

  Task<void> CreateVolume() {
    LogEntry entry;
    entry.kind = EntryKind::kVolumeCreate;
    entry.volume = kCatalogueVolume;
    VolumeCreateBody body;
    body.id = catalogue().next_volume_id();
    body.name = "vol";
    body.size_bytes = kVolumeBlocks * kBlockSize;
    body.first_timeline = catalogue().next_timeline_id();
    entry.body = EncodeVolumeCreate(body);
    const bool ignored = co_await Append(std::move(entry), AlignedBytes());
    (void)ignored;
  }

  Prng random_;
  SimPoller poller_;
  Executor executor_;
  DepartureGroup departures_;
  std::vector<std::unique_ptr<Side>> sides_;
  std::optional<Membership> stored_;
  SimWitness witness_;
  uint64_t version_ = 0;
  bool stale_ = false;  // the second side
  std::unique_ptr<ReplicaSet> set_;
  std::unique_ptr<Repairer> repairer_;
  Generation generation_;
  WallNanos stamp_ = 0;
  uint64_t value_ = 0;
  Content now_;
  std::map<SnapshotId, Content> snapshots_;
};

}  // namespace twofold::sim
