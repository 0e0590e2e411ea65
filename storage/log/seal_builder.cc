#include "storage/log/seal_builder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/base/status_macros.h"

namespace twofold {
namespace {
constexpr uint64_t kFirstBytes = 16 * kBlockSize;
}  // namespace

void SealBuilder::Reserve(uint64_t bytes) {
  if (bytes <= copies_.size()) return;
  uint64_t size = std::max<uint64_t>(copies_.size() * 2, kFirstBytes);
  while (size < bytes) size *= 2;
  AlignedBytes larger(size);
  if (seal_.copies_bytes > 0) std::memcpy(larger.data(), copies_.data(), seal_.copies_bytes);
  copies_ = std::move(larger);
}

void SealBuilder::Add(absl::Span<const std::byte> descriptor, const LogPosition& start,
                      const LogPosition& end) {
  if (seal_.batches == 0) {
    seal_.first_batch = start.batch;
    seal_.previous_checksum = start.previous_checksum;
  } else {
    TF_CHECK_EQ(start.batch, seal_.last_batch.Next());
  }
  Reserve(seal_.copies_bytes + descriptor.size());
  std::memcpy(copies_.data() + seal_.copies_bytes, descriptor.data(), descriptor.size());
  seal_.copies_crc = ExtendCrc32c(seal_.copies_crc, descriptor);
  seal_.copies_bytes += descriptor.size();
  ++seal_.batches;
  seal_.last_batch = start.batch;
  seal_.last_checksum = end.previous_checksum;
  seal_.end_block = end.block;
}

Task<absl::Status> SealBuilder::Write(SegmentFile file) {
  TF_CHECK(!empty());
  TF_CHECK_EQ(file.number(), identity_.segment);
  const uint64_t blocks = SealBlocks(seal_.copies_bytes);
  seal_.first_block = static_cast<uint32_t>(file.blocks() - blocks);
  TF_CHECK_LE(seal_.end_block, seal_.first_block) << file.Describe();
  const uint64_t bytes = blocks * kBlockSize;
  Reserve(bytes);
  std::memset(copies_.data() + seal_.copies_bytes, 0, bytes - seal_.copies_bytes);
  EncodeTrailer(identity_, seal_, copies_.span().subspan(bytes - kBlockSize, kBlockSize));
  const iovec piece = Piece(copies_.span().subspan(0, bytes));
  absl::Status written =
      co_await file.device->Write(file.handle, uint64_t{seal_.first_block} * kBlockSize,
                                  absl::MakeConstSpan(&piece, 1), Durability::kDurable);
  co_return Annotate(written, absl::StrCat("sealing ", file.Describe()));
}

}  // namespace twofold
