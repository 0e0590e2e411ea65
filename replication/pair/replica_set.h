// The in-sync replicas of a pool, kept as one: room on all of them, commits to all, reads from any.
//
// In this release no replica is ever dropped: the first one that fails stops the writes of every
// volume (P6: nobody falls behind in silence), and a person restarts the pool when its cause is
// gone. Reads go on from the replicas that are whole. That is safe (P3): a replica shows an entry
// only once it is committed, and what is committed is on every in-sync replica; the next attach
// needs all of them again and finds everything that was ever shown. An entry that was under way
// when the replica failed is shown by nobody until then.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "replication/replica.h"
#include "storage/base/types.h"
#include "storage/map/extent.h"
#include "storage/runtime/task.h"

namespace twofold {

class ReplicaSet {
 public:
  // All sealed at `generation` and level. They outlive the set.
  ReplicaSet(std::vector<Replica*> in_sync, Generation generation);

  Generation generation() const { return generation_; }
  const std::vector<Replica*>& in_sync() const { return in_sync_; }
  // Of a replica that has not failed, while there is one.
  const Catalogue& catalogue() const;

  // OK, or why no write is taken any more: kUnavailable with the set, the reason and what to do;
  // kAborted when another head has taken over.
  const absl::Status& health() const { return health_; }
  // Asks the replicas, which may have failed without being used.
  const absl::Status& CheckHealth();
  // `replica` returned `reason`, and counts as failed from now on.
  void Fail(const Replica* replica, const absl::Status& reason);

  // Room on every replica, or on none (R6, M22); see Replica::Reserve. An error of Reserve other
  // than kResourceExhausted is that of health().
  bool TryReserve(BlockCount blocks, uint64_t entries);
  Task<absl::Status> Reserve(BlockCount blocks, uint64_t entries, RoomFor use);
  void Release(BlockCount blocks, uint64_t entries);

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
  struct Member {
    Replica* replica = nullptr;
    bool failed = false;
    uint64_t reading = 0;  // reads under way
  };

  // Of the healthy members not in `tried` the one with the fewest reads under way, in turn where
  // there are several; null when none is left. Puts it into `tried`.
  Member* PickReader(uint32_t* tried);
  // Keeps the error to report, should no replica have the blocks; writes each to the log.
  void NoteReadError(const Member& member, TimelineId timeline, BlockRange range,
                     const absl::Status& error, absl::Status* worst) const;
  Task<absl::StatusOr<std::vector<BlockExtent>>> ReadBlockwise(TimelineId timeline, Position as_of,
                                                               BlockRange range,
                                                               absl::Span<std::byte> into);

  const std::vector<Replica*> in_sync_;
  const Generation generation_;
  std::vector<Member> members_;  // of in_sync_, in its order
  size_t turn_ = 0;              // where the next PickReader begins
  absl::Status health_;
};

}  // namespace twofold
