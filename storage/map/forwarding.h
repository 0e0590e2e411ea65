// Where blocks lie that the cleaner has moved (M15, M16): the map still says where they lay. Pure.
//
// An entry belongs to a source segment: a bitmap of the blocks that were moved, and pieces by rank,
// the rank of a block being the number of moved blocks before it. Resolving an address is a look
// into a table and a count of bits. Entries are kept in memory, bounded by kMaxForwardingBytes
// through the cleaner, which waits; they are part of the checkpoints (table F).
//
// A moved block that is moved again is found through both entries until Collapse makes the first
// point to where it lies now; the cleaner does so at the end of each segment. So outside of
// cleaning a chain is never longer than one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/base/types.h"
#include "storage/log/entry.h"
#include "storage/map/extent.h"
#include "storage/map/live_bitmap.h"
#include "storage/map/metadata_store.h"
#include "storage/map/run_list.h"

namespace twofold {

struct ForwardingEntry {
  struct Piece {
    uint32_t first_rank = 0;
    LogAddress target;  // of that block; the following ranks lie behind it
    bool operator==(const Piece&) const = default;
  };
  LiveBitmap moved;           // by block of the source segment
  std::vector<Piece> pieces;  // ascending; the first has rank 0
  SegmentNumber zeros;        // where its records without payload were logged again; 0: nowhere

  // Of `moved`'s blocks only.
  LogAddress TargetOf(uint32_t block) const;
  // All blocks and their targets, ascending by block; and back.
  std::vector<std::pair<uint32_t, LogAddress>> Blocks() const;
  void SetBlocks(const std::vector<std::pair<uint32_t, LogAddress>>& blocks);
  bool PointsInto(SegmentNumber segment) const;
  size_t MemoryBytes() const;
  bool operator==(const ForwardingEntry&) const = default;
};

// docs/formats/map.md, "Forwarding entries". Decode: kDataLoss.
std::string EncodeForwarding(const ForwardingEntry& entry);
absl::StatusOr<ForwardingEntry> DecodeForwarding(SegmentNumber source, absl::string_view bytes);

class Forwarding {
 public:
  bool empty() const { return entries_.empty(); }
  size_t size() const { return entries_.size(); }
  size_t MemoryBytes() const { return bytes_; }
  bool Has(SegmentNumber source) const { return entries_.contains(source); }

  // Where the block at `address` lies now; `address` itself where it was not moved.
  LogAddress Resolve(LogAddress address) const;
  SegmentNumber ResolveZeros(SegmentNumber segment) const;
  // `run` where it lies now: in as few parts as can be, in order.
  std::vector<Run> Resolve(const Run& run) const;
  // Makes all runs say where they lie now. Whether any changed.
  bool Resolve(RunList* runs) const;

  // The `count` blocks from `first` on, of `source`, lie at `target` on.
  void Add(SegmentNumber source, uint32_t first, uint32_t count, LogAddress target);
  void MoveZeros(SegmentNumber source, SegmentNumber target);
  // What points to moved blocks of `segment` points to where they lie.
  void Collapse(SegmentNumber segment);
  void CollapseAll();

  // The number of the last change that moved something. Drop forgets the entries that were last
  // added to at `serial` or before: nothing refers to their segments any more.
  uint64_t serial() const { return serial_; }
  void Drop(uint64_t serial);

  // Appends what changed since the last call.
  void Freeze(MetadataBatch* batch);
  // Rows of table F, which are there and not changed. A crash in the middle of a segment may have
  // left chains: CollapseAll.
  absl::Status Load(const std::vector<KeyValue>& rows);

 private:
  struct Held {
    ForwardingEntry entry;
    uint64_t serial = 0;
    size_t bytes = 0;
  };
  bool IsMoved(const Run& run) const;
  Held& Find(SegmentNumber source);
  void Changed(SegmentNumber source, Held& held);
  void PointToTheEnd(SegmentNumber source, Held& held);

  absl::flat_hash_map<SegmentNumber, Held> entries_;
  size_t bytes_ = 0;
  uint64_t serial_ = 0;
  std::set<SegmentNumber> changed_;  // since the last Freeze; those that are gone included
};

}  // namespace twofold
