// Scrubs and comparisons as JSON (docs/control-api.md): an answer of their own, and a part of a
// status.
#pragma once

#include <boost/json/fwd.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "replication/volume/scrub_info.h"

namespace twofold::control {

boost::json::object ScrubToJson(const ScrubInfo& scrub);
// An error names the field.
absl::Status ScrubFromJson(const boost::json::value& value, ScrubInfo* scrub);

// {"sets": [...], "compare": {...}}
std::string EncodeScrubs(const ScrubStatus& scrubs);
// kDataLoss, with the field, where the text is not what the encoder makes.
absl::StatusOr<ScrubStatus> DecodeScrubs(absl::string_view text);

}  // namespace twofold::control
