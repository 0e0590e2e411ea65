#include "replication/pair/compare.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/map/chunk.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

// One block as a copy has it.
struct Has {
  bool known = false;  // said by the copy at all
  bool data = false;   // else it reads as zeros
  bool mapped = false;
  Position position;
  uint32_t crc = 0;

  bool SameAs(const Has& other) const {
    if (!data || !other.data) return data == other.data;
    return position == other.position && crc == other.crc;
  }
  std::string ToText() const {
    const std::string entry =
        absl::StrCat("entry ", position.generation.value(), ".", position.seq.value());
    if (data) return absl::StrCat(entry, ", checksum ", absl::StrFormat("%08x", crc));
    return mapped ? absl::StrCat("zeros, ", entry) : "nothing";
  }
};

void Take(const Run& run, BlockRange range, std::vector<Has>* blocks) {
  for (uint64_t i = 0; i < run.range.count.value(); ++i) {
    const BlockIndex block = run.range.first + BlockCount(i);
    if (block < range.first || block >= range.end()) continue;
    Has& has = (*blocks)[Distance(range.first, block).value()];
    has.known = true;
    has.mapped = true;
    has.position = run.position;
    has.data = run.kind == RunKind::kData;
    if (has.data) has.crc = run.block_crcs[i];
  }
}

// The runs of a page that lie in one chunk, with those before it taken out.
std::vector<Run> TakeChunk(std::vector<Run>* runs) {
  const uint64_t chunk = ChunkOf(runs->front().range.first);
  const auto end = std::find_if(runs->begin(), runs->end(), [chunk](const Run& run) {
    return ChunkOf(run.range.first) != chunk;
  });
  std::vector<Run> taken(std::make_move_iterator(runs->begin()), std::make_move_iterator(end));
  runs->erase(runs->begin(), end);
  return taken;
}

// Whether the point that `span` ends with is still there: a snapshot may be deleted meanwhile.
bool IsRetained(const Replica& replica, const ResyncSpan& span) {
  const Catalogue& catalogue = replica.catalogue();
  if (!catalogue.timelines().contains(span.timeline)) return false;
  const std::vector<Position> points = catalogue.RetainedPoints(span.timeline);
  return std::binary_search(points.begin(), points.end(), span.as_of);
}

bool HasSnapshotAt(const Catalogue& catalogue, TimelineId timeline, Position position) {
  return std::any_of(
      catalogue.snapshots().begin(), catalogue.snapshots().end(), [&](const auto& entry) {
        return entry.second.timeline == timeline && entry.second.position == position;
      });
}

// The states with a name that show what a fork point without one shows: the first ones of the
// timelines that begin there. A set may have folded the fork's timeline into them, and the other
// one not yet (MAP_AND_SPACE M20), so it is in them that the two must agree.
void AppendViewsOf(const Catalogue& catalogue, TimelineId timeline, Position fork,
                   std::vector<ResyncSpan>* views) {
  for (const auto& [id, child] : catalogue.timelines()) {
    if (child.parent != timeline || child.fork != fork) continue;
    const std::vector<Position> points = catalogue.RetainedPoints(id);
    if (points.empty()) continue;
    if (HasSnapshotAt(catalogue, id, points.front())) {
      views->push_back({id, kFirstPosition, points.front()});
    } else {
      AppendViewsOf(catalogue, id, points.front(), views);
    }
  }
}

// What `copy` shows of `range`, as runs.
Task<absl::StatusOr<std::vector<twofold::Run>>> ShownRuns(Replica* copy, ResyncSpan view,
                                                          BlockRange range) {
  const absl::StatusOr<std::vector<Piece>> pieces =
      co_await copy->Describe(view.timeline, view.as_of, range);
  if (!pieces.ok()) co_return pieces.status();
  std::vector<twofold::Run> runs;
  for (const Piece& piece : *pieces) {
    if (piece.mapped) runs.push_back(piece.run);
  }
  co_return runs;
}

}  // namespace

std::vector<BlockDifference> CompareBlocks(const std::vector<Run>& runs,
                                           const std::vector<Piece>& pieces, BlockRange range) {
  std::vector<Has> ours(range.count.value());
  std::vector<Has> theirs(range.count.value());
  for (const Run& run : runs) Take(run, range, &ours);
  for (const Piece& piece : pieces) {
    if (piece.mapped) Take(piece.run, range, &theirs);
  }
  std::vector<BlockDifference> differences;
  for (uint64_t i = 0; i < range.count.value(); ++i) {
    if (!ours[i].known || ours[i].SameAs(theirs[i])) continue;
    differences.push_back({range.first + BlockCount(i), ours[i].ToText(), theirs[i].ToText()});
  }
  return differences;
}

absl::Status Comparison::Check() const {
  if (cancelled_) return absl::CancelledError("the comparison was ended");
  TF_RETURN_IF_ERROR(first_->health());
  TF_RETURN_IF_ERROR(second_->health());
  TF_RETURN_IF_ERROR(first_->points_held());
  return second_->points_held();
}

Task<absl::StatusOr<CompareReport>> Comparison::Run(Catalogue first, Catalogue second) {
  if (first.Encode() != second.Encode()) {
    // What one of them lacks can't be compared any further.
    Difference& lists = report_.differences.emplace_back();
    lists.first = absl::StrCat(first.volumes().size(), " volumes, ", first.timelines().size(),
                               " timelines, ", first.snapshots().size(), " snapshots");
    lists.second = absl::StrCat(second.volumes().size(), " volumes, ", second.timelines().size(),
                                " timelines, ", second.snapshots().size(), " snapshots");
    co_return report_;
  }
  for (Replica* replica : {first_, second_}) {
    absl::Status status = co_await replica->PrepareSpans();
    TF_CO_RETURN_IF_ERROR(status);
  }
  const std::vector<ResyncSpan> spans = PlanResync(Catalogue(), first);
  progress_.points_total = spans.size();
  for (const ResyncSpan& span : spans) {
    Name(first, span);
    views_.clear();
    if (!HasSnapshotAt(first, span.timeline, span.as_of)) {
      AppendViewsOf(first, span.timeline, span.as_of, &views_);
    } else {
      views_.push_back(span);
    }
    absl::Status status = co_await CompareSpan(span);
    TF_CO_RETURN_IF_ERROR(status);
    ++progress_.points_done;
  }
  report_.points = spans.size();
  co_return report_;
}

void Comparison::Name(const Catalogue& catalogue, const ResyncSpan& span) {
  const auto timeline = catalogue.timelines().find(span.timeline);
  const auto volume = timeline == catalogue.timelines().end()
                          ? catalogue.volumes().end()
                          : catalogue.volumes().find(timeline->second.volume);
  volume_ = volume == catalogue.volumes().end() ? absl::StrCat("timeline ", span.timeline.value())
                                                : volume->second.name;
  snapshot_ = absl::StrCat("point ", span.as_of.generation.value(), ".", span.as_of.seq.value());
  for (const auto& [id, snapshot] : catalogue.snapshots()) {
    if (snapshot.timeline != span.timeline || snapshot.position != span.as_of) continue;
    const bool now = IsInternalSnapshotName(snapshot.name);
    snapshot_ = now ? std::string() : snapshot.name;
    if (!now) break;
  }
  progress_.what = snapshot_.empty() ? volume_ : absl::StrCat(volume_, "@", snapshot_);
}

Task<absl::Status> Comparison::CompareSpan(ResyncSpan span) {
  reported_.clear();
  absl::Status status = co_await CompareFrom(first_, second_, span);
  TF_CO_RETURN_IF_ERROR(status);
  co_return co_await CompareFrom(second_, first_, span);
}

Task<absl::Status> Comparison::CompareFrom(Replica* ours, Replica* theirs, ResyncSpan span) {
  std::string from;
  do {
    TF_CO_RETURN_IF_ERROR(Check());
    absl::StatusOr<ResyncPage> page = co_await ours->ReadSpan(span, from);
    TF_CO_RETURN_IF_ERROR(page);
    from = page->next;
    while (!page->runs.empty()) {
      std::vector<twofold::Run> chunk = TakeChunk(&page->runs);
      absl::Status status = co_await CompareChunk(ours, theirs, span, std::move(chunk));
      TF_CO_RETURN_IF_ERROR(status);
    }
    // Others get their turn, also where all of it is in memory.
    co_await Yield();
  } while (!from.empty());
  co_return absl::OkStatus();
}

Task<absl::Status> Comparison::CompareChunk(Replica* ours, Replica* theirs, ResyncSpan span,
                                            std::vector<twofold::Run> runs) {
  const bool swapped = ours == second_;
  BlockRange range{runs.front().range.first, BlockCount(0)};
  for (const twofold::Run& run : runs) {
    range.count = std::max(range.count, Distance(range.first, run.range.end()));
    if (swapped) continue;
    report_.blocks += run.range.count.value();
    progress_.blocks = report_.blocks;
  }
  const std::vector<ResyncSpan> views = views_;
  for (const ResyncSpan& view : views) {
    if (view.timeline != span.timeline) {
      absl::StatusOr<std::vector<twofold::Run>> shown = co_await ShownRuns(ours, view, range);
      if (absl::IsNotFound(shown.status())) continue;  // Deleted meanwhile.
      TF_CO_RETURN_IF_ERROR(shown);
      runs = *std::move(shown);
    }
    const absl::StatusOr<std::vector<Piece>> pieces =
        co_await theirs->Describe(view.timeline, view.as_of, range);
    TF_CO_RETURN_IF_ERROR(pieces);
    const std::vector<BlockDifference> differences = CompareBlocks(runs, *pieces, range);
    // What was looked at is what was meant only while the points were held, and there.
    TF_CO_RETURN_IF_ERROR(Check());
    if (differences.empty() || !IsRetained(*first_, view) || !IsRetained(*second_, view)) continue;
    for (const BlockDifference& difference : differences) Add(view, difference, swapped);
  }
  co_return absl::OkStatus();
}

void Comparison::Add(const ResyncSpan& span, const BlockDifference& block, bool swapped) {
  // Of what both took down the other way round tells nothing new.
  if (reported_.contains(block.block)) return;
  ++report_.different_blocks;
  progress_.different_blocks = report_.different_blocks;
  if (report_.differences.size() >= kMaxDifferences) return;
  reported_.insert(block.block);
  Difference difference{volume_,    snapshot_,   span.timeline, {block.block, BlockCount(1)},
                        block.ours, block.theirs};
  if (swapped) std::swap(difference.first, difference.second);
  if (!report_.differences.empty()) {
    // The next block of the same.
    Difference& last = report_.differences.back();
    const bool joins = last.volume == difference.volume && last.snapshot == difference.snapshot &&
                       last.timeline == difference.timeline && last.range.end() == block.block;
    if (joins) {
      last.range.count += BlockCount(1);
      return;
    }
  }
  report_.differences.push_back(std::move(difference));
}

}  // namespace twofold
