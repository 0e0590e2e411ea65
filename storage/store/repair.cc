// Healing what is damaged, by evacuating the segments that it lies in (R10, R15, R18;
// docs/decisions/0055-repair-evacuates-segments.md).
//
// A damaged segment is cleaned with the other set as the source of its bad blocks. So a repaired
// block is a moved one: it keeps its identity and its checksum, lies in a newer segment, which wins
// over the old place wherever both are met (M2, R18), and the crash argument is that of cleaning:
// until a checkpoint holds the move the segment stays, and an interrupted repair begins again. The
// file is reused under a new number with new records, whatever was wrong with it.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/executor.h"
#include "storage/store/segment_content.h"
#include "storage/store/segment_pin.h"
#include "storage/store/store.h"

namespace twofold {
namespace {

constexpr int64_t kSealPollNanos = 10 * kNanosPerMilli;
constexpr int kSealPolls = 500;
constexpr int kReadTries = 3;  // a place may be given back between looking it up and reading it

struct View {
  TimelineId timeline;
  Position as_of;
};

// What of the timeline shows an entry at `position` if anything does: the first retained point
// behind it, or its end. Later ones show it only if that one does.
View FirstViewBehind(const Catalogue& catalogue, TimelineId timeline, Position position) {
  const std::vector<Position> points = catalogue.RetainedPoints(timeline);
  const auto next = std::upper_bound(points.begin(), points.end(), position);
  return {timeline, next == points.end() ? kLastPosition : *next};
}

// Its own timeline first; then the others of the volume, which may have taken its blocks over.
std::vector<View> ViewsOf(const Catalogue& catalogue, const BlockIdentity& block) {
  std::vector<View> views;
  if (catalogue.timelines().contains(block.timeline)) {
    views.push_back(FirstViewBehind(catalogue, block.timeline, block.position));
  }
  for (const auto& [id, timeline] : catalogue.timelines()) {
    if (id == block.timeline || timeline.volume != block.volume) continue;
    views.push_back(FirstViewBehind(catalogue, id, block.position));
  }
  return views;
}

Task<absl::Status> AtOnce() { co_return absl::OkStatus(); }

}  // namespace

// ---- The source ---------------------------------------------------------------------------------

Task<absl::Status> Store::ReadVersion(BlockIdentity block, absl::Span<std::byte> into) {
  TF_CHECK_EQ(into.size(), kBlockSize);
  // It may lack what was committed since it failed.
  TF_CO_RETURN_IF_ERROR(failed_);
  const BlockRange range{block.block, BlockCount(1)};
  absl::Status status;
  for (int tries = 0; tries < kReadTries; ++tries) {
    ApplyAllCommitted();
    status = absl::NotFoundError(absl::StrCat(
        "set ", superblock_.set_name, " has no block ", block.block.value(), " of volume ",
        block.volume.value(), " as the entry at ", block.position.generation.value(), ".",
        block.position.seq.value(), " wrote it"));
    const std::vector<View> views = ViewsOf(catalogue_, block);
    Run run;
    bool found = false;
    for (const View& view : views) {
      absl::StatusOr<std::vector<Piece>> pieces =
          co_await LookupPieces(view.timeline, view.as_of, range);
      if (absl::IsNotFound(pieces.status())) continue;  // The timeline has gone.
      TF_CO_RETURN_IF_ERROR(pieces);
      const Piece& piece = pieces->front();
      found =
          piece.mapped && piece.run.kind == RunKind::kData && piece.run.position == block.position;
      if (!found) continue;
      run = piece.run;
      break;
    }
    if (!found) co_return status;
    if (run.block_crcs[0] != block.crc) {
      co_return absl::DataLossError(absl::StrCat(
          "the sets disagree on block ", block.block.value(), " of volume ", block.volume.value(),
          " as the entry at ", block.position.generation.value(), ".", block.position.seq.value(),
          " wrote it: its checksum is ", run.block_crcs[0], " on set ", superblock_.set_name,
          ", and ", block.crc, " on the one that asks"));
    }
    status = co_await ReadRun(std::move(run), into);
    if (!absl::IsNotFound(status)) break;
  }
  co_return status;
}

// ---- The target ---------------------------------------------------------------------------------

Task<absl::StatusOr<CleanOutcome>> Store::Repair(SegmentNumber segment, BlockSource source) {
  TF_CO_RETURN_IF_ERROR(CheckGoesOn(source));
  if (segment == SegmentNumber()) {
    const absl::Status repaired = co_await RepairFiles();
    TF_CO_RETURN_IF_ERROR(repaired);
    co_return CleanOutcome();
  }
  absl::StatusOr<CleanOutcome> outcome = CleanOutcome();
  const absl::Status sealed = co_await MakeSealed(segment);
  if (sealed.ok()) {
    outcome = co_await Clean(segment, std::move(source));
  } else {
    outcome = sealed;
  }
  if (outcome.ok()) {
    TF_LOG(INFO) << place_ << ": segment " << segment << " was evacuated: " << outcome->moved_blocks
                 << " blocks were moved out of it, " << outcome->replaced_blocks
                 << " of them came from another set";
  }
  if (absl::IsNotFound(outcome.status())) outcome = CleanOutcome();
  absl::Status status = outcome.status();
  // So that the damaged file is not needed any more, not even after a crash. Nothing else makes a
  // checkpoint while nobody writes, also where all in it was dead already.
  if (status.ok() && table_.segments().contains(segment)) status = co_await Checkpoint();
  if (status.ok()) status = co_await GiveBack(segment);
  if (status.ok()) co_return outcome;
  // What cleaning has found it has noted.
  if (!absl::IsDataLoss(status)) {
    damage_list_.NoteFailure(segment, std::string(status.message()));
  }
  co_return status;
}

// A damaged file would be in the way of the next opening: it is made anew.
Task<absl::Status> Store::GiveBack(SegmentNumber segment) {
  if (table_.segments().contains(segment)) {
    co_return absl::FailedPreconditionError(
        absl::StrCat(place_, ": all that is needed was moved out of segment ", segment.value(),
                     ", which is still held by a resync or a reader"));
  }
  absl::Status status = co_await log_->Remake(segment);
  TF_CO_RETURN_IF_ERROR(status);
  damage_list_.Heal(segment, Executor::Current().WallNow());
  co_return absl::OkStatus();
}

// The segment that is being written is left first, if there is room for that.
Task<absl::Status> Store::MakeSealed(SegmentNumber segment) {
  if (segment == log_->end().segment) {
    if (Headroom() < log_->usable_blocks_per_segment()) {
      co_return absl::ResourceExhaustedError(absl::StrCat(
          place_, ": segment ", segment.value(),
          " is being written, and there is no room to go on with another one; it is healed once "
          "it is full"));
    }
    log_->LeaveSegment(segment);
    catalogue_changed_ = true;  // Something to log.
    absl::Status status = co_await Checkpoint();
    TF_CO_RETURN_IF_ERROR(status);
  }
  for (int polls = 0; polls < kSealPolls; ++polls) {
    const auto found = table_.segments().find(segment);
    if (found == table_.segments().end() || found->second.state == SegmentState::kSealed) {
      co_return absl::OkStatus();
    }
    const bool slept = co_await pauses_.SleepFor(kSealPollNanos);
    if (!slept) break;
  }
  co_return absl::FailedPreconditionError(
      absl::StrCat(place_, ": segment ", segment.value(), " is being written"));
}

// What lives in the segment that is being cleaned: by its records, and where they are damaged and
// `by_map`, by what the map says.
Task<absl::Status> Store::ReadContent(SegmentNumber segment, bool by_map, SegmentContent* content) {
  const absl::StatusOr<SegmentLog::Records> records = co_await log_->ReadRecords(segment);
  absl::Status status = records.status();
  if (records.ok()) status = content->AddRecords(records->batches, cleaning_->live);
  const bool all_blocks = content->size() == cleaning_->live.CountLive();
  const bool all_zeros =
      (records.ok() && records->complete) || table_.segments().at(segment).zero_blocks == 0;
  if (status.ok() && all_blocks && all_zeros) co_return status;

  const std::string what =
      status.ok() ? std::string("records of it can't be read") : std::string(status.message());
  NoteDamage({segment, 0}, 0, what);
  if (!by_map) {
    co_return absl::DataLossError(absl::StrCat(what, ": nothing there says what ",
                                               cleaning_->live.CountLive() - content->size(),
                                               " live blocks are"));
  }
  std::string from;
  do {
    absl::StatusOr<ExtentMap::ReferencePage> page =
        co_await map_->ReadReferences(segment, std::move(from));
    TF_CO_RETURN_IF_ERROR(page);
    TF_CO_RETURN_IF_ERROR(failed_);
    if (stopping_ || repairs_cancelled_) co_return absl::UnavailableError("the repair was ended");
    content->AddReferences(page->references, catalogue_, cleaning_->live);
    from = std::move(page->next);
  } while (!from.empty());
  // What it does not say either (a delete that is still to be reclaimed holds it) stays for later.
  co_return absl::OkStatus();
}

Task<absl::Status> Store::CheckRecords(SegmentNumber segment) {
  const auto found = table_.segments().find(segment);
  if (found == table_.segments().end()) {
    co_return absl::NotFoundError(absl::StrCat(place_, ": segment ", segment.value(), " is free"));
  }
  if (found->second.state != SegmentState::kSealed) {
    co_return absl::FailedPreconditionError(
        absl::StrCat(place_, ": segment ", segment.value(), " is being written"));
  }
  const SegmentPin pin(&table_, segment);
  const BeforeRead at_once = [](uint64_t) { return AtOnce(); };
  const std::vector<bool> no_payload;
  const absl::StatusOr<SegmentCheck> check =
      co_await log_->CheckSegment(segment, /*open=*/false, no_payload, at_once);
  TF_CO_RETURN_IF_ERROR(check);
  absl::Status status;
  for (const SegmentDamage& one : check->damage) {
    NoteDamage({segment, one.block}, 0, one.what);
    status =
        absl::DataLossError(absl::StrCat(place_, ": segment ", segment.value(), ": ", one.what));
  }
  co_return status;
}

}  // namespace twofold
