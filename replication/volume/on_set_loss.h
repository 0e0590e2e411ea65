// What a volume does when the pool has lost a set: an option of each volume (R28).
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace twofold {

// Numbers are on disk (VolumeCreateBody): never reuse one.
enum class OnSetLoss : uint8_t {
  kContinue = 0,  // goes on with the copies that are left; status says that it is degraded
  kBlock = 1,     // holds its writes until every set has them again
};

// "continue", "block".
const char* OnSetLossName(OnSetLoss choice);
// kInvalidArgument for anything else.
absl::StatusOr<OnSetLoss> ParseOnSetLoss(const std::string& text);

}  // namespace twofold
