// The bytes of a superblock slot, as in docs/formats/superblock.md. Pure: no I/O.
#pragma once

#include <array>
#include <boost/endian/arithmetic.hpp>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/base/limits.h"
#include "storage/log/superblock.h"

namespace twofold {
namespace format {

inline constexpr uint32_t kSuperblockFormat = 1;
inline constexpr std::array<char, 8> kSuperblockMagic{'T', 'F', '2', 'S', 'U', 'P', 'E', 'R'};
inline constexpr size_t kSuperblockSlots = 2;
inline constexpr size_t kSuperblockFileBytes = kSuperblockSlots * kBlockSize;
inline constexpr size_t kIdDigits = 32;

struct SuperblockSlot {
  std::array<char, 8> magic;
  boost::endian::little_uint32_t crc;  // from here on to the end of the struct
  boost::endian::little_uint32_t format;
  boost::endian::little_uint64_t version;
  boost::endian::little_uint64_t incarnation;
  boost::endian::little_uint64_t segment_bytes;
  boost::endian::little_uint64_t max_segments;
  std::array<char, kIdDigits> pool_id;
  std::array<char, kIdDigits> store_id;
  boost::endian::little_uint16_t place;
  boost::endian::little_uint16_t disks;
  uint8_t set_name_bytes;
  std::array<uint8_t, 3> reserved;
  std::array<char, kMaxNameBytes> set_name;
  std::array<std::array<char, kIdDigits>, kMaxStoreDirectories> disk_ids;
  boost::endian::little_uint64_t opened_segment;
  std::array<uint8_t, 3328> reserved_end;
};
static_assert(sizeof(SuperblockSlot) == kBlockSize);
static_assert(offsetof(SuperblockSlot, crc) == 8);
static_assert(offsetof(SuperblockSlot, format) == 12);
static_assert(offsetof(SuperblockSlot, version) == 16);
static_assert(offsetof(SuperblockSlot, incarnation) == 24);
static_assert(offsetof(SuperblockSlot, segment_bytes) == 32);
static_assert(offsetof(SuperblockSlot, max_segments) == 40);
static_assert(offsetof(SuperblockSlot, pool_id) == 48);
static_assert(offsetof(SuperblockSlot, store_id) == 80);
static_assert(offsetof(SuperblockSlot, place) == 112);
static_assert(offsetof(SuperblockSlot, disks) == 114);
static_assert(offsetof(SuperblockSlot, set_name_bytes) == 116);
static_assert(offsetof(SuperblockSlot, set_name) == 120);
static_assert(offsetof(SuperblockSlot, disk_ids) == 248);
static_assert(offsetof(SuperblockSlot, opened_segment) == 760);
static_assert(offsetof(SuperblockSlot, reserved_end) == 768);

}  // namespace format

// One directory's copy.
struct SuperblockCopy {
  Superblock superblock;
  size_t place = 0;  // of the directory in the list of disks
  bool operator==(const SuperblockCopy&) const = default;
};

// Whether the superblock keeps the bounds of the format. kInvalidArgument.
absl::Status CheckSuperblock(const Superblock& superblock);

// Fills `block` (kBlockSize) with a slot. The superblock keeps the bounds.
void EncodeSuperblock(const SuperblockCopy& copy, absl::Span<std::byte> block);

// kDataLoss: not a valid slot. kFailedPrecondition: made by a newer version.
absl::StatusOr<SuperblockCopy> DecodeSuperblock(absl::Span<const std::byte> block);

}  // namespace twofold
