// Opening a store: from what a crash left to a store that serves (DESIGN.md section 5; R11-R13,
// R40, M9, M14).
//
// 1. Superblock: who we are; all disks are here.
// 2. The newest checkpoint: the map, the catalogue and the segment table as of one log position. It
// was committed
//    atomically, so it is the newest or the one before, never a mixture.
// 3. Replay the log from there. Entries that the checkpoint has already (other streams may have
// been
//    ahead of the oldest uncommitted entry) are skipped by position. Nothing is written, so a crash
//    here repeats the same.
// Blocks that the cleaner moved are taken note of at the end of it (cleaner.cc).
// 4. Take the next incarnation, durably, before anything that carries it is written. A crash here
//    costs a number.
// 5. Start appending: the log makes the dead tail unreadable and durably begins a new segment. From
// that record on the
//    cut is final. Segments that hold something live, or that replay may need, are in use; all
//    others are free. Until the first checkpoint afterwards nothing more is freed (M14).
#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/map/key_codec.h"
#include "storage/store/store.h"

namespace twofold {
namespace {

constexpr char kMapDamage[] = "twofold/map-damage";

}  // namespace

Task<absl::Status> FormatStore(std::vector<BlockDevice*> devices, Superblock superblock) {
  if (superblock.segment_bytes < kMinSegmentBytes || superblock.segment_bytes > kMaxSegmentBytes ||
      superblock.segment_bytes % kBlockSize != 0) {
    co_return absl::InvalidArgumentError(absl::StrCat("a segment of ", superblock.segment_bytes,
                                                      " bytes: must be ", kMinSegmentBytes, " to ",
                                                      kMaxSegmentBytes, " and a multiple of 4096"));
  }
  if (superblock.max_segments < kMinSegments) {
    co_return absl::InvalidArgumentError(
        absl::StrCat("a set of ", superblock.max_segments, " segments is too small: at least ",
                     kMinSegments, " of ", superblock.segment_bytes >> 20, " MiB are needed"));
  }
  co_return co_await FormatSuperblock(std::move(devices), std::move(superblock));
}

bool IsMapDamage(const absl::Status& status) {
  return !status.ok() && status.GetPayload(kMapDamage).has_value();
}

Task<absl::StatusOr<std::unique_ptr<Store>>> Store::Open(StoreParts parts, StoreOptions options) {
  std::unique_ptr<Store> store(new Store(std::move(parts), options));
  absl::Status status = co_await store->Recover();
  if (!status.ok()) {
    co_await store->Stop();
    absl::Status annotated = Annotate(status, store->place_);
    // With every file of the log there, a map that does not go with it is an old one; unless it is
    // the log that has lost its end.
    const bool stale =
        store->log_ != nullptr && store->log_->LostFiles().empty() && !IsLostEnd(status);
    if (absl::IsDataLoss(status) && (!store->map_loaded_ || stale)) {
      annotated.SetPayload(kMapDamage, absl::Cord("damaged"));
    }
    co_return annotated;
  }
  co_return store;
}

Task<absl::Status> Store::Recover() {
  place_ = absl::StrJoin(devices_, ",", [](std::string* out, const BlockDevice* device) {
    out->append(device->name());
  });
  std::vector<SuperblockDamage> damage;
  absl::StatusOr<Superblock> superblock = co_await ReadSuperblock(devices_, &damage);
  TF_CO_RETURN_IF_ERROR(superblock);
  superblock_ = *std::move(superblock);
  NoteSuperblockDamage(damage);

  map_loaded_ = false;
  absl::Status status = co_await LoadCheckpoint();
  TF_CO_RETURN_IF_ERROR(status);
  map_loaded_ = true;
  status = co_await OpenLog();
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await RebuildLostMap();
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await ReplayLog();
  TF_CO_RETURN_IF_ERROR(status);
  if (options_.read_only) co_return absl::OkStatus();

  // A new store has its first checkpoint before it takes the first write: a map that has none
  // afterwards was lost, and is not mistaken for an empty one (M12). A store that is short of
  // segments gets back what the last open took (see Room).
  const bool short_of_segments = log_->free_segments() * log_->usable_blocks_per_segment() <=
                                 Room::KeptBlocks(Space(), RoomFor::kWrite);
  // What the log's end holds uncommitted keeps all behind it from being freed, whatever that is: as
  // soon as attaching has settled it the checkpoint follows, and until then there is none.
  //
  // However often it crashes meanwhile, it can be opened again. Until its checkpoint is committed
  // the new segment, and what follows it, holds nothing but records of the store's own, and is cut
  // off by the next open, which takes its place (TakeOwnState). With entries pending that is so
  // until they are settled, which the log says: then it is as below. With nothing pending the
  // checkpoint frees the segment of the open before, if that holds nothing else: the two that are
  // kept for opening suffice (Room).
  short_behind_tail_ = short_of_segments && streams_.pending_entries() > 0;
  if (last_checkpoint_.number == 0 || (short_of_segments && !waits_for_tail())) {
    status = co_await Checkpoint();
    TF_CO_RETURN_IF_ERROR(status);
  }
  scope_.Spawn(BackgroundLoop());
  scope_.Spawn(CleanLoop());
  scope_.Spawn(ReferenceLoop());
  // What reclaiming and timelines have left to do is looked for; a map made anew has none flat.
  work_.Set();
  references_work_.Set();
  clean_work_.Set();
  scope_.Spawn(ApplyLoop());
  co_return absl::OkStatus();
}

Task<absl::Status> Store::LoadCheckpoint() {
  map_ = std::make_unique<ExtentMap>(
      parts_.metadata.get(), &catalogue_, &table_,
      ExtentMap::Options{
          options_.map_cache_bytes == 0 ? kDefaultMapCacheBytes : options_.map_cache_bytes,
          kMaxPartialChunks, kMaxZeroedChunks, options_.max_lineage_depth});
  absl::StatusOr<std::optional<std::string>> bytes =
      co_await parts_.metadata->Get(MetaKey(kCheckpointName));
  TF_CO_RETURN_IF_ERROR(bytes);
  if (!bytes->has_value()) co_return absl::OkStatus();
  TF_CO_ASSIGN_OR_RETURN(last_checkpoint_, DecodeCheckpoint(**bytes));
  if (last_checkpoint_.store_id != superblock_.store_id) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("its map/ belongs to another store (", last_checkpoint_.store_id,
                     "): put back the map of this one (", superblock_.store_id, ")"));
  }
  attach_ = last_checkpoint_.attach;
  fence_ = attach_.sealed;
  catalogue_segment_ = last_checkpoint_.catalogue_segment;
  membership_segment_ = last_checkpoint_.replay_from.segment;

  bytes = co_await parts_.metadata->Get(MetaKey(kCatalogueName));
  TF_CO_RETURN_IF_ERROR(bytes);
  if (!bytes->has_value())
    co_return absl::DataLossError("its map/ has a checkpoint without a catalogue");
  TF_CO_ASSIGN_OR_RETURN(catalogue_, Catalogue::Decode(**bytes));
  if (options_.read_only) checkpoint_catalogue_ = catalogue_;
  bytes = co_await parts_.metadata->Get(MetaKey(kRebuiltName));
  TF_CO_RETURN_IF_ERROR(bytes);
  if (bytes->has_value()) {
    TF_CO_ASSIGN_OR_RETURN(rebuilt_, DecodeRebuiltMark(**bytes));
  }
  for (const auto& [volume, stream] : catalogue_.streams())
    streams_.Restore(volume, stream.applied);
  absl::Status status = co_await LoadResyncState();
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await LoadProof();
  TF_CO_RETURN_IF_ERROR(status);
  co_return co_await map_->Load();
}

Task<absl::Status> Store::OpenLog() {
  const std::string raw_id = absl::HexStringToBytes(superblock_.store_id);
  SegmentLog::Options options;
  options.store_id = raw_id;
  options.segment_bytes = superblock_.segment_bytes;
  options.max_segments = superblock_.max_segments;
  // Of segments whose files are lost no header tells.
  options.number_floor = std::max(
      {last_checkpoint_.replay_from.segment, catalogue_segment_, superblock_.opened_segment});
  if (!table_.segments().empty()) {
    options.number_floor = std::max(options.number_floor, table_.segments().rbegin()->first);
  }
  options.on_logged = [this](const LoggedBatch& batch) { OnLogged(batch); };
  options.take_commits = [this] { return streams_.TakeMovedMarks(kMaxBatchCommitMarks); };
  options.on_failed = [this](const absl::Status& status) { Fail(status); };
  options.departures = options_.departures;
  options.on_opened = [this](SegmentNumber segment) {
    table_.Add(segment, SegmentState::kOpen);
    clean_work_.Set();
  };
  options.on_sealed = [this](SegmentNumber segment) { table_.Seal(segment); };
  absl::StatusOr<std::unique_ptr<SegmentLog>> log =
      co_await SegmentLog::Open(devices_, std::move(options));
  TF_CO_RETURN_IF_ERROR(log);
  log_ = *std::move(log);
  co_return absl::OkStatus();
}

// A map without a checkpoint, over a log that isn't empty, was lost (M12).
Task<absl::Status> Store::RebuildLostMap() {
  if (last_checkpoint_.number != 0 || log_->Segments().empty()) co_return absl::OkStatus();
  if (options_.read_only) {
    co_return absl::FailedPreconditionError(
        "its map is lost or empty: serving rebuilds it from the log, and so does twofold inspect "
        "DIR --rebuild-map");
  }
  absl::StatusOr<bool> rebuilt =
      co_await RebuildMap(log_.get(), &superblock_, parts_.metadata.get(), options_.on_rebuild);
  TF_CO_RETURN_IF_ERROR(rebuilt);
  if (!*rebuilt) co_return absl::OkStatus();
  TF_LOG(WARNING) << place_ << ": the map was lost; it was rebuilt from the log";
  co_return co_await LoadCheckpoint();
}

Task<absl::Status> Store::ReplayLog() {
  const std::vector<SegmentNumber> present = log_->Segments();
  if (last_checkpoint_.number == 0 && !present.empty() && present.front() != SegmentNumber(1)) {
    co_return absl::DataLossError(absl::StrCat(
        "its map/ is missing or empty, and the log goes back to segment ", present.front().value(),
        " only, not to its beginning, and holds no catalogue: fill this set again from the other"));
  }
  TF_CO_RETURN_IF_ERROR(ReconcileSegments(present));

  SegmentLog::Known known;
  known.opened = superblock_.opened_segment;
  // The checkpoint was committed when all that was logged before it was durable.
  if (last_checkpoint_.number > 0) {
    known.durable = BatchNumber(last_checkpoint_.moved_before.value() - 1);
  }
  known.give_up_end = options_.give_up_end_of_pool == superblock_.pool_id;
  if (last_checkpoint_.number > 0) {
    known.goes_without_saying = [this](const LogEntry& entry) { return TakeOwnState(entry); };
  }
  const auto take = [this](const LoggedBatch& batch) { return TakeReplayed(batch); };
  absl::StatusOr<SegmentLog::Replayed> replayed =
      co_await log_->Replay(last_checkpoint_.replay_from, take, known);
  TF_CO_RETURN_IF_ERROR(replayed);
  // The first segment is there, and nothing says where its batches were: that it was empty can't be
  // told from what was lost.
  if (last_checkpoint_.number == 0 && replayed->needed_from.batch != BatchNumber(1)) {
    co_return absl::DataLossError(absl::StrCat(
        "its map/ is missing or empty, and the beginning of the log is damaged: it starts with "
        "batch ",
        replayed->needed_from.batch.value(), ". This copy must be healed from the other set"));
  }
  damage_.insert(damage_.end(), replayed->damage.begin(), replayed->damage.end());
  NoteDamageFound();
  absl::Status status = co_await TakeReplayedMoves();
  TF_CO_RETURN_IF_ERROR(status);
  if (options_.read_only) co_return absl::OkStatus();

  ForgetSegmentsBeyond(replayed->cut.segment);
  if (replayed->cut_off_own) {
    status = co_await KeepOwnState();
    TF_CO_RETURN_IF_ERROR(status);
  }
  co_return co_await StartAppending(*std::move(replayed));
}

// What the end of the log says of the store's own. Where segments hold nothing else, as lives that
// crashed while they opened leave them, the log is cut before them, so that such a life costs no
// segment: catalogues there are of no checkpoint, and can be made again; how the store was attached
// goes into the checkpoint before it is destroyed (KeepOwnState), and into the log again with the
// cut. What is noted here of a batch that stays is noted again with it.
bool Store::TakeOwnState(const LogEntry& entry) {
  switch (entry.kind) {
    case EntryKind::kCatalogue:
      return true;
    case EntryKind::kSeal: {
      const absl::StatusOr<Generation> generation = DecodeSeal(entry.body);
      if (!generation.ok()) return false;
      attach_.sealed = std::max(attach_.sealed, *generation);
      fence_ = std::max(fence_, *generation);
      return true;
    }
    case EntryKind::kMembership: {
      absl::StatusOr<AttachState> state = DecodeMembership(entry.body);
      if (!state.ok()) return false;
      const Generation sealed = std::max(attach_.sealed, state->sealed);
      if (state->membership_version >= attach_.membership_version) attach_ = *std::move(state);
      attach_.sealed = sealed;
      return true;
    }
    default:
      return false;
  }
}

// The last checkpoint once more, with how the store was attached since (R20, R21). A crash before
// it leaves the log as it was; one after it leaves the log, or what the next open destroyed of it,
// to an open that knows it from here.
Task<absl::Status> Store::KeepOwnState() {
  if (attach_ == last_checkpoint_.attach) co_return absl::OkStatus();
  CheckpointRecord record = last_checkpoint_;
  record.attach = attach_;
  MetadataBatch batch;
  batch.push_back({MetadataWrite::Kind::kPut, MetaKey(kCheckpointName), EncodeCheckpoint(record)});
  const absl::Status status = co_await parts_.metadata->Commit(std::move(batch));
  TF_CO_RETURN_IF_ERROR(status);
  last_checkpoint_ = std::move(record);
  co_return absl::OkStatus();
}

// The next incarnation is durable before anything that carries it is written (R11), and is higher
// than any in the log: the superblock may be a copy from the past. It says that an open is under
// way until the log has begun anew, and then with which segment: that one is there from now on,
// until a checkpoint lies behind it. Both slots are written, so whatever was wrong with one is
// gone.
Task<absl::Status> Store::StartAppending(SegmentLog::Replayed replayed) {
  const Incarnation seen = std::max(replayed.last_incarnation, log_->last_incarnation());
  if (superblock_.incarnation < seen) {
    NoteSuperblockDamage(
        {{absl::StrCat(place_, "/SUPERBLOCK"),
          absl::StrCat("it is a copy from the past, of incarnation ",
                       superblock_.incarnation.value(), "; the log has ", seen.value())}});
  }
  superblock_.incarnation = std::max(superblock_.incarnation, seen).Next();
  superblock_.opened_segment = SegmentNumber();
  absl::StatusOr<Superblock> superblock = co_await UpdateSuperblock(devices_, superblock_);
  TF_CO_RETURN_IF_ERROR(superblock);
  superblock_ = *std::move(superblock);

  const bool gave_up_end = replayed.gave_up_end;
  std::vector<LogEntry> say;
  if (replayed.cut_off_own) {
    LogEntry& membership = say.emplace_back();
    membership.kind = EntryKind::kMembership;
    membership.position.generation = fence_;
    membership.body = EncodeMembership(attach_);
  }
  absl::Status status = co_await log_->StartAppending(std::move(replayed), superblock_.incarnation,
                                                      SegmentsInUse(), std::move(say));
  TF_CO_RETURN_IF_ERROR(status);
  appending_ = true;

  superblock_.opened_segment = log_->end().segment;
  superblock = co_await UpdateSuperblock(devices_, superblock_);
  TF_CO_RETURN_IF_ERROR(superblock);
  superblock_ = *std::move(superblock);
  // Numbers of batches that were given up are used again: what the checkpoint says of them does not
  // hold any more. Until it is replaced the log is found damaged again, and given up again.
  if (gave_up_end) status = co_await Checkpoint();
  co_return status;
}

// Brings the segment table, which knows what the checkpoint knew, and the log's headers together.
absl::Status Store::ReconcileSegments(const std::vector<SegmentNumber>& present) {
  const SegmentNumber keep_from =
      std::min(last_checkpoint_.replay_from.segment, catalogue_segment_);
  SegmentTable::Frozen gone;
  std::vector<SegmentNumber> lost;
  for (const auto& [segment, info] : table_.segments()) {
    if (std::binary_search(present.begin(), present.end(), segment)) continue;
    if (info.live_blocks == 0 && info.zero_blocks == 0 && segment < keep_from) {
      // Freed after the checkpoint and recycled since; only its rows are left.
      gone.dead.push_back(segment);
    } else {
      damage_.push_back({segment, 0, "the segment's file is gone or its header is damaged", ""});
      lost.push_back(segment);
    }
  }
  // Nothing is written into them any more; what lived in them is moved out from the other set.
  for (SegmentNumber segment : lost) table_.Seal(segment);
  released_ = table_.Release(gone);
  for (SegmentNumber segment : present) {
    const bool wanted = last_checkpoint_.number == 0 || segment >= keep_from;
    if (wanted || table_.segments().contains(segment)) table_.Add(segment, SegmentState::kSealed);
  }
  return absl::OkStatus();
}

absl::Status Store::TakeReplayed(const LoggedBatch& batch) {
  for (const LoggedBatch::Item& item : batch.items) {
    const bool moved =
        item.entry.kind == EntryKind::kMoved || item.entry.kind == EntryKind::kMovedZeros;
    if (HasSeq(item.entry.kind)) {
      streams_.Add(item.entry, item.payload, batch.start);
    } else if (!moved || batch.start.batch >= last_checkpoint_.moved_before) {
      TF_RETURN_IF_ERROR(NoteOwnRecord(item, batch.start));
    }
  }
  for (const CommitMark& mark : batch.commits) {
    streams_.Commit(mark.volume, mark.position);
    ApplyCommitted(mark.volume);
  }
  entries_since_checkpoint_ += batch.items.size();
  blocks_since_checkpoint_ += BlocksOf(batch);
  return failed_;
}

// Segments that were made ready and never written, or that hold nothing but what is cut off: once
// StartAppending has destroyed that, they are as free as any. Otherwise each crash would cost the
// ready ones too, until a checkpoint, and a few in a row all there are.
void Store::ForgetSegmentsBeyond(SegmentNumber last) {
  SegmentTable::Frozen empty;
  for (const auto& [segment, info] : table_.segments()) {
    if (segment > last && info.live_blocks == 0 && info.zero_blocks == 0) {
      empty.dead.push_back(segment);
    }
  }
  table_.Release(empty);
}

std::vector<SegmentNumber> Store::SegmentsInUse() const {
  std::vector<SegmentNumber> in_use;
  for (const auto& [segment, info] : table_.segments()) in_use.push_back(segment);
  return in_use;
}

}  // namespace twofold
