// SHARED CONTRACT. Who a store is: the SUPERBLOCK file, a copy in each of its directories.
//
// docs/formats/superblock.md. Written aside in two slots with a version, so that a torn write
// leaves the older one; read as the newest valid one of all copies.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/types.h"
#include "storage/io/block_device.h"
#include "storage/runtime/task.h"

namespace twofold {

struct Superblock {
  std::string pool_id;   // 32 hexadecimal digits
  std::string store_id;  // 32 hexadecimal digits
  std::string set_name;  // "a"
  uint64_t segment_bytes = 0;
  uint64_t max_segments = 0;
  Incarnation incarnation;  // taken by the newest open (R11)
  // The segment that the newest open began with; 0 while an open is under way. A log that ends
  // before it has lost its end.
  SegmentNumber opened_segment;
  std::vector<std::string> disk_ids;  // one per directory, in order (R40)
  uint64_t version = 0;               // of this superblock; grows with each write
  bool operator==(const Superblock&) const = default;
};

// One of its copies that is not as it should be.
struct SuperblockDamage {
  std::string where;  // the file, and the offset of the copy
  std::string what;
};

// Writes the first superblock into directories that hold nothing. kAlreadyExists where they do.
Task<absl::Status> FormatSuperblock(std::vector<BlockDevice*> devices, Superblock superblock);

// Reads and checks: every directory belongs to the same store, and the whole list of disks is there
// in any order (R40); `devices` is brought into the order of the list. kNotFound: no store here,
// with what to do; kDataLoss: no valid copy; kFailedPrecondition: a disk is missing or of another
// store. `damage`, if it is given, gets a line for each copy that can't be read: every open writes
// both slots of every directory, so that they are whole again after it.
Task<absl::StatusOr<Superblock>> ReadSuperblock(std::vector<BlockDevice*>& devices,
                                                std::vector<SuperblockDamage>* damage = nullptr);

// Durably replaces it everywhere, with version + 1.
Task<absl::StatusOr<Superblock>> UpdateSuperblock(std::vector<BlockDevice*> devices,
                                                  Superblock superblock);

// Looks at every copy of `superblock`, which is the newest version, in every directory: what is
// damaged of it. A copy that was torn by a crash long ago is damaged too: it protects
// nothing. kUnavailable: a directory can't be looked at.
Task<absl::StatusOr<std::vector<SuperblockDamage>>> CheckSuperblocks(
    std::vector<BlockDevice*> devices, Superblock superblock);

}  // namespace twofold
