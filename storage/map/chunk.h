// A chunk of a timeline in memory: the versions of its packed runs that the extent map works with.
//
//            first change              base read               changes            Freeze
//   (none) -------------> partial -------------------> complete ------> dirty ----------> frozen
//     |  read                                             ^  |                              |
//     +---------------------------------------------------+  +<------- FreezeDone ---------+
//
// A partial chunk holds only what was inserted since it came into memory, one version an epoch:
// what lies below is not known yet (M10). A complete one holds whole versions: the newest of the
// chunk, and before it those that the metadata store does not have yet. They are the chunk's last
// ones, without a gap: a version that is not here and is older than the first one here is in the
// metadata store.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <utility>
#include <vector>

#include <boost/intrusive/list_hook.hpp>

#include "absl/container/inlined_vector.h"
#include "storage/base/limits.h"
#include "storage/base/types.h"
#include "storage/map/run_list.h"

namespace twofold {

// Which chunk, as of when. kLastPosition: as it is now, with all that is not durable; an earlier
// one: as a retained point sees it, read from the metadata store, never changed.
struct ChunkId {
  TimelineId timeline;
  uint64_t chunk = 0;  // block index / kChunkBlocks
  Position as_of = kLastPosition;
  constexpr auto operator<=>(const ChunkId&) const = default;

  template <typename H>
  friend H AbslHashValue(H state, const ChunkId& id) {
    return H::combine(std::move(state), id.timeline, id.chunk, id.as_of);
  }
};

constexpr uint64_t ChunkOf(BlockIndex block) { return block.value() / kChunkBlocks; }
constexpr BlockRange ChunkRange(uint64_t chunk) {
  return {BlockIndex(chunk * kChunkBlocks), BlockCount(kChunkBlocks)};
}
// Of ranges that overlap.
constexpr BlockRange Intersection(const BlockRange& a, const BlockRange& b) {
  const BlockIndex first = std::max(a.first, b.first);
  return {first, Distance(first, std::min(a.end(), b.end()))};
}

struct ChunkVersion {
  Epoch epoch{};
  RunList runs{};          // of a partial chunk: those inserted in this epoch
  bool dirty = false;      // changed since the last freeze
  bool frozen = false;     // in the batch that is being committed
  bool in_store = false;   // its key is in the metadata store, or in that batch
  bool rewrite = false;    // the next freeze writes it whole, not as a merge of newer runs
  uint8_t merges = 0;      // since it was last written whole here
  Position saved_up_to{};  // runs above it are not yet in the metadata store or the batch
};

struct Chunk : boost::intrusive::list_base_hook<> {
  explicit Chunk(const ChunkId& id_in) : id(id_in) {}

  BlockRange range() const { return ChunkRange(id.chunk); }
  // The newest version that a reader as of `as_of` sees; null when it is older than all that are
  // here.
  const ChunkVersion* VersionAsOf(Position as_of) const {
    for (auto version = versions.rbegin(); version != versions.rend(); ++version) {
      if (version->epoch < as_of) return &*version;
    }
    return nullptr;
  }
  bool HasUndurable() const {
    if (!complete) return true;
    for (const ChunkVersion& version : versions) {
      if (version.dirty || version.frozen) return true;
    }
    return false;
  }

  const ChunkId id;
  absl::InlinedVector<ChunkVersion, 1> versions;  // ascending; empty and complete: nothing is there
  bool complete = false;
  bool has_data = false;   // partial: something else than zeros was inserted
  bool undurable = false;  // listed as such in the cache
  // Partial: runs that are no newer than others of the timeline, and may be below already (R18).
  std::vector<Run> late;
  uint32_t pins = 0;                // not evicted while somebody is about to look at it
  uint64_t partial_since = 0;       // counts partial chunks; lower is older
  uint64_t tombstones_applied = 0;  // serial of the newest tombstone that its runs show
  size_t charged_bytes = 0;         // what the cache counts for it
};

}  // namespace twofold
