#include "storage/store/room.h"

#include "storage/base/check.h"

namespace twofold {

bool Room::TryPromise(const Space& space, BlockCount blocks, uint64_t entries, bool emergency) {
  const uint64_t kept_segments = emergency ? kOwnSegments : EmergencySegments(space.segments);
  const uint64_t needed = worst_case_(payload_blocks_ + blocks.value(), entries_ + entries) +
                          kept_segments * space.blocks_per_segment;
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
