// Checkpoints (M9), and the space that they give back (M14).
//
// A checkpoint is one consistent cut: between taking `replay_from` and the end of ExtentMap::Freeze
// nothing suspends, so that map, live bits, dead lists, catalogue and position belong together
// (what of it was taken out then may be encoded later: the changes of live bits, before the rows of
// freed segments are deleted, so that none of those comes back). The log is flushed after the cut
// and before the commit: nothing in the map refers to payload that a loss of power could still take
// (R33). A crash before the commit leaves the last checkpoint, whose log is all there, because
// segments are freed only after the commit; a crash after it leaves the new one, and freed segments
// are found free again, since nothing in it refers to them.
#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/map/key_codec.h"
#include "storage/runtime/executor.h"
#include "storage/store/store.h"

namespace twofold {

Task<absl::Status> Store::Checkpoint() {
  const AsyncMutex::Guard lock = co_await checkpoint_mutex_.Lock();
  absl::Status status = co_await WriteCheckpoint();
  if (!status.ok()) co_await FailCheckpoint(status);
  co_return status;
}

// The map is behind the log for good; a restart replays from the last checkpoint.
Task<void> Store::FailCheckpoint(absl::Status status) {
  co_await NoteMapDamage(status);
  Fail(Annotate(status, "checkpoint"));
}

Task<absl::Status> Store::WriteCheckpoint() {
  TF_CO_RETURN_IF_ERROR(failed_);
  const MonoNanos started = Executor::Current().Now();
  checkpoint_running_ = true;
  const absl::Cleanup ended = [this] { checkpoint_running_ = false; };
  absl::Status status = co_await LogWholeCatalogue();
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await map_->PrepareFreeze();
  TF_CO_RETURN_IF_ERROR(status);

  // The cut: no suspension until Freeze has returned.
  const MonoNanos cut = Executor::Current().Now();
  ApplyAllCommitted();
  CheckpointRecord record;
  record.store_id = superblock_.store_id;
  record.number = last_checkpoint_.number + 1;
  record.replay_from = streams_.OldestPendingBatch().value_or(log_->end());
  record.catalogue_segment = catalogue_segment_;
  record.moved_before = log_->end().batch;
  record.attach = attach_;
  const size_t emptied = emptied_.size();
  ExtentMap::Frozen frozen = map_->Freeze(record.replay_from.segment, catalogue_segment_);
  const std::vector<SegmentNumber> forgotten = std::exchange(released_, {});
  frozen.batch.push_back(
      {MetadataWrite::Kind::kPut, MetaKey(kCheckpointName), EncodeCheckpoint(record)});
  frozen.batch.push_back({MetadataWrite::Kind::kPut, MetaKey(kCatalogueName), catalogue_.Encode()});
  AppendResyncState(&frozen.batch);
  AppendProof(&frozen.batch);
  entries_since_checkpoint_ = 0;
  blocks_since_checkpoint_ = 0;
  short_behind_tail_ = short_behind_tail_ && streams_.pending_entries() > 0;
  latency_.checkpoint_cut.Add(Executor::Current().Now() - cut);

  co_await ExtentMap::CompleteFrozen(&frozen);
  for (SegmentNumber segment : forgotten) {
    for (Table table : {Table::kLive, Table::kUsage}) {
      frozen.batch.push_back({MetadataWrite::Kind::kDelete, EncodeSegmentKey(table, segment), ""});
    }
  }
  status = co_await log_->Flush();
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await parts_.metadata->Commit(std::move(frozen.batch));
  TF_CO_RETURN_IF_ERROR(status);

  map_->FreezeDone();
  last_checkpoint_ = std::move(record);
  released_ = table_.Release(frozen.segments);
  log_->Free(released_);
  segments_freed_ += released_.size();
  // One that could not be emptied may have left the list meanwhile.
  emptied_.erase(emptied_.begin(),
                 emptied_.begin() + static_cast<ptrdiff_t>(std::min(emptied, emptied_.size())));
  clean_work_.Set();
  latency_.checkpoint.Add(Executor::Current().Now() - started);
  co_return absl::OkStatus();
}

// ---- The last proof -----------------------------------------------------------------------------

Task<absl::Status> Store::RememberProof(ProofRecord proof) {
  if (resyncing()) co_return absl::FailedPreconditionError("the store is being brought level");
  proof_ = std::move(proof);
  proof_changed_ = true;
  co_return co_await Checkpoint();
}

void Store::AppendProof(MetadataBatch* batch) {
  if (!std::exchange(proof_changed_, false)) return;
  if (proof_.has_value()) {
    batch->push_back({MetadataWrite::Kind::kPut, MetaKey(kProofName), EncodeProof(*proof_)});
  } else {
    batch->push_back({MetadataWrite::Kind::kDelete, MetaKey(kProofName), ""});
  }
}

// One that can't be read, or is another store's, proves nothing; that keeps no store from opening.
Task<absl::Status> Store::LoadProof() {
  const absl::StatusOr<std::optional<std::string>> bytes =
      co_await parts_.metadata->Get(MetaKey(kProofName));
  TF_CO_RETURN_IF_ERROR(bytes);
  if (!bytes->has_value()) co_return absl::OkStatus();
  absl::StatusOr<ProofRecord> proof = DecodeProof(**bytes);
  if (proof.ok() && proof->store_id == superblock_.store_id) {
    proof_ = *std::move(proof);
  } else {
    TF_LOG(WARNING) << place_ << ": when it was last proven whole is not known any more";
    proof_changed_ = true;
  }
  co_return absl::OkStatus();
}

// ---- What goes with a checkpoint ----------------------------------------------------------------

// Logs the whole catalogue, so that the segments before it need not be kept for the catalogue
// records in them (R17). In pieces: an entry has a bounded body.
Task<absl::Status> Store::LogWholeCatalogue() {
  // The one in the open segment may hold on to older ones, for what was pending when it was made.
  const SegmentNumber open = log_->end().segment;
  const std::optional<LogPosition> pending = streams_.OldestPendingBatch();
  const SegmentNumber needed = pending.has_value() ? std::min(pending->segment, open) : open;
  if (!catalogue_changed_ && catalogue_begun_.segment == open && catalogue_segment_ >= needed) {
    co_return absl::OkStatus();
  }
  catalogue_changed_ = false;
  AttachState attach = attach_;
  absl::Status status = co_await AppendOwn(EntryKind::kMembership, EncodeMembership(attach));
  TF_CO_RETURN_IF_ERROR(status);

  // No suspension from here to the first append: what the catalogue does not show is pending.
  catalogue_pending_ = streams_.OldestPendingBatch();
  std::vector<Task<absl::Status>> appends;
  for (std::string& piece : EncodeCataloguePieces(catalogue_.Encode(), resyncing())) {
    appends.push_back(AppendOwn(EntryKind::kCatalogue, std::move(piece)));
  }
  const std::vector<absl::Status> statuses = co_await WhenAll(std::move(appends));
  co_return FirstError(statuses);
}

bool Store::CheckpointDue() const {
  const uint64_t entries =
      options_.checkpoint_entries == 0 ? kCheckpointEntries : options_.checkpoint_entries;
  const uint64_t bytes =
      options_.checkpoint_bytes == 0
          ? std::min(kCheckpointBytes, superblock_.segment_bytes * superblock_.max_segments / 8)
          : options_.checkpoint_bytes;
  return entries_since_checkpoint_ >= entries || blocks_since_checkpoint_ * kBlockSize >= bytes ||
         map_->checkpoint_due() || (short_behind_tail_ && streams_.pending_entries() == 0);
}

Task<absl::Status> Store::RelieveMap() {
  const AsyncMutex::Guard lock = co_await checkpoint_mutex_.Lock();
  if (!map_->checkpoint_due()) co_return absl::OkStatus();
  absl::Status status = co_await WriteCheckpoint();
  if (!status.ok()) co_await FailCheckpoint(status);
  co_return status;
}

// Called without room. Those that wait together share one checkpoint.
Task<absl::Status> Store::MakeRoom() {
  const uint64_t number = last_checkpoint_.number;
  const AsyncMutex::Guard lock = co_await checkpoint_mutex_.Lock();
  if (last_checkpoint_.number > number + 1) co_return absl::OkStatus();
  // Nothing was logged, trimmed or reclaimed since a checkpoint that brought nothing: another won't
  // either.
  const Effort effort{log_->counters().entries, table_.live_blocks()};
  if (effort == fruitless_ && map_->reclaim_jobs() == 0) co_return absl::OkStatus();
  const uint64_t free_before = log_->free_segments();
  while (map_->has_reclaim_work()) {  // As much as one checkpoint takes.
    absl::Status status = co_await map_->ReclaimStep();
    TF_CO_RETURN_IF_ERROR(status);
  }
  absl::Status status = co_await WriteCheckpoint();
  if (!status.ok()) co_await FailCheckpoint(status);
  if (log_->free_segments() == free_before) {
    fruitless_ = Effort{log_->counters().entries, table_.live_blocks()};
  }
  co_return status;
}

// Checkpoints that are due, and reclaiming: each job waits for the checkpoint after its delete, and
// its effects are in the one after that.
Task<void> Store::BackgroundLoop() {
  while (!stopping_ && failed_.ok()) {
    co_await work_.Wait();
    work_.Reset();
    if (waits_for_tail()) continue;
    absl::Status status;
    while (!stopping_ && failed_.ok() && status.ok() && map_->reclaim_jobs() > 0) {
      const bool ready = map_->has_reclaim_work();
      if (ready) {
        const AsyncMutex::Guard lock = co_await checkpoint_mutex_.Lock();
        status = co_await map_->ReclaimStep();
      }
      if (status.ok() && !map_->has_reclaim_work()) status = co_await Checkpoint();
      if (!ready && !map_->has_reclaim_work()) break;
    }
    if (!status.ok() && failed_.ok()) TF_LOG(ERROR) << place_ << ": reclaiming: " << status;
    if (!status.ok()) co_await NoteMapDamage(status);
    if (!stopping_ && failed_.ok() && CheckpointDue()) {
      const absl::Status ignored_as_failed = co_await Checkpoint();
      if (!ignored_as_failed.ok()) break;
    }
  }
}

}  // namespace twofold
