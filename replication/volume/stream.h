// One volume's stream of entries (the pool's catalogue has one too, R39): gives Seqs, sends each
// entry to every in-sync replica in Seq order, and commits what all of them have (R2, R5, R6).
#pragma once

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "replication/pair/replica_set.h"
#include "replication/volume/range_lock.h"
#include "replication/volume/sequencer.h"
#include "storage/base/check.h"
#include "storage/base/histogram.h"
#include "storage/base/types.h"
#include "storage/io/block_device.h"
#include "storage/log/entry.h"
#include "storage/runtime/poller.h"
#include "storage/runtime/start_all.h"
#include "storage/runtime/task.h"

namespace twofold {

// What the changes of a pool's volumes have taken, each from where the one before ended.
struct ChangeLatency {
  LatencyHistogram order;      // room, locks, old bytes of partial blocks, checksums: until its Seq
  LatencyHistogram replicate;  // until every in-sync replica has it
  LatencyHistogram commit;  // until it is committed: what came before it in the order may lack yet
};

// Entries that get consecutive Seqs, and their payloads, which the caller keeps until Append
// returns.
struct Change {
  BlockRange range;  // the blocks that it changes; empty: none
  Durability durability = Durability::kDurable;
  ChangeLatency* latency = nullptr;  // counts it; may be null
  MonoNanos started = 0;             // of the call that it is for, where it is counted
  // Position, stamp and volume are filled in by the stream.
  absl::InlinedVector<LogEntry, 1> entries;
  absl::InlinedVector<absl::Span<const std::byte>, 1> payloads;  // one for each entry; may be empty

  void Add(LogEntry entry, absl::Span<const std::byte> payload) {
    entries.push_back(std::move(entry));
    payloads.push_back(payload);
  }
  BlockCount payload_blocks() const;
};

// Room on every replica for a change, from before its Seq until its entries are sent; given back if
// it comes to nothing (R6).
class Reservation {
 public:
  explicit Reservation(ReplicaSet* set) : set_(set) {}
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  ~Reservation() {
    if (held_) set_->Release(blocks_, entries_, epoch_);
  }

  // False: call Take.
  bool TryTake(BlockCount blocks, uint64_t entries);
  // kResourceExhausted: a set is full. kUnavailable, kAborted: a set failed.
  Task<absl::Status> Take(BlockCount blocks, uint64_t entries, RoomFor use);
  // The change turned out smaller.
  void GiveBackAllBut(BlockCount blocks, uint64_t entries);
  // Whether it is on every replica that counts now: one may have joined since (R23).
  bool covers() const { return held_ && epoch_ == set_->epoch(); }
  // The appends use it up.
  void Use() {
    TF_CHECK(covers());
    held_ = false;
  }

 private:
  ReplicaSet* const set_;
  BlockCount blocks_;
  uint64_t entries_ = 0;
  uint64_t epoch_ = 0;
  bool held_ = false;
};

class Stream {
 public:
  // Ends at `end`, all of it committed, with a last stamp of `last_stamp`. `set` outlives the
  // stream.
  Stream(VolumeId volume, ReplicaSet* set, Position end, WallNanos last_stamp)
      : volume_(volume), set_(set), sequencer_(set->generation(), end, last_stamp) {}

  // Gives Seqs and starts every append before it suspends the first time. Room for `change` was
  // reserved, and set->health() is OK. Gives up `hold` (may be null) once the Seqs are given.
  // Returns OK when every in-sync replica has all of it, and has been told to commit it, so that a
  // later read shows it. A replica that fails on it holds it up until it is out of the set. Else
  // set->health(): then it may be there after the next attach, or not.
  Task<absl::Status> Append(Change* change, RangeLock::Hold* hold);

  // The steps of Append, for a group of streams that takes one instant (R34): Begin, then the
  // appends by Send, all in one turn; when all have ended, and those that failed are out of the set
  // or it is offline, Finish, in one turn for all members; then Settled.
  void Begin(Change* change, Sequencer::Request* request);
  // The append of entry `entry` of `change` to one replica. Started in the order of entries.
  Task<absl::Status> Send(Change* change, size_t entry, const ReplicaSet::Member& member);
  // `ok`: every append of `request` succeeded, but for those to replicas that are out.
  void Finish(Sequencer::Request* request, bool ok);
  Task<absl::Status> Settled(Sequencer::Request* request);

  VolumeId volume() const { return volume_; }
  const Sequencer& sequencer() const { return sequencer_; }
  Sequencer& sequencer() { return sequencer_; }
  ReplicaSet* set() const { return set_; }

 private:
  const VolumeId volume_;
  ReplicaSet* const set_;
  Sequencer sequencer_;
};

}  // namespace twofold
