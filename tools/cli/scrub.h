// `twofold scrub`: starts a pass in the daemon and, unless told otherwise, waits for its end. The
// pass is the daemon's: a client that is interrupted ends nothing but its waiting.
#pragma once

#include <ostream>
#include <string>

#include "replication/volume/scrub_info.h"
#include "tools/cli/command_line.h"
#include "tools/cli/console.h"

namespace twofold::cli {

// Returns the exit code: 0 where what was asked for is done and nothing is damaged or different.
int RunScrub(const ScrubCommand& command, Console& console);

// "segment 17, 120 MiB of 400 MiB, 35 MiB/s, 8 s left".
std::string ScrubProgressText(const ScrubInfo& scrub);
// "2026-11-25 10:42:07Z (3 days ago)", or "never".
std::string ProvenText(const ScrubInfo& scrub);

// What came of it, for people.
void PresentScrub(std::ostream& out, const ScrubInfo& scrub);
void PresentComparison(std::ostream& out, const CompareInfo& compare);

}  // namespace twofold::cli
