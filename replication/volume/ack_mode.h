// When a write is answered: an option of each volume.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace twofold {

// Numbers are on disk (VolumeCreateBody): never reuse one.
enum class AckMode : uint8_t {
  kDurable = 0,  // acknowledged when durable on both sets (P1)
  kWritten = 1,  // acknowledged when written to both sets' devices; FLUSH and FUA make durable
};

// "durable", "written".
const char* AckModeName(AckMode mode);
// kInvalidArgument for anything else.
absl::StatusOr<AckMode> ParseAckMode(const std::string& text);

}  // namespace twofold
