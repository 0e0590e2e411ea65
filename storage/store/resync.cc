// A resync as the two stores do it (docs/decisions/0020-resync-replays-history-compressed.md): what
// the source keeps and reads, and what the target logs and puts into its map.
//
// What the target logs takes effect in the turn in which its batch is logged, in log order, as all
// of a store's own records; replay does the same. It replays exactly once: before `resync begin`
// each stream was voided, its record saying how far it was committed then, and until `resync end`
// no entry is taken, so nothing is pending and a checkpoint's replay begins at its own cut. A crash
// loses the fills that were only written; the end of a span is durable, with all before it.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/lost_block.h"
#include "storage/map/key_codec.h"
#include "storage/map/run_list.h"
#include "storage/runtime/executor.h"
#include "storage/store/resync_record.h"
#include "storage/store/store.h"

namespace twofold {
namespace {

constexpr char kResyncName[] = "resync";  // in the metadata store: the goal
constexpr int64_t kTombstonePollNanos = 10 * kNanosPerMilli;

std::string Text(const ResyncSpan& span) {
  return absl::StrCat("timeline ", span.timeline.value(), " up to ", span.as_of.generation.value(),
                      ".", span.as_of.seq.value());
}

Position EndOf(const Streams::Stream& stream) {
  return stream.pending.empty() ? stream.committed : stream.pending.back().entry.position;
}

}  // namespace

// ---- The source ---------------------------------------------------------------------------------

Task<absl::Status> Store::PinForResync() {
  TF_CO_RETURN_IF_ERROR(failed_);
  ApplyAllCommitted();
  source_ = ResyncSource();
  source_.status = absl::OkStatus();
  source_.log_from = log_->end().segment;
  // What is under way in a batch lies there or later.
  for (const auto& [volume, stream] : streams_.streams()) {
    source_.marks[volume] = {EndOf(stream), source_.log_from};
  }
  table_.PinFrom(source_.log_from);
  HoldReclaim();
  co_return absl::OkStatus();
}

void Store::UnpinForResync() {
  source_ = ResyncSource();
  table_.PinFrom(SegmentNumber());
  HoldReclaim();
}

void Store::HoldReclaim() {
  map_->HoldReclaim(source_.status.ok() || points_held_.ok());
  work_.Set();
}

// By the one or the other: what is read here is exact.
absl::Status Store::CheckHeld() const {
  return points_held_.ok() ? absl::OkStatus() : source_.status;
}

Task<absl::Status> Store::HoldPoints() {
  TF_CO_RETURN_IF_ERROR(failed_);
  points_held_ = absl::OkStatus();
  HoldReclaim();
  co_return absl::OkStatus();
}

void Store::LetPointsGo() {
  points_held_ = absl::UnavailableError("nobody compares it");
  HoldReclaim();
}

// A comparison can be made again.
bool Store::GiveUpPoints() {
  if (!points_held_.ok() || map_->reclaim_jobs() == 0) return false;
  points_held_ = absl::UnavailableError(
      absl::StrCat("set ", superblock_.set_name, " (", place_,
                   ") ran out of room and needed what it kept for being compared"));
  TF_LOG(WARNING) << points_held_.message();
  HoldReclaim();
  return true;
}

// Room for clients is worth more than a resync that can begin again. False: it keeps nothing back.
bool Store::GiveUpPin() {
  if (GiveUpPoints()) return true;
  if (!source_.status.ok()) return false;
  bool keeps = map_->reclaim_jobs() > 0;
  for (const auto& [segment, info] : table_.segments()) {
    keeps = keeps || (segment >= source_.log_from && info.state == SegmentState::kSealed &&
                      info.live_blocks == 0 && info.zero_blocks == 0);
  }
  if (!keeps) return false;
  UnpinForResync();
  source_.status = absl::UnavailableError(
      absl::StrCat("set ", superblock_.set_name, " (", place_,
                   ") ran out of room and needed what it kept for the resync"));
  TF_LOG(WARNING) << source_.status.message();
  return true;
}

Task<absl::Status> Store::PrepareSpans() {
  // Trims that are older than a retained point still change what it shows, chunk by chunk.
  while (map_->has_tombstones_before_points()) {
    TF_CO_RETURN_IF_ERROR(CheckHeld());
    if (stopping_) co_return absl::UnavailableError("the store is being stopped");
    absl::Status status = co_await Checkpoint();
    TF_CO_RETURN_IF_ERROR(status);
    co_await SleepFor(kTombstonePollNanos);
  }
  co_return co_await Checkpoint();
}

Task<absl::StatusOr<ResyncPage>> Store::ReadSpan(ResyncSpan span, std::string from) {
  TF_CO_RETURN_IF_ERROR(CheckHeld());
  absl::StatusOr<ResyncPage> page = co_await map_->ReadSpan(span, std::move(from));
  TF_CO_RETURN_IF_ERROR(CheckHeld());  // It may have given way meanwhile.
  co_return page;
}

Position Store::zeros_uncertain_up_to(VolumeId volume) const {
  if (!rebuilt_.has_value()) return kFirstPosition;
  const auto found = rebuilt_->up_to.find(volume);
  if (found != rebuilt_->up_to.end()) return found->second;
  // It had been deleted, and others stand on it; or it was made since.
  return catalogue_.WasDeleted(volume) ? kLastPosition : kFirstPosition;
}

Task<absl::StatusOr<std::vector<BlockExtent>>> Store::StatusOfSpan(ResyncSpan span,
                                                                   BlockRange range) {
  TF_CO_RETURN_IF_ERROR(CheckHeld());
  const ResyncSpan shown = map_->WhereShown(span, range.first);
  co_return co_await Status(shown.timeline, shown.as_of, range, range.count.value());
}

SegmentNumber Store::FirstSegmentOfTail(VolumeId volume, Position after) const {
  if (!source_.status.ok()) return SegmentNumber();
  const auto mark = source_.marks.find(volume);
  if (mark == source_.marks.end()) return source_.log_from;  // made since
  return after >= mark->second.position ? mark->second.segment : SegmentNumber();
}

// ---- The target ---------------------------------------------------------------------------------

absl::Status Store::CheckTarget(Generation generation) const {
  TF_RETURN_IF_ERROR(failed_);
  if (generation < fence_) {
    return absl::AbortedError(absl::StrCat("set ", superblock_.set_name,
                                           " is sealed at generation ", fence_.value(),
                                           ", this head has ", generation.value()));
  }
  return absl::OkStatus();
}

Task<absl::Status> Store::AppendRecord(LogEntry entry, absl::Span<const std::byte> payload,
                                       Durability durability) {
  absl::StatusOr<LogAddress> logged = co_await log_->Append(entry, payload, durability);
  co_return logged.status();
}

Task<absl::Status> Store::VoidTails(Generation generation) {
  TF_CO_RETURN_IF_ERROR(CheckTarget(generation));
  ApplyAllCommitted();
  // Of every stream, also of one without a tail: commit marks come late in the log, and replay must
  // know how far each was committed before it comes to what follows.
  std::vector<Task<absl::Status>> appends;
  for (const auto& [volume, stream] : streams_.streams()) {
    LogEntry entry;
    entry.kind = EntryKind::kVoid;
    entry.volume = volume;
    entry.position.generation = fence_;
    entry.body = EncodeVoid({stream.committed, EndOf(stream)});
    appends.push_back(AppendRecord(std::move(entry), {}, Durability::kDurable));
  }
  const std::vector<absl::Status> results = co_await WhenAll(std::move(appends));
  co_return FirstError(results);
}

absl::Status Store::NoteVoid(const LogEntry& entry) {
  TF_ASSIGN_OR_RETURN(const VoidBody body, DecodeVoid(entry.body));
  streams_.Commit(entry.volume, body.common);
  ApplyCommitted(entry.volume);
  streams_.Void(entry.volume);
  return failed_;
}

Task<absl::StatusOr<std::vector<ResyncSpan>>> Store::BeginResync(Generation generation,
                                                                 Catalogue goal) {
  TF_CO_RETURN_IF_ERROR(CheckTarget(generation));
  ApplyAllCommitted();
  if (streams_.pending_entries() > 0) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("set ", superblock_.set_name, " has entries that were not given up yet"));
  }
  const absl::StatusOr<Catalogue> begun = BeginReplay(catalogue_, goal, /*pin=*/!resyncing());
  TF_CO_RETURN_IF_ERROR(begun);
  std::vector<Task<absl::Status>> appends;
  for (std::string& piece : EncodeCataloguePieces(goal.Encode(), /*resyncing=*/false)) {
    appends.push_back(AppendOwn(EntryKind::kResyncBegin, std::move(piece)));
  }
  const std::vector<absl::Status> results = co_await WhenAll(std::move(appends));
  TF_CO_RETURN_IF_ERROR(FirstError(results));
  TF_CO_RETURN_IF_ERROR(failed_);
  TF_CHECK(resyncing());
  co_return resync_->spans;
}

absl::Status Store::NoteGoalPiece(const LogEntry& entry) {
  TF_ASSIGN_OR_RETURN(const CataloguePiece piece, DecodeCataloguePiece(entry.body));
  if (piece.index == 0) goal_pieces_.clear();
  goal_pieces_ += piece.bytes;
  if (piece.index + 1 < piece.count) return absl::OkStatus();
  const std::string whole = std::exchange(goal_pieces_, std::string());
  if (Crc32c(AsBytes(whole)) != piece.crc) {
    return absl::DataLossError("the goal of a resync in the log is not whole");
  }
  if (streams_.pending_entries() > 0) {
    return absl::DataLossError("the log has the goal of a resync among entries that are pending");
  }
  TF_ASSIGN_OR_RETURN(Catalogue goal, Catalogue::Decode(whole));
  TF_ASSIGN_OR_RETURN(Catalogue begun, BeginReplay(catalogue_, goal, /*pin=*/!resyncing()));
  ChangeCatalogue(std::move(begun));
  resync_ = std::make_unique<ResyncTarget>();
  resync_->spans = PlanResync(catalogue_, goal);
  resync_->goal = std::move(goal);
  resync_changed_ = true;
  // What it will hold then was not looked at.
  proof_.reset();
  proof_changed_ = true;
  OpenNextSpan();
  return absl::OkStatus();
}

// Past what entries do; nothing is pending.
void Store::ChangeCatalogue(Catalogue next) {
  map_->BeforeCatalogueChange(next);
  for (const auto& [volume, record] : catalogue_.volumes()) {
    if (!next.volumes().contains(volume)) streams_.Forget(volume);
  }
  catalogue_ = std::move(next);
  for (const auto& [volume, stream] : catalogue_.streams()) {
    streams_.Restore(volume, stream.applied);
  }
  catalogue_changed_ = true;
  work_.Set();
}

void Store::OpenNextSpan() {
  if (resync_->next == resync_->spans.size()) return;
  const ResyncSpan& span = resync_->spans[resync_->next];
  const std::optional<VolumeId> left = LeftBy(catalogue_, resync_->goal, span);
  if (left.has_value()) map_->BeforeTimelineStart(*left);
  OpenSpan(&catalogue_, resync_->goal, span);
  catalogue_changed_ = true;
}

Task<absl::StatusOr<std::vector<Run>>> Store::Lacking(TimelineId timeline, std::vector<Run> runs) {
  std::vector<Run> lacking;
  for (const Run& run : runs) {
    absl::StatusOr<std::vector<Piece>> pieces =
        co_await LookupPieces(timeline, kLastPosition, run.range);
    TF_CO_RETURN_IF_ERROR(pieces);
    bool joins = false;  // the part before it is lacking too
    for (const Piece& piece : *pieces) {
      // Zeros over what nothing was ever written to say nothing.
      const bool there =
          piece.mapped ? piece.run.position >= run.position : run.kind == RunKind::kZero;
      if (!there && joins) {
        const BlockIndex first = lacking.back().range.first;
        lacking.back() = Cut(run, {first, Distance(first, piece.run.range.end())});
      } else if (!there) {
        lacking.push_back(Cut(run, piece.run.range));
      }
      joins = !there;
    }
  }
  co_return lacking;
}

Task<absl::StatusOr<ShownPage>> Store::ReadShown(TimelineId timeline, BlockIndex from) {
  ApplyAllCommitted();
  co_return co_await map_->ReadShown(timeline, from);
}

Task<absl::Status> Store::Fill(Generation generation, TimelineId timeline, std::vector<Run> runs,
                               absl::Span<const std::byte> payload) {
  TF_CO_RETURN_IF_ERROR(CheckFilling(generation, timeline));
  TF_CO_ASSIGN_OR_RETURN(std::vector<Filling> fillings,
                         MakeFillings(catalogue_.timelines().at(timeline), runs, payload));
  std::vector<LogAddress> unused;
  co_return co_await AppendFillings(std::move(fillings), &unused);
}

// They replay as any others do: bad, with the checksum of what was written, from whatever is kept
// of the log. A crash before anybody says that they were durable takes them for torn writes, and
// what comes behind them with them: the resync goes on from the span before. Joining is behind
// records that were durable after them.
Task<absl::Status> Store::FillLost(Generation generation, TimelineId timeline,
                                   std::vector<Run> runs) {
  TF_CO_RETURN_IF_ERROR(CheckFilling(generation, timeline));
  AlignedBytes payload;
  TF_CO_ASSIGN_OR_RETURN(std::vector<Filling> fillings,
                         MakeLostFillings(catalogue_.timelines().at(timeline), runs, &payload));
  std::vector<LogAddress> places;
  absl::Status status = co_await AppendFillings(std::move(fillings), &places);
  TF_CO_RETURN_IF_ERROR(status);
  for (size_t i = 0; i < runs.size(); ++i) {
    LogAddress at = places[i];
    for (uint64_t n = 0; n < runs[i].range.count.value(); ++n, ++at.block) {
      NoteDamage(at, 1, std::string(kLostBlock));
    }
  }
  co_return absl::OkStatus();
}

absl::Status Store::CheckFilling(Generation generation, TimelineId timeline) const {
  TF_RETURN_IF_ERROR(CheckTarget(generation));
  if (resyncing() && resync_->next < resync_->spans.size() &&
      resync_->spans[resync_->next].timeline == timeline) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "set ", superblock_.set_name, " is not to be filled in timeline ", timeline.value()));
}

// `places`: where the payload of each came to lie.
Task<absl::Status> Store::AppendFillings(std::vector<Filling> fillings,
                                         std::vector<LogAddress>* places) {
  BlockCount blocks;
  for (const Filling& filling : fillings) blocks += BlockCount(filling.entry.block_crcs.size());
  absl::Status status = co_await Reserve(blocks, fillings.size(), RoomFor::kWrite);
  TF_CO_RETURN_IF_ERROR(status);
  places->resize(fillings.size());
  std::vector<Task<absl::Status>> appends;
  for (size_t i = 0; i < fillings.size(); ++i) {
    appends.push_back(AppendFilling(&fillings[i], &(*places)[i]));
  }
  const std::vector<absl::Status> results = co_await WhenAll(std::move(appends));
  TF_CO_RETURN_IF_ERROR(FirstError(results));
  co_return failed_;
}

Task<absl::Status> Store::AppendFilling(const Filling* filling, LogAddress* place) {
  const absl::StatusOr<LogAddress> logged =
      co_await log_->Append(filling->entry, filling->payload, Durability::kWritten);
  TF_CO_RETURN_IF_ERROR(logged);
  *place = *logged;
  co_return absl::OkStatus();
}

absl::Status Store::NoteFill(const LoggedBatch::Item& item) {
  const LogEntry& entry = item.entry;
  TF_RETURN_IF_ERROR(CheckFilled(entry));
  map_->Fill(entry.timeline,
             Run{entry.range, RunKind::kData, entry.position, item.payload, entry.block_crcs});
  return absl::OkStatus();
}

absl::Status Store::NoteFillZeros(const LogEntry& entry, SegmentNumber where) {
  TF_RETURN_IF_ERROR(CheckFilled(entry));
  TF_ASSIGN_OR_RETURN(std::vector<Run> zeros, DecodeFillZeros(entry.body));
  for (Run& zero : zeros) {
    zero.address = {.segment = where, .block = 0};
    map_->Fill(entry.timeline, zero);
  }
  return absl::OkStatus();
}

absl::Status Store::CheckFilled(const LogEntry& entry) const {
  if (resyncing() && catalogue_.timelines().contains(entry.timeline)) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the log fills timeline ", entry.timeline.value(),
                                          " in, outside of a resync of it"));
}

Task<absl::Status> Store::EndSpan(Generation generation, ResyncSpan span) {
  TF_CO_RETURN_IF_ERROR(CheckTarget(generation));
  if (!resyncing() || resync_->next == resync_->spans.size() ||
      resync_->spans[resync_->next] != span) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("set ", superblock_.set_name, " is not being filled in ", Text(span)));
  }
  absl::Status status = co_await AppendOwn(EntryKind::kResyncSpan, EncodeResyncSpan(span));
  TF_CO_RETURN_IF_ERROR(status);
  co_return failed_;
}

absl::Status Store::NoteSpan(const LogEntry& entry) {
  TF_ASSIGN_OR_RETURN(const ResyncSpan span, DecodeResyncSpan(entry.body));
  // After a checkpoint `after` of those that were left may be another name for the same.
  const bool expected = resyncing() && resync_->next < resync_->spans.size() &&
                        resync_->spans[resync_->next].timeline == span.timeline &&
                        resync_->spans[resync_->next].as_of == span.as_of;
  if (!expected) {
    return absl::DataLossError(
        absl::StrCat("the log has the end of ", Text(span), " where no resync is at it"));
  }
  twofold::EndSpan(&catalogue_, resync_->goal, span);
  const auto stream = catalogue_.streams().find(catalogue_.timelines().at(span.timeline).volume);
  if (stream != catalogue_.streams().end()) {
    streams_.Restore(stream->first, stream->second.applied);
  }
  catalogue_changed_ = true;
  ++resync_->next;
  OpenNextSpan();
  return absl::OkStatus();
}

Task<absl::Status> Store::EndResync(Generation generation) {
  TF_CO_RETURN_IF_ERROR(CheckTarget(generation));
  if (!resyncing() || resync_->next < resync_->spans.size()) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("set ", superblock_.set_name, " is not filled to the end yet"));
  }
  TF_CO_RETURN_IF_ERROR(CheckReplay(catalogue_, resync_->goal));
  absl::Status status = co_await AppendOwn(EntryKind::kResyncEnd, "");
  TF_CO_RETURN_IF_ERROR(status);
  co_return failed_;
}

absl::Status Store::NoteResyncEnd() {
  if (!resyncing()) return absl::DataLossError("the log ends a resync that it did not begin");
  TF_RETURN_IF_ERROR(CheckReplay(catalogue_, resync_->goal));
  ChangeCatalogue(std::move(resync_->goal));
  resync_.reset();
  resync_changed_ = true;
  return absl::OkStatus();
}

// ---- Checkpoints --------------------------------------------------------------------------------

void Store::AppendResyncState(MetadataBatch* batch) {
  if (!std::exchange(resync_changed_, false)) return;
  if (resyncing()) {
    batch->push_back({MetadataWrite::Kind::kPut, MetaKey(kResyncName), resync_->goal.Encode()});
  } else {
    batch->push_back({MetadataWrite::Kind::kDelete, MetaKey(kResyncName), ""});
  }
}

Task<absl::Status> Store::LoadResyncState() {
  absl::StatusOr<std::optional<std::string>> bytes =
      co_await parts_.metadata->Get(MetaKey(kResyncName));
  TF_CO_RETURN_IF_ERROR(bytes);
  if (!bytes->has_value()) co_return absl::OkStatus();
  TF_CO_ASSIGN_OR_RETURN(Catalogue goal, Catalogue::Decode(**bytes));
  resync_ = std::make_unique<ResyncTarget>();
  resync_->spans = PlanResync(catalogue_, goal);
  resync_->goal = std::move(goal);
  co_return absl::OkStatus();
}

}  // namespace twofold
