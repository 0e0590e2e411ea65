#include "storage/store/room.h"

#include <algorithm>

#include "storage/base/check.h"

namespace twofold {
namespace {

constexpr uint64_t kKeptForOpening = 2;
constexpr uint64_t kKeptForLevelling = 2;
constexpr uint64_t kKeptForCleaning = 1;

}  // namespace

uint64_t Room::KeptBlocks(const Space& space, RoomFor use) {
  uint64_t segments = kKeptForOpening;
  if (use == RoomFor::kLevelling) return segments * space.blocks_per_segment;
  segments += kKeptForLevelling;
  if (use == RoomFor::kCleaning || use == RoomFor::kDelete) {
    return segments * space.blocks_per_segment;
  }
  segments += kKeptForCleaning;
  const uint64_t for_record = segments * space.blocks_per_segment;
  if (use == RoomFor::kRecord) return for_record;
  // A client can trim without end, and what it trims stays in the log until it is cleaned: half of
  // the step is left for the others.
  if (use == RoomFor::kTrim) return for_record + space.blocks_per_segment / 2;
  segments += space.segments < 64 ? 1 : 2 + space.segments / 256;
  const uint64_t for_cleaning = (kKeptForOpening + kKeptForLevelling) * space.blocks_per_segment;
  const uint64_t for_write = segments * space.blocks_per_segment;
  return std::max(for_cleaning, for_write - std::min(for_write, space.lent_blocks));
}

bool Room::TryPromise(const Space& space, BlockCount blocks, uint64_t entries, RoomFor use) {
  const uint64_t needed =
      worst_case_(payload_blocks_ + blocks.value(), entries_ + entries) + KeptBlocks(space, use);
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
