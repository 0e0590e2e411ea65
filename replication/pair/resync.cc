#include "replication/pair/resync.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "replication/pair/parted.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/io/aligned_bytes.h"
#include "storage/map/catalogue_codec.h"
#include "storage/map/run_list.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/sync.h"

namespace twofold {
namespace {

// Payload of the source's log read at a time; what sending the tail holds in memory.
constexpr size_t kTailStepBytes = size_t{4} << 20;
// While clients work: what lies on the device before them is what their slowest requests wait for.
constexpr uint64_t kYieldingPieceBlocks = 32;  // 128 KiB
constexpr size_t kYieldingTailStepBytes = size_t{1} << 20;
// So many reads in a row that fail are no bad places any more, but a device that is gone.
constexpr int kMaxFailuresInARow = 64;
// What is lost is said block by block, with what shows it; the rest is counted.
constexpr uint64_t kMaxLostBlocksLogged = 32;
constexpr size_t kMaxPointsLookedAt = 1000;
constexpr int64_t kRateWindowNanos = 5 * kNanosPerSecond;

constexpr int64_t kFirstBackoffNanos = 5 * kNanosPerSecond;
constexpr unsigned kMaxBackoffDoublings = 6;  // over five minutes

uint64_t BlocksOf(const std::vector<Run>& runs) {
  uint64_t blocks = 0;
  for (const Run& run : runs) {
    if (run.kind == RunKind::kData) blocks += run.range.count.value();
  }
  return blocks;
}

// The first of `runs`, at least one, with at most `max_blocks` of data if there are several; takes
// them out. No run is larger than an entry.
std::vector<Run> TakePiece(std::vector<Run>* runs, uint64_t max_blocks) {
  std::vector<Run> piece;
  uint64_t blocks = 0;
  size_t taken = 0;
  for (; taken < runs->size(); ++taken) {
    const Run& run = (*runs)[taken];
    if (run.kind == RunKind::kData) {
      if (taken > 0 && blocks + run.range.count.value() > max_blocks) break;
      blocks += run.range.count.value();
    }
    piece.push_back(run);
  }
  runs->erase(runs->begin(), runs->begin() + static_cast<ptrdiff_t>(taken));
  return piece;
}

uint64_t Length(const ResyncSpan& span) {
  const uint64_t from = span.after.seq.value();
  const uint64_t to = span.as_of.seq.value();
  return to > from ? to - from : 1;
}

// Reads one run's blocks as the span's end shows them: that is this run, whatever comes meanwhile.
Task<absl::Status> ReadBlocks(Replica* source, TimelineId timeline, Position as_of,
                              BlockRange range, absl::Span<std::byte> into) {
  absl::StatusOr<std::vector<BlockExtent>> extents =
      co_await source->Read(timeline, as_of, range, into);
  co_return extents.status();
}

Task<absl::Status> AppendAll(Replica* target, Generation generation,
                             absl::Span<const TailEntry> entries) {
  BlockCount blocks;
  for (const TailEntry& tail : entries) blocks += BlockCount(tail.entry.block_crcs.size());
  absl::Status status = co_await target->Reserve(blocks, entries.size(), RoomFor::kRecord);
  TF_CO_RETURN_IF_ERROR(status);
  std::vector<Task<absl::Status>> appends;
  for (const TailEntry& tail : entries) {
    appends.push_back(
        target->Append(generation, tail.entry, tail.payload.span(), Durability::kDurable));
  }
  const std::vector<absl::Status> results = co_await WhenAll(std::move(appends));
  co_return FirstError(results);
}

}  // namespace

const char* ResyncPhaseName(ResyncProgress::Phase phase) {
  switch (phase) {
    case ResyncProgress::Phase::kWaiting:
      return "waiting";
    case ResyncProgress::Phase::kFilling:
      return "filling";
    case ResyncProgress::Phase::kTail:
      return "catching up";
    case ResyncProgress::Phase::kJoining:
      return "joining";
    case ResyncProgress::Phase::kDone:
      return "done";
    case ResyncProgress::Phase::kFailed:
      return "failed";
  }
  return "unknown";
}

absl::Status CheckResyncRate(uint64_t bytes_per_second) {
  if (bytes_per_second == 0 || bytes_per_second >= kMinResyncRateBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "a resync moves at least ", FormatSize(kMinResyncRateBytes), " a second, or 0: no limit; ",
      FormatSize(bytes_per_second), " would hardly end"));
}

Resync::Resync(Replica* source, Replica* target, Generation generation, ResyncOptions options)
    : source_(source),
      target_(target),
      generation_(generation),
      on_fits_(std::move(options.on_fits)),
      pace_(options.rate_bytes_per_second, std::move(options.client_requests), &cancel_) {
  progress_.target_set = target->set_name();
}

void Resync::SetPhase(ResyncProgress::Phase phase, std::string what) {
  progress_.phase = phase;
  progress_.what = std::move(what);
}

Task<absl::Status> Resync::FillTo(Catalogue goal) {
  progress_.started = Executor::Current().WallNow();
  rate_ = {Executor::Current().Now(), 0};
  SetPhase(ResyncProgress::Phase::kFilling, "comparing");
  // Before its tails are void: a history that parted is somebody's.
  const absl::StatusOr<SealReport> sealed = co_await target_->Seal(generation_);
  TF_CO_RETURN_IF_ERROR(sealed);
  absl::Status status = CheckNotParted(*source_, goal, *target_, *sealed);
  TF_CO_RETURN_IF_ERROR(status);
  fits_ = true;
  if (on_fits_ != nullptr) on_fits_();
  status = co_await target_->VoidTails(generation_);
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await source_->PrepareSpans();
  TF_CO_RETURN_IF_ERROR(status);
  const Catalogue& described = goal;
  sent_.clear();
  for (const auto& [volume, stream] : described.streams()) sent_[volume] = stream.applied;
  const absl::StatusOr<std::vector<ResyncSpan>> spans =
      co_await target_->BeginResync(generation_, goal);
  TF_CO_RETURN_IF_ERROR(spans);
  whole_ = 0;
  filled_ = 0;
  for (const ResyncSpan& span : *spans) whole_ += static_cast<double>(Length(span));
  TF_LOG(INFO) << "set " << target_->set_name() << ": resync from set " << source_->set_name()
               << " begins, " << spans->size() << " spans";
  for (const ResyncSpan& span : *spans) {
    const TimelineRecord& timeline = described.timelines().at(span.timeline);
    const auto volume = described.volumes().find(timeline.volume);
    SetPhase(ResyncProgress::Phase::kFilling,
             volume == described.volumes().end() ? "what clones stand on" : volume->second.name);
    const uint64_t blocks =
        volume == described.volumes().end() ? 0 : volume->second.size_bytes / kBlockSize;
    status = co_await FillSpan(span, blocks);
    TF_CO_RETURN_IF_ERROR(status);
    if (span.after < source_->zeros_uncertain_up_to(timeline.volume)) {
      const auto stream = described.streams().find(timeline.volume);
      const std::optional<Position> newest =
          NewestShown(span.as_of, stream == described.streams().end() ? std::vector<Position>()
                                                                      : stream->second.generations);
      if (newest.has_value()) status = co_await FillUncertainZeros(span, *newest);
      TF_CO_RETURN_IF_ERROR(status);
    }
    status = co_await target_->EndSpan(generation_, span);
    TF_CO_RETURN_IF_ERROR(status);
    filled_ += static_cast<double>(Length(span));
  }
  status = co_await target_->EndResync(generation_);
  TF_CO_RETURN_IF_ERROR(status);
  SetPhase(ResyncProgress::Phase::kTail, "what was written since it began");
  co_return absl::OkStatus();
}

Task<absl::Status> Resync::FillSpan(ResyncSpan span, uint64_t volume_blocks) {
  AlignedBytes buffer(kMaxEntryBlocks * kBlockSize);
  double within = 0;
  std::string from;
  do {
    absl::StatusOr<ResyncPage> page = co_await source_->ReadSpan(span, from);
    TF_CO_RETURN_IF_ERROR(page);
    if (cancel_.cancelled()) co_return absl::UnavailableError("the resync was ended");
    from = page->next;
    if (page->runs.empty()) continue;
    if (volume_blocks > 0) {
      const uint64_t end = page->runs.back().range.end().value();
      within = std::max(
          within, std::min(1.0, static_cast<double>(end) / static_cast<double>(volume_blocks)));
    }
    ResyncSpan shown = span;
    shown.timeline = page->timeline;
    shown.as_of = page->as_of;
    absl::StatusOr<std::vector<Run>> lacking =
        co_await target_->Lacking(span.timeline, std::move(page->runs));
    TF_CO_RETURN_IF_ERROR(lacking);
    while (!lacking->empty()) {
      std::vector<Run> piece =
          TakePiece(&*lacking, pace_.clients_work() ? kYieldingPieceBlocks : kMaxEntryBlocks);
      absl::Status status = co_await FillPiece(span, shown, std::move(piece), &buffer);
      TF_CO_RETURN_IF_ERROR(status);
    }
    Estimate(within * static_cast<double>(Length(span)));
  } while (!from.empty());
  co_return absl::OkStatus();
}

Task<absl::Status> Resync::FillUncertainZeros(ResyncSpan span, Position newest) {
  std::optional<BlockIndex> from = BlockIndex(0);
  while (from.has_value()) {
    absl::StatusOr<ShownPage> page = co_await target_->ReadShown(span.timeline, *from);
    TF_CO_RETURN_IF_ERROR(page);
    if (cancel_.cancelled()) co_return absl::UnavailableError("the resync was ended");
    from = page->next;
    std::vector<Run> zeros;
    for (const BlockRange& range : page->data) {
      absl::StatusOr<std::vector<BlockExtent>> extents =
          co_await source_->StatusOfSpan(span, range);
      TF_CO_RETURN_IF_ERROR(extents);
      for (const BlockExtent& extent : *extents) {
        if (extent.data) continue;
        zeros.push_back({extent.range, RunKind::kZero, newest, {}, {}});
      }
    }
    // As when blocks are read: exact only while the pin held.
    TF_CO_RETURN_IF_ERROR(source_->resync_pin());
    if (zeros.empty()) continue;
    absl::Status status = co_await target_->Fill(generation_, span.timeline, std::move(zeros), {});
    TF_CO_RETURN_IF_ERROR(status);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Resync::FillPiece(ResyncSpan span, ResyncSpan shown, std::vector<Run> runs,
                                     AlignedBytes* buffer) {
  const uint64_t bytes = BlocksOf(runs) * kBlockSize;
  const absl::Span<std::byte> payload = buffer->span().first(bytes);
  std::vector<Task<absl::Status>> reads;
  size_t at = 0;
  for (const Run& run : runs) {
    if (run.kind != RunKind::kData) continue;
    const size_t length = run.range.count.value() * kBlockSize;
    reads.push_back(
        ReadBlocks(source_, shown.timeline, shown.as_of, run.range, payload.subspan(at, length)));
    at += length;
  }
  const std::vector<absl::Status> results = co_await WhenAll(std::move(reads));
  // The versions that were read are those that were meant only while the pin held.
  TF_CO_RETURN_IF_ERROR(source_->resync_pin());
  if (!FirstError(results).ok()) {
    co_return co_await FillWhatIsWhole(span, shown, std::move(runs), buffer);
  }
  co_return co_await FillAndCount(span.timeline, std::move(runs), payload);
}

Task<absl::Status> Resync::FillAndCount(TimelineId timeline, std::vector<Run> runs,
                                        absl::Span<const std::byte> payload) {
  absl::Status status = co_await pace_.Next(payload.size());
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await target_->Fill(generation_, timeline, std::move(runs), payload);
  if (status.ok()) Count(payload.size());
  co_return status;
}

Task<absl::Status> Resync::FillWhatIsWhole(ResyncSpan span, ResyncSpan shown, std::vector<Run> runs,
                                           AlignedBytes* buffer) {
  std::vector<Run> whole;
  std::vector<Run> lost;
  size_t bytes = 0;
  for (const Run& run : runs) {
    if (run.kind != RunKind::kData) {
      whole.push_back(run);
      continue;
    }
    for (uint64_t i = 0; i < run.range.count.value(); ++i) {
      Run block = Cut(run, {run.range.first + BlockCount(i), BlockCount(1)});
      const absl::Span<std::byte> into = buffer->span().subspan(bytes, kBlockSize);
      absl::Status status = co_await ReadBlock(shown, block, into);
      if (absl::IsDataLoss(status)) {
        lost.push_back(std::move(block));
        continue;
      }
      TF_CO_RETURN_IF_ERROR(status);
      whole.push_back(std::move(block));
      bytes += kBlockSize;
    }
  }
  TF_CO_RETURN_IF_ERROR(source_->resync_pin());
  absl::Status status =
      co_await FillAndCount(span.timeline, std::move(whole), buffer->span().first(bytes));
  TF_CO_RETURN_IF_ERROR(status);
  if (!lost.empty()) status = co_await FillLost(span, std::move(lost));
  co_return status;
}

// A place that the device does not read is as bad as one that it reads wrong; a device that is gone
// is not: then all of the source would be taken for lost. Without the pin the other errors mean
// nothing.
Task<absl::Status> Resync::ReadBlock(ResyncSpan shown, Run block, absl::Span<std::byte> into) {
  const absl::Status read =
      co_await ReadBlocks(source_, shown.timeline, shown.as_of, block.range, into);
  if (cancel_.cancelled()) co_return absl::UnavailableError("the resync was ended");
  if (read.ok()) {
    failures_in_a_row_ = 0;
    co_return read;
  }
  TF_CO_RETURN_IF_ERROR(source_->resync_pin());
  absl::Status status = co_await source_->CheckPresence();
  TF_CO_RETURN_IF_ERROR(status);
  TF_CO_RETURN_IF_ERROR(source_->health());
  if (absl::IsUnavailable(read)) {
    if (++failures_in_a_row_ > kMaxFailuresInARow) co_return read;
  } else if (!absl::IsDataLoss(read)) {
    co_return read;
  }
  // What it shows nowhere any more it may still keep for one of its own points.
  const auto timeline = source_->catalogue().timelines().find(shown.timeline);
  if (timeline == source_->catalogue().timelines().end()) co_return read;
  const BlockIdentity identity{timeline->second.volume, shown.timeline, block.range.first,
                               block.position, block.block_crcs[0]};
  const absl::Status had = co_await target_->ReadVersion(identity, into);
  if (had.ok()) co_return had;
  TF_CO_RETURN_IF_ERROR(target_->health());
  co_return absl::DataLossError(read.message());
}

Task<absl::Status> Resync::FillLost(ResyncSpan span, std::vector<Run> lost) {
  for (const Run& block : lost) {
    if (progress_.lost_blocks++ >= kMaxLostBlocksLogged) continue;
    const std::string what = co_await Describe(span, block);
    TF_LOG(ERROR) << "LOST: " << what << ": set " << source_->set_name()
                  << " can't read it, and set " << target_->set_name()
                  << " does not have it. It is an error on both sets until it is written anew";
  }
  co_return co_await target_->FillLost(generation_, span.timeline, std::move(lost));
}

Task<std::string> Resync::Describe(ResyncSpan span, Run block) {
  const Catalogue catalogue = source_->catalogue();  // others change it meanwhile
  const uint64_t offset = block.range.first.value() * kBlockSize;
  const auto timeline = catalogue.timelines().find(span.timeline);
  const auto volume = timeline == catalogue.timelines().end()
                          ? catalogue.volumes().end()
                          : catalogue.volumes().find(timeline->second.volume);
  if (volume == catalogue.volumes().end()) {
    co_return absl::StrCat("4096 bytes at ", offset, " of timeline ", span.timeline.value());
  }
  std::vector<std::string> shown_by;
  struct Point {
    std::string name;
    TimelineId timeline;
    Position as_of;
  };
  std::vector<Point> points = {
      {"the volume as it is", volume->second.current_timeline, kLastPosition}};
  for (const auto& [id, snapshot] : catalogue.snapshots()) {
    if (snapshot.volume != volume->first || IsInternalSnapshotName(snapshot.name)) continue;
    if (points.size() > kMaxPointsLookedAt) break;
    points.push_back({absl::StrCat("@", snapshot.name), snapshot.timeline, snapshot.position});
  }
  for (const Point& point : points) {
    const absl::StatusOr<std::vector<Piece>> pieces =
        co_await source_->Describe(point.timeline, point.as_of, block.range);
    if (!pieces.ok() || pieces->empty() || !pieces->front().mapped) continue;
    if (pieces->front().run.position == block.position) shown_by.push_back(point.name);
  }
  co_return absl::StrCat("4096 bytes at ", offset, " of volume ", volume->second.name,
                         ", as entry ", block.position.generation.value(), ".",
                         block.position.seq.value(), " wrote them (",
                         shown_by.empty() ? "what a snapshot without a name or a clone shows"
                                          : absl::StrJoin(shown_by, ", "),
                         ")");
}

Task<absl::StatusOr<Resync::Sent>> Resync::SendTail() {
  // The catalogue's stream first: it makes the volumes that the others are of.
  Sent all;
  std::vector<VolumeId> volumes = {kCatalogueVolume};
  for (const auto& [volume, record] : source_->catalogue().volumes()) volumes.push_back(volume);
  for (const VolumeId volume : volumes) {
    absl::StatusOr<Sent> sent = co_await SendStream(volume);
    TF_CO_RETURN_IF_ERROR(sent);
    all.bytes += sent->bytes;
    all.entries += sent->entries;
    all.entries_left += sent->entries_left;
  }
  co_return all;
}

// Only what is committed: that stays, whatever happens to the source (R2).
Task<absl::StatusOr<Resync::Sent>> Resync::SendStream(VolumeId volume) {
  Sent sent;
  const auto stream = source_->catalogue().streams().find(volume);
  const bool known = volume == kCatalogueVolume || target_->catalogue().volumes().contains(volume);
  // Deleted meanwhile, or made after the catalogue's turn.
  if (stream == source_->catalogue().streams().end() || !known) co_return sent;
  const Position end = stream->second.applied;
  Position& at = sent_[volume];
  if (end <= at) co_return sent;
  const size_t step_bytes = pace_.clients_work() ? kYieldingTailStepBytes : kTailStepBytes;
  absl::StatusOr<std::vector<TailEntry>> tail = co_await source_->ReadTail(volume, at, step_bytes);
  if (!tail.ok()) {
    // Its log may have been deleted with the volume while it was read.
    if (!source_->catalogue().streams().contains(volume)) co_return sent;
    // The map says what is bad in it, block by block.
    if (absl::IsDataLoss(tail.status()) && source_->health().ok()) {
      co_return absl::UnavailableError(
          absl::StrCat("what was written since the resync began can't be read from the log of set ",
                       source_->set_name(), ", it begins again: ", tail.status().message()));
    }
    co_return tail.status();
  }
  while (!tail->empty() && tail->back().entry.position > end) tail->pop_back();
  if (tail->empty()) {
    co_return absl::UnavailableError(
        absl::StrCat("set ", source_->set_name(), ": the log of volume ", volume.value(),
                     " does not show what was committed; the resync begins again"));
  }
  for (const TailEntry& entry : *tail) sent.bytes += entry.payload.size();
  sent.entries = tail->size();
  absl::Status status = co_await pace_.Next(sent.bytes);
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await AppendAll(target_, generation_, *tail);
  TF_CO_RETURN_IF_ERROR(status);
  sent_[volume] = tail->back().entry.position;
  const auto now = source_->catalogue().streams().find(volume);
  if (now != source_->catalogue().streams().end()) {
    sent.entries_left = now->second.applied.seq.value() - sent_[volume].seq.value();
  }
  target_->Commit(volume, tail->back().entry.position);
  Count(sent.bytes);
  progress_.bytes_total = std::max(progress_.bytes_total, progress_.bytes_done);
  co_return sent;
}

void Resync::Count(uint64_t bytes) {
  progress_.bytes_done += bytes;
  rate_.bytes += bytes;
  const int64_t now = Executor::Current().Now();
  const int64_t elapsed = std::max<int64_t>(1, now - rate_.since_nanos);
  progress_.bytes_per_second = static_cast<uint64_t>(
      static_cast<double>(rate_.bytes) * kNanosPerSecond / static_cast<double>(elapsed));
  if (elapsed < kRateWindowNanos) return;
  // Half of what was goes on counting, so that the figure moves smoothly.
  rate_ = {now - elapsed / 2, rate_.bytes / 2};
}

// What was sent for the part of the history that is done tells what the rest will take; never more
// than all that the source holds.
void Resync::Estimate(double within) {
  const double done = (filled_ + within) / std::max(1.0, whole_);
  const uint64_t live = source_->status().live_blocks * kBlockSize;
  uint64_t total = live;
  if (done > 0) {
    total = std::min(live, static_cast<uint64_t>(static_cast<double>(progress_.bytes_done) / done));
  }
  progress_.bytes_total = std::max(total, progress_.bytes_done);
  const uint64_t left = progress_.bytes_total - progress_.bytes_done;
  progress_.seconds_left = progress_.bytes_per_second == 0 ? 0 : left / progress_.bytes_per_second;
}

int64_t ResyncBackoff::NextDelayNanos() {
  const int64_t delay = kFirstBackoffNanos << std::min(failures_, kMaxBackoffDoublings);
  ++failures_;
  return delay;
}

}  // namespace twofold
