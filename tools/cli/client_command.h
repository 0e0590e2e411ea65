// The commands that ask a daemon: volume, snapshot, rollback, status.
#pragma once

#include "tools/cli/command_line.h"
#include "tools/cli/console.h"

namespace twofold::cli {

// Asks the daemon and writes what it says. Returns the exit code.
int RunClientCommand(const ClientCommand& command, Console& console);

}  // namespace twofold::cli
