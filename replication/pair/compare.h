// Comparing two copies by what their maps say, without reading data: block by block the position of
// the entry that wrote it, and its checksum.
//
// Both are looked at as of the same points: each retained point of each timeline, in order, and the
// end of each volume where it was frozen by an ordinary snapshot. Of each point only those chunks
// are looked at that changed since the point before, in one copy or the other: what changed in
// neither was compared there. So the cost is that of the maps, not that of the volumes times their
// snapshots. Clients go on writing; what they write is behind the frozen points.
//
// For each chunk that changed, each copy says what it took down in that span (Replica::ReadSpan,
// from its checkpoint), and the other one what it shows there (Replica::Describe). Zeros and what
// was never written read the same, and are.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "replication/replica.h"
#include "storage/base/types.h"
#include "storage/map/catalogue.h"
#include "storage/map/extent.h"
#include "storage/map/resync_plan.h"
#include "storage/runtime/cancel.h"
#include "storage/runtime/task.h"

namespace twofold {

// Consecutive blocks of which the copies say different things.
struct Difference {
  std::string volume;    // empty: of the lists of volumes and snapshots themselves
  std::string snapshot;  // its name; empty: the volume as it is now
  TimelineId timeline;
  BlockRange range;
  // What each copy has of the first of them: "entry 3.17, checksum 1a2b3c4d", "zeros, entry 3.18",
  // "nothing".
  std::string first;
  std::string second;
  bool operator==(const Difference&) const = default;
};

struct CompareReport {
  std::vector<Difference> differences;  // the first kMaxDifferences
  uint64_t different_blocks = 0;        // all of them
  uint64_t blocks = 0;                  // compared
  uint64_t points = 0;                  // as of which
  bool equal() const { return differences.empty() && different_blocks == 0; }
};

struct CompareProgress {
  std::string what;  // what it is at: "db@noon"
  uint64_t points_done = 0;
  uint64_t points_total = 0;
  uint64_t blocks = 0;
  uint64_t different_blocks = 0;
};

inline constexpr size_t kMaxDifferences = 1000;

// What two copies say of the same blocks. Pure; for Comparison. `runs` is what one copy took down
// in the span, `pieces` what the other one shows of `range`, which holds all of the runs.
struct BlockDifference {
  BlockIndex block;
  std::string ours;
  std::string theirs;
  bool operator==(const BlockDifference&) const = default;
};
std::vector<BlockDifference> CompareBlocks(const std::vector<Run>& runs,
                                           const std::vector<Piece>& pieces, BlockRange range);

class Comparison {
 public:
  // Both hold their points (Replica::HoldPoints), and outlive it.
  Comparison(Replica* first, Replica* second) : first_(first), second_(second) {}

  // `first` and `second` are the catalogues of the two right after the volumes were frozen:
  // MakeGoal. kCancelled; kUnavailable: one of them failed, or gave way.
  Task<absl::StatusOr<CompareReport>> Run(Catalogue first, Catalogue second);

  // What is under way ends soon.
  void Cancel() { cancelled_ = true; }
  const CompareProgress& progress() const { return progress_; }

 private:
  Task<absl::Status> CompareSpan(ResyncSpan span);
  Task<absl::Status> CompareFrom(Replica* ours, Replica* theirs, ResyncSpan span);
  Task<absl::Status> CompareChunk(Replica* ours, Replica* theirs, ResyncSpan span,
                                  std::vector<twofold::Run> runs);
  void Name(const Catalogue& catalogue, const ResyncSpan& span);
  void Add(const ResyncSpan& span, const BlockDifference& block, bool swapped);
  absl::Status Check() const;

  Replica* const first_;
  Replica* const second_;
  bool cancelled_ = false;
  CompareReport report_;
  CompareProgress progress_;
  std::string volume_;  // of the span that is compared
  std::string snapshot_;
  std::vector<ResyncSpan> views_;  // in which what it shows is compared
  std::set<BlockIndex> reported_;  // of that span, as far as differences are told one by one
};

}  // namespace twofold
