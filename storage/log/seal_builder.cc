#include "storage/log/seal_builder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"

namespace twofold {

absl::Span<std::byte> SealBuilder::From(uint64_t offset) {
  const uint64_t piece = offset / kDevicePieceBytes;
  while (pieces_.size() <= piece) pieces_.emplace_back(kDevicePieceBytes);
  return pieces_[piece].span().subspan(offset % kDevicePieceBytes);
}

void SealBuilder::Add(absl::Span<const std::byte> descriptor, const LogPosition& start,
                      const LogPosition& end) {
  if (seal_.batches == 0) {
    seal_.first_batch = start.batch;
    seal_.previous_checksum = start.previous_checksum;
  } else {
    TF_CHECK_EQ(start.batch, seal_.last_batch.Next());
  }
  seal_.copies_crc = ExtendCrc32c(seal_.copies_crc, descriptor);
  for (size_t done = 0; done < descriptor.size();) {
    const absl::Span<std::byte> place = From(seal_.copies_bytes);
    const size_t step = std::min(place.size(), descriptor.size() - done);
    std::memcpy(place.data(), descriptor.data() + done, step);
    seal_.copies_bytes += step;
    done += step;
  }
  ++seal_.batches;
  seal_.last_batch = start.batch;
  seal_.last_checksum = end.previous_checksum;
  seal_.end_block = end.block;
}

Task<absl::Status> SealBuilder::Write(SegmentFile file, SegmentNumber next) {
  TF_CHECK(!empty());
  TF_CHECK_EQ(file.number(), identity_.segment);
  const uint64_t blocks = SealBlocks(seal_.copies_bytes);
  seal_.first_block = static_cast<uint32_t>(file.blocks() - blocks);
  TF_CHECK_LE(seal_.end_block, seal_.first_block) << file.Describe();
  seal_.next_segment = next;
  const uint64_t bytes = blocks * kBlockSize;
  EncodeTrailer(identity_, seal_, From(bytes - kBlockSize).first(kBlockSize));
  const std::string what = absl::StrCat("sealing ", file.Describe());
  for (uint64_t offset = 0; offset < bytes; offset += kDevicePieceBytes) {
    const iovec piece = Piece(From(offset).first(std::min(kDevicePieceBytes, bytes - offset)));
    absl::Status written =
        co_await file.device->Write(file.handle, uint64_t{seal_.first_block} * kBlockSize + offset,
                                    absl::MakeConstSpan(&piece, 1), Durability::kWritten);
    TF_CO_RETURN_IF_ERROR(Annotate(written, what));
  }
  absl::Status synced = co_await file.device->Sync(file.handle);
  co_return Annotate(synced, what);
}

}  // namespace twofold
