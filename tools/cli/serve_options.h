// What `twofold serve` is told: by the command line, by a configuration file, by default.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "replication/volume/scrub_info.h"
#include "storage/base/log.h"
#include "tools/cli/set_spec.h"

namespace twofold::cli {

inline constexpr uint64_t kDefaultScrubEverySeconds = uint64_t{7} * 24 * 3600;
inline constexpr char kDefaultNbdEndpoint[] = "127.0.0.1:10809";

// As given; what is empty was not given.
struct ServeOptions {
  std::vector<SetSpec> sets;
  std::string witness;
  std::vector<std::string> nbd;
  std::string control;
  std::string metrics;
  std::optional<uint64_t> memory_bytes;
  std::optional<uint64_t> map_cache_bytes;
  std::optional<uint64_t> resync_rate;
  std::string log_level;
  std::optional<uint64_t> scrub_every_seconds;
  std::optional<uint64_t> scrub_bytes_per_second;
  // For bad days, of the command line only.
  bool new_witness = false;
  std::string force_stale;  // a set's name
  std::string replace;      // a set's name
  bool yes = false;
};

// Checked, and complete.
struct ServeSettings {
  std::vector<SetSpec> sets;     // absolute paths
  std::string witness;           // directory
  std::vector<std::string> nbd;  // endpoints, at least one
  std::string control;           // path of the socket
  std::string metrics;           // endpoint, or empty
  size_t memory_bytes = 0;       // of client payloads in flight
  size_t map_cache_bytes = 0;    // of each set
  uint64_t resync_rate = 0;      // bytes per second; 0: no limit
  LogLevel log_level = LogLevel::kInfo;
  ScrubSchedule scrub;
  bool new_witness = false;
  std::string force_stale;
  std::string replace;
  bool yes = false;
};

// Reads a TOML file with the names of the command line's options:
//
//   witness = "/srv/twofold/witness"
//   nbd = ["127.0.0.1:10809", "unix:/run/twofold/nbd.sock"]
//   memory = "512M"
//   resync-rate = "200M"
//   [scrub]
//   every = "7d"
//   rate = "64M"
//   [set]
//   a = "/disk1/twofold"
//   b = ["/disk2/twofold", "/disk3/twofold"]
//
// kInvalidArgument as "FILE:LINE: what is wrong"; kNotFound.
absl::StatusOr<ServeOptions> LoadServeConfig(const std::string& file);
// The same from text; `file` is for messages.
absl::StatusOr<ServeOptions> ParseServeConfig(absl::string_view text, const std::string& file);

// "7d", "12h", "90m"; "never" is 0. kInvalidArgument.
absl::StatusOr<uint64_t> ParseInterval(absl::string_view text);

// Where both say something, `command_line` counts.
ServeOptions Merge(ServeOptions command_line, ServeOptions config);

// Fills in defaults and checks everything that can be checked without touching a store.
absl::StatusOr<ServeSettings> ResolveServeOptions(const ServeOptions& options);

// --control, else $TWOFOLD_CONTROL, else kDefaultControlSocket: the socket's path.
absl::StatusOr<std::string> ControlSocketPath(const std::string& given);

}  // namespace twofold::cli
