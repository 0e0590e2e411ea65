// What a load's requests went through: the daemon's stages between two looks at them, and what the
// client saw.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/base/stage_latency.h"

namespace twofold::load {

inline constexpr char kClientWrite[] = "client_write";
inline constexpr char kClientRead[] = "client_read";

// What was counted after `before` was taken and until `after` was: the stages of `after`, less
// what `before` has. A stage that is new counts whole. kAborted where one counts less than before:
// the daemon, or a set, was started anew in between.
absl::StatusOr<std::vector<StageLatency>> StagesBetween(const std::vector<StageLatency>& before,
                                                        std::vector<StageLatency> after);

}  // namespace twofold::load
