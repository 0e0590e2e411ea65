// Counts from the chunk versions alone which blocks of the log are needed, and compares the live
// accounting of a checkpoint with it (M21): for tests and for `twofold inspect --verify`.
//
// Needed is what a retained point or a current end of a timeline sees. What a flat timeline repeats
// of its ancestors (lineage.h) is theirs, and must be needed there. While deleted snapshots wait
// to be reclaimed what they alone see may be live or not; everything else must agree to the block.
#pragma once

#include <cstdint>
#include <map>

#include "absl/status/statusor.h"
#include "storage/base/types.h"
#include "storage/map/catalogue.h"
#include "storage/map/live_bitmap.h"
#include "storage/map/metadata_store.h"
#include "storage/runtime/task.h"

namespace twofold {

struct Recount {
  struct Segment {
    LiveBitmap needed;
    LiveBitmap allowed;  // beyond that: a reclaim job is still to free them, or has
    uint64_t zero_needed = 0;
    uint64_t zero_allowed = 0;  // in all
  };
  std::map<SegmentNumber, Segment> segments;
  uint64_t versions = 0;
  uint64_t reclaim_jobs = 0;
};

// Reads every chunk version of a checkpoint that nothing changes meanwhile. kDataLoss where a
// version does not decode or two blocks claim one place. Memory: two bits a block of the log.
Task<absl::StatusOr<Recount>> RecountBlocks(MetadataStore* metadata, const Catalogue* catalogue);

// Recounts, and compares with the bitmaps and the usages of the checkpoint. kDataLoss with the
// first difference: its segment, and which block.
Task<absl::StatusOr<Recount>> VerifyAccounting(MetadataStore* metadata, const Catalogue* catalogue);

}  // namespace twofold
