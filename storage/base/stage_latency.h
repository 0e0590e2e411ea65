// How long a stage of the work took, each time it was done since the process started.
#pragma once

#include <string>

#include "storage/base/histogram.h"

namespace twofold {

struct StageLatency {
  std::string stage;  // docs/control-api.md has their meanings
  std::string set;    // which set's, of those that each set has for itself; else empty
  LatencyHistogram histogram;
};

}  // namespace twofold
