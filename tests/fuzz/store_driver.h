// A store on a simulated disk that a fuzz target drives step by step, against the plain model.
//
// The steps are those of a pool with this one replica. After a crash, or whatever else, the store
// is opened again and must hold a prefix of what was sent that includes everything acknowledged
// (P2), in the head and in every snapshot, or end the process. `damaged()`: bytes of the log were
// changed behind the store's back; from then on it may also refuse to open, miss what was
// acknowledged, or say kDataLoss to a read. It may never show anything that is not a prefix.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task_scope.h"
#include "storage/store/store.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_metadata_store.h"
#include "tests/sim/sim_poller.h"
#include "tests/sim/store_model.h"
#include "tests/sim/store_world.h"

namespace twofold {

class StoreDriver {
 public:
  explicit StoreDriver(uint64_t seed)
      : random_(seed),
        poller_(seed),
        executor_(poller_),
        disk_("a"),
        metadata_(seed ^ 0x5eed, {}) {}

  Executor& executor() { return executor_; }
  sim::SimDisk& disk() { return disk_; }
  bool open() const { return store_ != nullptr; }
  uint64_t free_segments() const { return store_->log().free_segments(); }
  void SetDamaged() { damaged_ = true; }
  bool damaged() const { return damaged_; }

  Task<void> Format(uint64_t max_segments) {
    sim::StoreShape shape;
    shape.segments = max_segments;
    const absl::Status status = co_await sim::FormatStoreOn(&poller_, &disk_, shape);
    TF_CHECK_OK(status);
  }

  // Opens, attaches, and checks everything. Without success only where the disk was damaged.
  Task<void> Open() {
    TF_CHECK(!open());
    dying_ = false;
    store_ = co_await OpenStore(/*read_only=*/false);
    if (!open()) co_return;
    co_await Attach();
    if (!open()) co_return;
    if (sent_[kCatalogueVolume].empty()) co_await CreateVolume();
    co_await CheckEverything();
  }

  Task<void> Stop() {
    co_await scope_.Join();
    co_await store_->Stop();
    store_.reset();
  }

  Task<void> Crash(sim::CrashKind kind) {
    dying_ = true;
    disk_.Crash(kind, random_);
    metadata_.Crash();
    co_await Stop();
  }

  // Somebody removes the map's directory; the store is closed. Opening makes it anew (M12).
  void LoseMap() {
    TF_CHECK(!open());
    metadata_.Lose();
  }

  // Opens, and crashes in the middle of that or soon after. A rebuild that does not come to its end
  // starts over.
  Task<void> CutOpening(int64_t nanos, sim::CrashKind kind) {
    TF_CHECK(!open());
    dying_ = cutting_ = true;
    scope_.Spawn(CrashAfter(nanos, kind));
    store_ = co_await OpenStore(/*read_only=*/false);
    co_await scope_.Join();
    cutting_ = false;
    if (open()) co_await Stop();
  }

  // What `inspect --verify` does; the store is closed.
  Task<void> Inspect() {
    TF_CHECK(!open());
    store_ = co_await OpenStore(/*read_only=*/true);
    if (!open()) co_return;
    const std::vector<std::string> problems = co_await sim::ProblemsOf(store_.get());
    TF_CHECK(problems.empty() || damaged_) << absl::StrJoin(problems, "\n");
    co_await Stop();
  }

  Task<void> Write(uint64_t first, uint64_t count) {
    first %= kBlocks;
    count = 1 + count % std::min<uint64_t>(kBlocks - first, 24);
    const bool room = co_await Reserve(BlockCount(count), 1, EntryKind::kWrite);
    if (!room) co_return;
    Sent& sent = NextEntry(kVolume, EntryKind::kWrite);
    sent.entry.range = {BlockIndex(first), BlockCount(count)};
    sent.first_value = next_value_;
    next_value_ += count;
    sent.payload = AlignedBytes(count * kBlockSize);
    for (uint64_t i = 0; i < count; ++i) {
      const auto block = sent.payload.span().subspan(i * kBlockSize, kBlockSize);
      Fill(block, sent.first_value + i);
      sent.entry.block_crcs.push_back(Crc32c(block));
    }
    Start(sent);
  }

  Task<void> Zero(uint64_t first, uint64_t count) {
    first %= kBlocks;
    count = 1 + count % (kBlocks - first);
    const bool room = co_await Reserve(BlockCount(0), 1, EntryKind::kZero);
    if (!room) co_return;
    Sent& sent = NextEntry(kVolume, EntryKind::kZero);
    sent.entry.range = {BlockIndex(first), BlockCount(count)};
    Start(sent);
  }

  Task<void> Snapshot() {
    const bool room = co_await Reserve(BlockCount(0), 1, EntryKind::kSnapshot);
    if (!room) co_return;
    StartSnapshot();
  }

  Task<void> DeleteSnapshot(uint64_t which) {
    if (model_.snapshots.empty()) co_return;
    const bool room = co_await Reserve(BlockCount(0), 1, EntryKind::kSnapshotDelete);
    if (!room) co_return;
    Sent& sent = NextEntry(kVolume, EntryKind::kSnapshotDelete);
    sent.entry.body = EncodeSnapshotDelete({SnapshotId(Choose(which)->first)});
    Start(sent);
  }

  // `keep`: what is left stays as a snapshot, as the pool does it.
  Task<void> Rollback(uint64_t which, bool keep) {
    if (model_.snapshots.empty()) co_return;
    const bool room = co_await Reserve(BlockCount(0), keep ? 2 : 1, EntryKind::kTimelineStart);
    if (!room) co_return;
    const Model::Snapshot target = Choose(which)->second;
    if (keep) StartSnapshot();
    TimelineStartBody body;
    body.id = TimelineId(model_.next_timeline);
    body.parent = target.timeline;
    body.fork = target.position;
    body.size_bytes = kBlocks * kBlockSize;
    Sent& sent = NextEntry(kVolume, EntryKind::kTimelineStart);
    sent.entry.timeline = body.id;
    sent.entry.body = EncodeTimelineStart(body);
    Start(sent);
  }

  Task<void> Checkpoint() {
    const absl::Status status = co_await store_->Checkpoint();
    TF_CHECK(status.ok() || damaged_) << status;
  }

  // Some sealed segment, if there is one; goes on behind what follows.
  void StartCleaning(uint64_t which) { scope_.Spawn(CleanOne(which)); }

  // The same with a reference pass.
  void StartReferencePass() { scope_.Spawn(RenewReferences()); }

  Task<void> Flush() {
    const absl::Status status = co_await store_->Flush();
    TF_CHECK(status.ok() || damaged_) << status;
  }

  Task<void> Settle() { co_await scope_.Join(); }
  Task<void> Pause(int64_t nanos) { co_await poller_.Delay(nanos); }

  // The head and every snapshot.
  Task<void> CheckEverything() {
    co_await Settle();
    co_await CheckContent("head", model_.timeline, kLastPosition, model_.head);
    for (const auto& [id, snapshot] : model_.snapshots) {
      co_await CheckContent(absl::StrCat("snapshot ", id), snapshot.timeline, snapshot.position,
                            snapshot.content);
    }
  }

 private:
  Task<std::unique_ptr<Store>> OpenStore(bool read_only) {
    const StoreOptions options = sim::RandomStoreOptions(random_, read_only);
    auto store = co_await sim::OpenStoreOn(&poller_, &disk_, &metadata_, options);
    TF_CHECK(store.ok() || damaged_ || cutting_) << store.status();
    if (!store.ok()) co_return nullptr;
    co_return *std::move(store);
  }

  Task<void> CrashAfter(int64_t nanos, sim::CrashKind kind) {
    co_await poller_.Delay(nanos);
    disk_.Crash(kind, random_);
    metadata_.Crash();
  }

  // Seals, takes the end as it is, commits it.
  Task<void> Attach() {
    generation_ = generation_.Next();
    const absl::Status sealed = co_await store_->Seal(generation_);
    TF_CHECK(sealed.ok() || damaged_) << sealed;
    if (!sealed.ok()) {
      co_await Stop();
      co_return;
    }
    for (VolumeId volume : {kCatalogueVolume, kVolume}) {
      Position end;
      const auto stream = store_->streams().streams().find(volume);
      if (stream != store_->streams().streams().end()) {
        end = stream->second.pending.empty() ? stream->second.committed
                                             : stream->second.pending.back().entry.position;
      }
      store_->Commit(volume, end);
      CutHistory(volume, end);
    }
  }

  // What the store does not have was never acknowledged; it never happened.
  void CutHistory(VolumeId volume, Position end) {
    std::vector<std::unique_ptr<Sent>>& sent = sent_[volume];
    while (!sent.empty() && sent.back()->entry.position > end) {
      TF_CHECK(!sent.back()->acknowledged || damaged_)
          << "volume " << volume << " ends at " << end << ", acknowledged was "
          << sent.back()->entry.position;
      sent.pop_back();
    }
    TF_CHECK_EQ(sent.empty() ? Position() : sent.back()->entry.position, end)
        << "the store has what was never sent";
    for (auto& one : sent) one->acknowledged = true;  // what was shown once must stay
    if (volume != kVolume) return;
    model_ = Model();
    for (const auto& one : sent) model_.Apply(*one);
  }

  Task<void> CheckContent(std::string name, TimelineId timeline, Position as_of, Content content) {
    if (sent_[kCatalogueVolume].empty()) co_return;
    // Block by block where damage may hide behind a neighbour's error.
    const uint64_t step = damaged_ ? 1 : kBlocks;
    AlignedBytes bytes(step * kBlockSize);
    for (uint64_t first = 0; first < kBlocks; first += step) {
      const BlockRange range{BlockIndex(first), BlockCount(step)};
      const auto extents = co_await store_->Read(timeline, as_of, range, bytes.span());
      TF_CHECK(extents.ok() || (damaged_ && absl::IsDataLoss(extents.status())))
          << name << ": " << extents.status();
      if (!extents.ok()) continue;
      for (uint64_t i = 0; i < step; ++i) {
        uint64_t value = 0;
        std::memcpy(&value, bytes.data() + i * kBlockSize, sizeof(value));
        TF_CHECK_EQ(value, content[first + i]) << name << " block " << first + i;
      }
    }
  }

  Task<void> CreateVolume() {
    const bool room = co_await Reserve(BlockCount(0), 1, EntryKind::kVolumeCreate);
    TF_CHECK(room);
    VolumeCreateBody body;
    body.id = kVolume;
    body.name = "vol";
    body.size_bytes = kBlocks * kBlockSize;
    body.first_timeline = kFirstTimeline;
    Sent& sent = NextEntry(kCatalogueVolume, EntryKind::kVolumeCreate);
    sent.entry.body = EncodeVolumeCreate(body);
    Start(sent);
    co_await Settle();
  }

  Task<bool> Reserve(BlockCount blocks, uint64_t entries, EntryKind kind) {
    const absl::Status room = co_await store_->Reserve(blocks, entries, sim::RoomForEntry(kind));
    TF_CHECK(room.ok() || absl::IsResourceExhausted(room) || damaged_) << room;
    co_return room.ok();
  }

  Task<void> CleanOne(uint64_t which) {
    std::vector<SegmentNumber> segments;
    for (const auto& [segment, info] : store_->segment_table().segments()) {
      if (info.state == SegmentState::kSealed) segments.push_back(segment);
    }
    if (segments.empty()) co_return;
    const auto outcome = co_await store_->Clean(segments[which % segments.size()], nullptr);
    // Another one is being cleaned, it was freed meanwhile, or there is no room for it.
    const absl::Status& status = outcome.status();
    TF_CHECK(status.ok() || absl::IsFailedPrecondition(status) || absl::IsNotFound(status) ||
             absl::IsResourceExhausted(status) || dying_ || damaged_)
        << status;
  }

  Task<void> RenewReferences() {
    const absl::Status status = co_await store_->RenewReferences();
    TF_CHECK(status.ok() || dying_ || damaged_) << status;
  }

  std::map<uint64_t, Model::Snapshot>::const_iterator Choose(uint64_t which) const {
    return std::next(model_.snapshots.begin(),
                     static_cast<ptrdiff_t>(which % model_.snapshots.size()));
  }

  void StartSnapshot() {
    Sent& sent = NextEntry(kVolume, EntryKind::kSnapshot);
    SnapshotBody body;
    body.id = SnapshotId(model_.next_snapshot);
    body.name = absl::StrCat("s", model_.next_snapshot);
    sent.entry.body = EncodeSnapshot(body);
    Start(sent);
  }

  Sent& NextEntry(VolumeId volume, EntryKind kind) {
    std::vector<std::unique_ptr<Sent>>& sent = sent_[volume];
    const Seq seq(sent.empty() ? 1 : sent.back()->entry.position.seq.value() + 1);
    sent.push_back(std::make_unique<Sent>());
    LogEntry& entry = sent.back()->entry;
    entry.kind = kind;
    entry.volume = volume;
    entry.timeline = volume == kVolume ? model_.timeline : TimelineId();
    entry.position = {generation_, seq};
    entry.stamp = ++stamp_;
    return *sent.back();
  }

  // The model runs ahead: it is made anew after a crash.
  void Start(Sent& sent) {
    if (sent.entry.volume == kVolume) model_.Apply(sent);
    scope_.Spawn(Send(&sent));
  }

  Task<void> Send(Sent* sent) {
    const Durability durability = Durability::kDurable;
    const absl::Status status =
        co_await store_->Append(generation_, sent->entry, sent->payload.span(), durability);
    if (!status.ok()) {
      TF_CHECK(dying_ || damaged_) << status;
      co_return;
    }
    sent->acknowledged = true;
    if (!dying_) store_->Commit(sent->entry.volume, sent->entry.position);
  }

  Prng random_;
  sim::SimPoller poller_;
  Executor executor_;
  sim::SimDisk disk_;
  sim::SimMetadataDisk metadata_;

  std::unique_ptr<Store> store_;
  TaskScope scope_;
  Generation generation_;
  bool dying_ = false;
  bool cutting_ = false;  // opening, which a crash is to cut off
  bool damaged_ = false;
  std::map<VolumeId, std::vector<std::unique_ptr<Sent>>> sent_;
  Model model_;
  uint64_t next_value_ = 1;
  WallNanos stamp_ = 0;
};

}  // namespace twofold
