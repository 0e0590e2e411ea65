// `twofold bench latency`.
#pragma once

#include "tools/cli/command_line.h"
#include "tools/cli/console.h"

namespace twofold::cli {

// Loads the volume over NBD for a while, and writes what the requests took, as the client saw it
// and stage by stage as the daemon counted. Returns the exit code.
int RunBenchLatency(const BenchLatencyCommand& command, Console& console);

}  // namespace twofold::cli
