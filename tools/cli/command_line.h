// The grammar of the command line. Pure, but for $TWOFOLD_CONTROL.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "storage/base/limits.h"
#include "tools/cli/serve_options.h"
#include "tools/cli/set_spec.h"
#include "tools/control/request.h"

namespace twofold::cli {

struct InitCommand {
  std::vector<SetSpec> sets;  // as CheckSets gives them
  std::string witness;        // directory
  std::optional<uint64_t> segment_bytes;
  std::map<std::string, uint64_t> size_bytes;  // by set; a set that is missing takes what is free
};

struct ServeCommand {
  ServeOptions options;  // of the command line alone
  std::string config;    // file, or empty
};

struct InspectCommand {
  enum class Mode { kSummary, kVerify, kDump, kRebuildMap } mode = Mode::kSummary;
  std::vector<std::string> directories;  // of one store
};

// Everything that asks a daemon.
struct ClientCommand {
  std::string control_socket;
  control::Request request;
};

// Asks a daemon more than once: to start, and how far it is.
struct ScrubCommand {
  enum class Mode {
    kWait,        // start, and wait for the end
    kBackground,  // start
    kStop,
  } mode = Mode::kWait;
  std::string control_socket;
  control::StartScrub request;
};

// Measures a volume as a client of it.
struct BenchLatencyCommand {
  std::string control_socket;
  std::string volume;
  uint64_t request_bytes = kBlockSize;
  size_t depth = 1;           // in flight, at most
  unsigned read_percent = 0;  // of the requests
  double per_second = 0;      // 0: as fast as it goes
  uint64_t seconds = 10;
  std::string svg;     // file, or empty
  bool force = false;  // writes over what the volume has
};

struct CommandLine {
  std::variant<InitCommand, ServeCommand, InspectCommand, ClientCommand, ScrubCommand,
               BenchLatencyCommand>
      command;
  bool json = false;
};

struct ParsedCommandLine {
  std::optional<CommandLine> command_line;  // what to do
  std::string text;    // else: what to print on standard output (--help, --version)
  absl::Status error;  // else: kInvalidArgument, with the command to get help from
  bool json = false;   // how the error wants to be written
};

// `arguments` without the program's name.
ParsedCommandLine ParseCommandLine(const std::vector<std::string>& arguments);

}  // namespace twofold::cli
