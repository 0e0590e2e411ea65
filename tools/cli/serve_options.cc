#include "tools/cli/serve_options.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "replication/pair/resync.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/io/network.h"
#include "tools/control/unix_socket.h"

namespace twofold::cli {
namespace {

// A few of the largest requests must fit, so that one can't starve the others.
constexpr uint64_t kMinMemoryBytes = 4 * kMaxNbdRequestBytes;
constexpr uint64_t kMinMapCacheBytes = uint64_t{4} << 20;
constexpr uint64_t kMaxMemoryBytes = uint64_t{1} << 40;

absl::StatusOr<size_t> CheckBytes(absl::string_view name, std::optional<uint64_t> given,
                                  uint64_t least, uint64_t standard) {
  const uint64_t bytes = given.value_or(standard);
  if (bytes < least || bytes > kMaxMemoryBytes) {
    return absl::InvalidArgumentError(absl::StrCat(name, " must be from ", FormatSize(least),
                                                   " to ", FormatSize(kMaxMemoryBytes), "; it is ",
                                                   FormatSize(bytes)));
  }
  return static_cast<size_t>(bytes);
}

absl::Status CheckNamed(const std::vector<SetSpec>& sets, const char* option,
                        const std::string& name) {
  const bool known = std::any_of(sets.begin(), sets.end(),
                                 [&name](const SetSpec& set) { return set.name == name; });
  if (name.empty() || known) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(option, " ", name, " names a set that --set does not"));
}

absl::Status CheckMetricsEndpoint(const std::string& text) {
  const absl::StatusOr<Endpoint> endpoint = Endpoint::Parse(text);
  TF_RETURN_IF_ERROR(Annotate(endpoint.status(), "--metrics"));
  if (endpoint->kind == Endpoint::Kind::kTcp) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--metrics takes HOST:PORT; over a Unix socket the control socket has them");
}

}  // namespace

ServeOptions Merge(ServeOptions command_line, ServeOptions config) {
  if (!command_line.sets.empty()) config.sets = std::move(command_line.sets);
  if (!command_line.witness.empty()) config.witness = std::move(command_line.witness);
  if (!command_line.nbd.empty()) config.nbd = std::move(command_line.nbd);
  if (!command_line.control.empty()) config.control = std::move(command_line.control);
  if (!command_line.metrics.empty()) config.metrics = std::move(command_line.metrics);
  if (command_line.memory_bytes) config.memory_bytes = command_line.memory_bytes;
  if (command_line.map_cache_bytes) config.map_cache_bytes = command_line.map_cache_bytes;
  if (command_line.scrub_every_seconds) {
    config.scrub_every_seconds = command_line.scrub_every_seconds;
  }
  if (command_line.scrub_bytes_per_second) {
    config.scrub_bytes_per_second = command_line.scrub_bytes_per_second;
  }
  if (command_line.resync_rate) config.resync_rate = command_line.resync_rate;
  config.new_witness = command_line.new_witness;
  config.force_stale = std::move(command_line.force_stale);
  config.replace = std::move(command_line.replace);
  config.yes = command_line.yes;
  if (!command_line.log_level.empty()) config.log_level = std::move(command_line.log_level);
  return config;
}

absl::StatusOr<uint64_t> ParseInterval(absl::string_view text) {
  if (text == "never") return 0;
  uint64_t unit = 0;
  if (absl::ConsumeSuffix(&text, "d")) {
    unit = 24 * 3600;
  } else if (absl::ConsumeSuffix(&text, "h")) {
    unit = 3600;
  } else if (absl::ConsumeSuffix(&text, "m")) {
    unit = 60;
  }
  constexpr uint64_t kMostUnits = 100'000;
  uint64_t count = 0;
  const bool digits = text.find_first_not_of("0123456789") == absl::string_view::npos;
  if (unit == 0 || !digits || !absl::SimpleAtoi(text, &count) || count == 0 || count > kMostUnits) {
    return absl::InvalidArgumentError(
        "must be an interval like \"7d\", \"12h\" or \"90m\", or \"never\"");
  }
  return count * unit;
}

absl::StatusOr<std::string> ControlSocketPath(const std::string& given) {
  if (!given.empty()) return control::ParseSocketPath(given);
  const char* from_environment = std::getenv("TWOFOLD_CONTROL");
  if (from_environment != nullptr && *from_environment != '\0') {
    return control::ParseSocketPath(from_environment);
  }
  return control::ParseSocketPath(control::kDefaultControlSocket);
}

absl::StatusOr<ServeSettings> ResolveServeOptions(const ServeOptions& options) {
  ServeSettings settings;
  TF_ASSIGN_OR_RETURN(settings.sets, CheckSets(options.sets));
  TF_ASSIGN_OR_RETURN(settings.witness, WitnessDirectory(settings.sets, options.witness));
  settings.nbd = options.nbd;
  if (settings.nbd.empty()) settings.nbd.emplace_back(kDefaultNbdEndpoint);
  for (const std::string& endpoint : settings.nbd) {
    TF_RETURN_IF_ERROR(Annotate(Endpoint::Parse(endpoint).status(), "--nbd"));
  }
  TF_ASSIGN_OR_RETURN(settings.control, ControlSocketPath(options.control));
  settings.metrics = options.metrics;
  if (!settings.metrics.empty()) TF_RETURN_IF_ERROR(CheckMetricsEndpoint(settings.metrics));
  TF_ASSIGN_OR_RETURN(settings.memory_bytes, CheckBytes("--memory", options.memory_bytes,
                                                        kMinMemoryBytes, kDefaultBufferPoolBytes));
  TF_ASSIGN_OR_RETURN(
      settings.map_cache_bytes,
      CheckBytes("--map-cache", options.map_cache_bytes, kMinMapCacheBytes, kDefaultMapCacheBytes));
  settings.resync_rate = options.resync_rate.value_or(0);
  TF_RETURN_IF_ERROR(Annotate(CheckResyncRate(settings.resync_rate), "--resync-rate"));
  if (!options.log_level.empty()) {
    TF_ASSIGN_OR_RETURN(settings.log_level, ParseLogLevel(options.log_level));
  }
  settings.scrub.every_seconds = options.scrub_every_seconds.value_or(kDefaultScrubEverySeconds);
  settings.scrub.bytes_per_second =
      options.scrub_bytes_per_second.value_or(kDefaultScrubBytesPerSecond);
  settings.new_witness = options.new_witness;
  settings.force_stale = options.force_stale;
  settings.replace = options.replace;
  settings.yes = options.yes;
  TF_RETURN_IF_ERROR(CheckNamed(settings.sets, "--force-stale", options.force_stale));
  TF_RETURN_IF_ERROR(CheckNamed(settings.sets, "--replace", options.replace));
  return settings;
}

}  // namespace twofold::cli
