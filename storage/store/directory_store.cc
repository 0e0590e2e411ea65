#include "storage/store/directory_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "storage/base/log.h"
#include "storage/base/prng.h"
#include "storage/base/status_macros.h"
#include "storage/io/uring_block_device.h"
#include "storage/map/rocks_store.h"
#include "storage/store/map_directory.h"

namespace twofold {
namespace {

constexpr uint64_t kMinMapReserveBytes = uint64_t{2} << 30;

using Devices = std::vector<std::unique_ptr<BlockDevice>>;

std::string NewId() { return absl::StrFormat("%016x%016x", SecureRandom64(), SecureRandom64()); }

Task<absl::StatusOr<Devices>> OpenDevices(UringPoller& poller, Offload& offload,
                                          std::vector<std::string> directories) {
  Devices devices;
  absl::Status status;
  for (const std::string& directory : directories) {
    absl::StatusOr<std::unique_ptr<UringBlockDevice>> device =
        co_await UringBlockDevice::Open(poller, offload, directory);
    status = device.status();
    if (!status.ok()) break;
    devices.push_back(*std::move(device));
  }
  if (!status.ok()) {
    for (auto& device : devices) co_await device->Close();
    co_return status;
  }
  co_return devices;
}

std::vector<BlockDevice*> Pointers(const Devices& devices) {
  std::vector<BlockDevice*> pointers;
  for (const auto& device : devices) pointers.push_back(device.get());
  return pointers;
}

// What a directory may hold and still count as empty.
bool Harmless(const std::string& name) { return name == "LOCK" || name == "lost+found"; }

Task<absl::Status> CheckEmpty(BlockDevice* device) {
  absl::StatusOr<std::vector<std::string>> names = co_await device->List("");
  TF_CO_RETURN_IF_ERROR(names);
  names->erase(std::remove_if(names->begin(), names->end(), Harmless), names->end());
  if (names->empty()) co_return absl::OkStatus();
  const size_t shown = std::min<size_t>(names->size(), 5);
  co_return absl::AlreadyExistsError(absl::StrCat(
      device->name(), " is not empty (",
      absl::StrJoin(names->begin(), names->begin() + static_cast<ptrdiff_t>(shown), ", "),
      names->size() > shown ? ", ..." : "", "): give an empty directory; nothing was changed"));
}

Task<absl::Status> Format(const Devices& devices, Offload& offload, std::string map_directory,
                          Superblock superblock) {
  for (const auto& device : devices) {
    absl::Status status = co_await CheckEmpty(device.get());
    TF_CO_RETURN_IF_ERROR(status);
  }
  superblock.disk_ids.clear();
  for (size_t i = 0; i < devices.size(); ++i) superblock.disk_ids.push_back(NewId());
  absl::Status status = co_await FormatStore(Pointers(devices), std::move(superblock));
  TF_CO_RETURN_IF_ERROR(status);
  RocksStore::Options rocks;
  rocks.mode = RocksStore::Mode::kCreate;
  absl::StatusOr<std::unique_ptr<RocksStore>> map =
      co_await RocksStore::Open(map_directory, rocks, &offload);
  TF_CO_RETURN_IF_ERROR(map);
  co_await (*map)->Close();
  co_return absl::OkStatus();
}

// The map lies on the store's first disk, whatever the order on the command line (R40).
Task<absl::StatusOr<std::string>> MapDirectoryOf(std::vector<BlockDevice*> devices) {
  absl::StatusOr<Superblock> superblock = co_await ReadSuperblock(devices);
  TF_CO_RETURN_IF_ERROR(superblock);
  co_return absl::StrCat(devices[0]->name(), "/map");
}

// `map_lost`: it failed because of the map.
Task<absl::StatusOr<std::unique_ptr<Store>>> OpenOnce(UringPoller& poller, Offload& offload,
                                                      DirectoryStoreOptions options,
                                                      bool* map_lost) {
  *map_lost = false;
  absl::StatusOr<Devices> devices = co_await OpenDevices(poller, offload, options.directories);
  TF_CO_RETURN_IF_ERROR(devices);
  StoreParts parts;
  parts.devices = *std::move(devices);

  std::string map_directory = options.map_directory;
  if (map_directory.empty()) {
    absl::StatusOr<std::string> found = co_await MapDirectoryOf(Pointers(parts.devices));
    if (!found.ok()) {
      for (auto& device : parts.devices) co_await device->Close();
      co_return found.status();
    }
    map_directory = *std::move(found);
  }
  RocksStore::Options rocks;
  rocks.mode = options.store.read_only ? RocksStore::Mode::kReadOnly : RocksStore::Mode::kOpen;
  absl::StatusOr<std::unique_ptr<RocksStore>> metadata =
      co_await RocksStore::Open(map_directory, rocks, &offload);
  if (!metadata.ok()) {
    *map_lost = absl::IsNotFound(metadata.status()) || absl::IsDataLoss(metadata.status());
    for (auto& device : parts.devices) co_await device->Close();
    co_return metadata.status();
  }
  parts.metadata = *std::move(metadata);
  absl::StatusOr<std::unique_ptr<Store>> store =
      co_await Store::Open(std::move(parts), options.store);
  *map_lost = IsMapDamage(store.status());
  co_return store;
}

}  // namespace

Task<absl::StatusOr<std::unique_ptr<Store>>> OpenDirectoryStore(UringPoller& poller,
                                                                Offload& offload,
                                                                DirectoryStoreOptions options) {
  bool map_lost = false;
  absl::StatusOr<std::unique_ptr<Store>> store =
      co_await OpenOnce(poller, offload, options, &map_lost);
  if (store.ok() || !map_lost) co_return store;
  if (options.store.read_only) {
    co_return Annotate(store.status(),
                       "the map is lost or damaged; twofold inspect --rebuild-map makes it anew");
  }
  TF_LOG(WARNING) << store.status().message() << "; rebuilding the map from the log";
  absl::Status rebuilt = co_await RebuildDirectoryMap(poller, offload, options);
  TF_CO_RETURN_IF_ERROR(rebuilt);
  TF_LOG(WARNING) << absl::StrJoin(options.directories, ",")
                  << ": the map was rebuilt from the log";
  co_return co_await OpenOnce(poller, offload, std::move(options), &map_lost);
}

Task<absl::Status> RebuildDirectoryMap(UringPoller& poller, Offload& offload,
                                       DirectoryStoreOptions options) {
  absl::StatusOr<Devices> devices = co_await OpenDevices(poller, offload, options.directories);
  TF_CO_RETURN_IF_ERROR(devices);
  absl::Status status;
  std::string map_directory = options.map_directory;
  if (map_directory.empty()) {
    absl::StatusOr<std::string> found = co_await MapDirectoryOf(Pointers(*devices));
    status = found.status();
    if (found.ok()) map_directory = *std::move(found);
  }
  if (status.ok()) {
    status = co_await RebuildMapDirectory(Pointers(*devices), &offload, map_directory,
                                          options.store.on_rebuild);
  }
  for (auto& device : *devices) co_await device->Close();
  co_return status;
}

Task<absl::Status> FormatDirectoryStore(UringPoller& poller, Offload& offload,
                                        std::vector<std::string> directories,
                                        Superblock superblock) {
  absl::StatusOr<Devices> devices = co_await OpenDevices(poller, offload, directories);
  TF_CO_RETURN_IF_ERROR(devices);
  const std::string map_directory = absl::StrCat(directories[0], "/map");
  absl::Status status = co_await Format(*devices, offload, map_directory, std::move(superblock));
  for (auto& device : *devices) co_await device->Close();
  if (status.ok() || absl::IsAlreadyExists(status)) co_return status;
  co_return Annotate(status, absl::StrCat("formatting failed half-way; empty ",
                                          absl::StrJoin(directories, " and "), " and try again"));
}

uint64_t SegmentsThatFit(uint64_t free_bytes, uint64_t segment_bytes) {
  const uint64_t wanted = std::max(free_bytes / 20, kMinMapReserveBytes);
  const uint64_t reserve = std::min(wanted, free_bytes / 4);
  return (free_bytes - reserve) / segment_bytes;
}

}  // namespace twofold
