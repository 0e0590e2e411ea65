// Reading chunks from the metadata store: what a lookup misses, and the bases of partial chunks
// (M10).
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/map/extent_map_impl.h"
#include "storage/map/key_codec.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

// The last position before `position`, which is not the first.
Position Before(const Position& position) {
  if (position.seq.value() > 0) return {position.generation, Seq(position.seq.value() - 1)};
  return {Generation(position.generation.value() - 1), kLastPosition.seq};
}

Position LastPositionOf(const RunList& runs) {
  Position last;
  for (const Run& run : runs.runs()) last = std::max(last, run.position);
  return last;
}

}  // namespace

ExtentMap::Impl::Reading::~Reading() {
  if (chunk != nullptr) cache.Unpin(chunk);
}

Task<absl::StatusOr<std::shared_ptr<ExtentMap::Impl::Reading>>> ExtentMap::Impl::ReadChunk(
    ChunkId id) {
  const auto under_way = readings_.find(id);
  if (under_way != readings_.end()) {
    const std::shared_ptr<Reading> reading = under_way->second;
    co_await reading->done.Wait();
    if (!reading->status.ok()) co_return reading->status;
    co_return reading;
  }
  const auto reading = std::make_shared<Reading>(&cache_);
  readings_.emplace(id, reading);
  reading->status = co_await ReadIntoCache(id);
  if (reading->status.ok()) {
    reading->chunk = cache_.Share(id);
    if (reading->chunk != nullptr) cache_.Pin(*reading->chunk);
  }
  readings_.erase(id);
  reading->done.Set();
  cache_.Evict();
  if (!reading->status.ok()) co_return reading->status;
  co_return reading;
}

Task<absl::Status> ExtentMap::Impl::ReadIntoCache(ChunkId id) {
  for (;;) {
    Chunk* chunk = cache_.Find(id);
    if (chunk != nullptr && chunk->complete) co_return absl::OkStatus();

    const uint64_t checkpoints_done = checkpoints_done_;
    absl::StatusOr<Base> base = co_await ReadVersion(id);
    if (!base.ok()) co_return base.status();
    chunk = cache_.Find(id);
    if (chunk != nullptr && !chunk->complete && !base->has_value() && OnlyZeros(*chunk) &&
        HasParent(id.timeline)) {
      const absl::StatusOr<bool> below = co_await AncestorHas(id.timeline, id.chunk);
      if (!below.ok()) co_return below.status();
      chunk = cache_.Find(id);
      TF_CHECK(chunk != nullptr &&
               !chunk->complete);          // Partial chunks stay, and only this completes it.
      if (*below) chunk->has_data = true;  // The zeros hide something.
    }
    if (checkpoints_done != checkpoints_done_) continue;
    Install(id, *std::move(base));
    co_return absl::OkStatus();
  }
}

Task<absl::StatusOr<ExtentMap::Impl::Base>> ExtentMap::Impl::ReadVersion(ChunkId id) {
  const std::string prefix = ChunkPrefix(id.timeline, id.chunk);
  std::string from =
      EncodeChunkKey({.timeline = id.timeline, .chunk = id.chunk, .epoch = Before(id.as_of)});
  const absl::StatusOr<std::optional<KeyValue>> found =
      co_await metadata_.Seek(std::move(from), prefix);
  const auto context = [&id] {
    return absl::StrCat("map of timeline ", id.timeline.value(), ", chunk ", id.chunk);
  };
  if (!found.ok()) co_return Annotate(found.status(), context());
  if (!found->has_value()) co_return Base();
  const absl::StatusOr<ChunkKey> key = DecodeChunkKey((*found)->first);
  if (!key.ok()) co_return Annotate(key.status(), context());
  absl::StatusOr<RunList> runs = RunList::Decode(id.chunk, (*found)->second);
  if (!runs.ok()) co_return Annotate(runs.status(), context());
  co_return Base(std::in_place, key->epoch, *std::move(runs));
}

void ExtentMap::Impl::Install(const ChunkId& id, Base base) {
  Chunk* chunk = cache_.Find(id);
  if (chunk != nullptr) {
    TF_CHECK(!chunk->complete && id.as_of == kLastPosition);
    Complete(*chunk, std::move(base));
    return;
  }
  if (id.as_of != kLastPosition) {
    // A tombstone that reached its chunk while this was read made a newer version for that point.
    Chunk* newest = cache_.Find({id.timeline, id.chunk});
    if (newest != nullptr && newest->VersionAsOf(id.as_of) != nullptr) return;
  }
  chunk = &cache_.Create(id);
  chunk->complete = true;
  if (base.has_value()) {
    const Position last = LastPositionOf(base->second);
    chunk->versions.push_back({.epoch = base->first,
                               .runs = std::move(base->second),
                               .in_store = true,
                               .saved_up_to = last});
  }
  cache_.Changed(*chunk);
}

void ExtentMap::Impl::Complete(Chunk& chunk, Base base) {
  const TimelineId timeline = chunk.id.timeline;
  auto inserted = std::exchange(chunk.versions, {});
  const bool only_zeros = OnlyZeros(chunk);
  chunk.complete = true;
  TF_CHECK(partial_chunks_ > 0);
  --partial_chunks_;
  if (!base.has_value() && only_zeros) {
    // Zeros over nothing (M7). Nothing was ever mapped there, so nothing can come back either.
    for (const ChunkVersion& version : inserted) {
      for (const Run& run : version.runs.runs()) accounting_.Free(run);
    }
    inserted.clear();
  }
  if (base.has_value()) {
    const Position last = LastPositionOf(base->second);
    chunk.versions.push_back({.epoch = base->first,
                              .runs = std::move(base->second),
                              .in_store = true,
                              .saved_up_to = last});
  }
  // What was inserted meanwhile goes on top, epoch by epoch: each displaces what the one before
  // shows.
  for (const ChunkVersion& delta : inserted) {
    if (delta.epoch != kFirstPosition) ApplyTombstones(chunk, Before(delta.epoch));
    ChunkVersion& version = OpenVersion(chunk, delta.epoch);
    for (const Run& run : delta.runs.runs()) InsertRun(timeline, version, run, /*counted=*/true);
  }
  ApplyAllTombstones(chunk);
  for (const Run& run : std::exchange(chunk.late, {})) {
    const Epoch newest = chunk.versions.empty() ? kFirstPosition : chunk.versions.back().epoch;
    ChunkVersion& version = OpenVersion(chunk, std::max(newest, Timeline(timeline).current_epoch));
    InsertRun(timeline, version, run, /*counted=*/false);
  }
  cache_.Changed(chunk);
  changed_.WakeAll();
}

bool ExtentMap::Impl::OnlyZeros(const Chunk& chunk) const {
  return !chunk.complete && !chunk.has_data;
}

Task<absl::StatusOr<bool>> ExtentMap::Impl::AncestorHas(TimelineId timeline, uint64_t chunk) {
  for (;;) {
    const std::optional<Ancestor> parent = ParentOf(timeline);
    if (!parent.has_value()) co_return false;
    timeline = parent->timeline;
    const ChunkId id{timeline, chunk, parent->as_of};
    RunList scratch;
    Layer layer = FindLayer(timeline, id.as_of, ChunkRange(chunk), &scratch);
    while (layer.kind == Layer::Kind::kMissing) {
      const ChunkId missing = layer.missing;
      const absl::StatusOr<std::shared_ptr<Reading>> reading = co_await ReadChunk(missing);
      if (!reading.ok()) co_return reading.status();
      layer = FindLayer(timeline, id.as_of, ChunkRange(chunk), &scratch);
    }
    if (layer.kind == Layer::Kind::kRuns) co_return true;
  }
}

Task<void> ExtentMap::Impl::FetchBases() {
  // The caller is in the middle of a change.
  co_await Yield();
  while (!fetch_queue_.empty() && !stopping_) {
    const auto [since, id] = fetch_queue_.front();
    fetch_queue_.pop_front();
    const Chunk* chunk = cache_.Find(id);
    if (chunk == nullptr || chunk->complete || chunk->partial_since != since) continue;
    const absl::StatusOr<std::shared_ptr<Reading>> reading = co_await ReadChunk(id);
    fetch_status_ = reading.status();
    if (reading.ok()) continue;
    // Whoever needs the chunk tries again: the next lookup or checkpoint.
    changed_.WakeAll();
  }
  --fetchers_;
}

}  // namespace twofold
