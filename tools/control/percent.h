// Percent-encoding of paths and queries (RFC 3986).
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace twofold::control {

// Everything but letters, digits, "-._~@" and what is in `keep` becomes "%XX".
std::string PercentEncode(absl::string_view text, absl::string_view keep = "");

// kInvalidArgument for a "%" without two hexadecimal digits.
absl::StatusOr<std::string> PercentDecode(absl::string_view text);

}  // namespace twofold::control
