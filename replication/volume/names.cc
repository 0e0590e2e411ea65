#include "replication/volume/names.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"

namespace twofold {

absl::Status CheckName(const std::string& name) {
  const bool good = !name.empty() && name.size() <= kMaxNameBytes && name[0] != '.' &&
                    name[0] != '-' && std::all_of(name.begin(), name.end(), [](char c) {
                      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
                             c == '_' || c == '-';
                    });
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", absl::CHexEscape(name.substr(0, kMaxNameBytes)), "\" is no name: give 1 to ",
      kMaxNameBytes, " letters, digits, '.', '_', '-', not beginning with '.' or '-'"));
}

absl::StatusOr<SnapshotName> SnapshotName::Parse(const std::string& text) {
  const size_t at = text.find('@');
  if (at == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", absl::CHexEscape(text.substr(0, 2 * kMaxNameBytes)),
                     "\" names no snapshot: give VOLUME@SNAPSHOT"));
  }
  SnapshotName name{text.substr(0, at), text.substr(at + 1)};
  TF_RETURN_IF_ERROR(CheckName(name.volume));
  TF_RETURN_IF_ERROR(CheckName(name.snapshot));
  return name;
}

}  // namespace twofold
