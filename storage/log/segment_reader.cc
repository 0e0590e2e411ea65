#include "storage/log/segment_reader.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

// A segment of small writes has thousands of descriptors: others get their turn in between.
constexpr size_t kBatchesInOneTurn = 256;

}  // namespace

Task<absl::Status> SegmentReader::Read(uint32_t block, absl::Span<std::byte> into) {
  const iovec piece = Piece(into);
  absl::Status read = co_await file_.device->Read(file_.handle, uint64_t{block} * kBlockSize,
                                                  absl::MakeConstSpan(&piece, 1));
  // Damage, not a device that fails.
  if (absl::IsOutOfRange(read)) read = absl::NotFoundError(read.message());
  co_return Annotate(read, absl::StrCat("reading ", file_.Describe(), " at block ", block));
}

absl::Span<const std::byte> SegmentReader::Loaded(uint32_t block, uint32_t count) const {
  TF_CHECK(block >= window_first_ && block + count <= window_first_ + window_count_);
  return window_.span().subspan(size_t{block - window_first_} * kBlockSize,
                                size_t{count} * kBlockSize);
}

Task<absl::Status> SegmentReader::Load(uint32_t block, uint32_t count) {
  TF_CHECK(count <= kWindowBlocks && block + count <= file_.blocks());
  if (block >= window_first_ && block + count <= window_first_ + window_count_) {
    co_return absl::OkStatus();
  }
  if (window_.size() == 0) window_ = AlignedBytes(size_t{kWindowBlocks} * kBlockSize);
  const uint32_t more = std::min(kWindowBlocks, file_.blocks() - block);
  window_count_ = 0;
  absl::Status read = co_await Read(block, window_.span().subspan(0, size_t{more} * kBlockSize));
  uint32_t loaded = more;
  if (!read.ok() && more > count) {
    // What can't be read may be something else than what is asked for.
    loaded = count;
    read = co_await Read(block, window_.span().subspan(0, size_t{count} * kBlockSize));
  }
  TF_CO_RETURN_IF_ERROR(read);
  window_first_ = block;
  window_count_ = loaded;
  co_return absl::OkStatus();
}

Task<absl::StatusOr<DecodedBatch>> SegmentReader::ReadBatch(uint32_t block) {
  if (block == 0 || block >= file_.blocks()) co_return absl::NotFoundError("the segment ends here");
  absl::Status loaded = co_await Load(block, 1);
  TF_CO_RETURN_IF_ERROR(loaded);
  const std::optional<uint32_t> used_bytes = PeekDescriptor(Loaded(block, 1), file_.identity);
  if (!used_bytes.has_value()) co_return absl::NotFoundError("no descriptor");
  const auto count = static_cast<uint32_t>((*used_bytes + kBlockSize - 1) / kBlockSize);
  if (block + count > file_.blocks()) co_return absl::NotFoundError("no descriptor fits here");
  loaded = co_await Load(block, count);
  TF_CO_RETURN_IF_ERROR(loaded);
  absl::StatusOr<DecodedBatch> batch = DecodeBatch(Loaded(block, count), file_.identity);
  // A descriptor that stands elsewhere than it says was copied there (R14).
  if (!batch.ok() || batch->batch.start.block != block) co_return absl::NotFoundError("damaged");
  last_descriptor_ = Loaded(block, count).subspan(0, *used_bytes);
  co_return batch;
}

Task<absl::StatusOr<SealRecord>> SegmentReader::ReadTrailer() {
  AlignedBytes block(kBlockSize);
  absl::Status read = co_await Read(file_.blocks() - 1, block.span());
  TF_CO_RETURN_IF_ERROR(read);
  absl::StatusOr<SealRecord> seal = DecodeTrailer(block.span(), file_.identity);
  if (!seal.ok()) co_return absl::NotFoundError(seal.status().message());
  co_return seal;
}

Task<absl::StatusOr<bool>> SegmentReader::LastBlockIsZero() {
  AlignedBytes block(kBlockSize);
  absl::Status read = co_await Read(file_.blocks() - 1, block.span());
  TF_CO_RETURN_IF_ERROR(read);
  co_return std::all_of(block.span().begin(), block.span().end(),
                        [](std::byte byte) { return byte == std::byte{0}; });
}

Task<absl::StatusOr<std::vector<DecodedBatch>>> SegmentReader::ReadCopies() {
  absl::StatusOr<SealRecord> seal = co_await ReadTrailer();
  TF_CO_RETURN_IF_ERROR(seal);
  AlignedBytes bytes(SealBlocks(seal->copies_bytes) * kBlockSize);
  absl::Status read = co_await Read(seal->first_block, bytes.span());
  TF_CO_RETURN_IF_ERROR(read);
  absl::Span<const std::byte> copies = bytes.span().subspan(0, seal->copies_bytes);
  if (ExtendCrc32c(file_.identity.CrcSeed(), copies) != seal->copies_crc) {
    co_return absl::NotFoundError("the copies of the descriptors don't verify");
  }
  std::vector<DecodedBatch> batches;
  batches.reserve(seal->batches);
  while (!copies.empty()) {
    absl::StatusOr<DecodedBatch> batch = DecodeBatch(copies, file_.identity);
    if (!batch.ok()) co_return absl::NotFoundError(batch.status().message());
    copies.remove_prefix(batch->used_bytes);
    batches.push_back(*std::move(batch));
    if (batches.size() % kBatchesInOneTurn == 0) co_await Yield();
  }
  if (batches.size() != seal->batches) co_return absl::NotFoundError("copies are missing");
  co_return batches;
}

Task<absl::StatusOr<std::vector<DecodedBatch>>> SegmentReader::ReadChain() {
  std::vector<DecodedBatch> batches;
  uint32_t block = 1;
  while (true) {
    absl::StatusOr<DecodedBatch> batch = co_await ReadBatch(block);
    if (absl::IsNotFound(batch.status())) break;
    TF_CO_RETURN_IF_ERROR(batch);
    if (!batches.empty() && !Continues(batches.back().batch.end, batch->batch)) break;
    block = batch->batch.end.block;
    batches.push_back(*std::move(batch));
  }
  co_return batches;
}

Task<absl::StatusOr<std::vector<DecodedBatch>>> SegmentReader::Scan(uint32_t first, uint32_t end) {
  std::vector<DecodedBatch> batches;
  for (uint32_t block = first; block < std::min(end, file_.blocks()); ++block) {
    absl::StatusOr<DecodedBatch> batch = co_await ReadBatch(block);
    if (batch.ok()) {
      batches.push_back(*std::move(batch));
    } else if (!absl::IsNotFound(batch.status())) {
      co_return batch.status();
    }
  }
  co_return batches;
}

Task<absl::StatusOr<bool>> SegmentReader::PayloadVerifies(const LoggedBatch& batch) {
  uint32_t first = 0;
  uint32_t count = 0;
  for (const LoggedBatch::Item& item : batch.items) {
    if (!HasPayload(item.entry.kind)) continue;
    if (count == 0) first = item.payload.block;
    count += BatchEncoder::PayloadBlocks(item.entry);
  }
  if (count == 0) co_return true;
  AlignedBytes payload(size_t{count} * kBlockSize);
  absl::Status read = co_await Read(first, payload.span());
  if (absl::IsNotFound(read)) co_return false;  // The file is cut off before it.
  TF_CO_RETURN_IF_ERROR(read);
  size_t offset = 0;
  for (const LoggedBatch::Item& item : batch.items) {
    for (uint32_t crc : item.entry.block_crcs) {
      if (Crc32c(payload.span().subspan(offset, kBlockSize)) != crc) co_return false;
      offset += kBlockSize;
    }
  }
  co_return true;
}

}  // namespace twofold
