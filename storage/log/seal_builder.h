// Collects the descriptors of one segment, and writes them at its end when it is sealed (R15).
#pragma once

#include <cstdint>
#include <deque>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/codec.h"
#include "storage/log/segment_files.h"
#include "storage/runtime/task.h"

namespace twofold {

class SealBuilder {
 public:
  explicit SealBuilder(const SegmentIdentity& identity) : identity_(identity) {
    seal_.copies_crc = identity.CrcSeed();
  }

  // The used bytes of the next descriptor, and the places where its batch starts and ends.
  void Add(absl::Span<const std::byte> descriptor, const LogPosition& start,
           const LogPosition& end);
  uint64_t bytes() const { return seal_.copies_bytes; }
  bool empty() const { return seal_.batches == 0; }

  // Writes copies and trailer, durably, with `next`, the segment that was opened after this one (0:
  // none is known), in pieces between which the log's batches get their turn at
  // the device. Every batch that was added is durable before, and the file has room. A crash in the
  // middle leaves a segment without valid copies. The builder outlives the task.
  Task<absl::Status> Write(SegmentFile file, SegmentNumber next);

 private:
  // The piece that the byte at `offset` belongs to, from that byte on; made if it is not there yet.
  absl::Span<std::byte> From(uint64_t offset);

  const SegmentIdentity identity_;
  SealRecord seal_;
  std::deque<AlignedBytes> pieces_;  // of kDevicePieceBytes each
};

}  // namespace twofold
