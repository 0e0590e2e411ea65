// Keeps the blocks of a read-modify-write to itself from reading the old bytes until its Seq is
// given: a write of the same blocks that got in between would be lost under the old bytes.
//
// First come, first served among those that overlap; others do not wait for each other. Belongs to
// one executor.
#pragma once

#include <coroutine>
#include <cstdint>

#include "replication/volume/interval_index.h"
#include "storage/base/check.h"
#include "storage/base/types.h"
#include "storage/runtime/sync.h"

namespace twofold {

class RangeLock {
 public:
  // A place in the queue, and the lock once `blockers` is 0. Lives in the frame of its user.
  class Hold {
   public:
    Hold() = default;
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold() { Release(); }

    bool queued() const { return lock_ != nullptr; }
    bool granted() const { return queued() && blockers_ == 0; }
    // Gives the range up; does nothing when there is none. Those it kept waiting may go on.
    void Release();

   private:
    friend class RangeLock;
    // What the index knows, with the way back to the hold.
    struct Node : IntervalIndex::Node {
      Hold* hold = nullptr;
    };
    RangeLock* lock_ = nullptr;
    Node node_;
    uint64_t blockers_ = 0;  // overlapping holds that came earlier
    Event granted_;
  };

  RangeLock() = default;
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;

  // Whether somebody holds or waits for a block of `range`.
  bool Covers(BlockRange range) const;

  // Queues `hold` for `range`; then wait until it is granted:
  //   lock.Queue(&hold, range);
  //   if (!hold.granted()) co_await lock.Granted(&hold);
  void Queue(Hold* hold, BlockRange range);
  Event::Awaiter Granted(Hold* hold) { return hold->granted_.Wait(); }

 private:
  IntervalIndex index_;
  uint64_t next_ticket_ = 0;
};

}  // namespace twofold
