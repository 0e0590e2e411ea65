// SHARED CONTRACT. What the segments of a store hold, counted: the base of the free rule (M14,
// M21).
//
// A segment's live blocks are those that a retained version of the extent map refers to. RAM keeps
// a count per segment; which blocks they are stands in bitmaps in the metadata store. Changes since
// the last freeze are kept as idempotent sets and clears, and go into the next checkpoint (M9).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "storage/base/types.h"
#include "storage/log/entry.h"

namespace twofold {

enum class SegmentState : uint8_t {
  kOpen,    // being written
  kSealed,  // full, ends with the copy of its descriptors (R15)
};

// The live accounting of one segment as a checkpoint stores it.
struct SegmentUsage {
  SegmentNumber segment;
  uint32_t live_blocks = 0;  // payload blocks referred to
  uint64_t zero_blocks = 0;  // blocks that the map holds as zero because of records here (R17)
};

// A change of liveness of `count` blocks from `first` on; the order of changes matters.
struct LiveChange {
  LogAddress first;
  uint32_t count = 0;
  bool live = false;
};

class SegmentTable {
 public:
  // A segment the log holds, at recovery or when it is opened for writing.
  void Add(SegmentNumber segment, SegmentState state);
  // From a checkpoint, before replay.
  void LoadUsage(const SegmentUsage& usage);
  void Seal(SegmentNumber segment);

  void MarkLive(LogAddress first, uint32_t count);
  void MarkDead(LogAddress first, uint32_t count);
  void AddZeroBlocks(SegmentNumber segment, uint64_t blocks);
  void DropZeroBlocks(SegmentNumber segment, uint64_t blocks);

  // A pinned segment is not reused (M14, R16). Counted.
  void Pin(SegmentNumber segment);
  void Unpin(SegmentNumber segment);
  // Pins this segment and all later ones, also those that are yet to come; 0: none. One at a time.
  void PinFrom(SegmentNumber first) { pinned_from_ = first; }
  bool IsPinned(SegmentNumber segment) const;

  // The changes of one segment since the last Freeze, in the order in which they happened.
  const std::vector<LiveChange>& ChangesOf(SegmentNumber segment) const;
  // Tells of every change of one segment from now on, as it happens; of one at a time.
  void Follow(SegmentNumber segment, std::function<void(const LiveChange&)> on_change);
  void Unfollow() { on_change_ = nullptr; }

  // One consistent cut (M9): hands over the changes and the usages that changed since the last
  // Freeze, and remembers which sealed segments below `replay_from` hold nothing live now.
  // `keep_from`: the segment of the newest complete catalogue; it and later ones stay (R17).
  struct Frozen {
    std::vector<std::vector<LiveChange>> changes;  // of one segment each, ascending
    std::vector<SegmentUsage> usages;              // absolute values
    std::vector<SegmentNumber>
        dead;  // may be freed when this checkpoint is durable and nothing pins them
  };
  Frozen Freeze(SegmentNumber replay_from, SegmentNumber keep_from);

  // The segments of `frozen.dead` that are not pinned, forgotten here: the caller gives them to the
  // log for reuse. Pinned ones are offered again by a later Freeze.
  std::vector<SegmentNumber> Release(const Frozen& frozen);

  struct Info {
    SegmentState state = SegmentState::kOpen;
    uint32_t live_blocks = 0;
    uint64_t zero_blocks = 0;
    uint32_t pins = 0;
    bool changed = false;             // a count, since the last Freeze
    std::vector<LiveChange> changes;  // of live blocks since the last Freeze, in their order
  };
  const std::map<SegmentNumber, Info>& segments() const { return segments_; }
  uint64_t live_blocks() const { return live_blocks_; }

 private:
  Info& Find(SegmentNumber segment);
  void Note(Info& info, const LiveChange& change);

  std::map<SegmentNumber, Info> segments_;
  uint64_t live_blocks_ = 0;
  SegmentNumber followed_;
  std::function<void(const LiveChange&)> on_change_;
  SegmentNumber pinned_from_;
};

}  // namespace twofold
