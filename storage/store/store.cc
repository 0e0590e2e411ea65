#include "storage/store/store.h"
#include "storage/store/cleaning_policy.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/map/catalogue_codec.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

constexpr int kFruitlessReclaims =
    4;  // a delete takes effect with one checkpoint, frees by the next
constexpr size_t kMaxPrefetched = 32;  // more than a batch carries of small writes, most often
// Records of the store's own for which room was reserved.
bool TakesRoom(EntryKind kind) {
  return kind == EntryKind::kMoved || kind == EntryKind::kMovedZeros || kind == EntryKind::kFill ||
         kind == EntryKind::kFillZeros;
}

}  // namespace

Store::Store(StoreParts parts, StoreOptions options)
    : parts_(std::move(parts)), options_(options), room_(&SegmentLog::WorstCaseBlocks) {
  for (const auto& device : parts_.devices) devices_.push_back(device.get());
}

Store::~Store() { TF_CHECK(stopping_); }

void Store::Fail(const absl::Status& status) {
  if (!failed_.ok()) return;
  failed_ = absl::UnavailableError(absl::StrCat(
      "set ", superblock_.set_name, " (", place_,
      ") takes no more writes since what is on its disk is unknown: ", status.message(),
      "; check the disk, then start again"));
  TF_LOG(ERROR) << failed_.message();
  work_.Set();
  clean_work_.Set();
  references_work_.Set();
  references_renewed_.WakeAll();
}

Task<absl::Status> Store::Seal(Generation generation) {
  if (generation < fence_) {
    co_return absl::AbortedError(
        absl::StrCat("set ", superblock_.set_name, " is sealed at generation ", fence_.value(),
                     ", ", generation.value(), " is too old: another head has taken over"));
  }
  TF_CO_RETURN_IF_ERROR(failed_);
  // From here on lower generations are refused; the record makes that outlive a crash. What they
  // logged before lies in front of the record, so that it is durable when the record and the flush
  // are.
  fence_ = generation;
  absl::Status status = co_await AppendOwn(EntryKind::kSeal, EncodeSeal(generation));
  TF_CO_RETURN_IF_ERROR(status);
  co_return co_await log_->Flush();
}

Task<absl::Status> Store::RecordMembership(AttachState state) {
  TF_CO_RETURN_IF_ERROR(failed_);
  if (state.sealed < attach_.sealed || state.membership_version < attach_.membership_version) {
    co_return absl::AbortedError(absl::StrCat(
        "set ", superblock_.set_name, " has membership version ", attach_.membership_version,
        " of generation ", attach_.sealed.value(), ", version ", state.membership_version,
        " of generation ", state.sealed.value(), " is too old"));
  }
  co_return co_await AppendOwn(EntryKind::kMembership, EncodeMembership(state));
}

Task<absl::Status> Store::AppendOwn(EntryKind kind, std::string body) {
  LogEntry entry;
  entry.kind = kind;
  entry.position.generation = fence_;
  entry.body = std::move(body);
  absl::StatusOr<LogAddress> logged = co_await log_->Append(entry, {}, Durability::kDurable);
  co_return logged.status();
}

Room::Space Store::Space() const {
  Room::Space space;
  space.blocks_per_segment = log_->usable_blocks_per_segment();
  space.segments = log_->total_segments();
  space.free_blocks =
      log_->free_segments() * space.blocks_per_segment + log_->open_segment_blocks_left();
  if (emptied_.empty()) return space;
  // The one that is being emptied lends what it has taken so far, and is left what it has yet to
  // take: so it is finished, and the checkpoint that follows gives all of it back (cleaning.cc).
  const uint64_t step =
      Room::KeptBlocks(space, RoomFor::kWrite) - Room::KeptBlocks(space, RoomFor::kCleaning);
  uint64_t to_come = 0;
  if (cleaning_.has_value() && cleaning_->segment == emptied_.back().segment) {
    const SegmentTable::Info& info = table_.segments().at(cleaning_->segment);
    to_come = CleaningCost(info.live_blocks, info.zero_blocks);
  }
  uint64_t lent = 0;
  for (const Emptied& emptied : emptied_) lent += emptied.cost_blocks;
  space.lent_blocks = std::min(lent, step > to_come ? step - to_come : 0);
  return space;
}

bool Store::TryReserve(BlockCount blocks, uint64_t entries) {
  const bool slowed_down = cleaning_up_ && Headroom() < SlowingStartsAt(CleaningStartsAtBlocks());
  return failed_.ok() && !stopping_ && !map_->crowded() && !slowed_down &&
         room_.TryPromise(Space(), blocks, entries, RoomFor::kWrite);
}

Task<absl::Status> Store::Reserve(BlockCount blocks, uint64_t entries, RoomFor use) {
  // Two tries at making room: the first checkpoint may only account for what is dead, and the next
  // frees it.
  int reclaims_left = kFruitlessReclaims;
  uint64_t live_blocks = table_.live_blocks();
  for (int tries_left = 2;;) {
    TF_CO_RETURN_IF_ERROR(failed_);
    if (stopping_) co_return absl::UnavailableError("the store is being stopped");
    if (map_->crowded()) {
      // What is dirty goes with a checkpoint; the rest of it clears by itself.
      const bool dirty = map_->checkpoint_due();
      absl::Status status;
      if (dirty) {
        status = co_await RelieveMap();
      } else {
        status = co_await map_->WaitForRoom();
      }
      TF_CO_RETURN_IF_ERROR(status);
      continue;
    }
    if (room_.TryPromise(Space(), blocks, entries, use)) {
      if (use == RoomFor::kWrite) co_await SlowDown(blocks);
      co_return absl::OkStatus();
    }
    if (tries_left > 0) {
      --tries_left;
      absl::Status status = co_await MakeRoom();
      TF_CO_RETURN_IF_ERROR(status);
      continue;
    }
    // What is dead in part: full is only a store that has nothing to gain.
    ++waiting_for_room_;
    const absl::StatusOr<bool> gained = co_await CleanRound();
    --waiting_for_room_;
    TF_CO_RETURN_IF_ERROR(gained);
    if (*gained) continue;
    if (GiveUpPin()) {
      tries_left = 2;
      continue;
    }
    // What deletes left to do comes back checkpoint by checkpoint; a resync may hold it up.
    if (table_.live_blocks() < live_blocks) reclaims_left = kFruitlessReclaims;
    live_blocks = table_.live_blocks();
    if (map_->reclaim_jobs() == 0 || --reclaims_left == 0) break;
    tries_left = 1;
  }
  co_return absl::ResourceExhaustedError(
      absl::StrCat("set ", superblock_.set_name, " (", place_,
                   ") is full: ", table_.live_blocks() * kBlockSize >> 20,
                   " MiB are in use; delete snapshots or volumes, or trim"));
}

void Store::Release(BlockCount blocks, uint64_t entries) { room_.Settle(blocks, entries); }

Task<absl::Status> Store::Append(Generation generation, const LogEntry& entry,
                                 absl::Span<const std::byte> payload, Durability durability) {
  TF_CHECK(HasSeq(entry.kind));
  TF_CO_RETURN_IF_ERROR(failed_);
  if (generation < fence_) {
    co_return absl::AbortedError(absl::StrCat("set ", superblock_.set_name,
                                              " is sealed at generation ", fence_.value(),
                                              ", this head has ", generation.value()));
  }
  if (resyncing()) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("set ", superblock_.set_name, " is being brought level"));
  }
  TF_CO_RETURN_IF_ERROR(streams_.Admit(entry.volume, entry.position));
  absl::StatusOr<LogAddress> logged = co_await log_->Append(entry, payload, durability);
  co_return logged.status();
}

// Runs in the turn in which a batch completed, before its appenders resume: what is acknowledged is
// in `streams_`, and a checkpoint sees either the whole batch or nothing of it.
void Store::OnLogged(const LoggedBatch& batch) {
  for (const LoggedBatch::Item& item : batch.items) {
    if (HasSeq(item.entry.kind)) {
      room_.Settle(BlockCount(item.entry.block_crcs.size()), 1);
      streams_.Add(item.entry, item.payload, batch.start);
      continue;
    }
    if (TakesRoom(item.entry.kind)) {
      room_.Settle(BlockCount(item.entry.block_crcs.size()), 1);
    }
    const absl::Status status = NoteOwnRecord(item, batch.start);
    if (!status.ok()) Fail(status);
  }
  entries_since_checkpoint_ += batch.items.size();
  blocks_since_checkpoint_ += BlocksOf(batch);
  if (CheckpointDue()) work_.Set();
}

// What a batch takes in the log, about: its payload and a block of descriptor.
uint64_t Store::BlocksOf(const LoggedBatch& batch) {
  uint64_t blocks = 1;
  for (const LoggedBatch::Item& item : batch.items) blocks += item.entry.block_crcs.size();
  return blocks;
}

absl::Status Store::NoteOwnRecord(const LoggedBatch::Item& item, const LogPosition& batch) {
  const LogEntry& entry = item.entry;
  switch (entry.kind) {
    case EntryKind::kSeal: {
      TF_ASSIGN_OR_RETURN(const Generation generation, DecodeSeal(entry.body));
      attach_.sealed = std::max(attach_.sealed, generation);
      fence_ = std::max(fence_, generation);
      return absl::OkStatus();
    }
    case EntryKind::kMembership: {
      TF_ASSIGN_OR_RETURN(AttachState state, DecodeMembership(entry.body));
      state.sealed = std::max(attach_.sealed, state.sealed);
      // The copy that goes with a catalogue may have been made before a newer one was logged (R21).
      if (state.membership_version < attach_.membership_version) {
        attach_.sealed = state.sealed;
        return absl::OkStatus();
      }
      attach_ = std::move(state);
      membership_segment_ = batch.segment;
      return absl::OkStatus();
    }
    case EntryKind::kCatalogue: {
      TF_ASSIGN_OR_RETURN(const CataloguePiece piece, DecodeCataloguePiece(entry.body));
      if (piece.index == 0) {
        // What was pending then nobody knows any more; it was behind where the replay began.
        if (!appending_) catalogue_pending_ = last_checkpoint_.replay_from;
        catalogue_begun_ = {batch.segment, batch.batch};
        catalogue_begun_needs_ = std::min(batch.segment, membership_segment_);
        if (catalogue_pending_.has_value()) {
          catalogue_begun_needs_ = std::min(catalogue_begun_needs_, catalogue_pending_->segment);
        }
      }
      if (piece.index + 1 == piece.count) {
        catalogue_segment_ = catalogue_begun_needs_;
        log_->SetCatalogue(catalogue_begun_);
      }
      return absl::OkStatus();
    }
    case EntryKind::kMoved:
      return NoteMoved(item);
    case EntryKind::kMovedZeros:
      return NoteMovedZeros(item, batch.segment);
    case EntryKind::kVoid:
      return NoteVoid(entry);
    case EntryKind::kResyncBegin:
      return NoteGoalPiece(entry);
    case EntryKind::kFill:
      return NoteFill(item);
    case EntryKind::kFillZeros:
      return NoteFillZeros(entry, batch.segment);
    case EntryKind::kResyncSpan:
      return NoteSpan(entry);
    case EntryKind::kResyncEnd:
      return NoteResyncEnd();
    default:
      // Cuts say where an earlier recovery ended.
      return absl::OkStatus();
  }
}

void Store::Commit(VolumeId volume, Position position) {
  streams_.Commit(volume, position);
  if (std::find(unapplied_.begin(), unapplied_.end(), volume) == unapplied_.end()) {
    unapplied_.push_back(volume);
  }
  if (streams_.HasPendingRecords(volume)) {
    ApplyAllCommitted();
  } else {
    apply_due_.Set();
  }
}

// Until then an entry is as one that is not committed yet: replay begins before it, and the segment
// that holds it is not free.
void Store::ApplyAllCommitted() {
  if (unapplied_.empty()) {
    if (CheckpointDue()) work_.Set();
    return;
  }
  const MonoNanos started = Executor::Current().Now();
  for (size_t i = 0; i < unapplied_.size(); ++i) ApplyCommitted(unapplied_[i]);
  unapplied_.clear();
  latency_.apply.Add(Executor::Current().Now() - started);
  if (CheckpointDue()) work_.Set();
}

Task<void> Store::ApplyLoop() {
  while (!stopping_) {
    co_await apply_due_.Wait();
    apply_due_.Reset();
    // The answers that this turn made go out first.
    co_await Yield();
    ApplyAllCommitted();
  }
}

// Of the next entries that ApplyCommitted takes; how many they are, or 1.
size_t Store::PrefetchCommitted(VolumeId volume) {
  absl::InlinedVector<ExtentMap::Place, kMaxPrefetched> places;
  const size_t count = streams_.ForCommitted(volume, kMaxPrefetched, [&](const LogEntry& entry) {
    if (HasPayload(entry.kind)) places.push_back({entry.timeline, entry.range.first});
  });
  map_->Prefetch(places);
  return std::max<size_t>(count, 1);
}

void Store::ApplyCommitted(VolumeId volume) {
  for (size_t prefetched = 0; failed_.ok(); --prefetched) {
    if (prefetched == 0) prefetched = PrefetchCommitted(volume);
    std::optional<PendingEntry> pending = streams_.TakeCommitted(volume);
    if (!pending.has_value()) return;
    const absl::Status status = Apply(*pending);
    if (!status.ok()) Fail(status);
  }
}

absl::Status Store::Apply(const PendingEntry& pending) {
  const LogEntry& entry = pending.entry;
  switch (entry.kind) {
    case EntryKind::kWrite:
      map_->Insert(entry.timeline, Run{entry.range, RunKind::kData, entry.position, pending.payload,
                                       entry.block_crcs});
      break;
    case EntryKind::kZero:
      map_->Zero(entry.timeline, entry.range, entry.position, pending.batch.segment);
      break;
    case EntryKind::kSnapshotDelete: {
      TF_ASSIGN_OR_RETURN(const SnapshotDeleteBody body, DecodeSnapshotDelete(entry.body));
      const auto it = catalogue_.snapshots().find(body.id);
      if (it != catalogue_.snapshots().end()) map_->BeforeSnapshotDelete(it->second);
      break;
    }
    case EntryKind::kTimelineStart:
      map_->BeforeTimelineStart(entry.volume);
      break;
    case EntryKind::kVolumeDelete: {
      TF_ASSIGN_OR_RETURN(const VolumeDeleteBody body, DecodeVolumeDelete(entry.body));
      map_->BeforeVolumeDelete(body.id);
      TF_RETURN_IF_ERROR(catalogue_.Apply(entry));
      streams_.Forget(body.id);
      catalogue_changed_ = true;
      work_.Set();
      return absl::OkStatus();
    }
    default:
      break;
  }
  if (entry.kind != EntryKind::kWrite && entry.kind != EntryKind::kZero) {
    catalogue_changed_ = true;
    work_.Set();
  }
  return catalogue_.Apply(entry);
}

Task<absl::Status> Store::Flush() {
  TF_CO_RETURN_IF_ERROR(failed_);
  co_return co_await log_->Flush();
}

Store::Usage Store::usage() {
  ApplyAllCommitted();
  Room::Space space = Space();
  space.lent_blocks = 0;
  const uint64_t kept = Room::KeptBlocks(space, RoomFor::kWrite);
  const uint64_t whole = space.segments * space.blocks_per_segment;
  Usage usage;
  usage.segments = space.segments;
  usage.free_segments = log_->free_segments();
  usage.reserve_blocks = std::min(kept, whole);
  usage.capacity_blocks = whole - usage.reserve_blocks;
  const uint64_t available = space.free_blocks > kept ? space.free_blocks - kept : 0;
  usage.used_blocks = usage.capacity_blocks > available ? usage.capacity_blocks - available : 0;
  usage.live_blocks = table_.live_blocks();
  return usage;
}

Store::Busy Store::busy() {
  Busy busy;
  busy.checkpoint = checkpoint_running_;
  busy.clean = cleaning_.has_value();
  busy.reclaim_jobs = map_->reclaim_jobs();
  return busy;
}

Store::Written Store::written() const {
  Written written;
  for (const BlockDevice* device : devices_) written.log_bytes += device->WrittenBytes();
  written.map_bytes = parts_.metadata->WrittenBytes();
  return written;
}

Task<void> Store::Stop() {
  TF_CHECK(!stopping_);
  stopping_ = true;
  work_.Set();
  clean_work_.Set();
  references_work_.Set();
  references_renewed_.WakeAll();
  pauses_.Cancel();
  apply_due_.Set();
  co_await scope_.Join();
  if (map_ != nullptr) ApplyAllCommitted();  // Opening may have failed before there was one.
  // A pool that can't attach its sets may be started and stopped without end.
  if (map_ != nullptr && log_ != nullptr && appending_ && failed_.ok() && !waits_for_tail()) {
    absl::Status status = co_await Checkpoint();
    if (!status.ok()) TF_LOG(WARNING) << place_ << ": no checkpoint at the end: " << status;
  }
  if (map_ != nullptr) co_await map_->Stop();
  if (log_ != nullptr) co_await log_->Stop();
  if (parts_.metadata != nullptr) co_await parts_.metadata->Close();
  for (BlockDevice* device : devices_) co_await device->Close();
}

}  // namespace twofold
