#include "storage/store/rebuild.h"

#include <algorithm>
#include <deque>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/base/bytes.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/map/catalogue.h"
#include "storage/map/key_codec.h"
#include "storage/map/map_rebuilder.h"
#include "storage/map/moved_record.h"
#include "storage/store/checkpoint_record.h"
#include "storage/store/resync_record.h"

namespace twofold {
namespace {

constexpr uint64_t kMaxVolumeBlocks = kMaxVolumeBytes / kBlockSize;
constexpr size_t kCataloguesKept = 3;  // the newest may lie in an end that is cut off

absl::Status Heal(absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("the map can't be rebuilt: ", what, "; fill this set again from the other one"));
}

// A complete catalogue as it stands in the log.
struct LoggedCatalogue {
  LogPosition start;       // of the batch with its first piece
  BatchNumber last_batch;  // with its last one
  bool resyncing = false;
  std::string bytes;
};

// Puts pieces together, in log order.
class CatalogueCollector {
 public:
  void Take(const CataloguePiece& piece, const LogPosition& batch) {
    if (piece.index == 0) {
      open_ = {.start = batch, .last_batch = {}, .resyncing = piece.resyncing, .bytes = {}};
      next_ = 0;
    }
    if (piece.index != next_) return;  // Its beginning is not there.
    ++next_;
    open_.bytes += piece.bytes;
    if (next_ != piece.count) return;
    open_.last_batch = batch.batch;
    if (Crc32c(AsBytes(open_.bytes)) != piece.crc) return;
    complete_.push_back(std::move(open_));
    if (complete_.size() > kCataloguesKept) complete_.pop_front();
  }
  std::deque<LoggedCatalogue>& complete() { return complete_; }

 private:
  LoggedCatalogue open_;
  uint32_t next_ = 0;
  std::deque<LoggedCatalogue> complete_;
};

class Rebuild {
 public:
  Rebuild(SegmentLog* log, const Superblock* superblock, MetadataStore* into,
          OnRebuildProgress progress)
      : log_(*log),
        superblock_(*superblock),
        metadata_(*into),
        progress_(std::move(progress)),
        segments_(log->Segments()) {}

  Task<absl::StatusOr<bool>> Make() {
    // What stood in a file that is gone nobody knows: not even that it was needed.
    const std::vector<std::string> lost = log_.LostFiles();
    if (!lost.empty()) {
      co_return Heal(
          absl::StrCat("files of the log are missing or damaged: ", absl::StrJoin(lost, ", ")));
    }
    absl::Status status = co_await FindCatalogues();
    TF_CO_RETURN_IF_ERROR(status);
    absl::StatusOr<bool> found = co_await ChooseCatalogue();
    TF_CO_RETURN_IF_ERROR(found);
    if (!*found) co_return false;
    status = co_await Fill();
    TF_CO_RETURN_IF_ERROR(status);
    co_return true;
  }

 private:
  Task<absl::Status> FindCatalogues() {
    for (size_t i = 0; i < segments_.size(); ++i) {
      Report("looking for the newest catalogue", i);
      absl::StatusOr<std::vector<LoggedBatch>> batches = co_await log_.ReadSegment(segments_[i]);
      TF_CO_RETURN_IF_ERROR(batches);
      for (const LoggedBatch& batch : *batches) {
        newest_named_ = std::max(newest_named_, batch.catalogue.batch);
        for (const LoggedBatch::Item& item : batch.items) {
          if (item.entry.kind != EntryKind::kCatalogue) continue;
          TF_CO_ASSIGN_OR_RETURN(const CataloguePiece piece, DecodeCataloguePiece(item.entry.body));
          catalogues_.Take(piece, batch.start);
        }
      }
    }
    co_return absl::OkStatus();
  }

  // The newest catalogue that the log, replayed, passes. One behind the cut never was (R11).
  Task<absl::StatusOr<bool>> ChooseCatalogue() {
    std::deque<LoggedCatalogue>& found = catalogues_.complete();
    if (newest_named_ != BatchNumber() &&
        (found.empty() || found.back().start.batch < newest_named_)) {
      co_return Heal(
          absl::StrCat("the catalogue in batch ", newest_named_.value(), " of the log is damaged"));
    }
    for (; !found.empty(); found.pop_back()) {
      const LoggedCatalogue& logged = found.back();
      TF_CO_ASSIGN_OR_RETURN(catalogue_, Catalogue::Decode(logged.bytes));
      absl::StatusOr<LogPosition> from = co_await FindReplayStart(&logged);
      TF_CO_RETURN_IF_ERROR(from);
      replay_from_ = *from;
      SegmentLog::Known known;
      known.opened = superblock_.opened_segment;
      absl::StatusOr<SegmentLog::Replayed> replayed =
          co_await log_.Replay(replay_from_, &Rebuild::Ignore, known);
      TF_CO_RETURN_IF_ERROR(replayed);
      if (logged.resyncing || !catalogue_.pins().empty())
        co_return Heal("this set was being brought level");
      end_ = replayed->cut.batch;
      if (end_ > logged.last_batch) co_return true;
    }
    co_return false;
  }

  static absl::Status Ignore(const LoggedBatch& /*batch*/) { return absl::OkStatus(); }

  // The first batch with an entry that the catalogue does not show yet, or its own.
  Task<absl::StatusOr<LogPosition>> FindReplayStart(const LoggedCatalogue* logged) {
    for (size_t i = 0; i < segments_.size() && segments_[i] <= logged->start.segment; ++i) {
      Report("looking for what was not committed", i);
      absl::StatusOr<std::vector<LoggedBatch>> batches = co_await log_.ReadSegment(segments_[i]);
      TF_CO_RETURN_IF_ERROR(batches);
      for (const LoggedBatch& batch : *batches) {
        if (batch.start.batch >= logged->start.batch) break;
        for (const LoggedBatch::Item& item : batch.items) {
          if (IsAhead(item.entry)) co_return batch.start;
        }
      }
    }
    co_return logged->start;
  }

  // What the stream had applied when the catalogue was written; all of it for a deleted volume,
  // whose entries count only as far as a retained point shows them.
  Position AppliedOf(VolumeId volume) const {
    if (catalogue_.WasDeleted(volume)) return kLastPosition;
    const auto stream = catalogue_.streams().find(volume);
    return stream == catalogue_.streams().end() ? kFirstPosition : stream->second.applied;
  }
  bool IsAhead(const LogEntry& entry) const {
    return HasSeq(entry.kind) && entry.position > AppliedOf(entry.volume);
  }

  Task<absl::Status> Fill() {
    MapRebuilder map(&metadata_, &catalogue_);
    absl::Status status = co_await map.Begin();
    TF_CO_RETURN_IF_ERROR(status);
    BatchNumber next = replay_from_.batch;
    for (size_t i = 0; i < segments_.size(); ++i) {
      Report("reading the log", i);
      // Those that the replay has passed were checked by it, up to the cut.
      const bool replayed = segments_[i] >= replay_from_.segment;
      absl::StatusOr<std::vector<LoggedBatch>> batches =
          co_await ReadBatches(segments_[i], replayed);
      TF_CO_RETURN_IF_ERROR(batches);
      for (const LoggedBatch& batch : *batches) {
        if (batch.start.batch >= end_) break;
        if (batch.start.batch == next) next = next.Next();
        for (const LoggedBatch::Item& item : batch.items) {
          TF_CO_RETURN_IF_ERROR(Take(item, batch.start, &map));
        }
        status = co_await map.Spill(/*all=*/false);
        TF_CO_RETURN_IF_ERROR(status);
      }
    }
    if (next != end_) {
      co_return Heal(absl::StrCat("batch ", next.value(), " of the log is damaged"));
    }
    status = co_await map.Build(
        [this](uint64_t done, uint64_t total) { Report("building the map", done, total); });
    TF_CO_RETURN_IF_ERROR(status);
    co_return co_await Finish(&map);
  }

  Task<absl::StatusOr<std::vector<LoggedBatch>>> ReadBatches(SegmentNumber segment, bool replayed) {
    if (replayed) co_return co_await log_.ReadSegment(segment);
    absl::StatusOr<std::vector<LoggedBatch>> batches = co_await log_.ReadWholeSegment(segment);
    if (absl::IsDataLoss(batches.status())) co_return Heal(batches.status().message());
    co_return batches;
  }

  absl::Status Take(const LoggedBatch::Item& item, const LogPosition& batch, MapRebuilder* map) {
    const LogEntry& entry = item.entry;
    switch (entry.kind) {
      case EntryKind::kFill:
        // It takes effect where it stands: later ones are replayed.
        if (batch.batch >= replay_from_.batch) return absl::OkStatus();
        [[fallthrough]];
      case EntryKind::kWrite:
        return Insert(
            map, entry.volume, entry.timeline,
            {entry.range, RunKind::kData, entry.position, item.payload, entry.block_crcs});
      case EntryKind::kZero:
        return InsertZero(map, entry.volume, entry.timeline, entry.range, entry.position,
                          batch.segment);
      case EntryKind::kFillZeros: {
        if (batch.batch >= replay_from_.batch) return absl::OkStatus();
        TF_ASSIGN_OR_RETURN(const std::vector<Run> zeros, DecodeFillZeros(entry.body));
        for (const Run& zero : zeros) {
          TF_RETURN_IF_ERROR(InsertZero(map, entry.volume, entry.timeline, zero.range,
                                        zero.position, batch.segment));
        }
        return absl::OkStatus();
      }
      case EntryKind::kMoved:
        return TakeMoved(item, map);
      case EntryKind::kMovedZeros: {
        TF_ASSIGN_OR_RETURN(const MovedZeros moved, DecodeMovedZeros(entry.body));
        for (const MovedZero& zero : moved.zeros) {
          TF_RETURN_IF_ERROR(InsertZero(map, zero.volume, zero.timeline, zero.range, zero.position,
                                        batch.segment));
        }
        return absl::OkStatus();
      }
      case EntryKind::kSeal: {
        if (batch.batch >= replay_from_.batch) return absl::OkStatus();
        TF_ASSIGN_OR_RETURN(const Generation generation, DecodeSeal(entry.body));
        attach_.sealed = std::max(attach_.sealed, generation);
        return absl::OkStatus();
      }
      case EntryKind::kMembership: {
        if (batch.batch >= replay_from_.batch) return absl::OkStatus();
        TF_ASSIGN_OR_RETURN(AttachState state, DecodeMembership(entry.body));
        if (state.membership_version < attach_.membership_version) return absl::OkStatus();
        state.sealed = std::max(state.sealed, attach_.sealed);
        attach_ = std::move(state);
        return absl::OkStatus();
      }
      default:
        return absl::OkStatus();
    }
  }

  absl::Status TakeMoved(const LoggedBatch::Item& item, MapRebuilder* map) {
    TF_ASSIGN_OR_RETURN(const MovedBlocks moved, DecodeMovedBlocks(item.entry.body));
    uint32_t done = 0;
    for (const MovedPiece& piece : moved.pieces) {
      Run run{
          {piece.block, BlockCount(piece.count)}, RunKind::kData, piece.position, item.payload, {}};
      run.address.block += done;
      const auto crcs = item.entry.block_crcs.begin() + done;
      run.block_crcs.assign(crcs, crcs + piece.count);
      done += piece.count;
      TF_RETURN_IF_ERROR(Insert(map, piece.volume, piece.timeline, run));
    }
    return absl::OkStatus();
  }

  absl::Status InsertZero(MapRebuilder* map, VolumeId volume, TimelineId timeline, BlockRange range,
                          Position position, SegmentNumber where) {
    return Insert(map, volume, timeline,
                  {range, RunKind::kZero, position, {.segment = where, .block = 0}, {}});
  }

  absl::Status Insert(MapRebuilder* map, VolumeId volume, TimelineId timeline, const Run& run) {
    const auto record = catalogue_.timelines().find(timeline);
    if (record == catalogue_.timelines().end() || record->second.volume != volume) {
      return absl::OkStatus();  // Of a timeline that is gone.
    }
    if (run.position > AppliedOf(volume)) return absl::OkStatus();  // To be replayed.
    if (!IsOfTheHistory(volume, run.position)) return absl::OkStatus();
    if (run.range.count.value() > kMaxVolumeBlocks ||
        run.range.first.value() > kMaxVolumeBlocks - run.range.count.value()) {
      return Heal(absl::StrCat("an entry of volume ", volume.value(), " whose range is in none"));
    }
    map->Add(timeline, run);
    return absl::OkStatus();
  }

  // Not in an end that was given up (R3): a generation's entries count up to where the next one
  // begins (R1). So it does not matter whether the void record is still there.
  bool IsOfTheHistory(VolumeId volume, Position position) const {
    const auto stream = catalogue_.streams().find(volume);
    if (stream == catalogue_.streams().end()) return true;
    const std::vector<Position>& generations = stream->second.generations;
    const auto next = std::upper_bound(generations.begin(), generations.end(), position);
    return next != generations.begin() && std::prev(next)->generation == position.generation &&
           (next == generations.end() || position.seq < next->seq);
  }

  Task<absl::Status> Finish(MapRebuilder* map) {
    CheckpointRecord record;
    record.store_id = superblock_.store_id;
    record.number = 1;
    record.replay_from = replay_from_;
    record.catalogue_segment = replay_from_.segment;
    record.moved_before = end_;  // All moves were taken for writes.
    record.attach = attach_;
    MetadataBatch batch = map->TakeRest();
    batch.push_back(
        {MetadataWrite::Kind::kPut, MetaKey(kCheckpointName), EncodeCheckpoint(record)});
    batch.push_back({MetadataWrite::Kind::kPut, MetaKey(kCatalogueName), catalogue_.Encode()});
    RebuiltMark mark;
    for (const auto& [volume, stream] : catalogue_.streams()) mark.up_to[volume] = stream.applied;
    batch.push_back({MetadataWrite::Kind::kPut, MetaKey(kRebuiltName), EncodeRebuiltMark(mark)});
    co_return co_await metadata_.Commit(std::move(batch));
  }

  void Report(const char* what, uint64_t done) const { Report(what, done, segments_.size()); }
  void Report(const char* what, uint64_t done, uint64_t total) const {
    if (progress_) progress_({what, done, total});
  }

  SegmentLog& log_;
  const Superblock& superblock_;
  MetadataStore& metadata_;
  const OnRebuildProgress progress_;
  const std::vector<SegmentNumber> segments_;

  CatalogueCollector catalogues_;
  BatchNumber newest_named_;  // where the newest catalogue begins that a batch refers to (R17)
  Catalogue catalogue_;
  LogPosition replay_from_;
  BatchNumber end_;  // of the log
  AttachState attach_;
};

}  // namespace

Task<absl::StatusOr<bool>> RebuildMap(SegmentLog* log, const Superblock* superblock,
                                      MetadataStore* into, OnRebuildProgress progress) {
  Rebuild rebuild(log, superblock, into, std::move(progress));
  co_return co_await rebuild.Make();
}

}  // namespace twofold
