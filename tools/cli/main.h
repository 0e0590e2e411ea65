// The program, as a function: what tests call.
#pragma once

#include <string>
#include <vector>

#include "tools/cli/console.h"

namespace twofold::cli {

// Runs the command line (without the program's name). Returns the exit code: 0 done, 1 failed, 2
// wrong usage.
int Main(const std::vector<std::string>& arguments, Console& console);

}  // namespace twofold::cli
