// The TOML side of serve_options.h; the only file that includes toml++.
#include <toml++/toml.h>

#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "tools/cli/console.h"
#include "tools/cli/serve_options.h"

namespace twofold::cli {
namespace {

absl::Status ErrorAt(const std::string& file, const toml::source_region& place,
                     absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(file, ":", place.begin.line, ": ", what));
}

// One key's value, with its place for messages.
struct Entry {
  const std::string& file;
  std::string key;
  const toml::node& node;

  absl::Status Error(absl::string_view what) const {
    return ErrorAt(file, node.source(), absl::StrCat("\"", Printable(key), "\" ", what));
  }
  // The same place in front of an error that a check gave.
  absl::Status At(const absl::Status& status) const {
    return status.ok() ? status : ErrorAt(file, node.source(), status.message());
  }

  absl::StatusOr<std::string> String() const {
    const auto text = node.value_exact<std::string>();
    if (!text || text->empty()) return Error("must be a string in quotes");
    return *text;
  }
  // A string, or an array of them.
  absl::StatusOr<std::vector<std::string>> Strings() const {
    const toml::array* array = node.as_array();
    if (array == nullptr) {
      TF_ASSIGN_OR_RETURN(std::string text, String());
      return std::vector<std::string>{std::move(text)};
    }
    std::vector<std::string> texts;
    for (const toml::node& element : *array) {
      const auto text = element.value_exact<std::string>();
      if (!text || text->empty()) return Error("must be a string, or an array of strings");
      texts.push_back(*text);
    }
    if (texts.empty()) return Error("is an empty array");
    return texts;
  }
  // "512M", or a number of bytes.
  absl::StatusOr<uint64_t> Size() const {
    if (const auto number = node.value_exact<int64_t>(); number && *number >= 0) {
      return static_cast<uint64_t>(*number);
    }
    const auto text = node.value_exact<std::string>();
    if (!text) return Error("must be a size, like \"512M\"");
    absl::StatusOr<uint64_t> size = ParseSize(*text);
    if (!size.ok()) return At(size.status());
    return size;
  }
};

absl::Status ReadSets(const Entry& entry, ServeOptions& options) {
  const toml::table* table = entry.node.as_table();
  if (table == nullptr) {
    return entry.Error("must be a table: [set], then a line like a = \"/srv/twofold/a\" for each");
  }
  for (const auto& [key, node] : *table) {
    const Entry set{entry.file, std::string(key.str()), node};
    TF_ASSIGN_OR_RETURN(std::vector<std::string> directories, set.Strings());
    absl::StatusOr<SetSpec> spec =
        ParseSetSpec(absl::StrCat(set.key, "=", absl::StrJoin(directories, ",")));
    TF_RETURN_IF_ERROR(set.At(spec.status()));
    options.sets.push_back(*std::move(spec));
  }
  return absl::OkStatus();
}

// Puts a value of an Entry into an option.
template <typename Target, typename Value>
absl::Status Put(absl::StatusOr<Value> value, Target& target) {
  TF_RETURN_IF_ERROR(value.status());
  target = *std::move(value);
  return absl::OkStatus();
}

absl::Status ReadScrub(const Entry& entry, ServeOptions& options) {
  const toml::table* table = entry.node.as_table();
  if (table == nullptr) {
    return entry.Error("must be a table: [scrub], then lines like every = \"7d\", rate = \"64M\"");
  }
  for (const auto& [key, node] : *table) {
    const Entry field{entry.file, std::string(key.str()), node};
    if (field.key == "rate") {
      TF_RETURN_IF_ERROR(Put(field.Size(), options.scrub_bytes_per_second));
    } else if (field.key == "every") {
      TF_ASSIGN_OR_RETURN(const std::string text, field.String());
      const absl::StatusOr<uint64_t> seconds = ParseInterval(text);
      if (!seconds.ok()) return field.Error(seconds.status().message());
      options.scrub_every_seconds = *seconds;
    } else {
      return field.Error("is unknown in [scrub]; known are: every, rate");
    }
  }
  return absl::OkStatus();
}

using Reader = std::function<absl::Status(const Entry&, ServeOptions&)>;

const std::map<std::string, Reader>& Readers() {
  static const auto* readers = new std::map<std::string, Reader>{
      {"set", ReadSets},
      {"scrub", ReadScrub},
      {"witness", [](const Entry& e, ServeOptions& o) { return Put(e.String(), o.witness); }},
      {"nbd", [](const Entry& e, ServeOptions& o) { return Put(e.Strings(), o.nbd); }},
      {"control", [](const Entry& e, ServeOptions& o) { return Put(e.String(), o.control); }},
      {"metrics", [](const Entry& e, ServeOptions& o) { return Put(e.String(), o.metrics); }},
      {"memory", [](const Entry& e, ServeOptions& o) { return Put(e.Size(), o.memory_bytes); }},
      {"map-cache",
       [](const Entry& e, ServeOptions& o) { return Put(e.Size(), o.map_cache_bytes); }},
      {"resync-rate", [](const Entry& e, ServeOptions& o) { return Put(e.Size(), o.resync_rate); }},
      {"log-level", [](const Entry& e, ServeOptions& o) { return Put(e.String(), o.log_level); }},
  };
  return *readers;
}

}  // namespace

absl::StatusOr<ServeOptions> ParseServeConfig(absl::string_view text, const std::string& file) {
  toml::table table;
  try {
    table = toml::parse(std::string_view(text.data(), text.size()), std::string_view(file));
  } catch (const toml::parse_error& error) {
    return ErrorAt(file, error.source(),
                   absl::string_view(error.description().data(), error.description().size()));
  }
  ServeOptions options;
  for (const auto& [key, node] : table) {
    const Entry entry{file, std::string(key.str()), node};
    const auto reader = Readers().find(entry.key);
    if (reader == Readers().end()) {
      return ErrorAt(
          file, key.source(),
          absl::StrCat("unknown key \"", Printable(entry.key), "\"; known are: ",
                       absl::StrJoin(Readers(), ", ", [](std::string* out, const auto& known) {
                         out->append(known.first);
                       })));
    }
    TF_RETURN_IF_ERROR(reader->second(entry, options));
  }
  return options;
}

absl::StatusOr<ServeOptions> LoadServeConfig(const std::string& file) {
  std::ifstream stream(file);
  std::ostringstream text;
  if (!stream || !(text << stream.rdbuf())) {
    // An empty file gives no characters, which sets failbit too.
    if (!stream.is_open() || stream.bad()) {
      return absl::NotFoundError(absl::StrCat("the configuration file ", file,
                                              " can't be read; check the name after --config"));
    }
  }
  return ParseServeConfig(text.str(), file);
}

}  // namespace twofold::cli
