// SHARED CONTRACT. A client's hold on a volume, or on one of its snapshots: what an NBD session
// talks to.
//
// A mount of "vol" reads and writes the volume's current timeline; a mount of "vol@snap" reads one
// frozen epoch. A rollback or a deletion by force revokes the mounts there are: from then on every
// call fails with kAborted, so that a session of the old timeline can't write into the new one
// (R37).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/types.h"
#include "storage/io/buffer_pool.h"
#include "storage/runtime/task.h"

namespace twofold {

class Volume;

// What a stretch of bytes is. A hole takes no space and reads as zeros.
struct ByteExtent {
  uint64_t length = 0;  // bytes, > 0
  bool hole = false;
  bool operator==(const ByteExtent&) const = default;
};

// The bytes asked for, in a buffer of whole blocks.
struct ReadReply {
  Buffer buffer;
  size_t skip = 0;  // bytes of the buffer before the first one asked for
  std::vector<ByteExtent>
      extents;  // cover exactly what was asked; holes are zeros in the buffer too
};

struct ZeroOptions {
  bool fua = false;  // durable on both sets when it returns
  bool allocate =
      false;  // NBD's NO_HOLE: the range must take space afterwards (real zeros are written)
};

class Mount {
 public:
  // A frozen epoch (`as_of` < kLastPosition) is read-only and was `frozen_bytes` long; the head is
  // as long as the volume. Registers with the volume, which outlives the mount.
  Mount(Volume* volume, std::string name, TimelineId timeline, Position as_of,
        uint64_t frozen_bytes);
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  // No call may be under way. Unregisters.
  ~Mount();

  const std::string& name() const { return name_; }  // as the client asked for it
  bool read_only() const { return as_of_ < kLastPosition; }
  uint64_t size_bytes() const;  // a snapshot's: as it was
  // Where payloads come from; its bound is what makes a session stop reading.
  BufferPool& buffers();

  // Every call: kOutOfRange where offset + length passes the end, kInvalidArgument for length 0,
  // kPermissionDenied for a change through a read-only mount, kResourceExhausted when the store is
  // full, kDataLoss where no set has the block whole, kUnavailable when the volume is offline (a
  // set is missing), kAborted when the mount was revoked or the head fenced. Any byte offset and
  // length.
  //
  // length <= kMaxNbdRequestBytes.
  Task<absl::StatusOr<ReadReply>> Read(uint64_t offset, uint64_t length);

  // Writes `length` bytes that stand in `payload` from byte `offset % kBlockSize` on; the buffer
  // covers whole blocks, and its edges are filled in from the volume (read-modify-write). On return
  // the write is acknowledged: durable on every in-sync replica of both sets (P1), or, with
  // ack=written and no `fua`, written there. The write is one register operation per 4 KiB block
  // (P3, R5).
  Task<absl::Status> Write(uint64_t offset, uint64_t length, Buffer payload, bool fua);

  // Any length up to the volume's size: one log entry (R38), never a walk.
  Task<absl::Status> WriteZeroes(uint64_t offset, uint64_t length, ZeroOptions options);
  Task<absl::Status> Trim(uint64_t offset, uint64_t length, bool fua);

  // Covers every write answered on any mount of this volume before it was called (R33).
  Task<absl::Status> Flush();

  // The extents from `offset` on, at most `max_extents` (>= 1), neighbours of a kind merged; they
  // cover the range asked for or a beginning of it.
  Task<absl::StatusOr<std::vector<ByteExtent>>> BlockStatus(uint64_t offset, uint64_t length,
                                                            size_t max_extents);

  // Called once, from the executor, when the mount is revoked: the session hangs up.
  void OnRevoked(std::function<void()> callback) { on_revoked_ = std::move(callback); }
  // Asked right before a write gets its Seq; true (the client is gone) drops the write with
  // kCancelled (R9).
  void SetAbandonedProbe(std::function<bool()> probe) { abandoned_ = std::move(probe); }

 private:
  friend class Volume;

  Volume* volume_;
  std::string name_;
  TimelineId timeline_;
  Position as_of_;         // kLastPosition for the head
  uint64_t frozen_bytes_;  // of a snapshot
  absl::Status revoked_;   // why every call fails, once it was revoked
  std::function<void()> on_revoked_;
  std::function<bool()> abandoned_;
};

}  // namespace twofold
