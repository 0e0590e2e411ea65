#include "replication/volume/ack_mode.h"

#include "absl/strings/str_cat.h"

namespace twofold {

const char* AckModeName(AckMode mode) { return mode == AckMode::kWritten ? "written" : "durable"; }

absl::StatusOr<AckMode> ParseAckMode(const std::string& text) {
  for (const AckMode mode : {AckMode::kDurable, AckMode::kWritten}) {
    if (text == AckModeName(mode)) return mode;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is no way to acknowledge; give durable or written"));
}

}  // namespace twofold
