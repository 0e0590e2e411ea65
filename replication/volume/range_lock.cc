#include "replication/volume/range_lock.h"

namespace twofold {

bool RangeLock::Covers(BlockRange range) const {
  if (index_.empty()) return false;
  bool covers = false;
  index_.VisitOverlaps(range, [&covers](IntervalIndex::Node&) {
    covers = true;
    return false;
  });
  return covers;
}

void RangeLock::Queue(Hold* hold, BlockRange range) {
  TF_CHECK(!hold->queued());
  hold->lock_ = this;
  hold->node_.hold = hold;
  hold->blockers_ = 0;
  // All that are in the index came before.
  index_.VisitOverlaps(range, [hold](IntervalIndex::Node&) {
    ++hold->blockers_;
    return true;
  });
  index_.Insert(&hold->node_, range, next_ticket_++);
  if (hold->blockers_ == 0) hold->granted_.Set();
}

void RangeLock::Hold::Release() {
  if (!queued()) return;
  TF_CHECK_EQ(blockers_, 0u) << "a hold is given up only when it was granted";
  lock_->index_.Erase(&node_);
  const uint64_t ticket = node_.order();
  lock_->index_.VisitOverlaps(node_.range(), [ticket](IntervalIndex::Node& other) {
    if (other.order() > ticket) {
      Hold* waiting = static_cast<Node&>(other).hold;
      if (--waiting->blockers_ == 0) waiting->granted_.Set();
    }
    return true;
  });
  lock_ = nullptr;
  granted_.Reset();
}

}  // namespace twofold
