// What the log keeps on disk: headers, descriptors, trailers, the bodies of its own records, what
// the cleaner and a resync log. Any bytes: nothing, an error, or something that comes back the same
// from its own encoding. A checksum stops almost every input, so each record is tried a second time
// as if it had verified: what is behind the checksum must hold by itself, too.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/codec.h"
#include "storage/map/moved_record.h"
#include "storage/store/resync_record.h"

namespace twofold {
namespace {

using Bytes = std::vector<std::byte>;

SegmentIdentity Identity() {
  SegmentIdentity identity;
  identity.store_id.fill(0xa0);
  identity.secret.fill(0x50);
  identity.segment = SegmentNumber(7);
  identity.slot = SlotIndex(3);
  identity.incarnation = Incarnation(2);
  identity.segment_bytes = kMinSegmentBytes;
  return identity;
}

template <typename T>
void Put(const T& value, size_t at, Bytes& bytes) {
  std::memcpy(bytes.data() + at, &value, sizeof(value));
}

// All records have their checksum at the same place.
void PutCrc(size_t at, size_t length, uint32_t seed, Bytes& bytes) {
  const absl::Span<const std::byte> covered = absl::MakeConstSpan(bytes).subspan(
      at + format::kCrcCoversFrom, length - format::kCrcCoversFrom);
  Put(format::little_uint32_t(ExtendCrc32c(seed, covered)),
      at + offsetof(format::BatchDescriptor, crc), bytes);
}

void CheckBatch(const DecodedBatch& decoded) {
  const LoggedBatch& batch = decoded.batch;
  TF_CHECK_LE(batch.items.size(), kMaxBatchEntries);
  TF_CHECK_LE(batch.commits.size(), kMaxBatchCommitMarks);
  TF_CHECK_LE(batch.end.block, SegmentBlocks(kMinSegmentBytes));
  TF_CHECK_LT(decoded.known_durable, batch.start.batch);
  AlignedBytes buffer(kMaxDescriptorBlocks * kBlockSize);
  BatchEncoder encoder(buffer.span());
  encoder.Begin(batch.commits);
  for (const LoggedBatch::Item& item : batch.items) {
    TF_CHECK_OK(CheckEntry(item.entry));
    TF_CHECK(encoder.Fits(item.entry));
    encoder.Add(item.entry);
  }
  encoder.Finish(Identity(), {batch.start.batch, batch.start.block, batch.start.previous_checksum,
                              batch.incarnation, decoded.known_durable, batch.catalogue});
  const auto again = DecodeBatch(buffer.span().subspan(0, encoder.used_bytes()), Identity());
  TF_CHECK_OK(again.status());
  TF_CHECK_EQ(again->batch.items.size(), batch.items.size());
  for (size_t i = 0; i < batch.items.size(); ++i) {
    TF_CHECK(again->batch.items[i].entry == batch.items[i].entry);
    TF_CHECK(again->batch.items[i].payload == batch.items[i].payload);
  }
  TF_CHECK(again->batch.commits == batch.commits);
  TF_CHECK(again->batch.start == batch.start);
}

void TryBatch(Bytes bytes) {
  TF_CHECK(!DecodeBatch(bytes, Identity()).ok()) << "a checksum was guessed";
  if (bytes.size() < sizeof(format::BatchDescriptor)) return;
  bytes.resize(std::min(bytes.size(), kMaxDescriptorBlocks * kBlockSize));
  Put(format::kBatchMagic, offsetof(format::BatchDescriptor, magic), bytes);
  Put(format::little_uint32_t(static_cast<uint32_t>(bytes.size())),
      offsetof(format::BatchDescriptor, used_bytes), bytes);
  Put(format::little_uint64_t(Identity().Tag()), offsetof(format::BatchDescriptor, tag), bytes);
  Put(Identity().store_id, offsetof(format::BatchDescriptor, store_id), bytes);
  Put(format::little_uint64_t(Identity().segment.value()),
      offsetof(format::BatchDescriptor, segment), bytes);
  PutCrc(0, bytes.size(), Identity().CrcSeed(), bytes);
  const auto decoded = DecodeBatch(bytes, Identity());
  if (decoded.ok()) return CheckBatch(*decoded);
  TF_CHECK(absl::IsDataLoss(decoded.status()));
}

void TryHeader(Bytes block) {
  block.resize(kBlockSize);
  (void)DecodeHeaderBlock(block);
  Put(format::kHeaderMagic, offsetof(format::SegmentHeader, magic), block);
  PutCrc(0, sizeof(format::SegmentHeader), 0, block);
  const auto decoded = DecodeHeaderBlock(block);
  if (!decoded.ok()) return;
  Bytes again(kBlockSize);
  EncodeHeaderBlock(*decoded, absl::MakeSpan(again));
  const auto twice = DecodeHeaderBlock(again);
  TF_CHECK_OK(twice.status());
  TF_CHECK(*twice == *decoded);
}

void TryTrailer(Bytes block) {
  block.resize(kBlockSize);
  TF_CHECK(!DecodeTrailer(block, Identity()).ok());
  (void)DecodeHeaderFromTrailer(block);
  const size_t at = format::kTrailerOffset;
  // The input's beginning is where the trailer is.
  std::copy_n(block.begin(), sizeof(format::SegmentTrailer),
              block.begin() + static_cast<ptrdiff_t>(at));
  Put(format::kTrailerMagic, at + offsetof(format::SegmentTrailer, magic), block);
  Put(format::little_uint64_t(Identity().Tag()), at + offsetof(format::SegmentTrailer, tag), block);
  Put(format::little_uint64_t(Identity().segment.value()),
      at + offsetof(format::SegmentTrailer, segment), block);
  PutCrc(at, sizeof(format::SegmentTrailer), Identity().CrcSeed(), block);
  const auto seal = DecodeTrailer(block, Identity());
  if (!seal.ok()) return;
  // A reader takes so many blocks into memory and looks there.
  TF_CHECK_LE(seal->first_block + SealBlocks(seal->copies_bytes), SegmentBlocks(kMinSegmentBytes));
  TF_CHECK_LE(seal->end_block, seal->first_block);
  Bytes again(kBlockSize);
  EncodeTrailer(Identity(), *seal, absl::MakeSpan(again));
  const auto twice = DecodeTrailer(again, Identity());
  TF_CHECK_OK(twice.status());
  TF_CHECK(*twice == *seal);
}

void TryCut(absl::string_view bytes) {
  const absl::StatusOr<CutRecord> cut = DecodeCut(bytes);
  if (!cut.ok()) return;
  // But for what is reserved.
  const absl::StatusOr<CutRecord> again = DecodeCut(EncodeCut(*cut));
  TF_CHECK_OK(again.status());
  TF_CHECK(*again == *cut);
}

template <typename T>
void TryBody(const absl::StatusOr<T>& decoded, std::string (*encode)(const T&),
             absl::string_view bytes) {
  if (decoded.ok()) {
    TF_CHECK_EQ(encode(*decoded), bytes);
  } else {
    TF_CHECK(absl::IsDataLoss(decoded.status())) << decoded.status();
  }
}

// What was decoded has one encoding from then on, also where the bytes had another.
template <typename T>
void TryRecord(const absl::StatusOr<T>& decoded, std::string (*encode)(const T&),
               absl::StatusOr<T> (*decode)(absl::string_view)) {
  if (!decoded.ok()) {
    TF_CHECK(absl::IsDataLoss(decoded.status())) << decoded.status();
    return;
  }
  const absl::StatusOr<T> again = decode(encode(*decoded));
  TF_CHECK_OK(again.status());
  TF_CHECK(*again == *decoded);
}

void TryResyncBodies(absl::string_view text) {
  TryRecord<VoidBody>(DecodeVoid(text), EncodeVoid, DecodeVoid);
  TryRecord<std::vector<Run>>(DecodeFillZeros(text), EncodeFillZeros, DecodeFillZeros);
  TryRecord<ResyncSpan>(DecodeResyncSpan(text), EncodeResyncSpan, DecodeResyncSpan);
}

}  // namespace
}  // namespace twofold

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* begin = reinterpret_cast<const std::byte*>(data);
  const twofold::Bytes bytes(begin, begin + size);
  twofold::TryBatch(bytes);
  twofold::TryHeader(bytes);
  twofold::TryTrailer(bytes);
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  twofold::TryCut(text);
  twofold::TryBody(twofold::DecodeMovedBlocks(text), twofold::EncodeMovedBlocks, text);
  twofold::TryBody(twofold::DecodeMovedZeros(text), twofold::EncodeMovedZeros, text);
  twofold::TryResyncBodies(text);
  return 0;
}
