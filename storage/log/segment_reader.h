// Reads the batches of one segment: by its descriptors, by the copies at its end, or by looking at
// every block. For recovery, inspection and rebuilding; not for client reads.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/base/types.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/codec.h"
#include "storage/log/segment_files.h"
#include "storage/runtime/task.h"

namespace twofold {

class SegmentReader {
 public:
  // The file stays open while the reader lives; it may have been freed or even recycled: then
  // nothing verifies any more.
  explicit SegmentReader(SegmentFile file) : file_(std::move(file)) {}

  const SegmentFile& file() const { return file_; }

  // The batch whose descriptor starts at `block`. kNotFound: none verifies there. kUnavailable: the
  // device does not read.
  Task<absl::StatusOr<DecodedBatch>> ReadBatch(uint32_t block);
  // The used bytes of the descriptor that ReadBatch returned last; valid until the next call.
  absl::Span<const std::byte> last_descriptor() const { return last_descriptor_; }

  // So it is from before the segment's first batch until it is sealed, and while it is recycled.
  Task<absl::StatusOr<bool>> LastBlockIsZero();

  // kNotFound: not sealed, or damaged.
  Task<absl::StatusOr<SealRecord>> ReadTrailer();
  // All batches, from the copies at the end. kNotFound: not sealed, or damaged.
  Task<absl::StatusOr<std::vector<DecodedBatch>>> ReadCopies();

  // The batches from block 1 on, each where the one before ends, as far as they verify and continue
  // the chain.
  Task<absl::StatusOr<std::vector<DecodedBatch>>> ReadChain();

  // Every descriptor that starts in the blocks [first, end), wherever it is.
  Task<absl::StatusOr<std::vector<DecodedBatch>>> Scan(uint32_t first, uint32_t end);

  // Whether every payload block of the batch has its checksum.
  Task<absl::StatusOr<bool>> PayloadVerifies(const LoggedBatch& batch);

 private:
  // Blocks that are read at once; a descriptor fits.
  static constexpr uint32_t kWindowBlocks = 64;
  static_assert(kWindowBlocks >= kMaxDescriptorBlocks);

  // Puts `count` blocks from `block` on into the window, more where that costs nothing.
  Task<absl::Status> Load(uint32_t block, uint32_t count);
  Task<absl::Status> Read(uint32_t block, absl::Span<std::byte> into);
  absl::Span<const std::byte> Loaded(uint32_t block, uint32_t count) const;

  const SegmentFile file_;
  AlignedBytes window_;
  uint32_t window_first_ = 0;
  uint32_t window_count_ = 0;
  absl::Span<const std::byte> last_descriptor_;
};

}  // namespace twofold
