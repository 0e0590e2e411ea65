// What the pool tells of its scrubs and comparisons (pool_scrub.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "replication/pair/compare.h"
#include "storage/base/limits.h"
#include "storage/log/entry.h"
#include "storage/store/proof_record.h"
#include "storage/store/scrub.h"

namespace twofold {

// Passes that are begun without being asked for.
struct ScrubSchedule {
  uint64_t every_seconds = 0;  // of each set, from the end of one to the next; 0: never
  uint64_t bytes_per_second = kDefaultScrubBytesPerSecond;
};

// The pass over a set that is under way, or the last one since the daemon started.
struct ScrubInfo {
  std::string set;
  // "never", "running", "whole", "damaged", "stopped", or "failed", with the reason in `what`.
  std::string state = "never";
  std::string what;  // what it is at, or why it failed
  WallNanos started = 0;
  WallNanos ended = 0;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
  uint64_t bytes_per_second = 0;
  uint64_t seconds_left = 0;
  uint64_t damaged_places = 0;
  uint64_t healed_places = 0;
  std::vector<ScrubFinding> findings;
  std::optional<ProofRecord> proof;  // when the set was last proven whole; nothing: never
  uint64_t proof_age_seconds = 0;
};

// The same of comparing the two sets. `differences` has the set `first` and the set `second`.
struct CompareInfo {
  // "never", "running", "equal", "different", "stopped" or "failed".
  std::string state = "never";
  std::string what;
  WallNanos started = 0;
  WallNanos ended = 0;
  std::string first;
  std::string second;
  uint64_t points_done = 0;
  uint64_t points_total = 0;
  uint64_t blocks = 0;
  uint64_t different_blocks = 0;
  std::vector<Difference> differences;
};

struct ScrubStatus {
  std::vector<ScrubInfo> sets;  // those that are in use, and those that were scrubbed
  CompareInfo compare;
};

}  // namespace twofold
