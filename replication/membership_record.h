// Which replicas of a pool count, as replicas and the witness remember it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "storage/base/types.h"
#include "storage/runtime/poller.h"

namespace twofold {

struct Membership {
  std::string pool_id;  // 32 hexadecimal digits
  Generation generation;
  uint64_t version = 0;                 // never reused (R21)
  std::vector<std::string> in_sync;     // store ids, sorted
  std::vector<std::string> configured;  // store ids of all that were not removed (R22), sorted
  // Since when some configured store is not in-sync; 0: all are.
  WallNanos degraded_since = 0;
  bool operator==(const Membership&) const = default;
};

}  // namespace twofold
