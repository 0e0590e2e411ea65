// When the cleaner works and on what (M21-M23). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <set>

#include "storage/base/types.h"
#include "storage/log/segment_table.h"
#include "storage/runtime/poller.h"

namespace twofold {

// Blocks of log, at worst, that moving so many live blocks takes; zero records on top, about.
uint64_t CleaningCost(uint64_t live_blocks, uint64_t zero_blocks);

struct CleaningChoice {
  SegmentNumber before;  // segments from here on can't be freed yet
  SegmentNumber newest;  // in the log, to tell ages
  uint64_t usable_blocks =
      0;  // what a freed segment gives, by the log's measure (docs/formats/log.md, "Room")
  uint64_t room_blocks = 0;  // for what is moved
  // Dead in part and left alone, since a block is bad.
  const std::set<SegmentNumber>* left_alone = nullptr;
};
// The sealed segment that gives most for its cost: free space, weighted by age, for the blocks that
// are read and written for it (the older a segment, the longer what lives in it has lived, and the
// longer it stays clean). One that gives next to nothing, or does not fit the room, is none.
std::optional<SegmentNumber> ChooseSegmentToClean(const SegmentTable& table,
                                                  const CleaningChoice& choice);

// Free blocks, beyond what is kept back, below which the cleaner works: a segment, or a part of all
// of them. Not more: the later a segment is cleaned, the less lives in it.
uint64_t CleaningStartsAt(uint64_t segments, uint64_t usable_blocks);
// Where it stops, and where writers are slowed down since it does not keep up.
uint64_t CleaningStopsAt(uint64_t starts_at_blocks);
uint64_t SlowingStartsAt(uint64_t starts_at_blocks);

// Whether the cleaner should end its round with a checkpoint that gives writers `gain_blocks`: then
// there is enough, or writers are slowed down and it gives a segment, or less the less they have.
bool CheckpointPays(uint64_t headroom_blocks, uint64_t gain_blocks, uint64_t starts_at_blocks,
                    uint64_t segment_blocks);

// How long the cleaner rests after a move that took `busy`: as long while there is as much room as
// CleaningStartsAt says, longer while there is more, and not at all once writers are slowed down.
// Without a step, so that it finds the pace at which it keeps up.
MonoNanos CleanerPauseNanos(MonoNanos busy, uint64_t headroom_blocks, uint64_t starts_at_blocks);

// How long a writer waits for each block that it was promised while the cleaner does not keep up
// (M23): nothing while there is as much room as SlowingStartsAt says, and ever more, without a
// step, the less there is. `headroom` and `slowing_starts_at` in blocks.
int64_t SlowDownNanosPerBlock(uint64_t headroom_blocks, uint64_t slowing_starts_at_blocks);

}  // namespace twofold
