// Latencies as JSON (docs/control-api.md).
#pragma once

#include <boost/json/fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/base/stage_latency.h"

namespace twofold::control {

// One object for each; `buckets`: with the histograms, so that a decoder has all of it.
boost::json::array LatencyToJson(const std::vector<StageLatency>& latencies, bool buckets);

// {"stages": [...]}, with buckets.
std::string EncodeLatency(const std::vector<StageLatency>& latencies);
// kDataLoss where the text is not what EncodeLatency makes.
absl::StatusOr<std::vector<StageLatency>> DecodeLatency(absl::string_view text);

}  // namespace twofold::control
