// A lost or damaged map made anew from the log (M12, R17).
//
// The map is made as of the newest complete catalogue in the log; opening the store then replays
// what came after, as from any checkpoint. Why everything that is needed is there, though segments
// are reused all the time:
//
// - What a retained point or the end of a timeline shows is the entry with the highest position
//   below it. That entry is live in the map, zeros included (M17), so no checkpoint has freed its
//   segment. Whatever else the log still holds of the block is older and loses, or comes after the
//   point. So what was dead may be there or not.
// - What was live at the catalogue and is gone was displaced since by an entry behind it, and that
//   is replayed: only a change of the catalogue takes a point away, and then a newer one was logged
//   before the checkpoint that freed.
// - Timelines come back as the catalogue has them, neither flat nor folded (lineage.h), and are
//   made so again behind the scenes. A fold lets go what only a fork point without a name showed:
//   of that, something older may come back as what the fork point shows. Nobody sees it: each state
//   of the heir shows something newer there, by an entry of its own or of a timeline between the
//   two, which is live, and so in the log. What comes back is accounted for as any other block, so
//   that the next fold gives it back again.
// - Entries that were not committed at the catalogue, and the membership, stand in segments that
//   are kept with it (`catalogue_segment` of the checkpoint record).
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/log/segment_log.h"
#include "storage/log/superblock.h"
#include "storage/map/metadata_store.h"
#include "storage/runtime/task.h"

namespace twofold {

struct RebuildProgress {
  std::string what;
  uint64_t done = 0;
  uint64_t total = 0;
};
using OnRebuildProgress = std::function<void(const RebuildProgress&)>;

// Fills `into` with a checkpoint as the log has it. Changes nothing in the log, which has not begun
// to append. False where the log holds no catalogue yet: then it is all there and is replayed from
// its beginning. kDataLoss where the log lacks something that the map needs, with its place: this
// copy must be filled again from the other set. A crash leaves `into` without a checkpoint.
Task<absl::StatusOr<bool>> RebuildMap(SegmentLog* log, const Superblock* superblock,
                                      MetadataStore* into, OnRebuildProgress progress);

}  // namespace twofold
