// The chunks in memory, within a bound: least recently used first, those that are clean and
// complete are evicted. Partial, dirty and frozen chunks stay, whatever the bound (M10).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <boost/intrusive/list.hpp>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "storage/base/types.h"
#include "storage/map/chunk.h"

namespace twofold {

class ChunkCache {
 public:
  using Place = std::pair<TimelineId, uint64_t>;  // timeline, chunk

  explicit ChunkCache(size_t max_bytes) : max_bytes_(max_bytes) {}
  ChunkCache(const ChunkCache&) = delete;
  ChunkCache& operator=(const ChunkCache&) = delete;
  ~ChunkCache();

  // Null when it is not in memory. Valid until the next call that evicts or erases.
  Chunk* Find(const ChunkId& id);
  // Makes it the most recently used.
  void Touch(Chunk& chunk);
  // It must not be there. The new chunk is partial and has no versions.
  Chunk& Create(const ChunkId& id);
  void Erase(Chunk& chunk);
  // Forgets what was read of the chunk as of older positions.
  void ErasePast(TimelineId timeline, uint64_t chunk);
  // The same of all chunks of the timeline.
  void EraseTimelinePast(TimelineId timeline);
  // Forgets every clean chunk of the timeline that nobody has pinned.
  void EraseTimeline(TimelineId timeline);

  // To be called after any change of a chunk: counts its bytes and its state anew.
  void Changed(Chunk& chunk);
  // Evicts until the bound is kept, or nothing is left that may go.
  void Evict();

  // A pinned chunk is not evicted. It may still be erased.
  void Pin(Chunk& chunk);
  void Unpin(const std::shared_ptr<Chunk>& chunk);
  std::shared_ptr<Chunk> Share(const ChunkId& id);

  // Chunks with something that the metadata store does not have, in order.
  const absl::btree_map<Place, Chunk*>& undurable() const { return undurable_; }
  bool HasUndurable(TimelineId timeline) const;

  // Of all that are in memory now.
  std::vector<ChunkId> Ids() const;

  size_t size() const { return chunks_.size(); }
  size_t bytes() const { return bytes_; }
  size_t undurable_bytes() const { return undurable_bytes_; }

 private:
  void Link(Chunk& chunk);
  void Unlink(Chunk& chunk);

  const size_t max_bytes_;
  absl::flat_hash_map<ChunkId, std::shared_ptr<Chunk>> chunks_;
  absl::btree_map<Place, Chunk*> undurable_;
  absl::btree_set<ChunkId> past_;  // those that are not as of now
  // Those that may be evicted, most recently used first.
  boost::intrusive::list<Chunk, boost::intrusive::constant_time_size<false>> evictable_;
  size_t bytes_ = 0;
  size_t undurable_bytes_ = 0;
};

}  // namespace twofold
