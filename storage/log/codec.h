// Encodes and decodes what the log keeps on disk: segment headers, batches, trailers. Pure: no I/O.
//
// docs/formats/log.md is the format, format.h its structs. Decoders accept any bytes: what does not
// verify is nothing, or kDataLoss; they never read outside of what they are given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/base/types.h"
#include "storage/log/format.h"
#include "storage/log/logged_batch.h"

namespace twofold {

// ---- Segment header -----------------------------------------------------------------------------

// One life of one segment file. What a descriptor or trailer must match to belong to it (R14).
struct SegmentIdentity {
  format::RawId store_id{};
  SegmentNumber segment;
  SlotIndex slot;
  Incarnation incarnation;
  format::RawId secret{};
  uint64_t segment_bytes = 0;

  bool operator==(const SegmentIdentity&) const = default;
  // Both derived from the secret.
  uint32_t CrcSeed() const;
  uint64_t Tag() const;
};

// Fills `block` (kBlockSize) as block 0 of the segment.
void EncodeHeaderBlock(const SegmentIdentity& identity, absl::Span<std::byte> block);

// Reads block 0. kNotFound: all zeros, no segment lives here. kDataLoss: neither copy verifies.
// kFailedPrecondition: made by a newer version.
absl::StatusOr<SegmentIdentity> DecodeHeaderBlock(absl::Span<const std::byte> block);

// ---- Batch --------------------------------------------------------------------------------------

// What the writer knows of a batch besides marks and entries.
struct BatchHeader {
  BatchNumber batch;
  uint32_t block = 0;
  uint32_t previous_checksum = 0;
  Incarnation incarnation;
  BatchNumber known_durable;
  CatalogueReference catalogue;
};

// Builds one descriptor after another in a buffer. No allocation.
class BatchEncoder {
 public:
  // `buffer`: kMaxDescriptorBlocks blocks; outlives the encoder.
  explicit BatchEncoder(absl::Span<std::byte> buffer);

  // Starts a descriptor. At most kMaxBatchCommitMarks.
  void Begin(absl::Span<const CommitMark> commits);

  // Bytes that an entry takes in a descriptor.
  static size_t EncodedBytes(const LogEntry& entry);
  // Blocks of payload that come with it.
  static uint32_t PayloadBlocks(const LogEntry& entry) {
    return static_cast<uint32_t>(entry.block_crcs.size());
  }
  // Whether the bounds of a batch leave room for it.
  bool Fits(const LogEntry& entry) const;
  // `entry` fits, and keeps the bounds of an entry (CheckEntry).
  void Add(const LogEntry& entry);

  // Completes the descriptor; returns its checksum.
  uint32_t Finish(const SegmentIdentity& identity, const BatchHeader& header);

  size_t used_bytes() const { return used_bytes_; }
  uint32_t descriptor_blocks() const {
    return static_cast<uint32_t>((used_bytes_ + kBlockSize - 1) / kBlockSize);
  }
  uint32_t payload_blocks() const { return payload_blocks_; }
  uint32_t entries() const { return entries_; }
  // The descriptor, its last block filled with zeros; after Finish.
  absl::Span<const std::byte> blocks() const {
    return buffer_.subspan(0, size_t{descriptor_blocks()} * kBlockSize);
  }

 private:
  const absl::Span<std::byte> buffer_;
  size_t used_bytes_ = 0;
  uint32_t payload_blocks_ = 0;
  uint32_t entries_ = 0;
  uint16_t commit_marks_ = 0;
};

// Whether the log can hold the entry: kinds, counts and sizes within their bounds.
// kInvalidArgument.
absl::Status CheckEntry(const LogEntry& entry);

// A batch as read back, with what only recovery looks at.
struct DecodedBatch {
  LoggedBatch batch;  // `durable` is false: the caller knows better
  BatchNumber known_durable;
  uint32_t checksum = 0;
  uint32_t used_bytes = 0;
  uint32_t payload_blocks = 0;
};

// The used bytes of a descriptor that may start with `bytes` (at least sizeof BatchDescriptor): a
// quick look, without its CRC. Nothing: it is none of this segment.
std::optional<uint32_t> PeekDescriptor(absl::Span<const std::byte> bytes,
                                       const SegmentIdentity& identity);

// Decodes and verifies the descriptor that `bytes` starts with; may be followed by anything.
// kDataLoss where it doesn't verify or breaks the format. The caller compares the place
// (`batch.start`) with where it was found.
absl::StatusOr<DecodedBatch> DecodeBatch(absl::Span<const std::byte> bytes,
                                         const SegmentIdentity& identity);

// Whether `batch` is the one that follows where `end` is: number and chain.
inline bool Continues(const LogPosition& end, const LoggedBatch& batch) {
  return batch.start.batch == end.batch && batch.start.previous_checksum == end.previous_checksum;
}

// ---- The end of a sealed segment (R15) ----------------------------------------------------------

struct SealRecord {
  uint32_t first_block = 0;  // of the copies
  uint64_t copies_bytes = 0;
  uint64_t batches = 0;
  BatchNumber first_batch;
  BatchNumber last_batch;
  uint32_t previous_checksum = 0;  // of the first batch
  uint32_t last_checksum = 0;
  uint32_t end_block = 0;
  uint32_t copies_crc = 0;
  SegmentNumber next_segment;  // that was opened before this one was sealed; 0: not known
  bool operator==(const SealRecord&) const = default;
};

// Blocks at a segment's end that copies of so many bytes take, with the trailer.
constexpr uint64_t SealBlocks(uint64_t copies_bytes) {
  return (copies_bytes + format::kTrailerBytes + kBlockSize - 1) / kBlockSize;
}

// Fills the last 1024 bytes of `block`, the segment's last; the rest of it stays.
void EncodeTrailer(const SegmentIdentity& identity, const SealRecord& seal,
                   absl::Span<std::byte> block);
// Reads the trailer from the segment's last block. kDataLoss: there is none of this segment's life.
absl::StatusOr<SealRecord> DecodeTrailer(absl::Span<const std::byte> block,
                                         const SegmentIdentity& identity);
// The copy of the header in the segment's last block. kDataLoss where it or the trailer with it
// doesn't verify.
absl::StatusOr<SegmentIdentity> DecodeHeaderFromTrailer(absl::Span<const std::byte> block);

// The segment that the descriptor at the head of a segment names, where its header is damaged and
// nothing of it can be verified: a hint. Nothing: there is none of this store.
std::optional<SegmentNumber> PeekSegment(absl::Span<const std::byte> block,
                                         const format::RawId& store_id);

// ---- Bodies of the log's own records
// -------------------------------------------------------------

struct CutRecord {
  LogPosition cut;  // where recovery ended the log
  Incarnation last_incarnation;
  bool operator==(const CutRecord&) const = default;
};
std::string EncodeCut(const CutRecord& cut);
absl::StatusOr<CutRecord> DecodeCut(absl::string_view body);  // kDataLoss

// ---- Room (docs/formats/log.md)
// ------------------------------------------------------------------

// What one entry alone takes besides its payload: descriptor, covering batch, the copies of both.
inline constexpr uint64_t kEntryOverheadBlocks = 6;
// At a segment's end less than one entry's cost stays unused.
inline constexpr uint64_t kUnusableBlocks = kMaxEntryBlocks + kEntryOverheadBlocks - 1;

// Blocks that a batch without entries takes at most, and bytes of its copy.
inline constexpr uint64_t kCoverBlocks = 1;
inline constexpr uint64_t kCoverBytes =
    sizeof(format::BatchDescriptor) + kMaxBatchCommitMarks * sizeof(format::CommitMark);
static_assert(kCoverBytes <= kCoverBlocks * kBlockSize);
static_assert(kEntryOverheadBlocks * kBlockSize >= 2 * kBlockSize + kCoverBlocks * kBlockSize +
                                                       format::kMaxLoneDescriptorBytes +
                                                       kCoverBytes);

constexpr uint64_t SegmentBlocks(uint64_t segment_bytes) { return segment_bytes / kBlockSize; }

constexpr uint64_t UsableBlocks(uint64_t segment_blocks) {
  return segment_blocks - 1 - SealBlocks(0) - kUnusableBlocks;
}
static_assert(SegmentBlocks(kMinSegmentBytes) > 2 + 2 * kUnusableBlocks);

// What is left of the open segment: `next_block` is the next free one, `copies_bytes` what its
// descriptors take so far.
constexpr uint64_t BlocksLeft(uint64_t segment_blocks, uint64_t next_block, uint64_t copies_bytes) {
  const uint64_t taken = next_block + SealBlocks(copies_bytes) + kUnusableBlocks;
  return taken < segment_blocks ? segment_blocks - taken : 0;
}

// Whether a batch fits, so that an empty one and the seal still fit after it.
constexpr bool BatchFits(uint64_t segment_blocks, uint64_t next_block, uint64_t copies_bytes,
                         uint64_t batch_blocks, uint64_t descriptor_bytes) {
  return next_block + batch_blocks + kCoverBlocks +
             SealBlocks(copies_bytes + descriptor_bytes + kCoverBytes) <=
         segment_blocks;
}

}  // namespace twofold
