// A volume: byte ranges in, ordered durable writes out.
//
//   Write, WriteZeroes, Trim -> room on all sets -> (old bytes of partial blocks, under a lock)
//                            -> admission, Seq, appends to all sets -> commit -> answer
//   Read, BlockStatus        -> writes in flight -> any set -> writes that came meanwhile -> answer
//   (R7)
//
// Clients come through a Mount; its comments are the contract of the calls. The pool administers:
// one such call at a time. Belongs to one executor. Requests in flight are bounded by
// kMaxInFlightPerVolume, further ones wait in order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "replication/pair/replica_set.h"
#include "replication/volume/ack_mode.h"
#include "replication/volume/mount.h"
#include "replication/volume/on_set_loss.h"
#include "replication/volume/range_lock.h"
#include "replication/volume/stream.h"
#include "storage/base/limits.h"
#include "storage/base/types.h"
#include "storage/io/buffer_pool.h"
#include "storage/map/catalogue.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task.h"

namespace twofold {

// What the volumes of a pool share; outlives them.
struct VolumeParts {
  ReplicaSet* set = nullptr;
  BufferPool* buffers = nullptr;  // clients' payloads, in and out
  // Old blocks of read-modify-writes. Apart from `buffers`, which clients may have used up while
  // they wait for just these.
  BufferPool* scratch = nullptr;
  ChangeLatency* writes = nullptr;  // counts Write alone
};

class Volume {
 public:
  // As the catalogue has it; its stream ends at `end`.
  Volume(const VolumeRecord& record, VolumeParts parts, Position end, WallNanos last_stamp);
  Volume(const Volume&) = delete;
  Volume& operator=(const Volume&) = delete;
  // No mount and no call is left.
  ~Volume();

  VolumeId id() const { return stream_.volume(); }
  const std::string& name() const { return name_; }
  uint64_t size_bytes() const { return size_bytes_; }
  AckMode ack() const { return ack_; }
  // kUnavailable while its writes are held because a set is missing (R28).
  absl::Status CheckNotBlocked() const;
  TimelineId timeline() const { return timeline_; }
  Position position() const { return stream_.sequencer().committed(); }
  Stream& stream() { return stream_; }
  BufferPool& buffers() { return *parts_.buffers; }

  // ---- For Mount ----
  void Register(Mount* mount) { mounts_.insert(mount); }
  void Unregister(Mount* mount) { mounts_.erase(mount); }
  Task<absl::StatusOr<ReadReply>> Read(const Mount& mount, uint64_t offset, uint64_t length);
  Task<absl::StatusOr<std::vector<ByteExtent>>> BlockStatus(const Mount& mount, uint64_t offset,
                                                            uint64_t length, size_t max_extents);
  Task<absl::Status> Write(const Mount& mount, uint64_t offset, uint64_t length, Buffer payload,
                           bool fua);
  Task<absl::Status> WriteZeroes(const Mount& mount, uint64_t offset, uint64_t length,
                                 ZeroOptions options);
  Task<absl::Status> Trim(const Mount& mount, uint64_t offset, uint64_t length, bool fua);
  Task<absl::Status> Flush(const Mount& mount);

  // ---- For the pool: one call at a time ----

  // Mounts of the volume itself, and of all its snapshots or of the one frozen at `as_of`.
  size_t head_mounts() const;
  size_t snapshot_mounts() const { return mounts_.size() - head_mounts(); }
  size_t mounts_of(TimelineId timeline, Position as_of) const;
  // From now on every call through the mounts fails with kAborted and `why`; their sessions hang
  // up.
  void RevokeHeadMounts(const std::string& why);
  void RevokeAllMounts(const std::string& why);

  // Between Close and Open nothing new gets a Seq, and no mount can be made: whoever wants one
  // waits. Close returns when nothing is in flight.
  Task<void> CloseAdmission();
  void OpenAdmission();
  bool admission_closed() const { return admission_closed_; }

  // Appends records without payload past the admission gate, all under consecutive Seqs; room is
  // taken as for `use`. Committed when it returns OK.
  Task<absl::Status> AppendRecords(std::vector<LogEntry> entries, BlockRange range, RoomFor use);

  // What was committed before is durable on every set.
  Task<absl::Status> MakeRecordsDurable();

  // After the record of it is committed.
  void SetSize(uint64_t size_bytes) { size_bytes_ = size_bytes; }
  void SetTimeline(TimelineId timeline) { timeline_ = timeline; }

  // Returns when no call of a client is under way any more. The mounts were revoked.
  Task<void> WaitForCalls();

 private:
  // The slots of kMaxInFlightPerVolume, for the length of a call.
  class Slot {
   public:
    explicit Slot(Semaphore* slots) : slots_(slots) {}
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    ~Slot() { slots_->Release(1); }

   private:
    Semaphore* slots_;
  };

  // volume.cc
  absl::Status CheckRange(const Mount& mount, uint64_t offset, uint64_t length) const;
  void Revoke(Mount* mount, const std::string& why);

  // volume_read.cc
  Task<absl::StatusOr<std::vector<BlockExtent>>> ReadBlocks(TimelineId timeline, Position as_of,
                                                            BlockRange range,
                                                            absl::Span<std::byte> into);
  Task<void> WaitForWrites(BlockRange range);

  // volume_write.cc
  absl::Status CheckWritable(const Mount& mount) const;
  bool HeldBack(const Mount& mount) const;
  Task<absl::Status> WaitWhileHeldBack(const Mount& mount);
  absl::Status CheckChange(const Mount& mount, uint64_t offset, uint64_t length) const;
  LogEntry NewEntry(EntryKind kind, const Mount& mount, BlockRange range) const;
  void AddWrites(const Mount& mount, BlockRange range, absl::Span<const std::byte> payload,
                 Change* change) const;
  Task<absl::Status> LockRange(BlockRange range, RangeLock::Hold* hold);
  Task<absl::Status> FillPartialBlocks(const Mount& mount, uint64_t offset, uint64_t length,
                                       absl::Span<std::byte> payload);
  Task<absl::Status> ZeroPiece(const Mount& mount, uint64_t offset, uint64_t length,
                               ZeroOptions options);
  Task<absl::Status> ZeroPieceOnce(const Mount& mount, uint64_t offset, uint64_t length,
                                   ZeroOptions options, bool* again);
  Task<absl::Status> ZeroPartialBlocks(const Mount& mount, uint64_t offset, uint64_t length,
                                       bool allocate, absl::Span<std::byte> blocks,
                                       absl::InlinedVector<BlockIndex, 2>* changed);
  Task<absl::Status> Submit(const Mount& mount, Change* change, Reservation* room,
                            RangeLock::Hold* hold, bool fua, bool* again);
  Durability durability() const;

  const std::string name_;
  const AckMode ack_;
  const OnSetLoss on_set_loss_;
  const VolumeParts parts_;
  uint64_t size_bytes_;
  TimelineId timeline_;
  Stream stream_;

  absl::flat_hash_set<Mount*> mounts_;
  Semaphore slots_{kMaxInFlightPerVolume};
  RangeLock range_lock_;
  bool admission_closed_ = false;
  Event admission_opened_;
};

}  // namespace twofold
