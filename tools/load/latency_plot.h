// Latencies as a picture.
#pragma once

#include <string>
#include <vector>

#include "storage/base/stage_latency.h"

namespace twofold::load {

// An SVG document: a curve for each stage that counted anything, latency over percentile. Both axes
// are logarithmic, the percentiles in the distance from 100 %, so that the tail has the room. Which
// curve is whose stands beside them; the second set's is dashed. Stands alone: no fonts or scripts
// from elsewhere.
std::string LatencyPlot(const std::string& title, const std::vector<StageLatency>& stages);

}  // namespace twofold::load
