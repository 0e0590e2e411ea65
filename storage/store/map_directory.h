// The directory that holds a store's map: made anew from the log where it is lost or damaged (M12).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "storage/io/block_device.h"
#include "storage/runtime/offload.h"
#include "storage/runtime/task.h"
#include "storage/store/rebuild.h"

namespace twofold {

// Builds the map beside `map_directory`, in NAME.rebuild, and puts it in its place when it is
// complete; what was there is removed after that. A crash leaves the old directory, or none, or the
// new one: never a half-made one under the name. `devices` hold the whole store, which nobody has
// open. Errors: RebuildMap's; then nothing has changed.
Task<absl::Status> RebuildMapDirectory(std::vector<BlockDevice*> devices, Offload* offload,
                                       std::string map_directory, OnRebuildProgress progress);

}  // namespace twofold
