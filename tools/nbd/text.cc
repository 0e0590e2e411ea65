#include "tools/nbd/text.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace twofold::nbd {

std::string DisplayText(absl::string_view text) {
  std::string display(text.substr(0, kMaxErrorTextBytes));
  for (char& c : display) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) c = '?';
  }
  return display;
}

std::string Quoted(absl::string_view name) {
  constexpr size_t kMaxShownBytes = 128;
  return absl::StrCat("\"", absl::CHexEscape(name.substr(0, kMaxShownBytes)),
                      name.size() > kMaxShownBytes ? "...\"" : "\"");
}

}  // namespace twofold::nbd
