#include "tools/cli/replacement.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/io/uring_poller.h"
#include "storage/store/directory_store.h"
#include "tools/cli/directories.h"
#include "tools/cli/init.h"

namespace twofold::cli {
namespace {

absl::Status CheckRoom(const SetSpec& set, const Superblock& like) {
  TF_ASSIGN_OR_RETURN(const std::vector<uint64_t> free_bytes, FreeBytesBySet({set}));
  if (SegmentsThatFit(free_bytes[0], like.segment_bytes) >= like.max_segments) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "its disks have only ", FormatSizeRounded(free_bytes[0]), " free, and set ", like.set_name,
      " has a log of ", FormatSizeRounded(like.segment_bytes * like.max_segments),
      "; give a disk that holds as much, and its map"));
}

}  // namespace

Task<absl::StatusOr<std::unique_ptr<Store>>> MakeReplacement(UringPoller* poller, Offload* offload,
                                                             SetSpec set, Superblock like,
                                                             StoreOptions options) {
  NewDirectories directories;
  for (const std::string& directory : set.directories) {
    TF_CO_RETURN_IF_ERROR(directories.Make(directory));
  }
  TF_CO_RETURN_IF_ERROR(CheckRoom(set, like));
  Superblock superblock;
  superblock.pool_id = like.pool_id;
  superblock.store_id = NewId();
  superblock.set_name = set.name;
  superblock.segment_bytes = like.segment_bytes;
  superblock.max_segments = like.max_segments;
  absl::Status status =
      co_await FormatDirectoryStore(*poller, *offload, set.directories, std::move(superblock));
  TF_CO_RETURN_IF_ERROR(status);
  directories.Keep();
  DirectoryStoreOptions open;
  open.directories = set.directories;
  open.store = options;
  co_return co_await OpenDirectoryStore(*poller, *offload, std::move(open));
}

}  // namespace twofold::cli
