// Timelines are made flat, and those that only one other needs are folded into it (lineage.h), in
// bounded steps, when nothing is left to reclaim.
//
// Making flat puts what the ancestors show, as runs, below what the timeline's chunk versions have,
// all of them, chunk by chunk. That changes no answer, whether a version has got it yet or not: a
// lookup goes on to the ancestors as before, and finds there what it has found already. Nothing of
// it is accounted for, since the fork point goes on holding it. So a crash at any time does no
// harm, and the work begins anew. When all chunks have it, the freeze after that says that the
// timeline is flat, in the same batch as, or behind, every one of those versions; when it is
// durable, lookups end there. Chunk versions made meanwhile are copies of versions that have it.
//
// A fold goes through the chunks of the source, which is at rest: nothing writes to it, and all of
// it is in the metadata store. What the heir's versions don't show of a chunk is freed; what only
// older versions of the heir show is listed dead there, as if the heir had displaced it itself; the
// rest is the heir's. All of that, the deletes of the source's versions, and how far the fold has
// come, belong to the same freeze, since a step does them in one turn: a crash repeats the steps
// since the last checkpoint from the same state. What clients displace in the heir meanwhile is
// accounted for on one side or the other, depending on whether its chunk has been done.
#include <algorithm>
#include <array>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/map/extent_map_impl.h"
#include "storage/map/key_codec.h"

namespace twofold {
namespace {

constexpr uint64_t kNoChunk = ~uint64_t{0};
constexpr size_t kVersionsPage = 64;

// What a version says of one block of its chunk.
struct BlockPlace {
  bool mapped = false;
  Position position;
  LogAddress address;
  bool operator==(const BlockPlace&) const = default;

  template <typename H>
  friend H AbslHashValue(H state, const BlockPlace& place) {
    return H::combine(std::move(state), place.position, place.address.segment.value(),
                      place.address.block);
  }
};
using BlockPlaces = std::array<BlockPlace, kChunkBlocks>;

BlockPlaces PlacesOf(RunList runs, uint64_t chunk, const Forwarding& forwarding) {
  forwarding.Resolve(&runs);
  BlockPlaces places;
  for (const Run& run : runs.runs()) {
    const uint64_t first = Distance(ChunkRange(chunk).first, run.range.first).value();
    for (uint64_t i = 0; i < run.range.count.value(); ++i) {
      LogAddress address = run.address;
      if (run.kind == RunKind::kData) address.block += static_cast<uint32_t>(i);
      places.at(first + i) = {true, run.position, address};
    }
  }
  return places;
}

// Puts `inherited` below what `runs` has. Whether that changed anything.
bool InsertBelow(const std::vector<Run>& inherited, RunList* runs) {
  const RunList before = *runs;
  for (const Run& run : inherited) runs->Insert(run);
  return *runs != before;
}

}  // namespace

// ---- What is to be done -------------------------------------------------------------------------

std::optional<ExtentMap::Impl::Ancestor> ExtentMap::Impl::ParentOf(TimelineId timeline) const {
  const TimelineRecord* const record = FindTimeline(timeline);
  if (record == nullptr || record->parent == TimelineId() || lineages_.IsFlat(timeline)) {
    return std::nullopt;
  }
  return Ancestor{record->parent, record->fork};
}

void ExtentMap::Impl::FindLineageWork() {
  if (lineage_work_.has_value() || !look_for_lineage_work_) return;
  look_for_lineage_work_ = false;
  const std::optional<LineageWork> work =
      PlanLineage(catalogue_, lineages_, options_.max_lineage_depth);
  if (!work.has_value()) return;
  lineage_work_ = {.work = *work};
  const LineageRecord* const record = lineages_.Find(work->timeline);
  if (work->kind == LineageWork::Kind::kFold && record->folding == work->source) {
    lineage_work_->next = record->fold_next;
  }
}

void ExtentMap::Impl::DropLineageWork(TimelineId timeline) {
  look_for_lineage_work_ = true;
  if (!lineage_work_.has_value()) return;
  const LineageWork& work = lineage_work_->work;
  // A fold stays where it has come to: its heir owns the chunks that were done, until the jobs that
  // take both away are done with them.
  if (work.timeline == timeline || work.source == timeline) lineage_work_.reset();
}

// Nothing of what a retained point of the catalogue shows may move while a resync is under way, at
// its source or at its target.
bool ExtentMap::Impl::MayWorkOnLineages() const {
  return !reclaim_held_ && catalogue_.pins().empty();
}

bool ExtentMap::Impl::HasLineageWork() {
  if (!catalogue_.pins().empty()) return false;
  FindLineageWork();
  return lineage_work_.has_value() && (!reclaim_held_ || lineage_work_->work.gives_space);
}

bool ExtentMap::Impl::IsLineageRunnable() {
  if (!jobs_.empty() || freezing_ || !MayWorkOnLineages()) return false;
  if (reclaimed_since_freeze_ >= kMaxReclaimedPerCheckpoint) return false;
  FindLineageWork();
  if (!lineage_work_.has_value() || lineage_work_->finished) return false;
  if (lineage_work_->work.kind == LineageWork::Kind::kFlatten) return !too_dirty();
  const TimelineId source = lineage_work_->work.source;
  return !tombstones_.Any(source) && !cache_.HasUndurable(source);
}

Task<absl::Status> ExtentMap::Impl::LineageStep() {
  if (!IsLineageRunnable()) co_return absl::OkStatus();
  const LineageWork work = lineage_work_->work;
  absl::StatusOr<bool> done = false;
  if (work.kind == LineageWork::Kind::kFlatten) {
    done = co_await FlattenStep(work);
  } else {
    done = co_await FoldStep(work);
  }
  // Its timelines were deleted meanwhile: that is no error.
  if (!IsStillWork(work)) co_return absl::OkStatus();
  if (!done.ok()) {
    co_return Annotate(done.status(),
                       absl::StrCat("making timeline ", work.timeline.value(), " flat"));
  }
  if (*done) lineage_work_->finished = true;
  co_return absl::OkStatus();
}

bool ExtentMap::Impl::IsStillWork(const LineageWork& work) const {
  return lineage_work_.has_value() && lineage_work_->work == work && !lineage_work_->finished;
}

// ---- Making flat --------------------------------------------------------------------------------

Task<absl::StatusOr<std::optional<uint64_t>>> ExtentMap::Impl::NextInheritedChunk(
    TimelineId timeline, uint64_t from) {
  std::vector<TimelineId> ancestors;
  for (std::optional<Ancestor> parent = ParentOf(timeline); parent.has_value();
       parent = ParentOf(parent->timeline)) {
    ancestors.push_back(parent->timeline);
  }
  std::optional<uint64_t> chunk;
  for (const TimelineId ancestor : ancestors) {
    const absl::StatusOr<std::optional<uint64_t>> next =
        co_await NextChunk(ancestor, from, chunk.value_or(kNoChunk));
    if (!next.ok()) co_return next.status();
    if (next->has_value()) chunk = *next;
  }
  co_return chunk;
}

Task<absl::StatusOr<bool>> ExtentMap::Impl::FlattenStep(LineageWork work) {
  const uint64_t checkpoints_done = checkpoints_done_;
  const TimelineId timeline = work.timeline;
  const std::optional<Ancestor> parent = ParentOf(timeline);
  if (!parent.has_value()) co_return true;
  const absl::StatusOr<std::optional<uint64_t>> found =
      co_await NextInheritedChunk(timeline, lineage_work_->next);
  if (!found.ok()) co_return found.status();
  if (!found->has_value()) co_return true;
  const uint64_t chunk = **found;
  const absl::StatusOr<std::vector<Piece>> pieces =
      co_await Lookup(parent->timeline, parent->as_of, ChunkRange(chunk));
  if (!pieces.ok()) co_return pieces.status();
  const ChunkId id{timeline, chunk};
  const absl::StatusOr<std::shared_ptr<Reading>> reading = co_await ReadChunk(id);
  if (!reading.ok()) co_return reading.status();
  const absl::StatusOr<Versions> stored =
      co_await ReadVersions(timeline, chunk, PrefixEnd(ChunkPrefix(timeline, chunk)));
  if (!stored.ok()) co_return stored.status();

  // From here on in one turn. With a checkpoint in between what was read may be old.
  Chunk* const cached = cache_.Find(id);
  const bool good = IsStillWork(work) && !freezing_ && checkpoints_done == checkpoints_done_ &&
                    cached != nullptr && cached->complete;
  if (!good) co_return false;
  std::vector<Run> inherited;
  for (const Piece& piece : *pieces) {
    if (!piece.mapped) continue;
    for (Run& run : forwarding_.Resolve(piece.run)) inherited.push_back(std::move(run));
  }
  if (!inherited.empty()) Absorb(*cached, *stored, inherited);
  lineage_work_->next = chunk + 1;
  reclaimed_since_freeze_ += 1 + stored->size();
  co_return false;
}

void ExtentMap::Impl::Absorb(Chunk& chunk, const Versions& stored,
                             const std::vector<Run>& inherited) {
  const TimelineRecord& timeline = Timeline(chunk.id.timeline);
  // Trims that it does not show yet make versions of their own epochs.
  ApplyAllTombstones(chunk);
  if (chunk.versions.empty()) {
    chunk.versions.push_back({.epoch = timeline.opened});
  }
  Epoch newer = chunk.versions.front().epoch;
  for (const auto& [epoch, runs] : stored) {
    // In memory it is as new or newer; what no point sees is being deleted.
    if (epoch >= newer || !accounting_.SeenBetween(timeline.id, epoch, newer)) continue;
    newer = epoch;
    const std::string key =
        EncodeChunkKey({.timeline = timeline.id, .chunk = chunk.id.chunk, .epoch = epoch});
    RunList whole = runs;
    forwarding_.Resolve(&whole);
    if (InsertBelow(inherited, &whole)) rewrites_[key] = whole.Encode(chunk.id.chunk);
  }
  for (ChunkVersion& version : chunk.versions) {
    if (!InsertBelow(inherited, &version.runs)) continue;
    version.dirty = true;
    version.rewrite = true;
  }
  // Points that are older than the chunk's first version see nothing but what is inherited.
  if (timeline.opened < newer && accounting_.SeenBetween(timeline.id, timeline.opened, newer)) {
    RunList whole;
    InsertBelow(inherited, &whole);
    const ChunkKey key{.timeline = timeline.id, .chunk = chunk.id.chunk, .epoch = timeline.opened};
    rewrites_[EncodeChunkKey(key)] = whole.Encode(chunk.id.chunk);
    added_versions_.push_back(EncodeVersionKey(key));
  }
  cache_.Changed(chunk);
}

// ---- Folding ------------------------------------------------------------------------------------

Task<absl::StatusOr<bool>> ExtentMap::Impl::FoldStep(LineageWork work) {
  const uint64_t checkpoints_done = checkpoints_done_;
  const std::string prefix = TimelinePrefix(Table::kChunk, work.source);
  const absl::StatusOr<std::optional<KeyValue>> found =
      co_await metadata_.Seek(ChunkPrefix(work.source, lineage_work_->next), prefix);
  if (!found.ok()) co_return found.status();
  if (!found->has_value()) {
    if (!IsStillWork(work) || freezing_) co_return false;
    FinishFold(work);
    co_return true;
  }
  TF_CO_ASSIGN_OR_RETURN(const ChunkKey key, DecodeChunkKey((*found)->first));
  const uint64_t chunk = key.chunk;
  const absl::StatusOr<Versions> source =
      co_await ReadVersions(work.source, chunk, PrefixEnd(ChunkPrefix(work.source, chunk)));
  if (!source.ok()) co_return source.status();
  const ChunkId id{work.timeline, chunk};
  const absl::StatusOr<std::shared_ptr<Reading>> reading = co_await ReadChunk(id);
  if (!reading.ok()) co_return reading.status();
  const absl::StatusOr<Versions> stored =
      co_await ReadVersions(work.timeline, chunk, PrefixEnd(ChunkPrefix(work.timeline, chunk)));
  if (!stored.ok()) co_return stored.status();

  // From here on in one turn. With a checkpoint in between what was read may be old.
  Chunk* const cached = cache_.Find(id);
  const bool good = IsStillWork(work) && !freezing_ && checkpoints_done == checkpoints_done_ &&
                    cached != nullptr && cached->complete;
  if (!good) co_return false;
  ApplyAllTombstones(*cached);
  cache_.Changed(*cached);
  FoldChunk(work, *cached, *stored, *source);
  lineage_work_->next = chunk + 1;
  reclaimed_since_freeze_ += source->size() + stored->size();
  co_return false;
}

void ExtentMap::Impl::FoldChunk(const LineageWork& work, const Chunk& heir, const Versions& stored,
                                const Versions& source) {
  const uint64_t chunk = heir.id.chunk;
  // What the heir shows, oldest first. What no point sees is being deleted.
  std::vector<std::pair<Epoch, BlockPlaces>> shown;
  for (auto version = heir.versions.rbegin(); version != heir.versions.rend(); ++version) {
    if (!shown.empty() &&
        !accounting_.SeenBetween(work.timeline, version->epoch, shown.back().first))
      continue;
    shown.emplace_back(version->epoch, PlacesOf(version->runs, chunk, forwarding_));
  }
  for (const auto& [epoch, runs] : stored) {
    if (!heir.versions.empty() && epoch >= heir.versions.front().epoch) continue;
    if (!shown.empty() && !accounting_.SeenBetween(work.timeline, epoch, shown.back().first))
      continue;
    shown.emplace_back(epoch, PlacesOf(runs, chunk, forwarding_));
  }
  std::reverse(shown.begin(), shown.end());

  const TimelineRecord& from = Timeline(work.source);
  const Position owned_from = lineages_.OwnedFrom(from, chunk);
  const TimelineRecord& to = Timeline(work.timeline);
  absl::flat_hash_set<std::pair<size_t, BlockPlace>> seen;
  for (const auto& [epoch, runs] : source) {
    for (const Run& run : runs.runs()) {
      if (run.position < owned_from) continue;  // An ancestor's.
      for (BlockIndex block = run.range.first; block < run.range.end();
           block = block + BlockCount(1)) {
        const Run one = forwarding_.Resolve(Cut(run, {block, BlockCount(1)})).front();
        const size_t index = Distance(ChunkRange(chunk).first, block).value();
        const BlockPlace place{true, one.position, one.address};
        if (!seen.emplace(index, place).second) continue;
        const auto last = std::find_if(shown.rbegin(), shown.rend(), [&](const auto& version) {
          return version.second.at(index) == place;
        });
        if (last == shown.rend()) {
          accounting_.Free(one);
        } else if (last != shown.rbegin()) {
          accounting_.ListDead(to, one, std::prev(last)->first);
        }
      }
    }
  }
  AddDeletedRange(ChunkPrefix(work.source, chunk), PrefixEnd(ChunkPrefix(work.source, chunk)));
  cache_.ErasePast(work.source, chunk);
  LineageRecord& record = lineages_.Change(work.timeline);
  record.folding = work.source;
  record.fold_owned_from = owned_from;
  record.fold_next = chunk + 1;
}

void ExtentMap::Impl::FinishFold(const LineageWork& work) {
  LineageRecord& record = lineages_.Change(work.timeline);
  record.owned_from = lineages_.OwnedFrom(Timeline(work.source), kNoChunk);
  record.folding = TimelineId();
  record.fold_owned_from = kFirstPosition;
  record.fold_next = 0;
  LineageRecord& source = lineages_.Change(work.source);
  source = LineageRecord();
  source.heir = work.timeline;
  // Its dead are among what was freed.
  for (const Table table : {Table::kVersion, Table::kDead}) {
    const std::string prefix = TimelinePrefix(table, work.source);
    deleted_ranges_.emplace_back(prefix, PrefixEnd(prefix));
  }
  ++folded_;
  accounting_.Forget(work.source);
  cache_.EraseTimeline(work.source);
}

// ---- Reading ------------------------------------------------------------------------------------

Task<absl::StatusOr<ExtentMap::Impl::Versions>> ExtentMap::Impl::ReadVersions(TimelineId timeline,
                                                                              uint64_t chunk,
                                                                              std::string end) {
  Versions versions;
  std::string from = ChunkPrefix(timeline, chunk);
  for (;;) {
    const absl::StatusOr<std::vector<KeyValue>> page =
        co_await metadata_.Scan(from, end, kVersionsPage);
    if (!page.ok()) co_return page.status();
    if (page->empty()) co_return versions;
    for (const auto& [key_bytes, value] : *page) {
      TF_CO_ASSIGN_OR_RETURN(const ChunkKey key, DecodeChunkKey(key_bytes));
      TF_CO_ASSIGN_OR_RETURN(RunList runs, RunList::Decode(chunk, value));
      versions.emplace_back(key.epoch, std::move(runs));
    }
    from = absl::StrCat(page->back().first, absl::string_view("\0", 1));
  }
}

// ---- Checkpoints --------------------------------------------------------------------------------

void ExtentMap::Impl::FreezeLineages(MetadataBatch* batch) {
  for (std::string& key : added_versions_) {
    batch->push_back({.kind = MetadataWrite::Kind::kPut, .key = std::move(key), .value = {}});
  }
  added_versions_.clear();
  lineages_.Freeze(batch);
  if (!lineage_work_.has_value() || !lineage_work_->finished) return;
  lineage_work_->frozen = true;
  if (lineage_work_->work.kind != LineageWork::Kind::kFlatten) return;
  // Lookups may end there when this is durable, and not before.
  const TimelineId timeline = lineage_work_->work.timeline;
  const LineageRecord* const known = lineages_.Find(timeline);
  LineageRecord record = known == nullptr ? LineageRecord() : *known;
  record.flat = true;
  batch->push_back({.kind = MetadataWrite::Kind::kPut,
                    .key = EncodeLineageKey(timeline),
                    .value = EncodeLineage(record)});
}

void ExtentMap::Impl::FreezeLineagesDone() {
  if (!lineage_work_.has_value() || !lineage_work_->frozen) return;
  const LineageWork work = lineage_work_->work;
  lineage_work_.reset();
  look_for_lineage_work_ = true;
  if (work.kind != LineageWork::Kind::kFlatten) return;
  lineages_.Change(work.timeline).flat = true;
  ++flattened_;
  // What was read of its past may be from before.
  cache_.EraseTimelinePast(work.timeline);
}

}  // namespace twofold
