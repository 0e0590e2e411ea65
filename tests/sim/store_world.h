// A store on one simulated disk: how every simulated test makes one, opens it and looks whether it
// is whole.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/task.h"
#include "storage/store/inspect.h"
#include "storage/store/store.h"
#include "tests/sim/sim_block_device.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_metadata_store.h"
#include "tests/sim/sim_poller.h"

namespace twofold::sim {

// The disk's name, of one letter, is the set's, and the store's id is made of it.
struct StoreShape {
  uint64_t segments = 16;
  uint64_t segment_bytes = kMinSegmentBytes;
};

inline Task<absl::Status> FormatStoreOn(SimPoller* poller, SimDisk* disk, StoreShape shape) {
  auto device = co_await SimBlockDevice::Open(*poller, *disk);
  TF_CO_RETURN_IF_ERROR(device);
  Superblock superblock;
  superblock.pool_id = std::string(32, '1');
  superblock.store_id = std::string(32, disk->name()[0]);
  superblock.set_name = disk->name();
  superblock.segment_bytes = shape.segment_bytes;
  superblock.max_segments = shape.segments;
  superblock.disk_ids.assign(1, superblock.store_id);
  std::vector<BlockDevice*> devices;  // g++ 12 takes no braced list in an awaited call
  devices.push_back(device->get());
  const absl::Status status = co_await FormatStore(devices, superblock);
  co_await (*device)->Close();
  co_return status;
}

inline Task<absl::StatusOr<std::unique_ptr<Store>>> OpenStoreOn(SimPoller* poller, SimDisk* disk,
                                                                SimMetadataDisk* metadata,
                                                                StoreOptions options) {
  auto device = co_await SimBlockDevice::Open(*poller, *disk);
  TF_CO_RETURN_IF_ERROR(device);
  StoreParts parts;
  parts.devices.push_back(*std::move(device));
  parts.metadata = metadata->Open();
  co_return co_await Store::Open(std::move(parts), std::move(options));
}

// So that caches are too small and checkpoints come in the middle of everything.
inline StoreOptions RandomStoreOptions(Prng& random, bool read_only) {
  StoreOptions options;
  options.map_cache_bytes = size_t{1} << (12 + random.Uniform(8));
  options.checkpoint_entries = 20 + random.Uniform(200);
  options.read_only = read_only;
  return options;
}

// As a pool asks for room for an entry (replication/volume/).
inline RoomFor RoomForEntry(EntryKind kind) {
  switch (kind) {
    case EntryKind::kWrite:
      return RoomFor::kWrite;
    case EntryKind::kZero:
      return RoomFor::kTrim;
    case EntryKind::kSnapshotDelete:
    case EntryKind::kVolumeDelete:
      return RoomFor::kDelete;
    default:
      return RoomFor::kRecord;
  }
}

// As `twofold inspect --verify`, of a store that was opened read-only: what it finds wrong.
inline Task<std::vector<std::string>> ProblemsOf(Store* store) {
  absl::StatusOr<VerifyReport> report = co_await VerifyStore(*store, nullptr);
  if (report.ok()) co_return std::move(report->problems);
  std::vector<std::string> problems;
  problems.push_back(report.status().ToString());
  co_return problems;
}

// A campaign's length and place: TWOFOLD_SEEDS seeds from TWOFOLD_SEED on.
inline uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

}  // namespace twofold::sim
