// A store in directories of this machine: O_DIRECT files through io_uring, the map in RocksDB.
//
//   DIR/SUPERBLOCK  DIR/LOCK  DIR/log/NNNNNNNN.seg   in each of the store's directories
//   DIR/map/                                         in the first one, unless --map-dir says
//   otherwise (M11)
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/runtime/offload.h"
#include "storage/runtime/task.h"
#include "storage/store/store.h"

namespace twofold {

class UringPoller;

struct DirectoryStoreOptions {
  std::vector<std::string> directories;  // in any order; each exists
  std::string map_directory;             // empty: map/ in the directory of the store's first disk
  StoreOptions store;
};

// Opens and recovers. Holds the locks of the directories until Store::Stop (R26). `poller` and
// `offload` outlive the store. With `store.read_only` nothing is changed, and the locks are held
// all the same. Errors: Store::Open's; kFailedPrecondition where another process has a directory.
Task<absl::StatusOr<std::unique_ptr<Store>>> OpenDirectoryStore(UringPoller& poller,
                                                                Offload& offload,
                                                                DirectoryStoreOptions options);

// Rebuilds the map of a store that nobody has open from its log, whatever is there (M12).
// OpenDirectoryStore does it by itself where the map does not open or verify. Errors: RebuildMap's.
Task<absl::Status> RebuildDirectoryMap(UringPoller& poller, Offload& offload,
                                       DirectoryStoreOptions options);

// Makes an empty store. The directories exist and are empty (kAlreadyExists with what is there,
// nothing is touched); `superblock` has pool_id, store_id, set_name, segment_bytes and
// max_segments; disk ids are given here. A later error says what to empty. Segments are
// pre-written as they are needed, not here.
Task<absl::Status> FormatDirectoryStore(UringPoller& poller, Offload& offload,
                                        std::vector<std::string> directories,
                                        Superblock superblock);

// How many segments fit into `free_bytes` of a file system that also holds the map (M22): 5 % and
// at least 2 GiB are left to it, or a quarter where that would leave a small store with nothing.
uint64_t SegmentsThatFit(uint64_t free_bytes, uint64_t segment_bytes);

}  // namespace twofold
