#include "storage/store/room.h"

#include "storage/base/check.h"

namespace twofold {
namespace {

constexpr uint64_t kKeptForOpening = 2;
constexpr uint64_t kKeptForLevelling = 2;
constexpr uint64_t kKeptForCleaning = 1;

}  // namespace

uint64_t Room::KeptSegments(uint64_t segments, RoomFor use) {
  switch (use) {
    case RoomFor::kLevelling:
      return kKeptForOpening;
    case RoomFor::kCleaning:
      return kKeptForOpening + kKeptForLevelling;
    case RoomFor::kRecord:
    case RoomFor::kWrite:
      break;
  }
  const uint64_t for_record = kKeptForOpening + kKeptForLevelling + kKeptForCleaning;
  if (use == RoomFor::kRecord) return for_record;
  return for_record + (segments < 64 ? 1 : 2 + segments / 256);
}

bool Room::TryPromise(const Space& space, BlockCount blocks, uint64_t entries, RoomFor use) {
  const uint64_t needed = worst_case_(payload_blocks_ + blocks.value(), entries_ + entries) +
                          KeptSegments(space.segments, use) * space.blocks_per_segment;
  if (needed > space.free_blocks) return false;
  payload_blocks_ += blocks.value();
  entries_ += entries;
  return true;
}

void Room::Settle(BlockCount blocks, uint64_t entries) {
  TF_CHECK_GE(payload_blocks_, blocks.value());
  TF_CHECK_GE(entries_, entries);
  payload_blocks_ -= blocks.value();
  entries_ -= entries;
}

}  // namespace twofold
