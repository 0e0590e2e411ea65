// Collects the descriptors of one segment, and writes them at its end when it is sealed (R15).
#pragma once

#include <cstdint>

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

  // Writes copies and trailer, durably. Every batch that was added is durable before, and the file
  // has room. A crash in the middle leaves a segment without valid copies. The builder outlives the
  // task.
  Task<absl::Status> Write(SegmentFile file);

 private:
  void Reserve(uint64_t bytes);

  const SegmentIdentity identity_;
  SealRecord seal_;
  AlignedBytes copies_;
};

}  // namespace twofold
