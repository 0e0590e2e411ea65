// The order of one stream: gives Seqs and stamps, knows what is in flight, and moves the commit
// position over what is complete on every in-sync replica (R2). Plain synchronous code.
//
// A request has one or more entries with consecutive Seqs (R5) and lives in the frame of its task:
//
//   Begin -> in flight -> Complete -> committed        once everything before it is complete too
//                      -> Doom     -> End              a replica failed and can't be dropped: it,
//                                                      and all after it, can't commit
//
// A request whose replica failed stays in flight until that replica is out of the set (R21), and
// with it all that come after: the commit position moves over complete requests only.
//
// A doomed request is neither done nor undone: it may be in the log of some replica, and the next
// attach decides (R8, R20). No read shows it before.
#pragma once

#include <cstdint>

#include "boost/intrusive/list.hpp"
#include "replication/volume/interval_index.h"
#include "storage/base/types.h"
#include "storage/runtime/poller.h"
#include "storage/runtime/sync.h"

namespace twofold {

class Sequencer {
 public:
  enum class State { kNew, kInFlight, kComplete, kCommitted, kDoomed };

  class Request : public IntervalIndex::Node,
                  public boost::intrusive::list_base_hook<
                      boost::intrusive::link_mode<boost::intrusive::safe_link>> {
   public:
    State state() const { return state_; }
    Seq first_seq() const { return first_seq_; }
    Seq last_seq() const { return last_seq_; }
    // Of the first entry; each further entry's is a nanosecond later.
    WallNanos first_stamp() const { return first_stamp_; }
    // Set when it is committed or doomed.
    Event& settled() { return settled_; }

   private:
    friend class Sequencer;
    State state_ = State::kNew;
    Seq first_seq_;
    Seq last_seq_;
    WallNanos first_stamp_ = 0;
    Event settled_;
  };

  // A stream whose log ends at `last`, all of it committed; its last entry bears `last_stamp`. New
  // entries are of `generation`, which is not below that of `last`.
  Sequencer(Generation generation, Position last, WallNanos last_stamp);

  // Gives `request` the next `entries` Seqs. `range`: the blocks that it changes (empty: none).
  // `now` is the wall clock; stamps never go below the last one (R35). Not after a request was
  // doomed.
  void Begin(Request* request, BlockRange range, uint64_t entries, WallNanos now);

  // Every in-sync replica has all of it. True when the commit position moved: tell the replicas
  // before anything else. Does nothing to a doomed request.
  bool Complete(Request* request);

  // A replica failed on it for good. It and all requests that came after it are doomed.
  void Doom(Request* request);

  // A doomed request's task ends.
  void End(Request* request);

  // The latest request at or before `limit` that may yet change a block of `range` (R7); null:
  // none. When it is settled, so are all that came before it.
  Request* LatestOverlap(BlockRange range, Seq limit) const;

  bool idle() const { return in_flight_.empty(); }
  // Waits for idle() to become true; look again after it.
  Event::Awaiter Drained() { return drained_.Wait(); }

  bool broken() const { return broken_; }
  Seq last_given() const { return last_given_; }
  Position PositionOf(Seq seq) const { return {generation_, seq}; }
  // Everything up to here is complete on every in-sync replica.
  Position committed() const { return committed_; }
  WallNanos last_stamp() const { return last_stamp_; }

 private:
  using List = boost::intrusive::list<Request, boost::intrusive::constant_time_size<false>>;

  void Leave(Request* request);

  const Generation generation_;
  Seq last_given_;
  Position committed_;
  WallNanos last_stamp_;
  bool broken_ = false;
  List in_flight_;       // by Seq
  IntervalIndex index_;  // of those that change blocks
  Event drained_;
};

}  // namespace twofold
