// Texts that people and their files give: sizes, names, endpoints, sets, the configuration of
// `serve`, a command line. Whatever it is: a value that prints as what is read back the same, or
// kInvalidArgument with a message that a terminal can show.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "replication/volume/names.h"
#include "storage/base/check.h"
#include "storage/base/units.h"
#include "storage/io/network.h"
#include "tools/cli/command_line.h"
#include "tools/cli/serve_options.h"
#include "tools/cli/set_spec.h"
#include "tools/control/percent.h"
#include "tools/nbd/text.h"

namespace twofold {
namespace {

void CheckRefusal(const absl::Status& status) {
  TF_CHECK(absl::IsInvalidArgument(status)) << status;
  TF_CHECK(!status.message().empty());
}

void TrySize(const std::string& text) {
  const absl::StatusOr<uint64_t> size = ParseSize(text);
  if (!size.ok()) return CheckRefusal(size.status());
  TF_CHECK_EQ(ParseSize(FormatSize(*size)).value(), *size);
  TF_CHECK(!FormatSizeRounded(*size).empty());
}

void TryNames(const std::string& text) {
  const absl::StatusOr<SnapshotName> name = SnapshotName::Parse(text);
  if (name.ok()) {
    TF_CHECK_EQ(name->ToString(), text);
    TF_CHECK_OK(CheckName(name->volume));
    TF_CHECK_OK(CheckName(name->snapshot));
  } else {
    CheckRefusal(name.status());
  }
  const std::string shown = nbd::DisplayText(text);
  TF_CHECK(std::all_of(shown.begin(), shown.end(),
                       [](char c) { return absl::ascii_isprint(static_cast<unsigned char>(c)); }));
  TF_CHECK_LE(shown.size(), nbd::kMaxErrorTextBytes);
  TF_CHECK_LE(nbd::Quoted(text).size(), nbd::kMaxErrorTextBytes);
  TF_CHECK_EQ(control::PercentDecode(control::PercentEncode(text)).value(), text);
  (void)control::PercentDecode(text);
}

void TryEndpoint(const std::string& text) {
  const absl::StatusOr<Endpoint> endpoint = Endpoint::Parse(text);
  if (!endpoint.ok()) return CheckRefusal(endpoint.status());
  const absl::StatusOr<Endpoint> again = Endpoint::Parse(endpoint->ToString());
  TF_CHECK_OK(again.status());
  TF_CHECK(again->kind == endpoint->kind && again->host_or_path == endpoint->host_or_path &&
           again->port == endpoint->port);
}

void TrySets(const std::string& text) {
  const absl::StatusOr<cli::SetSpec> set = cli::ParseSetSpec(text);
  if (!set.ok()) return CheckRefusal(set.status());
  TF_CHECK_OK(CheckName(set->name));
  TF_CHECK(!set->directories.empty());
  const absl::StatusOr<cli::SetSpec> again =
      cli::ParseSetSpec(set->name + "=" + absl::StrJoin(set->directories, ","));
  TF_CHECK_OK(again.status());
  TF_CHECK(*again == *set);
}

void TryConfig(const std::string& text) {
  const absl::StatusOr<cli::ServeOptions> options = cli::ParseServeConfig(text, "twofold.toml");
  if (!options.ok()) return CheckRefusal(options.status());
  TF_CHECK_LE(options->sets.size(), text.size());
}

void TryCommandLine(const std::string& text) {
  // A command line has no zero bytes, and what is tried here is what is parsed, not where it leads.
  std::vector<std::string> arguments;
  for (const auto word : absl::StrSplit(text, absl::ByAnyChar(std::string("\n\0", 2)))) {
    arguments.emplace_back(word.data(), word.size());
  }
  (void)cli::ParseCommandLine(arguments);
}

}  // namespace
}  // namespace twofold

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  twofold::TrySize(text);
  twofold::TryNames(text);
  twofold::TryEndpoint(text);
  twofold::TrySets(text);
  twofold::TryConfig(text);
  twofold::TryCommandLine(text);
  return 0;
}
