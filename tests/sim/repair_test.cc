// Bytes rot in one set while clients write, on simulated disks (R10, R15, R18, P7).
//
// Two real stores under a ReplicaSet and a Repairer. A client changes a volume (writes, trims,
// snapshots, deletes, rollbacks) and reads it, the cleaner and checkpoints run, and one store's
// segment files are damaged: bits flip, blocks become zero, change places, or are what they were
// before; ends of files go, places can't be read. The client must never see a wrong byte; in the
// end all that is needed must be whole on each store by itself, also after it was closed and opened
// again, and after crashes in the middle of repairs. A seed replays a run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "replication/local_replica.h"
#include "replication/pair/repair.h"
#include "replication/pair/replica_set.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/prng.h"
#include "storage/io/aligned_bytes.h"
#include "storage/map/catalogue_codec.h"
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

constexpr uint64_t kVolumeBlocks = 512;
constexpr uint64_t kSegmentBlocks = kMinSegmentBytes / kBlockSize;
constexpr size_t kMaxSnapshots = 4;
constexpr uint64_t kSegments = 24;

// What each block holds; one that is not here holds zeros.
using Content = std::map<uint64_t, uint64_t>;

void FillBlock(uint64_t value, absl::Span<std::byte> block) {
  for (size_t i = 0; i < kBlockSize; i += sizeof(value)) {
    std::memcpy(block.data() + i, &value, sizeof(value));
  }
}

class Side {
 public:
  Side(std::string name, uint64_t seed, sim::SimPoller* poller, Prng* random)
      : poller_(*poller), random_(*random), disk_(std::move(name)), metadata_(seed, {}) {}

  Task<bool> Format() {
    const absl::Status status =
        co_await sim::FormatStoreOn(&poller_, &disk_, {.segments = kSegments});
    EXPECT_TRUE(status.ok()) << status;
    co_return status.ok();
  }

  Task<bool> Open() {
    StoreOptions options = sim::RandomStoreOptions(random_, /*read_only=*/false);
    auto store = co_await sim::OpenStoreOn(&poller_, &disk_, &metadata_, options);
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
    auto store = co_await sim::OpenStoreOn(&poller_, &disk_, &metadata_, options);
    EXPECT_TRUE(store.ok()) << store.status();
    if (!store.ok()) co_return;
    const std::vector<std::string> problems = co_await sim::ProblemsOf(store->get());
    for (const std::string& problem : problems) ADD_FAILURE() << disk_.name() << ": " << problem;
    co_await (*store)->Stop();
  }

  void Crash() {
    disk_.Crash(random_.OneIn(2) ? sim::CrashKind::kPower : sim::CrashKind::kProcess, random_);
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
  sim::SimDisk& disk() { return disk_; }

 private:
  sim::SimPoller& poller_;
  Prng& random_;
  sim::SimDisk disk_;
  sim::SimMetadataDisk metadata_;
  std::unique_ptr<LocalReplica> replica_;
  Store* store_ = nullptr;
};

// The two stores, the set, and a client with its model of what it wrote.
class Pair {
 public:
  explicit Pair(uint64_t seed)
      : random_(seed), poller_(seed), executor_(poller_), witness_(&stored_) {
    sides_.push_back(std::make_unique<Side>("a", seed ^ 0xa, &poller_, &random_));
    sides_.push_back(std::make_unique<Side>("b", seed ^ 0xb, &poller_, &random_));
  }

  Executor& executor() { return executor_; }
  sim::SimPoller& poller() { return poller_; }
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
      replicas.push_back(&side->replica());
      membership.in_sync.push_back(side->replica().store_id());
    }
    membership.configured = membership.in_sync;
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
    LogEntry entry;
    entry.kind = EntryKind::kSnapshot;
    entry.volume = volume().id;
    entry.timeline = volume().current_timeline;
    SnapshotBody body;
    body.id = catalogue().next_snapshot_id();
    body.name = absl::StrCat("s", body.id.value());
    entry.body = EncodeSnapshot(body);
    const bool done = co_await Append(std::move(entry), AlignedBytes());
    if (done) snapshots_[body.id] = now_;
    co_return body.id;
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
  sim::SimPoller poller_;
  Executor executor_;
  std::vector<std::unique_ptr<Side>> sides_;
  std::optional<Membership> stored_;
  sim::SimWitness witness_;
  uint64_t version_ = 0;
  std::unique_ptr<ReplicaSet> set_;
  std::unique_ptr<Repairer> repairer_;
  Generation generation_;
  WallNanos stamp_ = 0;
  uint64_t value_ = 0;
  Content now_;
  std::map<SnapshotId, Content> snapshots_;
};

// ---- A campaign ---------------------------------------------------------------------------------

class World {
 public:
  explicit World(uint64_t seed) : pair_(seed) {}

  void Run() { pair_.executor().Run(RunAll()); }
  uint64_t damaged() const { return damaged_; }
  uint64_t healed() const { return healed_; }
  uint64_t crashes() const { return crashes_; }

 private:
  Task<void> RunAll() {
    const bool started = co_await pair_.Start();
    if (!started) co_return;
    for (uint64_t round = 0; round < 2 && !::testing::Test::HasFailure(); ++round) {
      co_await FillSegments(20 + random().Uniform(60));
      co_await Change(40 + random().Uniform(80));
      victim_ = random().Uniform(2);
      if (random().OneIn(2)) {
        co_await RotWhileClientsRun();
      } else {
        co_await CrashWhileItHeals();
      }
      if (::testing::Test::HasFailure()) co_return;
      co_await CheckHealed();
    }
    if (!::testing::Test::HasFailure()) co_await Reopen();
    if (!::testing::Test::HasFailure()) co_await CheckHealed();
    co_await pair_.Close();
    for (size_t i = 0; i < 2 && !::testing::Test::HasFailure(); ++i) {
      co_await pair_.side(i).Inspect();
    }
  }

  Prng& random() { return pair_.random(); }
  Side& victim() { return pair_.side(victim_); }

  Task<void> Change(uint64_t steps) {
    for (uint64_t i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
      co_await pair_.ChangeOnce();
      if (random().OneIn(3)) co_await pair_.ReadSome();
      if (random().OneIn(12)) co_await CleanSomething();
      if (random().OneIn(20)) KeepACopy();
    }
  }

  Task<void> FillSegments(uint64_t writes) {
    for (uint64_t i = 0; i < writes && !::testing::Test::HasFailure(); ++i) {
      co_await pair_.Write(random().Uniform(kVolumeBlocks - 48), 48);
      if (random().OneIn(8)) co_await pair_.ChangeOnce();
      if (random().OneIn(20)) KeepACopy();
    }
  }

  Task<void> CleanSomething() {
    Store& store = pair_.side(random().Uniform(2)).store();
    std::vector<SegmentNumber> sealed;
    for (const auto& [segment, info] : store.segment_table().segments()) {
      if (info.state == SegmentState::kSealed) sealed.push_back(segment);
    }
    if (sealed.empty()) co_return;
    // Where it meets what is bad it leaves it: without a source of other bytes.
    const auto ignored = co_await store.Clean(sealed[random().Uniform(sealed.size())], nullptr);
    (void)ignored;
  }

  // ---- Damage -----------------------------------------------------------------------------------

  std::optional<SegmentNumber> RandomSealed(SegmentNumber before) {
    std::vector<SegmentNumber> sealed;
    for (const auto& [segment, info] : victim().store().segment_table().segments()) {
      if (info.state == SegmentState::kSealed && segment < before) sealed.push_back(segment);
    }
    if (sealed.empty()) return std::nullopt;
    return sealed[random().Uniform(sealed.size())];
  }

  // As a person or a file system may put it back later.
  void KeepACopy() {
    const std::optional<SegmentNumber> segment = RandomSealed(SegmentNumber(~uint64_t{0}));
    const SegmentNumber kept =
        segment.has_value() && random().OneIn(2) ? *segment : victim().store().log().end().segment;
    const std::string path = victim().PathOf(kept);
    copy_path_ = path;
    copy_victim_ = victim_;
    copy_ = victim().disk().Peek(path, 0, kMinSegmentBytes);
  }

  void DamageBlocks(const std::string& path, uint64_t first, uint64_t end) {
    sim::SimDisk& disk = victim().disk();
    const uint64_t block = first + random().Uniform(end - first);
    switch (random().Uniform(5)) {
      case 0:
        disk.FlipBit(path, block * kBlockSize + random().Uniform(kBlockSize),
                     static_cast<unsigned>(random().Uniform(8)));
        break;
      case 1:
        for (uint64_t i = block; i < std::min(end, block + 1 + random().Uniform(4)); ++i) {
          disk.ZeroBlock(path, i);
        }
        break;
      case 2: {
        const uint64_t other = first + random().Uniform(end - first);
        const std::vector<std::byte> kept = disk.Peek(path, block * kBlockSize, kBlockSize);
        disk.CopyBlock(path, other, path, block);
        disk.Overwrite(path, other * kBlockSize, kept);
        break;
      }
      case 3:
        for (uint64_t i = block; i < end; ++i) disk.ZeroBlock(path, i);
        break;
      default:
        disk.FailReads(path, block * kBlockSize, kBlockSize * (1 + random().Uniform(8)),
                       1 + random().Uniform(6));
        break;
    }
    ++damaged_;
  }

  // Of sealed segments anything; of the one that is being written what is shown.
  Task<void> Damage() {
    if (random().OneIn(3)) {
      const std::vector<Pair::View> views = pair_.Views();
      const Pair::View view = views[random().Uniform(views.size())];
      const std::optional<LogAddress> address =
          co_await pair_.AddressOf(victim_, view, random().Uniform(kVolumeBlocks));
      if (!address.has_value()) co_return;
      if (!victim().store().segment_table().segments().contains(address->segment)) co_return;
      victim().disk().FlipBit(victim().PathOf(address->segment),
                              address->block * kBlockSize + random().Uniform(kBlockSize), 3);
      ++damaged_;
      co_return;
    }
    const std::optional<SegmentNumber> segment = RandomSealed(SegmentNumber(~uint64_t{0}));
    if (!segment.has_value()) co_return;
    const std::string path = victim().PathOf(*segment);
    if (random().OneIn(4) && copy_victim_ == victim_ && path == copy_path_) {
      victim().disk().Overwrite(path, 0, copy_);
      ++damaged_;
      co_return;
    }
    DamageBlocks(path, 0, kSegmentBlocks);
  }

  Task<void> KeepDamaging(uint64_t times) {
    for (uint64_t i = 0; i < times && !::testing::Test::HasFailure(); ++i) {
      co_await Damage();
      co_await pair_.poller().Delay(static_cast<int64_t>(random().Uniform(200 * kNanosPerMilli)));
    }
  }

  Task<void> KeepHealing() {
    while (working_) {
      co_await pair_.repairer().Pass();
      co_await pair_.poller().Delay(100 * kNanosPerMilli);
    }
  }

  Task<void> RotWhileClientsRun() {
    TaskScope healing;
    TaskScope damaging;
    working_ = true;
    healing.Spawn(KeepHealing());
    damaging.Spawn(KeepDamaging(2 + random().Uniform(8)));
    co_await Change(40 + random().Uniform(100));
    co_await damaging.Join();
    co_await Change(10);
    working_ = false;
    co_await healing.Join();
    // Sectors that were written anew can be read.
    victim().disk().ClearFaults();
  }

  // What recovery reads is whole: damage to that is for rebuilding.
  Task<void> CrashWhileItHeals() {
    absl::Status status = co_await victim().store().Checkpoint();
    EXPECT_TRUE(status.ok()) << status;
    const SegmentNumber before = victim().store().last_checkpoint().replay_from.segment;
    for (uint64_t i = 0; i < 1 + random().Uniform(6); ++i) {
      const std::optional<SegmentNumber> segment = RandomSealed(before);
      if (segment.has_value()) DamageBlocks(victim().PathOf(*segment), 1, kSegmentBlocks - 1);
    }
    co_await pair_.ReadAll(victim_, /*whole=*/false);
    if (::testing::Test::HasFailure()) co_return;
    TaskScope healing;
    working_ = true;
    healing.Spawn(KeepHealing());
    co_await pair_.poller().Delay(static_cast<int64_t>(random().Uniform(400 * kNanosPerMilli)));
    for (size_t i = 0; i < 2; ++i) pair_.side(i).Crash();
    ++crashes_;
    working_ = false;
    co_await healing.Join();
    victim().disk().ClearFaults();
    co_await Reopen();
  }

  Task<void> Reopen() {
    co_await pair_.Close();
    const bool opened = co_await pair_.Open();
    EXPECT_TRUE(opened);
  }

  // Everything is read once, what is found is healed, and then there is nothing to be found.
  Task<void> CheckHealed() {
    co_await pair_.ReadAll(victim_, /*whole=*/false);
    if (::testing::Test::HasFailure()) co_return;
    co_await pair_.HealAll();
    healed_ += victim().store().damage_list().Report().healed;
    for (size_t i = 0; i < 2 && !::testing::Test::HasFailure(); ++i) {
      co_await pair_.ReadAll(i, /*whole=*/true);
    }
  }

  Pair pair_;
  size_t victim_ = 0;
  std::string copy_path_;
  size_t copy_victim_ = 0;
  std::vector<std::byte> copy_;
  uint64_t damaged_ = 0;
  uint64_t healed_ = 0;
  uint64_t crashes_ = 0;
  bool working_ = false;
};

TEST(Repair, HealsWhatRotsWhileClientsRunAndThroughCrashes) {
  SetLogLevel(LogLevel::kError);
  const uint64_t first = sim::FromEnvironment("TWOFOLD_SEED", 1);
  const uint64_t count = sim::FromEnvironment("TWOFOLD_SEEDS", 30);
  uint64_t damaged = 0;
  uint64_t healed = 0;
  uint64_t crashes = 0;
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("TWOFOLD_SEED=", seed, " TWOFOLD_SEEDS=1"));
    World world(seed);
    world.Run();
    damaged += world.damaged();
    healed += world.healed();
    crashes += world.crashes();
  }
  // What the test is for did happen.
  if (count >= 30) {
    EXPECT_GT(damaged, count);
    EXPECT_GT(healed, 2 * count);
    EXPECT_GT(crashes, count / 4);
  }
}

// ---- One by one ---------------------------------------------------------------------------------

class RepairTest : public testing::Test {
 protected:
  // Bad on one side, as any read finds it.
  Task<void> FlipShown(size_t index, Pair::View view, uint64_t block) {
    const std::optional<LogAddress> address = co_await pair_.AddressOf(index, view, block);
    EXPECT_TRUE(address.has_value());
    if (!address.has_value()) co_return;
    Side& side = pair_.side(index);
    side.disk().FlipBit(side.PathOf(address->segment), address->block * kBlockSize + 77, 5);
  }
  Task<void> WriteSome(uint64_t entries) {
    for (uint64_t i = 0; i < entries; ++i) co_await pair_.Write((i * 32) % kVolumeBlocks, 32);
  }
  DamageReport DamageOf(size_t index) { return pair_.side(index).store().damage_list().Report(); }
  void Run(Task<void> body) {
    SetLogLevel(LogLevel::kError);
    pair_.executor().Run(Start(std::move(body)));
  }

  Task<void> HealAnOldVersion() {
    co_await WriteSome(16);
    const SnapshotId snapshot = co_await pair_.Snapshot();
    co_await pair_.Write(10, 4);
    co_await FlipShown(0, pair_.Of(snapshot), 11);
    co_await pair_.ReadAll(0, /*whole=*/false);
    EXPECT_EQ(DamageOf(0).bad(), 1u);
    EXPECT_EQ(DamageOf(0).places.at(0).what, "a block fails its checksum");
    EXPECT_NE(DamageOf(0).places.at(0).where.find("a/log/0"), std::string::npos);
    co_await pair_.repairer().Pass();
    EXPECT_EQ(DamageOf(0).bad(), 0u);
    EXPECT_EQ(DamageOf(0).healed, 1u);
    co_await pair_.ReadAll(0, /*whole=*/true);
  }

  Task<void> LoseABlock() {
    co_await WriteSome(16);
    for (size_t index : {0, 1}) co_await FlipShown(index, pair_.Now(), 20);
    co_await FlipShown(0, pair_.Now(), 21);
    for (size_t index : {0, 1}) co_await pair_.ReadAll(index, /*whole=*/false);
    co_await pair_.repairer().Pass();
    EXPECT_EQ(DamageOf(0).found, 2u);
    EXPECT_EQ(DamageOf(0).bad(), 1u);
    EXPECT_NE(DamageOf(0).places.at(0).why_not, "");
    EXPECT_EQ(DamageOf(1).bad(), 1u);

    AlignedBytes bytes(2 * kBlockSize);
    const TimelineId timeline = pair_.Now().timeline;
    BlockRange range{BlockIndex(20), BlockCount(2)};
    auto read = co_await pair_.set().Read(timeline, kLastPosition, range, bytes.span());
    EXPECT_TRUE(absl::IsDataLoss(read.status())) << read.status();
    range = {BlockIndex(21), BlockCount(1)};
    const absl::Span<std::byte> one = bytes.span().first(kBlockSize);
    read = co_await pair_.set().Read(timeline, kLastPosition, range, one);
    EXPECT_TRUE(read.ok()) << read.status();

    co_await pair_.Write(20, 1);
    co_await pair_.HealAll();
    for (size_t index : {0, 1}) co_await pair_.ReadAll(index, /*whole=*/true);
  }

  Task<void> HealInTheOpenSegment() {
    co_await pair_.Write(3, 2);
    co_await FlipShown(1, pair_.Now(), 4);
    co_await pair_.ReadAll(1, /*whole=*/false);
    EXPECT_EQ(DamageOf(1).bad(), 1u);
    const SegmentNumber segment = DamageOf(1).places.at(0).first.segment;
    EXPECT_EQ(segment, pair_.side(1).store().log().end().segment);
    co_await pair_.repairer().Pass();
    EXPECT_EQ(DamageOf(1).bad(), 0u);
    EXPECT_FALSE(pair_.side(1).store().segment_table().segments().contains(segment));
    co_await pair_.ReadAll(1, /*whole=*/true);
  }

  Task<void> HealAWholeSegment(bool lose_map) {
    co_await pair_.Write(0, 100);
    co_await pair_.Zero(5, 40);
    const SegmentNumber segment = pair_.side(0).store().log().end().segment;
    co_await WriteSome(40);
    co_await pair_.Zero(200, 60);
    const SnapshotId snapshot = co_await pair_.Snapshot();
    co_await pair_.Rollback(snapshot);
    co_await WriteSome(4);
    EXPECT_GT(pair_.side(0).store().log().end().segment, segment);
    sim::SimDisk& disk = pair_.side(0).disk();
    const std::string path = pair_.side(0).PathOf(segment);
    const std::vector<std::byte> junk(kMinSegmentBytes, std::byte{0x5a});
    disk.Overwrite(path, 0, junk);
    co_await pair_.ReadAll(0, /*whole=*/false);
    EXPECT_GT(DamageOf(0).bad(), 0u);
    co_await pair_.HealAll();
    co_await pair_.ReadAll(0, /*whole=*/true);
    EXPECT_FALSE(pair_.side(0).store().segment_table().segments().contains(segment));
    // The next opening meets nothing that it can't tell, also with the log alone to go by.
    co_await pair_.Close();
    if (lose_map) pair_.side(0).LoseMap();
    const bool opened = co_await pair_.Open();
    EXPECT_TRUE(opened);
    if (opened) co_await pair_.ReadAll(0, /*whole=*/true);
  }

  Task<void> HealAfterReturn() {
    co_await WriteSome(16);
    co_await FlipShown(0, pair_.Now(), 20);
    co_await pair_.ReadAll(0, /*whole=*/false);
    // As nobody can be asked.
    const BlockSource nobody = [](BlockIdentity, absl::Span<std::byte>) { return Nobody(); };
    const SegmentNumber segment = DamageOf(0).places.at(0).first.segment;
    const auto outcome = co_await pair_.side(0).replica().Repair(segment, nobody);
    EXPECT_TRUE(absl::IsUnavailable(outcome.status())) << outcome.status();
    EXPECT_EQ(DamageOf(0).bad(), 1u);
    co_await pair_.repairer().Pass();
    EXPECT_EQ(DamageOf(0).bad(), 0u);
    co_await pair_.ReadAll(0, /*whole=*/true);
  }

  Pair pair_{7};

 private:
  static Task<absl::Status> Nobody() { co_return absl::UnavailableError("nobody is there"); }

  Task<void> Start(Task<void> body) {
    const bool started = co_await pair_.Start();
    EXPECT_TRUE(started);
    if (started) co_await std::move(body);
    co_await pair_.Close();
  }
};

// R18: the newest version would be at hand, and is not what is asked for.
TEST_F(RepairTest, AnOldVersionIsHealedFromTheSnapshotThatShowsIt) { Run(HealAnOldVersion()); }

// P7: the client is told, everything else goes on; and when the block is not needed any more
// nothing is bad any more.
TEST_F(RepairTest, ABlockThatIsBadOnBothSetsIsLostAndNothingElseIs) { Run(LoseABlock()); }

TEST_F(RepairTest, ABlockOfTheSegmentThatIsBeingWrittenIsHealed) { Run(HealInTheOpenSegment()); }

// R15: only the map says what its blocks are.
TEST_F(RepairTest, ASegmentOfWhichNothingIsLeftIsHealed) {
  Run(HealAWholeSegment(/*lose_map=*/false));
}

TEST_F(RepairTest, AFileThatWasMadeAnewIsNotTakenForLostWithTheMapM12) {
  Run(HealAWholeSegment(/*lose_map=*/true));
}

TEST_F(RepairTest, WhatCouldNotBeHealedIsHealedWhenTheOtherSetIsBack) { Run(HealAfterReturn()); }

}  // namespace
}  // namespace twofold
