// Room in the log, promised before a Seq is given (R6, M22). Pure.
//
// Promises are kept as they were made (payload blocks and entries), and measured together: the log
// says how many blocks they take at worst. The last segments are kept back for what must always
// work, in steps: writes stop first, then trims, then other records without payload (snapshots, new
// volumes), then deletes and the cleaner, then levelling; the store's own records (seals,
// catalogues of checkpoints) are never refused (docs/decisions/0017).
#pragma once

#include <cstdint>

#include "storage/base/types.h"

namespace twofold {

// What room is asked for: who comes later in this list may go further into what is kept back.
enum class RoomFor : uint8_t {
  kWrite,      // payload
  kTrim,       // no payload, but zero records that stay in the log
  kRecord,     // no payload and nothing that stays: snapshots, new volumes, rollbacks
  kDelete,     // of snapshots and volumes: what a full store is emptied with
  kCleaning,   // moved blocks, which give back more than they take
  kLevelling,  // entries that another copy has already: they were promised room here once (R6, R8)
};

class Room {
 public:
  // What the log has, in blocks by its own worst-case measure; asked anew for each decision.
  struct Space {
    uint64_t free_blocks = 0;         // in free segments and the open one
    uint64_t blocks_per_segment = 0;  // usable in one
    uint64_t segments = 0;            // in all
    // Of the step that the cleaner has over writes: what it used to empty segments that the next
    // checkpoint frees. Writes may use it up meanwhile, since as much comes back (0018).
    uint64_t lent_blocks = 0;
  };
  using WorstCase = uint64_t (*)(uint64_t payload_blocks, uint64_t entries);

  explicit Room(WorstCase worst_case) : worst_case_(worst_case) {}

  // Whether the promise can be kept beside all others; makes it if so.
  bool TryPromise(const Space& space, BlockCount blocks, uint64_t entries, RoomFor use);
  // A promise, or a part of one, is used up or given back.
  void Settle(BlockCount blocks, uint64_t entries);

  // Blocks at worst of all that is promised.
  uint64_t promised_blocks() const { return worst_case_(payload_blocks_, entries_); }

  // Blocks that are never promised to `use`. Each open takes a new segment (R11) and loses what
  // was left of the one before. One with nothing but own records is given back, by the checkpoint
  // that follows or the next open. So what was promised to a write or a record before a crash fits
  // the room for levelling after it, and a full store can be opened again and again, wherever it
  // crashes (docs/decisions/0003). The cleaner has a segment that is
  // only its own, so that it can always gain one where there is dead space, and leaves alone what
  // levelling may need after a crash (docs/decisions/0012). Deletes may go into that
  // segment: they take next to nothing of it, and neither trims nor snapshots can use it up.
  static uint64_t KeptBlocks(const Space& space, RoomFor use);

 private:
  WorstCase worst_case_;
  uint64_t payload_blocks_ = 0;
  uint64_t entries_ = 0;
};

}  // namespace twofold
