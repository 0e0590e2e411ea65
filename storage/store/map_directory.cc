#include "storage/store/map_directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"
#include "storage/io/posix_files.h"
#include "storage/log/segment_log.h"
#include "storage/log/superblock.h"
#include "storage/map/rocks_store.h"

namespace twofold {
namespace {

absl::Status FileError(int error, absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::generic_category().message(error)));
}

absl::Status RemoveTree(const std::string& directory) {
  std::error_code error;
  std::filesystem::remove_all(directory, error);
  return error ? FileError(error.value(), absl::StrCat("removing ", directory)) : absl::OkStatus();
}

absl::Status Rename(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  return FileError(errno, absl::StrCat("renaming ", from, " to ", to));
}

absl::Status SyncDirectory(const std::string& directory) {
  const UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.valid() && fsync(fd.get()) == 0) return absl::OkStatus();
  return FileError(errno, absl::StrCat("syncing ", directory));
}

std::string Aside(const std::string& map_directory) { return map_directory + ".damaged"; }
std::string Fresh(const std::string& map_directory) { return map_directory + ".rebuild"; }

// Blocks; on an offload thread.
absl::Status Clear(const std::string& map_directory) {
  TF_RETURN_IF_ERROR(RemoveTree(Fresh(map_directory)));
  // Of a rebuild that was complete: its map stands in its place.
  if (std::filesystem::exists(map_directory)) {
    TF_RETURN_IF_ERROR(RemoveTree(Aside(map_directory)));
  }
  return absl::OkStatus();
}

absl::Status Replace(const std::string& map_directory) {
  const std::string parent = std::filesystem::path(map_directory).parent_path();
  TF_RETURN_IF_ERROR(SyncDirectory(Fresh(map_directory)));
  if (std::filesystem::exists(map_directory)) {
    TF_RETURN_IF_ERROR(Rename(map_directory, Aside(map_directory)));
  }
  TF_RETURN_IF_ERROR(Rename(Fresh(map_directory), map_directory));
  TF_RETURN_IF_ERROR(SyncDirectory(parent));
  return RemoveTree(Aside(map_directory));
}

Task<absl::Status> Build(std::vector<BlockDevice*> devices, Offload* offload, std::string directory,
                         OnRebuildProgress progress) {
  absl::StatusOr<Superblock> superblock = co_await ReadSuperblock(devices);
  TF_CO_RETURN_IF_ERROR(superblock);
  SegmentLog::Options options;
  options.store_id = absl::HexStringToBytes(superblock->store_id);
  options.segment_bytes = superblock->segment_bytes;
  options.max_segments = superblock->max_segments;
  absl::StatusOr<std::unique_ptr<SegmentLog>> log =
      co_await SegmentLog::Open(devices, std::move(options));
  TF_CO_RETURN_IF_ERROR(log);
  RocksStore::Options rocks;
  rocks.mode = RocksStore::Mode::kCreate;
  absl::StatusOr<std::unique_ptr<RocksStore>> map =
      co_await RocksStore::Open(directory, rocks, offload);
  TF_CO_RETURN_IF_ERROR(map);
  // Without a catalogue the log is replayed from its beginning, into an empty map.
  const Superblock& identity = *superblock;
  absl::StatusOr<bool> rebuilt =
      co_await RebuildMap(log->get(), &identity, map->get(), std::move(progress));
  co_await (*map)->Close();
  co_return rebuilt.status();
}

}  // namespace

Task<absl::Status> RebuildMapDirectory(std::vector<BlockDevice*> devices, Offload* offload,
                                       std::string map_directory, OnRebuildProgress progress) {
  absl::Status status = co_await offload->Run([&map_directory] { return Clear(map_directory); });
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await Build(std::move(devices), offload, Fresh(map_directory), std::move(progress));
  if (!status.ok()) {
    const absl::Status cleared =
        co_await offload->Run([&map_directory] { return RemoveTree(Fresh(map_directory)); });
    co_return cleared.ok() ? status : Annotate(status, cleared.message());
  }
  co_return co_await offload->Run([&map_directory] { return Replace(map_directory); });
}

}  // namespace twofold
