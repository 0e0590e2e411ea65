#include "storage/log/superblock_codec.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/base/status_macros.h"

namespace twofold {
namespace {

using format::SuperblockSlot;
constexpr size_t kCrcCoversFrom = 12;

uint32_t SlotCrc(const SuperblockSlot& slot) {
  return Crc32c(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&slot), sizeof(slot))
                    .subspan(kCrcCoversFrom));
}

bool IsId(const std::string& id) {
  return id.size() == format::kIdDigits &&
         id.find_first_not_of("0123456789abcdef") == std::string::npos;
}

template <size_t kSize>
void SetText(std::array<char, kSize>& field, const std::string& text) {
  TF_CHECK_LE(text.size(), kSize);
  std::copy(text.begin(), text.end(), field.begin());
}

template <size_t kSize>
std::string GetText(const std::array<char, kSize>& field, size_t size = kSize) {
  return std::string(field.data(), std::min(size, kSize));
}

}  // namespace

absl::Status CheckSuperblock(const Superblock& superblock) {
  const auto refuse = [](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("superblock: ", what));
  };
  if (!IsId(superblock.pool_id) || !IsId(superblock.store_id)) {
    return refuse("the ids of pool and store are 32 hexadecimal digits");
  }
  if (superblock.set_name.empty() || superblock.set_name.size() > kMaxNameBytes) {
    return refuse(absl::StrCat("a set's name has 1 to ", kMaxNameBytes, " bytes"));
  }
  if (superblock.segment_bytes < kMinSegmentBytes || superblock.segment_bytes > kMaxSegmentBytes ||
      superblock.segment_bytes % kBlockSize != 0) {
    return refuse(absl::StrCat("segments have ", kMinSegmentBytes, " to ", kMaxSegmentBytes,
                               " bytes, in whole blocks; not ", superblock.segment_bytes));
  }
  const std::vector<std::string>& disks = superblock.disk_ids;
  if (disks.empty() || disks.size() > kMaxStoreDirectories) {
    return refuse(absl::StrCat("a store has 1 to ", kMaxStoreDirectories, " directories; not ",
                               disks.size()));
  }
  if (!std::all_of(disks.begin(), disks.end(), IsId) ||
      std::set<std::string>(disks.begin(), disks.end()).size() != disks.size()) {
    return refuse("the ids of disks are 32 hexadecimal digits, each its own");
  }
  return absl::OkStatus();
}

void EncodeSuperblock(const SuperblockCopy& copy, absl::Span<std::byte> block) {
  const Superblock& superblock = copy.superblock;
  TF_CHECK_EQ(block.size(), kBlockSize);
  TF_CHECK_OK(CheckSuperblock(superblock));
  TF_CHECK_LT(copy.place, superblock.disk_ids.size());
  SuperblockSlot slot{};
  slot.magic = format::kSuperblockMagic;
  slot.format = format::kSuperblockFormat;
  slot.version = superblock.version;
  slot.incarnation = superblock.incarnation.value();
  slot.segment_bytes = superblock.segment_bytes;
  slot.max_segments = superblock.max_segments;
  SetText(slot.pool_id, superblock.pool_id);
  SetText(slot.store_id, superblock.store_id);
  slot.place = static_cast<uint16_t>(copy.place);
  slot.disks = static_cast<uint16_t>(superblock.disk_ids.size());
  slot.set_name_bytes = static_cast<uint8_t>(superblock.set_name.size());
  SetText(slot.set_name, superblock.set_name);
  for (size_t i = 0; i < superblock.disk_ids.size(); ++i) {
    SetText(slot.disk_ids[i], superblock.disk_ids[i]);
  }
  slot.opened_segment = superblock.opened_segment.value();
  slot.crc = SlotCrc(slot);
  std::memcpy(block.data(), &slot, sizeof(slot));
}

absl::StatusOr<SuperblockCopy> DecodeSuperblock(absl::Span<const std::byte> block) {
  TF_CHECK_EQ(block.size(), kBlockSize);
  SuperblockSlot slot;
  std::memcpy(&slot, block.data(), sizeof(slot));
  if (slot.magic != format::kSuperblockMagic || slot.crc != SlotCrc(slot)) {
    return absl::DataLossError("the superblock does not verify");
  }
  if (slot.format != format::kSuperblockFormat) {
    return absl::FailedPreconditionError(
        absl::StrCat("the superblock has format ", slot.format.value(), ", this program knows ",
                     format::kSuperblockFormat, ": use the version that wrote it, or a newer one"));
  }
  SuperblockCopy copy;
  Superblock& superblock = copy.superblock;
  superblock.version = slot.version;
  superblock.incarnation = Incarnation(slot.incarnation);
  superblock.segment_bytes = slot.segment_bytes;
  superblock.max_segments = slot.max_segments;
  superblock.pool_id = GetText(slot.pool_id);
  superblock.store_id = GetText(slot.store_id);
  superblock.set_name = GetText(slot.set_name, slot.set_name_bytes);
  for (size_t i = 0; i < std::min<size_t>(slot.disks, kMaxStoreDirectories); ++i) {
    superblock.disk_ids.emplace_back(slot.disk_ids[i].data(), slot.disk_ids[i].size());
  }
  superblock.opened_segment = SegmentNumber(slot.opened_segment);
  copy.place = slot.place;
  const absl::Status checked = CheckSuperblock(superblock);
  if (!checked.ok() || slot.disks > kMaxStoreDirectories ||
      copy.place >= superblock.disk_ids.size() || slot.set_name_bytes > kMaxNameBytes) {
    return absl::DataLossError("the superblock holds impossible values");
  }
  return copy;
}

}  // namespace twofold
