// `twofold serve --replace SET`: an empty store in the place of one that is lost for good.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "storage/log/superblock.h"
#include "storage/runtime/offload.h"
#include "storage/runtime/task.h"
#include "storage/store/store.h"
#include "tools/cli/set_spec.h"

namespace twofold {
class UringPoller;
}

namespace twofold::cli {

// Formats and opens a store for `set`, of the size and the pool of `like`, which is the superblock
// of a set that is there. kFailedPrecondition where a directory holds anything, kResourceExhausted
// where its disks are too small; then nothing is left behind. A crash leaves an empty store that no
// witness knows, and that the next --replace takes.
Task<absl::StatusOr<std::unique_ptr<Store>>> MakeReplacement(UringPoller* poller, Offload* offload,
                                                             SetSpec set, Superblock like,
                                                             StoreOptions options);

}  // namespace twofold::cli
