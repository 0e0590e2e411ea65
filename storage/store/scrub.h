// A pass over everything that a store needs, read from the medium and checked (P7, P9): both copies
// of the superblock in every directory, the map (each value, and each file of RocksDB against its
// checksums), and segment by segment the header, every descriptor, the copies of them (R15) and
// every live block.
//
// It runs while clients write, the cleaner cleans and checkpoints come. What was there when it
// began it reads, unless that has gone by the time it gets there. What came since it does not: a
// client's write as little as a block that the cleaner moved, having checked it.
//
// The rule by which nothing is found that is not so: a segment is pinned before its bitmap of live
// blocks is looked at, and until its last block was read, so nothing in it is reused. Bitmaps are
// looked at between two checkpoints, so that the last one's and the changes since are the whole
// truth. Of the segment that is being written, the end is taken first; what is before it is
// logged. A block that is found bad is read once more, alone; and it does not count if it has died
// meanwhile.
//
// It changes nothing. What is bad is remembered by the store as damage, as whatever else is met,
// for repair to heal; the pass waits for that at its end, and reads those segments again.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/limits.h"
#include "storage/base/types.h"
#include "storage/log/segment_damage.h"
#include "storage/map/live_bitmap.h"
#include "storage/runtime/cancel.h"
#include "storage/runtime/poller.h"
#include "storage/runtime/task.h"
#include "storage/store/proof_record.h"

namespace twofold {

class Store;

struct ScrubOptions {
  // Of what is read; 0: no limit. Whatever it is, a pass leaves the device to clients for as long
  // as each of its reads took, while there are any.
  uint64_t bytes_per_second = kDefaultScrubBytesPerSecond;
};

struct ScrubFinding {
  SegmentNumber segment;  // 0: not in the log
  uint32_t block = 0;     // in the segment
  std::string what;       // for people, with the place
};

struct ScrubReport {
  std::vector<ScrubFinding> findings;  // the first kMaxScrubFindings
  uint64_t damaged_places = 0;         // all of them
  uint64_t healed_places = 0;          // more that were found, repaired meanwhile and read again
  uint64_t bytes = 0;                  // read from the medium
  uint64_t blocks = 0;                 // of payload, of them
  uint64_t duration_nanos = 0;
  bool whole() const { return damaged_places == 0; }
};

// For status. Times by the executor's clock.
struct ScrubProgress {
  std::string what;  // what it is at: "segment 17"
  int64_t started_nanos = 0;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;  // an estimate, which gets better as it goes
  uint64_t bytes_per_second = 0;
  uint64_t seconds_left = 0;  // 0: not known
  uint64_t damaged_places = 0;
};

// One pass over one store.
class StoreScrub {
 public:
  // The store outlives it, and is stopped only after Run has returned.
  StoreScrub(Store* store, ScrubOptions options);

  // Once. A pass that finds the store whole is remembered by it, durably (ProofRecord), when this
  // returns. kCancelled; kUnavailable: the store has failed, is being stopped, or its device does
  // not read.
  Task<absl::StatusOr<ScrubReport>> Run();

  // What is under way ends soon.
  void Cancel() { cancel_.Cancel(); }
  void SetRate(uint64_t bytes_per_second) { options_.bytes_per_second = bytes_per_second; }
  const ScrubProgress& progress() const { return progress_; }

 private:
  Task<absl::Status> RunAll();
  Task<absl::Status> LookAgain();
  bool AnyBeingRepaired(const std::set<SegmentNumber>& segments) const;
  Task<absl::Status> ScrubSuperblocks();
  Task<absl::Status> ScrubMap();
  Task<absl::Status> ScrubOwnRecords();
  Task<absl::Status> ScrubSegments();
  Task<absl::Status> ScrubSegment(SegmentNumber segment);
  Task<absl::StatusOr<LiveBitmap>> LiveBlocks(SegmentNumber segment);
  Task<absl::StatusOr<bool>> WaitUntilSealed(SegmentNumber segment);
  Task<absl::Status> NoteDamage(SegmentNumber segment, std::vector<SegmentDamage> damage);
  void Note(SegmentNumber segment, uint32_t block, std::string what);

  Task<absl::Status> Pace(uint64_t bytes);
  void Count(uint64_t bytes);
  uint64_t ClientWork() const;

  Store* const store_;
  ScrubOptions options_;
  CancelSource cancel_;
  uint64_t damaged_superblocks_ = 0;  // copies, met in all
  ScrubReport report_;
  absl::Status map_damage_;  // some of it
  ScrubProgress progress_;

  struct Rate {
    int64_t since_nanos = 0;
    uint64_t bytes = 0;
  };
  Rate rate_;
  int64_t next_read_nanos_ = 0;      // the token bucket: when the next piece may be read
  int64_t reading_since_nanos_ = 0;  // when the last piece was let go
  uint64_t client_work_ = 0;         // as it was then
  uint64_t blocks_left_ = 0;         // live ones in the segments that are still to come
};

}  // namespace twofold
