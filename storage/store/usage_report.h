// What a store says of what is used by what (storage/map/usage_count.h), and as of when.
#pragma once

#include <cstdint>
#include <functional>

#include "storage/base/types.h"
#include "storage/log/entry.h"
#include "storage/map/catalogue.h"
#include "storage/map/usage_count.h"

namespace twofold {

struct UsageReport {
  UsageCount count;
  Catalogue catalogue;      // that was counted: the names, and up to where each volume is in it
  uint64_t checkpoint = 0;  // its number
  WallNanos as_of = 0;      // when it was the newest there was, with nothing newer in the log
  uint64_t duration_nanos = 0;
};

// Asked now and then while it is counted; true ends it with kCancelled.
using UsageCancelled = std::function<bool()>;

}  // namespace twofold
