// Large trims: the pass that turns tombstones into zero runs of the chunks that exist (R38, M7).
#include <algorithm>
#include <optional>
#include <utility>

#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/map/extent_map_impl.h"
#include "storage/map/key_codec.h"
#include "storage/runtime/executor.h"

namespace twofold {

Task<void> ExtentMap::Impl::DissolveTombstones() {
  // The caller is in the middle of a change.
  co_await Yield();
  while (!tombstones_.empty() && !stopping_) {
    const PendingTombstone oldest = tombstones_.Oldest();
    trim_status_ = co_await Dissolve(oldest);
    changed_.WakeAll();
    if (!trim_status_.ok()) break;  // The next checkpoint tries again.
  }
  dissolving_ = false;
}

Task<absl::Status> ExtentMap::Impl::Dissolve(PendingTombstone tombstone) {
  // Blocks that an ancestor has need the zeros as well.
  std::vector<TimelineId> layers = {tombstone.timeline};
  for (std::optional<Ancestor> parent = ParentOf(tombstone.timeline); parent.has_value();
       parent = ParentOf(parent->timeline)) {
    layers.push_back(parent->timeline);
  }
  const uint64_t end = ChunkOf(tombstone.range.end() - BlockIndex(1)) + 1;
  for (const TimelineId layer : layers) {
    uint64_t next = ChunkOf(tombstone.range.first);
    for (;;) {
      const absl::StatusOr<std::optional<uint64_t>> chunk = co_await NextChunk(layer, next, end);
      if (!chunk.ok()) co_return chunk.status();
      if (!chunk->has_value()) break;
      const absl::Status applied = co_await ApplyTombstonesTo(tombstone.timeline, **chunk);
      if (!applied.ok()) co_return applied;
      while (too_dirty() && !stopping_) co_await changed_.Wait();
      // Its timeline may have been deleted meanwhile.
      if (stopping_ || tombstones_.Find(tombstone.timeline, tombstone.position) == nullptr) {
        co_return absl::OkStatus();
      }
      next = **chunk + 1;
    }
  }
  if (tombstones_.Find(tombstone.timeline, tombstone.position) != nullptr) {
    RemoveTombstone(tombstone);
  }
  co_return absl::OkStatus();
}

void ExtentMap::Impl::RemoveTombstone(const PendingTombstone& tombstone) {
  table_.DropZeroBlocks(forwarding_.ResolveZeros(tombstone.segment), tombstone.range.count.value());
  tombstones_.Remove(tombstone.timeline, tombstone.position);
}

Task<absl::StatusOr<std::optional<uint64_t>>> ExtentMap::Impl::NextChunk(TimelineId timeline,
                                                                         uint64_t from,
                                                                         uint64_t end) {
  std::optional<uint64_t> next;
  if (from >= end) co_return next;
  // A chunk that is not in the metadata store when the seek begins is undurable now.
  const auto undurable = cache_.undurable().lower_bound({timeline, from});
  if (undurable != cache_.undurable().end() && undurable->first.first == timeline &&
      undurable->first.second < end) {
    next = undurable->first.second;
  }
  const absl::StatusOr<std::optional<KeyValue>> found =
      co_await metadata_.Seek(ChunkPrefix(timeline, from), TimelinePrefix(Table::kChunk, timeline));
  if (!found.ok()) co_return Annotate(found.status(), "looking for the next chunk");
  if (!found->has_value()) co_return next;
  TF_CO_ASSIGN_OR_RETURN(const ChunkKey key, DecodeChunkKey((*found)->first));
  if (key.chunk < end) next = std::min(next.value_or(key.chunk), key.chunk);
  co_return next;
}

Task<absl::Status> ExtentMap::Impl::ApplyTombstonesTo(TimelineId timeline, uint64_t chunk) {
  const ChunkId id{timeline, chunk};
  const absl::StatusOr<std::shared_ptr<Reading>> reading = co_await ReadChunk(id);
  if (!reading.ok()) co_return reading.status();
  Chunk* found = cache_.Find(id);
  if (found == nullptr || !found->complete)
    co_return absl::OkStatus();  // Deleted, and perhaps anew.
  ApplyAllTombstones(*found);
  cache_.Changed(*found);
  co_return absl::OkStatus();
}

}  // namespace twofold
