// The in-sync replicas of a pool, kept as one: room on all of them, commits to all, reads from any.
// One that fails is dropped, and the others go on (R21).
//
//   in-sync --> failed --> out      the others have recorded a membership without it, and the
//                 |                 witness has it
//                 v
//              offline              the witness can't be told, or it was the last one (R6)
//
// A replica that has failed is not read and takes nothing, but until it is out it counts: what it
// lacks is not acknowledged, and its requests stay in flight. Once it is out they are complete
// without it. When the set goes offline they are given up, and no write is taken any more; reads go
// on from the replicas that are whole.
//
// Why no acknowledged write is lost, and no read goes back, wherever the head dies meanwhile (P2,
// P3, P6). Let M be the membership, f the one that fails, M' = M without f.
//   Before all of M' have recorded M': the witness has M. Everything acknowledged or ever shown is
//     on every member of M. Whoever attaches needs members of M only, and any of them has it all.
//   Recorded, and not in the witness: the same holds, since nothing was acknowledged by M' yet. If
//     a member of M' is there, attaching trusts the record and takes f for stale, which is safe
//     since all of M' is in M. If only f is there it attaches by the witness, rightly.
//   In the witness: attaching takes members of M' only. They have all that M had acknowledged, and
//     all that is acknowledged without f, because each of those waited for every member of M'.
//     f is stale from here on, and never read, never alone.
//   The answer of the witness is lost: it is read again until it says one or the other (R25); until
//     then nothing that f lacks is acknowledged. If it stays silent the set goes offline, and the
//     next attach finds one of the cases above.
// A read under way at f when it goes out may still be answered with what f showed: it began before
// any write was complete without f, so it may stand before them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "replication/pair/witness.h"
#include "replication/replica.h"
#include "storage/base/types.h"
#include "storage/map/extent.h"
#include "storage/runtime/cancel.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task.h"
#include "storage/runtime/task_scope.h"

namespace twofold {

class ReplicaSet {
 public:
  // One replica, for as long as it counts and anybody is busy with it.
  struct Member {
    Replica* replica = nullptr;
    bool failed = false;
    bool out = false;
    absl::Status reason;   // of the failure
    uint64_t users = 0;    // requests and reads under way
    uint64_t reading = 0;  // of them: reads
    uint64_t begun = 0;    // requests and reads, ever
    uint32_t slot = 0;     // a number of its own, below 32
    uint64_t since = 0;    // the epoch in which it joined
    WallNanos joined = 0;  // when it began to count
  };
  using Members = absl::InlinedVector<Member*, 2>;

  // The members at this moment, which don't go away while it lives.
  class InFlight {
   public:
    explicit InFlight(const ReplicaSet* set) : members_(set->in_sync_) {
      for (Member* member : members_) {
        ++member->users;
        ++member->begun;
      }
    }
    InFlight(const InFlight&) = delete;
    InFlight& operator=(const InFlight&) = delete;
    ~InFlight() {
      for (Member* member : members_) --member->users;
    }
    size_t size() const { return members_.size(); }
    Member* operator[](size_t index) const { return members_[index]; }

   private:
    const Members members_;
  };

  // Keeps a member from being forgotten while something long is done with it.
  class Busy {
   public:
    explicit Busy(Member* member) : member_(member) { ++member_->users; }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;
    ~Busy() { --member_->users; }

   private:
    Member* const member_;
  };

  // A replica that was dropped, and why.
  struct Dropped {
    Replica* replica = nullptr;
    absl::Status reason;
    WallNanos since = 0;
  };

  // `membership` is what the witness holds; `in_sync` are the replicas that it lists, sealed at its
  // generation and level. All outlive the set.
  ReplicaSet(std::vector<Replica*> in_sync, Membership membership, Witness* witness);
  // Stop() first.
  ~ReplicaSet();
  // No request is under way; a change of the membership that is, is finished or given up.
  Task<void> Stop();

  Generation generation() const { return membership_.generation; }
  // As the witness has it.
  const Membership& membership() const { return membership_; }
  // The highest version ever given to a membership of this head, committed or not.
  uint64_t last_version() const { return last_version_; }
  // Whether a configured replica is not in-sync (R28).
  bool degraded() const { return membership_.in_sync.size() < membership_.configured.size(); }
  // Those that count, one that has failed included until it is out.
  const Members& in_sync() const { return in_sync_; }
  // Of a replica that has not failed, while there is one.
  const Catalogue& catalogue() const;
  const std::vector<Dropped>& dropped() const { return dropped_; }
  // How many requests and reads were ever begun at those that count: it changes while clients work.
  uint64_t begun() const {
    uint64_t begun = 0;
    for (const Member* member : in_sync_) begun += member->begun;
    return begun;
  }

  // OK, or why no write is taken any more: kUnavailable with the set, the reason and what to do;
  // kAborted when another head has taken over.
  const absl::Status& health() const { return health_; }
  // Asks the replicas, which may have failed without being used.
  const absl::Status& CheckHealth();
  // It returned `reason`, and is dropped; does nothing to one that has failed already.
  void Fail(Member* member, const absl::Status& reason);
  // All of `failed`, which have failed and whom the caller keeps: true once they are out, false
  // when they can't be dropped. Then health() says why.
  Task<bool> WaitUntilOut(Members failed);
  // Resumes when the membership or the health has changed, or Wake is called: look again.
  Event::Awaiter Changed() { return changed_.Wait(); }
  void Wake() { changed_.WakeAll(); }

  // A replica joins (R23): `replica` is sealed at the set's generation, and has, durably, every
  // entry that was ever given a Seq; nothing is in flight, and nobody gets a Seq until this
  // returns. OK: it counts from now on. Else everything is as it was, or the set is offline.
  Task<absl::Status> Admit(Replica* replica);
  // Puts `store_id` for good in the place of `old_store_id`, which is not in-sync (R22). The new
  // one is not either, before it is admitted.
  Task<absl::Status> Replace(std::string old_store_id, std::string store_id);
  // Forgets a dropped replica, once nobody is busy with it any more: then it can be destroyed.
  Task<void> Forget(const Replica* dropped);

  // Room on every replica, or on none (R6, M22); see Replica::Reserve. Waits while one that has
  // failed is being dropped. An error of Reserve other than kResourceExhausted is that of health().
  // The room is on those that count in this epoch(): who joins later has none for it.
  bool TryReserve(BlockCount blocks, uint64_t entries);
  Task<absl::Status> Reserve(BlockCount blocks, uint64_t entries, RoomFor use);
  void Release(BlockCount blocks, uint64_t entries, uint64_t epoch);
  uint64_t epoch() const { return epoch_; }

  void Commit(VolumeId volume, Position position);

  // Everything appended before is durable on every replica. Errors as health().
  Task<absl::Status> Flush();

  // Contracts: Replica::Read and Replica::Status. What one replica can't deliver comes from
  // another, block by block if need be (P7). kDataLoss where none has a block whole; kUnavailable
  // where none can be asked.
  Task<absl::StatusOr<std::vector<BlockExtent>>> Read(TimelineId timeline, Position as_of,
                                                      BlockRange range, absl::Span<std::byte> into);
  Task<absl::StatusOr<std::vector<BlockExtent>>> Status(TimelineId timeline, Position as_of,
                                                        BlockRange range, size_t max_extents);

 private:
  // replica_set.cc
  Member* PickReader(uint32_t* tried);
  void NoteReadError(const Member& member, TimelineId timeline, BlockRange range,
                     const absl::Status& error, absl::Status* worst) const;
  Task<absl::StatusOr<std::vector<BlockExtent>>> ReadBlockwise(TimelineId timeline, Position as_of,
                                                               BlockRange range,
                                                               absl::Span<std::byte> into);

  // replica_set_change.cc
  bool changing() const { return dropping_ && health_.ok(); }
  Task<void> DropFailed();
  Task<absl::Status> RecordOnAll(Members members, Membership next);
  Task<absl::Status> SwapWitness(Membership next);
  uint32_t FreeSlot() const;
  void TakeOut(Membership next, const Members& failed);
  void GoOffline(absl::Status why);

  Membership membership_;
  Witness* const witness_;
  uint64_t last_version_;  // the highest ever given to a membership, committed or not (R21)
  Members in_sync_;
  std::vector<std::unique_ptr<Member>> members_;  // with those that are out
  std::vector<Dropped> dropped_;
  size_t turn_ = 0;  // where the next PickReader begins
  absl::Status health_;

  uint64_t epoch_ = 0;  // counts who joined
  bool dropping_ = false;
  AsyncMutex change_;  // one change of the membership at a time
  bool stopping_ = false;
  Event changed_;
  CancelSource stop_;
  TaskScope scope_;
};

}  // namespace twofold
