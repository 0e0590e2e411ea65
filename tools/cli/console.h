// Where a command writes, and how: text for people or JSON for programs.
#pragma once

#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace twofold::cli {

struct Console {
  std::ostream& out;
  std::ostream& err;
  bool json = false;
  bool err_is_terminal = false;  // progress may be shown there
};

// Writes the error on `err`: "twofold: TEXT", or {"error": {"code": ..., "message": ...}} with
// --json. Returns the exit code (tools/control/status_codes.h).
int ReportError(Console& console, const absl::Status& status);

// Control characters (but line ends) become escapes: text that came from elsewhere can't play
// tricks on a terminal.
std::string Printable(absl::string_view text);

}  // namespace twofold::cli
