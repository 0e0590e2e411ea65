// Room in the log, promised before a Seq is given (R6, M22). Pure.
//
// Promises are kept as they were made (payload blocks and entries), and measured together: the log
// says how many blocks they take at worst. The last segments are kept back for what must always
// work: a reserve for records without payload (trims, deletes), and below it one for the store's
// own records (seals, catalogues of checkpoints), which are never refused.
#pragma once

#include <cstdint>

#include "storage/base/types.h"

namespace twofold {

class Room {
 public:
  // What the log has, in blocks by its own worst-case measure; asked anew for each decision.
  struct Space {
    uint64_t free_blocks = 0;         // in free segments and the open one
    uint64_t blocks_per_segment = 0;  // usable in one
    uint64_t segments = 0;            // in all
  };
  using WorstCase = uint64_t (*)(uint64_t payload_blocks, uint64_t entries);

  explicit Room(WorstCase worst_case) : worst_case_(worst_case) {}

  // Whether the promise can be kept beside all others; makes it if so.
  bool TryPromise(const Space& space, BlockCount blocks, uint64_t entries, bool emergency);
  // A promise, or a part of one, is used up or given back.
  void Settle(BlockCount blocks, uint64_t entries);

  // Blocks at worst of all that is promised.
  uint64_t promised_blocks() const { return worst_case_(payload_blocks_, entries_); }

  // Segments kept back for the store's own records. Each open takes a new segment (R11), and gives
  // back the one before with the checkpoint that follows, where that holds nothing but own records;
  // what else was logged in it left this many free. So a full store can be opened again and again,
  // also when it crashes twice between the two.
  static constexpr uint64_t kOwnSegments = 3;
  // With those for records without payload on top.
  static uint64_t EmergencySegments(uint64_t segments) {
    return kOwnSegments + (segments < 64 ? 1 : 2 + segments / 256);
  }

 private:
  WorstCase worst_case_;
  uint64_t payload_blocks_ = 0;
  uint64_t entries_ = 0;
};

}  // namespace twofold
