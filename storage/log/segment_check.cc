#include "storage/log/segment_check.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/codec.h"
#include "storage/log/lost_block.h"
#include "storage/log/segment_reader.h"

namespace twofold {
namespace {

constexpr uint32_t kPieceBlocks = kScrubPieceBytes / kBlockSize;
static_assert(kPieceBlocks >= kMaxDescriptorBlocks, "a descriptor is read as a whole");
// Blocks that nobody needs, between two that are: read along rather than read around.
constexpr uint32_t kGapBlocks = 8;
// So many reads in a row that fail are no bad places any more, but a device that is gone.
constexpr int kMaxFailuresInARow = 64;

// What is looked at as a whole: a descriptor, or a block of payload.
struct Unit {
  uint32_t block = 0;
  uint32_t count = 1;
  const DecodedBatch* batch = nullptr;
  const LoggedBatch::Item* item = nullptr;  // of payload; null: the descriptor
  uint32_t index = 0;                       // of the block in its entry
  uint32_t end() const { return block + count; }
};

class Checker {
 public:
  Checker(SegmentToCheck segment, BeforeRead before_read)
      : segment_(std::move(segment)), before_read_(std::move(before_read)) {
    segment_.needed.resize(segment_.file.blocks());
  }

  Task<absl::StatusOr<SegmentCheck>> Check() {
    absl::Status status = co_await ReadHeader();
    TF_CO_RETURN_IF_ERROR(status);
    status = co_await ReadRecords();
    TF_CO_RETURN_IF_ERROR(status);
    MakeUnits();
    status = co_await ReadUnits();
    TF_CO_RETURN_IF_ERROR(status);
    std::sort(result_.damage.begin(), result_.damage.end(),
              [](const SegmentDamage& a, const SegmentDamage& b) {
                return std::tie(a.block, a.kind) < std::tie(b.block, b.kind);
              });
    co_return std::move(result_);
  }

 private:
  bool sealed() const { return segment_.end.batch == BatchNumber(); }

  SegmentDamage& Note(SegmentDamage::Kind kind, uint32_t block, std::string what) {
    SegmentDamage& damage = result_.damage.emplace_back();
    damage.kind = kind;
    damage.block = block;
    damage.what = std::move(what);
    return damage;
  }

  // False: this place can't be read, which is its damage. An error: nothing can be, any more.
  Task<absl::StatusOr<bool>> Read(uint32_t block, absl::Span<std::byte> into) {
    absl::Status status = co_await before_read_(into.size());
    TF_CO_RETURN_IF_ERROR(status);
    const iovec piece = Piece(into);
    status = co_await segment_.file.device->Read(segment_.file.handle, uint64_t{block} * kBlockSize,
                                                 absl::MakeConstSpan(&piece, 1));
    result_.bytes_read += into.size();
    if (status.ok()) {
      failures_ = 0;
      co_return true;
    }
    read_error_ = std::string(status.message());
    if (++failures_ < kMaxFailuresInARow) co_return false;
    co_return Annotate(status, absl::StrCat("reading ", segment_.file.Describe()));
  }

  Task<absl::Status> ReadHeader() {
    AlignedBytes block(kBlockSize);
    const absl::StatusOr<bool> read = co_await Read(0, block.span());
    TF_CO_RETURN_IF_ERROR(read);
    if (!*read) {
      Note(SegmentDamage::Kind::kHeader, 0,
           absl::StrCat("the header can't be read: ", read_error_));
      co_return absl::OkStatus();
    }
    // Each of the copies in it counts, not only that one of them verifies.
    AlignedBytes expected(kBlockSize);
    EncodeHeaderBlock(segment_.file.identity, expected.span());
    if (std::memcmp(block.data(), expected.data(), kBlockSize) != 0) {
      Note(SegmentDamage::Kind::kHeader, 0, "the header is damaged");
    }
    co_return absl::OkStatus();
  }

  // Which batches there are: by the copies at the end, or by the descriptors where there are none.
  Task<absl::Status> ReadRecords() {
    SegmentReader reader(segment_.file);
    if (sealed()) {
      const absl::StatusOr<bool> whole = co_await ReadCopies(&reader);
      TF_CO_RETURN_IF_ERROR(whole);
      if (*whole) co_return absl::OkStatus();
    }
    // Where a segment is being written the reader looks at what comes after its end too; what is
    // there is whole or not there yet.
    absl::Status status = co_await before_read_(kPieceBlocks * kBlockSize);
    TF_CO_RETURN_IF_ERROR(status);
    absl::StatusOr<std::vector<DecodedBatch>> chain = co_await reader.ReadChain();
    if (!chain.ok()) {
      chain_error_ = std::string(chain.status().message());
      chain = std::vector<DecodedBatch>();
    }
    batches_ = *std::move(chain);
    if (sealed()) co_return absl::OkStatus();
    const uint32_t reached = batches_.empty() ? 1 : batches_.back().batch.end.block;
    if (reached < segment_.end.block) {
      Note(SegmentDamage::Kind::kDescriptor, reached,
           absl::StrCat("the descriptor of the batch that starts here is damaged, and nothing "
                        "leads to those behind it yet",
                        chain_error_.empty() ? "" : ": ", chain_error_));
    }
    std::erase_if(batches_, [this](const DecodedBatch& batch) {
      return batch.batch.start.block >= segment_.end.block;
    });
    co_return absl::OkStatus();
  }

  // False: they are damaged, and noted as such.
  Task<absl::StatusOr<bool>> ReadCopies(SegmentReader* reader) {
    const uint32_t last = segment_.file.blocks() - 1;
    AlignedBytes block(kBlockSize);
    const absl::StatusOr<bool> read = co_await Read(last, block.span());
    TF_CO_RETURN_IF_ERROR(read);
    if (!*read) {
      Note(SegmentDamage::Kind::kCopies, last,
           absl::StrCat("the end of the segment can't be read: ", read_error_));
      co_return false;
    }
    const absl::StatusOr<SealRecord> seal = DecodeTrailer(block.span(), segment_.file.identity);
    if (!seal.ok()) {
      Note(SegmentDamage::Kind::kCopies, last,
           absl::StrCat("the end of the segment is damaged: ", seal.status().message()));
      co_return false;
    }
    AlignedBytes expected(kBlockSize);
    EncodeTrailer(segment_.file.identity, *seal, expected.span());
    constexpr size_t kFrom = kBlockSize - format::kTrailerBytes;
    if (std::memcmp(block.data() + kFrom, expected.data() + kFrom, format::kTrailerBytes) != 0) {
      Note(SegmentDamage::Kind::kHeader, last, "the copy of the header is damaged");
    }
    absl::Status status = co_await before_read_(seal->copies_bytes);
    TF_CO_RETURN_IF_ERROR(status);
    absl::StatusOr<std::vector<DecodedBatch>> batches = co_await reader->ReadCopies();
    result_.bytes_read += seal->copies_bytes;
    if (!batches.ok()) {
      Note(SegmentDamage::Kind::kCopies, seal->first_block,
           absl::StrCat("the copies of the descriptors are damaged: ", batches.status().message()));
      co_return false;
    }
    batches_ = *std::move(batches);
    co_return true;
  }

  // In the order of their places, which is that of the batches.
  void MakeUnits() {
    std::vector<bool> found(segment_.needed.size());
    for (const DecodedBatch& batch : batches_) {
      const uint32_t blocks =
          static_cast<uint32_t>((batch.used_bytes + kBlockSize - 1) / kBlockSize);
      units_.push_back({.block = batch.batch.start.block, .count = blocks, .batch = &batch});
      for (const LoggedBatch::Item& item : batch.batch.items) {
        for (uint32_t i = 0; i < item.entry.block_crcs.size(); ++i) {
          const uint32_t block = item.payload.block + i;
          if (block >= segment_.needed.size() || !segment_.needed[block]) continue;
          found[block] = true;
          units_.push_back({.block = block, .batch = &batch, .item = &item, .index = i});
        }
      }
    }
    uint32_t lost = 0;
    uint32_t first = 0;
    for (uint32_t block = 0; block < found.size(); ++block) {
      if (!segment_.needed[block] || found[block]) continue;
      if (lost++ == 0) first = block;
    }
    if (lost == 0) return;
    Note(SegmentDamage::Kind::kUnknown, first,
         absl::StrCat("the records of ", lost, " blocks that are needed can't be read"));
  }

  Task<absl::Status> ReadUnits() {
    AlignedBytes buffer(kScrubPieceBytes);
    for (size_t next = 0; next < units_.size();) {
      const uint32_t first = units_[next].block;
      size_t end = next + 1;
      while (end < units_.size() && units_[end].block <= units_[end - 1].end() + kGapBlocks &&
             units_[end].end() - first <= kPieceBlocks) {
        ++end;
      }
      const absl::Span<std::byte> piece =
          buffer.span().first(size_t{units_[end - 1].end() - first} * kBlockSize);
      const absl::StatusOr<bool> read = co_await Read(first, piece);
      TF_CO_RETURN_IF_ERROR(read);
      for (size_t i = next; i < end; ++i) {
        const Unit& unit = units_[i];
        const absl::Span<std::byte> bytes =
            piece.subspan(size_t{unit.block - first} * kBlockSize, unit.count * kBlockSize);
        if (unit.item != nullptr) ++result_.payload_blocks;
        if (*read && Verifies(unit, bytes)) continue;
        absl::Status status = co_await LookAgain(unit, bytes);
        TF_CO_RETURN_IF_ERROR(status);
      }
      next = end;
    }
    co_return absl::OkStatus();
  }

  bool Verifies(const Unit& unit, absl::Span<const std::byte> bytes) const {
    if (unit.item != nullptr) return Crc32c(bytes) == unit.item->entry.block_crcs[unit.index];
    const absl::StatusOr<DecodedBatch> batch = DecodeBatch(bytes, segment_.file.identity);
    return batch.ok() && batch->batch.start.block == unit.block &&
           batch->checksum == unit.batch->checksum;
  }

  // Alone: its neighbour may be what could not be read, and what was wrong on the way may be right
  // on the medium.
  Task<absl::Status> LookAgain(Unit unit, absl::Span<std::byte> bytes) {
    const absl::StatusOr<bool> read = co_await Read(unit.block, bytes);
    TF_CO_RETURN_IF_ERROR(read);
    if (*read && Verifies(unit, bytes)) co_return absl::OkStatus();
    std::string how =
        *read ? std::string("fails its checksum") : absl::StrCat("can't be read: ", read_error_);
    if (*read && unit.item != nullptr &&
        IsLostBlock(unit.item->entry.block_crcs[unit.index], bytes)) {
      how = "is lost: no set had it when this one was brought level";
    }
    if (unit.item == nullptr) {
      Note(SegmentDamage::Kind::kDescriptor, unit.block,
           absl::StrCat("the descriptor of batch ", unit.batch->batch.start.batch.value(), " ",
                        how));
      co_return absl::OkStatus();
    }
    SegmentDamage& damage = Note(SegmentDamage::Kind::kPayload, unit.block, how);
    damage.entry = unit.item->entry;
    damage.index = unit.index;
    co_return absl::OkStatus();
  }

  SegmentToCheck segment_;
  const BeforeRead before_read_;
  std::vector<DecodedBatch> batches_;
  std::vector<Unit> units_;
  SegmentCheck result_;
  int failures_ = 0;
  std::string read_error_;
  std::string chain_error_;
};

}  // namespace

Task<absl::StatusOr<SegmentCheck>> CheckSegment(SegmentToCheck segment, BeforeRead before_read) {
  Checker checker(std::move(segment), std::move(before_read));
  co_return co_await checker.Check();
}

}  // namespace twofold
