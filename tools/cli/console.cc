#include "tools/cli/console.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "tools/control/info_json.h"
#include "tools/control/status_codes.h"

namespace twofold::cli {

int ReportError(Console& console, const absl::Status& status) {
  if (console.json) {
    console.err << control::EncodeError(control::ErrorFromStatus(status)) << std::endl;
  } else {
    console.err << "twofold: " << Printable(status.message()) << std::endl;
  }
  return control::ExitCode(status);
}

std::string Printable(absl::string_view text) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string printable;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_iscntrl(byte) && c != '\n') {
      absl::StrAppend(&printable, "\\x");
      printable.push_back(kDigits[byte >> 4]);
      printable.push_back(kDigits[byte & 15]);
    } else {
      printable.push_back(c);
    }
  }
  return printable;
}

}  // namespace twofold::cli
