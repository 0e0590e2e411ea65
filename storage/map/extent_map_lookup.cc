// Lookups: layer by layer, the timeline's own runs first, then its ancestors as of their fork
// points.
#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/map/extent_map_impl.h"

namespace twofold {
namespace {

using Holes = absl::InlinedVector<BlockRange, 4>;

// Whether `piece` goes on where `last` ends, as parts of one entry that lie together.
bool Continues(const Piece& last, const Piece& piece) {
  const Run& a = last.run;
  const Run& b = piece.run;
  if (last.mapped != piece.mapped || a.range.end() != b.range.first) return false;
  if (!last.mapped) return true;
  if (a.kind != b.kind || a.position != b.position || a.address.segment != b.address.segment) {
    return false;
  }
  return a.kind == RunKind::kZero || a.address.block + a.range.count.value() == b.address.block;
}

// Joins the piece at `index` to the one before it where it continues that.
void JoinAt(size_t index, std::vector<Piece>* pieces) {
  if (index == 0 || index >= pieces->size()) return;
  if (!Continues((*pieces)[index - 1], (*pieces)[index])) return;
  Run& last = (*pieces)[index - 1].run;
  const Run& next = (*pieces)[index].run;
  last.range.count += next.range.count;
  last.block_crcs.insert(last.block_crcs.end(), next.block_crcs.begin(), next.block_crcs.end());
  pieces->erase(pieces->begin() + static_cast<ptrdiff_t>(index));
}

void AppendRun(const Run& run, const BlockRange& range, std::vector<Piece>* pieces) {
  pieces->push_back({.mapped = true, .run = Cut(run, range)});
}

// Appends what `runs` say of `range`, ascending; what they don't say goes to `holes`.
void Collect(const RunList& runs, const BlockRange& range, std::vector<Piece>* pieces,
             Holes* holes) {
  BlockIndex from = range.first;
  const auto begin =
      std::partition_point(runs.runs().begin(), runs.runs().end(),
                           [&range](const Run& run) { return run.range.end() <= range.first; });
  for (auto run = begin; run != runs.runs().end() && run->range.first < range.end(); ++run) {
    if (from < run->range.first) holes->push_back({from, Distance(from, run->range.first)});
    AppendRun(*run, range, pieces);
    from = pieces->back().run.range.end();
  }
  if (from < range.end()) holes->push_back({from, Distance(from, range.end())});
}

bool Covers(const RunList& runs, const BlockRange& range) {
  BlockIndex from = range.first;
  for (const Run& run : runs.runs()) {
    if (run.range.end() <= from) continue;
    if (run.range.first > from) break;
    from = run.range.end();
    if (from >= range.end()) return true;
  }
  return false;
}

}  // namespace

ExtentMap::Impl::Layer ExtentMap::Impl::FindLayer(TimelineId timeline, Position as_of,
                                                  const BlockRange& range, RunList* scratch) {
  if (as_of == kFirstPosition) return {.kind = Layer::Kind::kNothing};
  const ChunkId id{timeline, ChunkOf(range.first)};
  Chunk* chunk = cache_.Find(id);
  if (chunk != nullptr && (chunk->versions.empty() || chunk->VersionAsOf(as_of) != nullptr)) {
    cache_.Touch(*chunk);
    return FindInNewest(*chunk, as_of, range, scratch);
  }
  if (as_of == kLastPosition) return {.missing = id};
  const ChunkId past_id{timeline, id.chunk, as_of};
  Chunk* past = cache_.Find(past_id);
  if (past == nullptr) return {.missing = past_id};
  cache_.Touch(*past);
  Layer layer{.kind = Layer::Kind::kNothing};
  if (!past->versions.empty()) {
    layer = {.kind = Layer::Kind::kRuns, .runs = &past->versions.back().runs};
  }
  OverlayTombstones(timeline, as_of, range, /*applied=*/0, &layer, scratch);
  return layer;
}

ExtentMap::Impl::Layer ExtentMap::Impl::FindInNewest(Chunk& chunk, Position as_of,
                                                     const BlockRange& range, RunList* scratch) {
  Layer layer{.kind = Layer::Kind::kNothing};
  if (chunk.complete) {
    const ChunkVersion* version = chunk.VersionAsOf(as_of);
    if (version != nullptr) layer = {.kind = Layer::Kind::kRuns, .runs = &version->runs};
    OverlayTombstones(chunk.id.timeline, as_of, range, chunk.tombstones_applied, &layer, scratch);
    return layer;
  }
  // What was just written is known without the base.
  const ChunkVersion* newest = chunk.VersionAsOf(as_of);
  if (newest != nullptr && chunk.late.empty() && !tombstones_.Any(chunk.id.timeline) &&
      Covers(newest->runs, range)) {
    return {.kind = Layer::Kind::kRuns, .runs = &newest->runs};
  }
  return {.missing = chunk.id};
}

void ExtentMap::Impl::OverlayTombstones(TimelineId timeline, Position as_of,
                                        const BlockRange& range, uint64_t applied, Layer* layer,
                                        RunList* scratch) {
  if (tombstones_.empty()) return;
  bool copied = false;
  for (const PendingTombstone& tombstone : tombstones_.Of(timeline)) {
    if (tombstone.serial <= applied || tombstone.position >= as_of) continue;
    if (!tombstone.range.Overlaps(range)) continue;
    if (!copied) {
      *scratch = layer->runs == nullptr ? RunList() : *layer->runs;
      *layer = {.kind = Layer::Kind::kRuns, .runs = scratch};
      copied = true;
    }
    scratch->Insert(tombstone.ZeroRun(range));
  }
}

bool ExtentMap::Impl::ResolveChunk(TimelineId timeline, Position as_of, const BlockRange& range,
                                   std::vector<Piece>* pieces, ChunkId* missing) {
  const size_t first = pieces->size();
  Holes holes = {range};
  bool in_order = true;
  for (;;) {
    RunList scratch;
    const Layer layer = FindLayer(timeline, as_of, range, &scratch);
    if (layer.kind == Layer::Kind::kMissing) {
      pieces->resize(first);
      *missing = layer.missing;
      return false;
    }
    if (layer.kind == Layer::Kind::kRuns) {
      in_order = in_order && pieces->size() == first;
      for (const BlockRange& hole : std::exchange(holes, {})) {
        Collect(*layer.runs, hole, pieces, &holes);
      }
      if (holes.empty()) break;
    }
    const std::optional<Ancestor> parent = ParentOf(timeline);
    if (!parent.has_value()) break;
    as_of = parent->as_of;
    timeline = parent->timeline;
  }
  for (const BlockRange& hole : holes) {
    in_order = in_order && pieces->size() == first;
    pieces->emplace_back().run.range = hole;
  }
  if (!in_order) {
    std::sort(pieces->begin() + static_cast<ptrdiff_t>(first), pieces->end(),
              [](const Piece& a, const Piece& b) { return a.run.range.first < b.run.range.first; });
  }
  return true;
}

bool ExtentMap::Impl::TryLookup(TimelineId timeline, Position as_of, BlockRange range,
                                std::vector<Piece>* pieces) {
  pieces->clear();
  if (range.empty()) return true;
  ChunkId missing;
  const uint64_t last = ChunkOf(range.end() - BlockIndex(1));
  for (uint64_t chunk = ChunkOf(range.first); chunk <= last; ++chunk) {
    const size_t joint = pieces->size();
    if (!ResolveChunk(timeline, as_of, Intersection(range, ChunkRange(chunk)), pieces, &missing)) {
      pieces->clear();
      return false;
    }
    JoinAt(joint, pieces);
  }
  ++hits_;
  return true;
}

Task<absl::StatusOr<std::vector<Piece>>> ExtentMap::Impl::Lookup(TimelineId timeline,
                                                                 Position as_of, BlockRange range) {
  std::vector<Piece> pieces;
  if (range.empty()) co_return pieces;
  const uint64_t end = ChunkOf(range.end() - BlockIndex(1)) + 1;
  uint64_t next = ChunkOf(range.first);
  while (next < end) {
    // A few chunks at a time: what is missing of them is read at once, and held until they are
    // resolved.
    const uint64_t step_end = std::min(end, next + kMaxLookupReads);
    const BlockRange step = Intersection(
        range, {BlockIndex(next * kChunkBlocks), BlockCount((step_end - next) * kChunkBlocks)});
    absl::StatusOr<std::vector<Piece>> found = co_await LookupStep(timeline, as_of, step);
    if (!found.ok()) co_return found.status();
    const size_t joint = pieces.size();
    std::move(found->begin(), found->end(), std::back_inserter(pieces));
    JoinAt(joint, &pieces);
    next = step_end;
  }
  co_return pieces;
}

Task<absl::StatusOr<std::vector<Piece>>> ExtentMap::Impl::LookupStep(TimelineId timeline,
                                                                     Position as_of,
                                                                     BlockRange range) {
  std::vector<Piece> pieces;
  std::vector<std::shared_ptr<Reading>> held;
  for (;;) {
    // It may have been deleted while this waited.
    if (FindTimeline(timeline) == nullptr) {
      co_return absl::NotFoundError(absl::StrCat("timeline ", timeline.value(), " is gone"));
    }
    const std::vector<ChunkId> missing = MissingFor(timeline, as_of, range);
    if (missing.empty()) break;
    ++misses_;
    std::vector<Task<absl::Status>> reads;
    const size_t first = held.size();
    held.resize(first + missing.size());
    for (size_t i = 0; i < missing.size(); ++i) {
      reads.push_back(ReadAndHold(missing[i], &held[first + i]));
    }
    const std::vector<absl::Status> statuses = co_await WhenAll(std::move(reads));
    const absl::Status status = FirstError(statuses);
    if (!status.ok()) co_return status;
  }
  TF_CHECK(TryLookup(timeline, as_of, range, &pieces));
  co_return pieces;
}

std::vector<ChunkId> ExtentMap::Impl::MissingFor(TimelineId timeline, Position as_of,
                                                 const BlockRange& range) {
  std::vector<ChunkId> all_missing;
  std::vector<Piece> ignored;
  const uint64_t last = ChunkOf(range.end() - BlockIndex(1));
  for (uint64_t chunk = ChunkOf(range.first); chunk <= last; ++chunk) {
    ChunkId missing;
    ignored.clear();
    if (!ResolveChunk(timeline, as_of, Intersection(range, ChunkRange(chunk)), &ignored,
                      &missing)) {
      all_missing.push_back(missing);
    }
  }
  return all_missing;
}

Task<absl::Status> ExtentMap::Impl::ReadAndHold(ChunkId id, std::shared_ptr<Reading>* held) {
  absl::StatusOr<std::shared_ptr<Reading>> reading = co_await ReadChunk(id);
  if (!reading.ok()) co_return reading.status();
  *held = *std::move(reading);
  co_return absl::OkStatus();
}

}  // namespace twofold
