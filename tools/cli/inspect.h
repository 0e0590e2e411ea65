// `twofold inspect`: one set alone, offline.
#pragma once

#include "tools/cli/command_line.h"
#include "tools/cli/console.h"

namespace twofold::cli {

// Opens the store read-only, without its daemon, the other set or the witness (P9), and shows it.
// Returns the exit code: 1 where --verify found problems.
int RunInspect(const InspectCommand& inspect, Console& console);

}  // namespace twofold::cli
