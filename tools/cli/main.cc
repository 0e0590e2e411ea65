#include "tools/cli/main.h"

#include <variant>

#include "tools/cli/bench.h"
#include "tools/cli/client_command.h"
#include "tools/cli/command_line.h"
#include "tools/cli/init.h"
#include "tools/cli/inspect.h"
#include "tools/cli/scrub.h"
#include "tools/cli/serve.h"
#include "tools/control/status_codes.h"

namespace twofold::cli {
namespace {

struct Runner {
  Console& console;
  int operator()(const InitCommand& command) const { return RunInit(command, console); }
  int operator()(const ServeCommand& command) const { return RunServe(command, console); }
  int operator()(const InspectCommand& command) const { return RunInspect(command, console); }
  int operator()(const ClientCommand& command) const { return RunClientCommand(command, console); }
  int operator()(const ScrubCommand& command) const { return RunScrub(command, console); }
  int operator()(const BenchLatencyCommand& command) const {
    return RunBenchLatency(command, console);
  }
};

}  // namespace

int Main(const std::vector<std::string>& arguments, Console& console) {
  const ParsedCommandLine parsed = ParseCommandLine(arguments);
  console.json = parsed.json;
  if (!parsed.error.ok()) return ReportError(console, parsed.error);
  if (!parsed.command_line) {
    console.out << parsed.text << std::flush;
    return control::kExitDone;
  }
  return std::visit(Runner{console}, parsed.command_line->command);
}

}  // namespace twofold::cli
