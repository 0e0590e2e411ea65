#include "storage/map/extent_map.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/map/extent_map_impl.h"
#include "storage/map/key_codec.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

constexpr size_t kCacheLineBytes = 64;

// Calls `visit` with each part of `run` that lies within one chunk.
template <typename Visit>
void ForEachChunkOf(const Run& run, Visit visit) {
  const uint64_t first = ChunkOf(run.range.first);
  const uint64_t last = ChunkOf(run.range.end() - BlockIndex(1));
  if (first == last) {
    visit(run);
    return;
  }
  for (uint64_t chunk = first; chunk <= last; ++chunk) visit(Cut(run, ChunkRange(chunk)));
}

}  // namespace

ExtentMap::Impl::Impl(MetadataStore* metadata, const Catalogue* catalogue, SegmentTable* table,
                      Options options)
    : metadata_(*metadata),
      catalogue_(*catalogue),
      table_(*table),
      options_(options),
      cache_(options.cache_bytes),
      accounting_(catalogue, &forwarding_, &lineages_, table) {}

ExtentMap::Impl::~Impl() { TF_CHECK(readings_.empty()); }

const TimelineRecord* ExtentMap::Impl::FindTimeline(TimelineId timeline) const {
  const auto found = catalogue_.timelines().find(timeline);
  if (found != catalogue_.timelines().end()) return &found->second;
  const auto departed = departed_.find(timeline);
  return departed == departed_.end() ? nullptr : &departed->second;
}

const TimelineRecord& ExtentMap::Impl::Timeline(TimelineId timeline) const {
  const TimelineRecord* const record = FindTimeline(timeline);
  TF_CHECK(record != nullptr) << "timeline " << timeline;
  return *record;
}

bool ExtentMap::Impl::IsLate(const TimelineRecord& timeline, Position position) {
  Position& last = inserted_up_to_[timeline.id];
  if (last == kFirstPosition) {
    const auto loaded = loaded_up_to_.find(timeline.volume);
    if (loaded != loaded_up_to_.end()) last = loaded->second;
  }
  if (position <= last) return true;
  last = position;
  return false;
}

// Step by step for all of them: what one step fetches is there when the next needs it.
void ExtentMap::Impl::Prefetch(absl::Span<const Place> places) {
  absl::InlinedVector<const Chunk*, 64> chunks;
  for (const Place& place : places) {
    const Chunk* const chunk = cache_.Find({place.timeline, ChunkOf(place.block)});
    chunks.push_back(chunk);
    if (chunk == nullptr) continue;
    for (size_t offset = 0; offset < sizeof(Chunk); offset += kCacheLineBytes) {
      __builtin_prefetch(reinterpret_cast<const char*>(chunk) + offset, 1);
    }
  }
  for (size_t i = 0; i < places.size(); ++i) {
    const Chunk* const chunk = chunks[i];
    if (chunk == nullptr || chunk->versions.empty()) continue;
    chunk->versions.back().runs.Prefetch(places[i].block);
  }
}

void ExtentMap::Impl::Insert(TimelineId timeline, const Run& run) {
  TF_CHECK(run.kind == RunKind::kData);
  const TimelineRecord& record = Timeline(timeline);
  const bool late = IsLate(record, run.position);
  accounting_.NoteEpoch(record);
  ForEachChunkOf(run, [&](const Run& part) { InsertPart(record, part, late); });
  cache_.Evict();
  StartBackground();
}

void ExtentMap::Impl::InsertPart(const TimelineRecord& timeline, const Run& part, bool late) {
  const ChunkId id{timeline.id, ChunkOf(part.range.first)};
  Chunk* chunk = cache_.Find(id);
  if (chunk == nullptr) {
    ++misses_;
    chunk = &cache_.Create(id);
    BecomePartial(*chunk);
  } else {
    ++hits_;
  }
  if (chunk->complete) ApplyAllTombstones(*chunk);
  chunk->has_data = true;
  InsertInto(*chunk, timeline, part, late);
}

void ExtentMap::Impl::InsertInto(Chunk& chunk, const TimelineRecord& timeline, const Run& part,
                                 bool late) {
  if (late && !chunk.complete) {
    // What is below it decides whether it counts.
    chunk.late.push_back(part);
  } else {
    InsertRun(timeline.id, OpenVersion(chunk, timeline.current_epoch), part, /*counted=*/false);
  }
  cache_.Changed(chunk);
}

void ExtentMap::Impl::Zero(TimelineId timeline, BlockRange range, Position position,
                           SegmentNumber where) {
  if (range.empty()) return;
  const TimelineRecord& record = Timeline(timeline);
  const bool late = IsLate(record, position);
  accounting_.NoteEpoch(record);
  const uint64_t chunks = ChunkOf(range.end() - BlockIndex(1)) - ChunkOf(range.first) + 1;
  if (chunks > options_.max_zeroed_chunks) {
    const bool added = tombstones_.Add({.timeline = timeline,
                                        .range = range,
                                        .position = position,
                                        .epoch = record.current_epoch,
                                        .segment = where});
    // Its record is needed for as long as the chunks don't say it themselves (R17).
    if (added) table_.AddZeroBlocks(where, range.count.value());
  } else {
    const Run run{.range = range,
                  .kind = RunKind::kZero,
                  .position = position,
                  .address = {.segment = where, .block = 0},
                  .block_crcs = {}};
    ForEachChunkOf(run, [&](const Run& part) { ZeroPart(record, part, late); });
  }
  cache_.Evict();
  StartBackground();
}

void ExtentMap::Impl::ZeroPart(const TimelineRecord& timeline, const Run& part, bool late) {
  const ChunkId id{timeline.id, ChunkOf(part.range.first)};
  Chunk* chunk = cache_.Find(id);
  if (chunk == nullptr) {
    ++misses_;
    chunk = &cache_.Create(id);
    BecomePartial(*chunk);
  } else {
    ++hits_;
    if (chunk->complete) ApplyAllTombstones(*chunk);
    if (chunk->complete && chunk->versions.empty()) {
      if (!HasParent(timeline.id)) return;  // Zero already, and nothing to say of it (M7).
      // Whether an ancestor has anything there must be looked up.
      BecomePartial(*chunk);
    }
  }
  InsertInto(*chunk, timeline, part, late);
}

void ExtentMap::Impl::BecomePartial(Chunk& chunk) {
  TF_CHECK(chunk.versions.empty());
  chunk.complete = false;
  chunk.has_data = false;
  chunk.partial_since = ++last_partial_;
  ++partial_chunks_;
  fetch_queue_.emplace_back(chunk.partial_since, chunk.id);
}

ChunkVersion& ExtentMap::Impl::OpenVersion(Chunk& chunk, Epoch epoch) {
  if (chunk.versions.empty()) return chunk.versions.emplace_back(ChunkVersion{.epoch = epoch});
  ChunkVersion& newest = chunk.versions.back();
  TF_CHECK(newest.epoch <= epoch) << "chunk " << chunk.id.chunk << " of timeline "
                                  << chunk.id.timeline << " has an epoch " << newest.epoch
                                  << " newer than " << epoch;
  if (newest.epoch == epoch) return newest;
  ChunkVersion next{.epoch = epoch};
  if (!chunk.complete) return chunk.versions.emplace_back(std::move(next));

  // Copy on write, of the packed runs alone (DESIGN.md section 6). An older version that no
  // retained point sees becomes the new one instead; one that is durable leaves memory.
  if (!accounting_.SeenBetween(chunk.id.timeline, newest.epoch, epoch)) {
    if (newest.in_store) DeleteVersion(chunk.id, newest.epoch);
    next.runs = std::move(newest.runs);
    chunk.versions.pop_back();
  } else if (!newest.dirty && !newest.frozen) {
    next.runs = std::move(newest.runs);
    chunk.versions.pop_back();
  } else {
    next.runs = newest.runs;
  }
  return chunk.versions.emplace_back(std::move(next));
}

void ExtentMap::Impl::DeleteVersion(const ChunkId& id, Epoch epoch) {
  const ChunkKey key{.timeline = id.timeline, .chunk = id.chunk, .epoch = epoch};
  deleted_.push_back(EncodeChunkKey(key));
  deleted_.push_back(EncodeVersionKey(key));
}

void ExtentMap::Impl::InsertRun(TimelineId timeline, ChunkVersion& version, const Run& run,
                                bool counted) {
  // Runs come in order, but for those that come again or from elsewhere (R18): only then is
  // something in the way that is as new.
  std::vector<Run> same;
  bool contested = false;
  for (const Run& old : version.runs.Overlapping(run.range)) {
    if (old.position < run.position) continue;
    contested = true;
    if (!Replaces(run, old) && !Replaces(old, run)) same.push_back(Cut(run, old.range));
  }
  version.runs.Insert(run, &displaced_, &lost_);
  if (contested) {
    TF_CHECK(!counted) << "run " << run.position << " in timeline " << timeline;
    AccountContested(run, same);
  } else if (!counted) {
    accounting_.Born(run);
  }
  const TimelineRecord& record = Timeline(timeline);
  for (const Run& old : displaced_) accounting_.Displaced(record, old, version.epoch);
  if (run.position <= version.saved_up_to) version.rewrite = true;
  version.dirty = true;
  displaced_.clear();
  lost_.clear();
}

void ExtentMap::Impl::AccountContested(const Run& run, const std::vector<Run>& same) {
  // Only what is left of it between those parts is new.
  std::vector<BlockRange> known;
  for (const Run& part : lost_) known.push_back(part.range);
  for (const Run& part : same) known.push_back(part.range);
  std::sort(known.begin(), known.end(),
            [](const BlockRange& a, const BlockRange& b) { return a.first < b.first; });
  known.push_back({run.range.end(), BlockCount(0)});
  BlockIndex from = run.range.first;
  for (const BlockRange& part : known) {
    if (from < part.first) accounting_.Born(Cut(run, {from, Distance(from, part.first)}));
    from = part.end();
  }
}

void ExtentMap::Impl::ApplyTombstones(Chunk& chunk, Epoch epoch) {
  TF_CHECK(chunk.complete);
  for (const PendingTombstone& tombstone : tombstones_.Of(chunk.id.timeline)) {
    if (tombstone.serial <= chunk.tombstones_applied || tombstone.epoch > epoch) continue;
    if (!tombstone.range.Overlaps(chunk.range())) continue;
    if (chunk.versions.empty()) {
      if (!HasParent(chunk.id.timeline)) continue;  // Zero already (M7).
    } else if (chunk.versions.back().epoch > tombstone.epoch) {
      continue;  // Made after the tombstone, with it inside.
    }
    // As if it had been done when it came: in its own epoch, and so for every later one (R19).
    InsertRun(chunk.id.timeline, OpenVersion(chunk, tombstone.epoch),
              tombstone.ZeroRun(chunk.range()), /*counted=*/false);
    cache_.ErasePast(chunk.id.timeline, chunk.id.chunk);
  }
}

void ExtentMap::Impl::ApplyAllTombstones(Chunk& chunk) {
  if (chunk.tombstones_applied == tombstones_.last_serial()) return;
  ApplyTombstones(chunk, kLastPosition);
  chunk.tombstones_applied = tombstones_.last_serial();
}

void ExtentMap::Impl::StartBackground() {
  if (stopping_) return;
  while (fetchers_ < kMaxBaseReads && fetchers_ < fetch_queue_.size()) {
    ++fetchers_;
    scope_.Spawn(FetchBases());
  }
  if (!dissolving_ && !tombstones_.empty() && trim_status_.ok()) {
    dissolving_ = true;
    scope_.Spawn(DissolveTombstones());
  }
}

bool ExtentMap::Impl::too_dirty() const {
  return cache_.undurable_bytes() > std::max(options_.cache_bytes, kMinDirtyMapBytes);
}

bool ExtentMap::Impl::checkpoint_due() const {
  return cache_.undurable_bytes() > std::max(options_.cache_bytes, kMinDirtyMapBytes) / 2 ||
         reclaimed_since_freeze_ >= kMaxReclaimedPerCheckpoint;
}

bool ExtentMap::Impl::crowded() const {
  return partial_chunks_ > options_.max_partial_chunks || tombstones_.size() > kMaxTombstones ||
         too_dirty();
}

Task<absl::Status> ExtentMap::Impl::WaitForRoom() {
  while (crowded() && !stopping_) {
    if (!fetch_status_.ok()) co_return fetch_status_;
    if (!trim_status_.ok()) co_return trim_status_;
    co_await changed_.Wait();
  }
  co_return absl::OkStatus();
}

ExtentMap::Counters ExtentMap::Impl::counters() const {
  return {.chunks = cache_.size(),
          .memory_bytes = cache_.bytes(),
          .dirty_chunks = cache_.undurable().size(),
          .partial_chunks = partial_chunks_,
          .tombstones = tombstones_.size(),
          .flattened = flattened_,
          .folded = folded_,
          .hits = hits_,
          .misses = misses_};
}

Task<void> ExtentMap::Impl::Stop() {
  stopping_ = true;
  changed_.WakeAll();
  co_await scope_.Join();
}

// ---- The facade ---------------------------------------------------------------------------------

ExtentMap::ExtentMap(MetadataStore* metadata, const Catalogue* catalogue, SegmentTable* table,
                     Options options)
    : impl_(std::make_unique<Impl>(metadata, catalogue, table, options)) {}
ExtentMap::~ExtentMap() = default;

Task<absl::Status> ExtentMap::Load() { return impl_->Load(); }
void ExtentMap::Insert(TimelineId timeline, const Run& run) { impl_->Insert(timeline, run); }
void ExtentMap::Prefetch(absl::Span<const Place> places) { impl_->Prefetch(places); }
void ExtentMap::Zero(TimelineId timeline, BlockRange range, Position position,
                     SegmentNumber where) {
  impl_->Zero(timeline, range, position, where);
}
void ExtentMap::Fill(TimelineId timeline, const Run& run) { impl_->Fill(timeline, run); }
bool ExtentMap::crowded() const { return impl_->crowded(); }
bool ExtentMap::checkpoint_due() const { return impl_->checkpoint_due(); }
Task<absl::Status> ExtentMap::WaitForRoom() { return impl_->WaitForRoom(); }
Task<absl::StatusOr<std::vector<Piece>>> ExtentMap::Lookup(TimelineId timeline, Position as_of,
                                                           BlockRange range) {
  return impl_->Lookup(timeline, as_of, range);
}
bool ExtentMap::TryLookup(TimelineId timeline, Position as_of, BlockRange range,
                          std::vector<Piece>* pieces) {
  return impl_->TryLookup(timeline, as_of, range, pieces);
}
void ExtentMap::BeforeSnapshotDelete(const SnapshotRecord& snapshot) {
  impl_->BeforeSnapshotDelete(snapshot);
}
void ExtentMap::BeforeVolumeDelete(VolumeId volume) { impl_->BeforeVolumeDelete(volume); }
void ExtentMap::BeforeTimelineStart(VolumeId volume) { impl_->BeforeTimelineStart(volume); }
void ExtentMap::BeforeCatalogueChange(const Catalogue& next) { impl_->BeforeCatalogueChange(next); }
void ExtentMap::HoldReclaim(bool hold) { impl_->HoldReclaim(hold); }
bool ExtentMap::has_tombstones_before_points() const {
  return impl_->has_tombstones_before_points();
}
Task<absl::StatusOr<ResyncPage>> ExtentMap::ReadSpan(ResyncSpan span, std::string from) {
  return impl_->ReadSpan(span, std::move(from));
}
ResyncSpan ExtentMap::WhereShown(const ResyncSpan& span, BlockIndex block) const {
  return impl_->WhereShown(span, block);
}
Task<absl::StatusOr<ShownPage>> ExtentMap::ReadShown(TimelineId timeline, BlockIndex from) {
  return impl_->ReadShown(timeline, from);
}
bool ExtentMap::has_reclaim_work() { return impl_->has_reclaim_work(); }
Task<absl::Status> ExtentMap::ReclaimStep() { return impl_->ReclaimStep(); }
uint64_t ExtentMap::reclaim_jobs() { return impl_->reclaim_jobs(); }
const Forwarding& ExtentMap::forwarding() const { return impl_->forwarding(); }
void ExtentMap::TakeMoved(const MovedBlocks& moved, LogAddress target, const LiveBitmap& live) {
  impl_->TakeMoved(moved, target, live);
}
void ExtentMap::TakeMovedZeros(SegmentNumber source, SegmentNumber target) {
  impl_->TakeMovedZeros(source, target);
}
void ExtentMap::FinishMoved(SegmentNumber source) { impl_->FinishMoved(source); }
Task<absl::StatusOr<ExtentMap::ReferencePage>> ExtentMap::ReadReferences(SegmentNumber segment,
                                                                         std::string from) {
  return impl_->ReadReferences(segment, std::move(from));
}
Task<absl::StatusOr<bool>> ExtentMap::ReferenceStep() { return impl_->ReferenceStep(); }
bool ExtentMap::reference_checkpoint_due() const { return impl_->reference_checkpoint_due(); }
Task<void> ExtentMap::FinishReferencePass() { return impl_->FinishReferencePass(); }
Task<absl::Status> ExtentMap::PrepareFreeze() { return impl_->PrepareFreeze(); }
ExtentMap::Frozen ExtentMap::Freeze(SegmentNumber replay_from, SegmentNumber keep_from) {
  return impl_->Freeze(replay_from, keep_from);
}
void ExtentMap::FreezeDone() { impl_->FreezeDone(); }
ExtentMap::Counters ExtentMap::counters() const { return impl_->counters(); }
Task<void> ExtentMap::Stop() { return impl_->Stop(); }

}  // namespace twofold
