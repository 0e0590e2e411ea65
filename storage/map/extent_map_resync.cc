// What a resync reads at its source, and what it fills in at its target (resync_plan.h).
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/map/extent_map_impl.h"
#include "storage/map/key_codec.h"

namespace twofold {
namespace {

constexpr size_t kPageChunks = 64;  // versions looked at for one page
constexpr uint64_t kNoChunk = ~uint64_t{0};

}  // namespace

// ---- The source ---------------------------------------------------------------------------------

bool ExtentMap::Impl::has_tombstones_before_points() const {
  for (const auto& [id, timeline] : catalogue_.timelines()) {
    const std::vector<PendingTombstone>& tombstones = tombstones_.Of(id);
    if (!tombstones.empty() && tombstones.front().position < catalogue_.NewestRetainedPoint(id)) {
      return true;
    }
  }
  return false;
}

// The version index leads to the chunks that were changed in the span. What a point shows of a
// chunk is its newest version before it; the versions of the span that others hide are passed over,
// so each chunk comes once. An entry above `after` went into an epoch that was opened by the newest
// point at or below `after`, or later.
//
// Of a timeline that was folded into another one, or half of it, there is left what its heir shows
// of it: by position, in the heir's oldest state, since what that does not show no later one does
// (lineage.h). Nobody can look at the rest. Runs that a flat timeline has inherited come with the
// spans of the timelines that they were written on.
Task<absl::StatusOr<ResyncPage>> ExtentMap::Impl::ReadSpan(ResyncSpan span, std::string from) {
  TF_CHECK(reclaim_held_);
  const TimelineRecord& timeline = Timeline(span.timeline);
  const std::vector<SpanPart> parts = PartsOf(span);
  auto part = parts.begin();
  if (from.empty()) {
    const std::vector<Position> points = catalogue_.RetainedPoints(span.timeline);
    const auto next = std::upper_bound(points.begin(), points.end(), span.after);
    from = EncodeVersionKey({.timeline = span.timeline,
                             .chunk = 0,
                             .epoch = next == points.begin() ? kFirstPosition : *std::prev(next)});
  } else {
    // A key, or the first one behind a key, which is longer.
    const std::string begin = from.substr(0, EncodeVersionKey({}).size());
    TF_CO_ASSIGN_OR_RETURN(const ChunkKey key, DecodeVersionKey(begin));
    part = std::find_if(parts.begin(), parts.end(), [&key](const SpanPart& candidate) {
      return candidate.timeline == key.timeline;
    });
    TF_CHECK(part != parts.end()) << "no timeline is folded while reclaim is held";
  }
  ResyncPage page;
  page.timeline = part->timeline;
  page.as_of = part->as_of;
  const std::string end =
      EncodeVersionKey({.timeline = part->timeline, .chunk = 0, .epoch = part->as_of});
  const absl::StatusOr<std::vector<KeyValue>> keys =
      co_await metadata_.Scan(from, end, kPageChunks);
  if (!keys.ok()) co_return Annotate(keys.status(), "reading what changed");
  for (const auto& [key_bytes, ignored] : *keys) {
    TF_CO_ASSIGN_OR_RETURN(const ChunkKey key, DecodeVersionKey(key_bytes));
    if (key.chunk >= part->end_chunk) continue;
    const ChunkId id{part->timeline, key.chunk, part->as_of};
    absl::StatusOr<Base> shown = co_await ReadVersion(id);
    if (!shown.ok()) co_return shown.status();
    if (!shown->has_value() || (*shown)->first != key.epoch) continue;
    for (const Run& run : (*shown)->second.runs()) {
      const bool here = run.position >= timeline.opened && run.position < span.as_of;
      if (here && run.position > span.after) page.runs.push_back(run);
    }
  }
  // The first key behind the last one.
  if (keys->size() == kPageChunks) {
    page.next = absl::StrCat(keys->back().first, absl::string_view("\0", 1));
  } else if (++part != parts.end()) {
    page.next = EncodeVersionKey({.timeline = part->timeline, .chunk = 0, .epoch = kFirstPosition});
  }
  co_return page;
}

std::vector<ExtentMap::Impl::SpanPart> ExtentMap::Impl::PartsOf(const ResyncSpan& span) const {
  std::vector<SpanPart> parts = {{span.timeline, span.as_of, kNoChunk}};
  const auto add = [this, &parts](TimelineId timeline, uint64_t end_chunk) {
    const std::vector<Position> points = catalogue_.RetainedPoints(timeline);
    parts.push_back({timeline, points.empty() ? kLastPosition : points.front(), end_chunk});
  };
  const TimelineId heir = lineages_.HeirOf(span.timeline);
  if (heir != span.timeline) add(heir, kNoChunk);
  const std::optional<TimelineId> folding_into = lineages_.FoldingInto(heir);
  if (folding_into.has_value()) add(*folding_into, lineages_.Find(*folding_into)->fold_next);
  return parts;
}

ResyncSpan ExtentMap::Impl::WhereShown(const ResyncSpan& span, BlockIndex block) const {
  ResyncSpan shown = span;
  for (const SpanPart& part : PartsOf(span)) {
    if (ChunkOf(block) >= part.end_chunk) continue;
    shown.timeline = part.timeline;
    shown.as_of = part.as_of;
  }
  return shown;
}

// ---- The target ---------------------------------------------------------------------------------

Task<absl::StatusOr<ShownPage>> ExtentMap::Impl::ReadShown(TimelineId timeline, BlockIndex from) {
  ShownPage page;
  uint64_t next = ChunkOf(from);
  for (size_t chunks = 0; chunks < kPageChunks; ++chunks) {
    const absl::StatusOr<std::optional<uint64_t>> chunk = co_await NextOfLayers(timeline, next);
    if (!chunk.ok()) co_return chunk.status();
    if (!chunk->has_value()) co_return page;
    const absl::StatusOr<std::vector<Piece>> pieces =
        co_await Lookup(timeline, kLastPosition, ChunkRange(**chunk));
    if (!pieces.ok()) co_return pieces.status();
    for (const Piece& piece : *pieces) {
      if (piece.mapped && piece.run.kind == RunKind::kData) page.data.push_back(piece.run.range);
    }
    next = **chunk + 1;
  }
  page.next = BlockIndex(next * kChunkBlocks);
  co_return page;
}

Task<absl::StatusOr<std::optional<uint64_t>>> ExtentMap::Impl::NextOfLayers(TimelineId timeline,
                                                                            uint64_t from) {
  const absl::StatusOr<std::optional<uint64_t>> own = co_await NextChunk(timeline, from, kNoChunk);
  if (!own.ok()) co_return own.status();
  const absl::StatusOr<std::optional<uint64_t>> inherited =
      co_await NextInheritedChunk(timeline, from);
  if (!inherited.ok() || !own->has_value()) co_return inherited;
  co_return inherited->has_value() ? std::min(**own, **inherited) : **own;
}

void ExtentMap::Impl::BeforeCatalogueChange(const Catalogue& next) {
  AddJobs(PlanCatalogueChange(catalogue_, next));
}

// Positions come in the order of chunks: newer than what is there, block by block, but not than all
// that the timeline was given. What a partial chunk is given is kept by the epoch that it came in,
// as always, so that the retained points that come after it find it where it belongs.
void ExtentMap::Impl::Fill(TimelineId timeline, const Run& run) {
  const TimelineRecord& record = Timeline(timeline);
  accounting_.NoteEpoch(record);
  for (uint64_t chunk = ChunkOf(run.range.first); chunk <= ChunkOf(run.range.end() - BlockIndex(1));
       ++chunk) {
    const Run part = Cut(run, ChunkRange(chunk));
    if (part.kind == RunKind::kData) {
      InsertPart(record, part, /*late=*/false);
    } else {
      ZeroPart(record, part, /*late=*/false);
    }
  }
  cache_.Evict();
  StartBackground();
}

}  // namespace twofold
