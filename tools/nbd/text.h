// Error texts on their way to a client's screen.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace twofold::nbd {

// The protocol allows 4096; nobody reads more than this.
inline constexpr size_t kMaxErrorTextBytes = 1024;

// `text` as the protocol wants strings, whatever it quotes: printable ASCII, anything else as '?',
// cut at kMaxErrorTextBytes.
std::string DisplayText(absl::string_view text);

// A name that came from a client, in quotes, escaped and cut to a readable length.
std::string Quoted(absl::string_view name);

}  // namespace twofold::nbd
