// `twofold serve`.
#pragma once

#include "tools/cli/command_line.h"
#include "tools/cli/console.h"

namespace twofold::cli {

// Opens the pool, says so in one line on standard output (and to systemd), serves until SIGTERM or
// SIGINT, and closes it. Returns the exit code.
int RunServe(const ServeCommand& serve, Console& console);

}  // namespace twofold::cli
