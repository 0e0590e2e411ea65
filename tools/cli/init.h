// `twofold init`: two sets of empty directories become a pool.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/cli/command_line.h"
#include "tools/cli/console.h"

namespace twofold::cli {

// Formats, and writes what it made. Returns the exit code. Refuses directories that hold anything.
// On an error what it made is removed again; what can't be removed is named. The witness is written
// last: a pool whose `init` was killed can't be served, and the next `init` names what lies in the
// way.
int RunInit(const InitCommand& init, Console& console);

// How a store divides what it may take of its disks.
struct StoreLayout {
  uint64_t segment_bytes = 0;
  uint64_t max_segments = 0;
};

// `usable_bytes` of disk, the map's reserve included (M22). The segment size is `segment_bytes`, or
// where that is 0 the default, halved while the store would have fewer than 64 of them.
// kResourceExhausted where fewer than kMinStoreSegments fit.
absl::StatusOr<StoreLayout> PlanStore(uint64_t usable_bytes, uint64_t segment_bytes);

// A new id of a pool or a store.
std::string NewId();

inline constexpr uint64_t kMinStoreSegments = 8;

}  // namespace twofold::cli
