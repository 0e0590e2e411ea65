// The bytes of the segment log, line by line as in docs/formats/log.md. Integers are little-endian
// and unaligned, so each struct is exactly what lies on disk; copy it in and out with memcpy.
#pragma once

#include <array>
#include <boost/endian/arithmetic.hpp>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "storage/base/limits.h"

namespace twofold::format {

using boost::endian::little_uint16_t;
using boost::endian::little_uint32_t;
using boost::endian::little_uint64_t;
using Magic = std::array<char, 8>;
using RawId = std::array<uint8_t, 16>;

inline constexpr uint32_t kLogVersion = 1;
inline constexpr Magic kHeaderMagic{'T', 'F', '2', 'S', 'E', 'G', 'M', 'T'};
inline constexpr Magic kBatchMagic{'T', 'F', '2', 'B', 'A', 'T', 'C', 'H'};
inline constexpr Magic kTrailerMagic{'T', 'F', '2', 'S', 'E', 'A', 'L', 'D'};

// A sector is written whole or not at all.
inline constexpr size_t kSectorBytes = 512;

struct SegmentHeader {
  Magic magic;
  little_uint32_t crc;  // from here on to the end of the struct
  little_uint32_t version;
  RawId store_id;
  little_uint64_t segment;
  little_uint64_t slot;
  little_uint64_t incarnation;
  RawId secret;
  little_uint64_t segment_bytes;
  std::array<uint8_t, 432> reserved;
};
inline constexpr size_t kHeaderCopy1Offset = 0;     // bytes, in block 0
inline constexpr size_t kHeaderCopy2Offset = 3584;  // bytes, in block 0
static_assert(sizeof(SegmentHeader) == kSectorBytes);
static_assert(offsetof(SegmentHeader, crc) == 8);
static_assert(offsetof(SegmentHeader, version) == 12);
static_assert(offsetof(SegmentHeader, store_id) == 16);
static_assert(offsetof(SegmentHeader, segment) == 32);
static_assert(offsetof(SegmentHeader, slot) == 40);
static_assert(offsetof(SegmentHeader, incarnation) == 48);
static_assert(offsetof(SegmentHeader, secret) == 56);
static_assert(offsetof(SegmentHeader, segment_bytes) == 72);
static_assert(kHeaderCopy2Offset % kSectorBytes == 0);
static_assert(kHeaderCopy2Offset + sizeof(SegmentHeader) == kBlockSize);

struct BatchDescriptor {
  Magic magic;
  little_uint32_t crc;  // from here on to used_bytes, continued from the segment's seed
  little_uint32_t used_bytes;
  little_uint64_t tag;
  RawId store_id;
  little_uint64_t segment;
  little_uint32_t block;
  little_uint32_t payload_blocks;
  little_uint64_t batch;
  little_uint64_t incarnation;
  little_uint64_t known_durable;
  little_uint64_t catalogue_segment;
  little_uint64_t catalogue_batch;
  little_uint32_t previous_checksum;
  little_uint32_t entries;
  little_uint16_t commit_marks;
  std::array<uint8_t, 6> reserved;
};
static_assert(sizeof(BatchDescriptor) == 112);
static_assert(offsetof(BatchDescriptor, crc) == 8);
static_assert(offsetof(BatchDescriptor, used_bytes) == 12);
static_assert(offsetof(BatchDescriptor, tag) == 16);
static_assert(offsetof(BatchDescriptor, store_id) == 24);
static_assert(offsetof(BatchDescriptor, segment) == 40);
static_assert(offsetof(BatchDescriptor, block) == 48);
static_assert(offsetof(BatchDescriptor, payload_blocks) == 52);
static_assert(offsetof(BatchDescriptor, batch) == 56);
static_assert(offsetof(BatchDescriptor, incarnation) == 64);
static_assert(offsetof(BatchDescriptor, known_durable) == 72);
static_assert(offsetof(BatchDescriptor, catalogue_segment) == 80);
static_assert(offsetof(BatchDescriptor, catalogue_batch) == 88);
static_assert(offsetof(BatchDescriptor, previous_checksum) == 96);
static_assert(offsetof(BatchDescriptor, entries) == 100);
static_assert(offsetof(BatchDescriptor, commit_marks) == 104);

struct CommitMark {
  little_uint64_t volume;
  little_uint64_t generation;
  little_uint64_t seq;
};
static_assert(sizeof(CommitMark) == 24);

struct Entry {
  uint8_t kind;
  uint8_t reserved;
  little_uint16_t body_bytes;
  little_uint32_t checksums;
  little_uint64_t volume;
  little_uint64_t timeline;
  little_uint64_t first_block;
  little_uint64_t block_count;
  little_uint64_t generation;
  little_uint64_t seq;
  little_uint64_t stamp;
  // Then the checksums, 4 bytes each, and the body, padded to a multiple of 4 bytes.
};
inline constexpr size_t kEntryAlignment = 4;  // bytes
static_assert(sizeof(Entry) == 64);
static_assert(offsetof(Entry, body_bytes) == 2);
static_assert(offsetof(Entry, checksums) == 4);
static_assert(offsetof(Entry, volume) == 8);
static_assert(offsetof(Entry, timeline) == 16);
static_assert(offsetof(Entry, first_block) == 24);
static_assert(offsetof(Entry, block_count) == 32);
static_assert(offsetof(Entry, generation) == 40);
static_assert(offsetof(Entry, seq) == 48);
static_assert(offsetof(Entry, stamp) == 56);

struct CutBody {
  little_uint64_t batch;
  little_uint64_t segment;
  little_uint32_t block;
  little_uint32_t previous_checksum;
  little_uint64_t last_incarnation;
  little_uint64_t reserved;
};
static_assert(sizeof(CutBody) == 40);

struct SegmentTrailer {
  Magic magic;
  little_uint32_t crc;  // from here on to the end of the struct, continued from the segment's seed
  little_uint32_t first_block;
  little_uint64_t tag;
  little_uint64_t segment;
  little_uint64_t copies_bytes;
  little_uint64_t batches;
  little_uint64_t first_batch;
  little_uint64_t last_batch;
  little_uint32_t previous_checksum;
  little_uint32_t last_checksum;
  little_uint32_t end_block;
  little_uint32_t copies_crc;
  little_uint64_t next_segment;
  std::array<uint8_t, 424> reserved;
};
// In the last block of a segment: the header's copy, then the trailer.
inline constexpr size_t kTrailerHeaderOffset = 3072;  // bytes
inline constexpr size_t kTrailerOffset = 3584;        // bytes
inline constexpr size_t kTrailerBytes = 1024;         // both
static_assert(sizeof(SegmentTrailer) == kSectorBytes);
static_assert(offsetof(SegmentTrailer, crc) == 8);
static_assert(offsetof(SegmentTrailer, first_block) == 12);
static_assert(offsetof(SegmentTrailer, tag) == 16);
static_assert(offsetof(SegmentTrailer, segment) == 24);
static_assert(offsetof(SegmentTrailer, copies_bytes) == 32);
static_assert(offsetof(SegmentTrailer, batches) == 40);
static_assert(offsetof(SegmentTrailer, first_batch) == 48);
static_assert(offsetof(SegmentTrailer, last_batch) == 56);
static_assert(offsetof(SegmentTrailer, previous_checksum) == 64);
static_assert(offsetof(SegmentTrailer, last_checksum) == 68);
static_assert(offsetof(SegmentTrailer, end_block) == 72);
static_assert(offsetof(SegmentTrailer, copies_crc) == 76);
static_assert(kTrailerHeaderOffset + kTrailerBytes == kBlockSize);

// The CRC of a struct starts behind its crc field, which stands at the same place in all of them.
inline constexpr size_t kCrcCoversFrom = 12;

// The largest descriptor of one entry alone in its batch.
inline constexpr size_t kMaxLoneDescriptorBytes =
    sizeof(BatchDescriptor) + kMaxBatchCommitMarks * sizeof(CommitMark) + sizeof(Entry) +
    kMaxEntryBlocks * sizeof(uint32_t) + kMaxEntryBodyBytes;
static_assert(kMaxLoneDescriptorBytes == 6832);
static_assert(kMaxEntryBodyBytes % kEntryAlignment == 0);
static_assert(kMaxLoneDescriptorBytes <= kMaxDescriptorBlocks * kBlockSize);

static_assert(std::is_trivially_copyable_v<SegmentHeader> && alignof(SegmentHeader) == 1);
static_assert(std::is_trivially_copyable_v<BatchDescriptor> && alignof(BatchDescriptor) == 1);
static_assert(std::is_trivially_copyable_v<Entry> && alignof(Entry) == 1);
static_assert(std::is_trivially_copyable_v<SegmentTrailer> && alignof(SegmentTrailer) == 1);

}  // namespace twofold::format
