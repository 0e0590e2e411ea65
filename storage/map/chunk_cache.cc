#include "storage/map/chunk_cache.h"

#include "storage/base/check.h"

namespace twofold {
namespace {

// The chunk itself, its places in the hash table and the list, and allocation overhead, about.
constexpr size_t kChunkOverheadBytes = sizeof(Chunk) + 96;

size_t BytesOf(const Chunk& chunk) {
  size_t bytes = kChunkOverheadBytes;
  for (const ChunkVersion& version : chunk.versions) {
    bytes += sizeof(ChunkVersion) + version.runs.MemoryBytes();
  }
  return bytes;
}

}  // namespace

ChunkCache::~ChunkCache() { evictable_.clear(); }

Chunk* ChunkCache::Find(const ChunkId& id) {
  const auto found = chunks_.find(id);
  return found == chunks_.end() ? nullptr : found->second.get();
}

std::shared_ptr<Chunk> ChunkCache::Share(const ChunkId& id) {
  const auto found = chunks_.find(id);
  return found == chunks_.end() ? nullptr : found->second;
}

void ChunkCache::Touch(Chunk& chunk) {
  if (!chunk.is_linked() || &evictable_.front() == &chunk) return;
  evictable_.erase(evictable_.iterator_to(chunk));
  evictable_.push_front(chunk);
}

Chunk& ChunkCache::Create(const ChunkId& id) {
  const auto [place, inserted] = chunks_.try_emplace(id, std::make_shared<Chunk>(id));
  TF_CHECK(inserted) << "chunk " << id.chunk << " of timeline " << id.timeline;
  if (id.as_of != kLastPosition) past_.insert(id);
  return *place->second;
}

void ChunkCache::Erase(Chunk& chunk) {
  Unlink(chunk);
  if (chunk.undurable) {
    undurable_.erase({chunk.id.timeline, chunk.id.chunk});
    undurable_bytes_ -= chunk.charged_bytes;
  }
  bytes_ -= chunk.charged_bytes;
  chunk.charged_bytes = 0;
  chunk.undurable = false;
  if (chunk.id.as_of != kLastPosition) past_.erase(chunk.id);
  const ChunkId id = chunk.id;
  chunks_.erase(id);
}

void ChunkCache::ErasePast(TimelineId timeline, uint64_t chunk) {
  auto next = past_.lower_bound(ChunkId{timeline, chunk, kFirstPosition});
  while (next != past_.end() && next->timeline == timeline && next->chunk == chunk) {
    const ChunkId id = *next;
    Erase(*Find(id));
    next = past_.lower_bound(id);
  }
}

void ChunkCache::EraseTimelinePast(TimelineId timeline) {
  auto next = past_.lower_bound(ChunkId{timeline, 0, kFirstPosition});
  while (next != past_.end() && next->timeline == timeline) {
    const ChunkId id = *next;
    Erase(*Find(id));
    next = past_.lower_bound(id);
  }
}

void ChunkCache::EraseTimeline(TimelineId timeline) {
  auto next = evictable_.begin();
  while (next != evictable_.end()) {
    Chunk& chunk = *next++;
    if (chunk.id.timeline == timeline) Erase(chunk);
  }
}

void ChunkCache::Changed(Chunk& chunk) {
  const size_t bytes = BytesOf(chunk);
  const bool undurable = chunk.HasUndurable();
  if (chunk.undurable) undurable_bytes_ -= chunk.charged_bytes;
  if (undurable) undurable_bytes_ += bytes;
  bytes_ += bytes - chunk.charged_bytes;
  chunk.charged_bytes = bytes;

  if (undurable == chunk.undurable) {
    if (!undurable) Link(chunk);
    return;
  }
  chunk.undurable = undurable;
  if (undurable) {
    TF_CHECK(chunk.id.as_of == kLastPosition);
    Unlink(chunk);
    undurable_.emplace(Place{chunk.id.timeline, chunk.id.chunk}, &chunk);
  } else {
    undurable_.erase({chunk.id.timeline, chunk.id.chunk});
    Link(chunk);
  }
}

void ChunkCache::Evict() {
  while (bytes_ > max_bytes_ && !evictable_.empty()) Erase(evictable_.back());
}

void ChunkCache::Pin(Chunk& chunk) {
  ++chunk.pins;
  Unlink(chunk);
}

void ChunkCache::Unpin(const std::shared_ptr<Chunk>& chunk) {
  TF_CHECK(chunk->pins > 0);
  --chunk->pins;
  // It may have been erased meanwhile, or erased and made anew.
  if (Find(chunk->id) == chunk.get()) Link(*chunk);
}

bool ChunkCache::HasUndurable(TimelineId timeline) const {
  const auto next = undurable_.lower_bound(Place{timeline, 0});
  return next != undurable_.end() && next->first.first == timeline;
}

void ChunkCache::Link(Chunk& chunk) {
  if (chunk.is_linked() || chunk.pins > 0 || chunk.undurable) return;
  evictable_.push_front(chunk);
}

void ChunkCache::Unlink(Chunk& chunk) {
  if (chunk.is_linked()) evictable_.erase(evictable_.iterator_to(chunk));
}

std::vector<ChunkId> ChunkCache::Ids() const {
  std::vector<ChunkId> ids;
  ids.reserve(chunks_.size());
  for (const auto& [id, chunk] : chunks_) ids.push_back(id);
  return ids;
}

}  // namespace twofold
