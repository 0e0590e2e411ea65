#include "storage/log/codec.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/base/status_macros.h"

namespace twofold {
namespace {

// Past this the sum of first block and count could not overflow, and no volume is as large.
constexpr uint64_t kMaxBlockNumber = uint64_t{1} << 52;

size_t Padded(size_t body_bytes) {
  return (body_bytes + format::kEntryAlignment - 1) / format::kEntryAlignment *
         format::kEntryAlignment;
}

template <typename T>
absl::Span<const std::byte> BytesOf(const T& record) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&record), sizeof(T));
}

template <typename T>
T Load(absl::Span<const std::byte> bytes, size_t offset) {
  TF_CHECK(offset + sizeof(T) <= bytes.size());
  T record;
  std::memcpy(&record, bytes.data() + offset, sizeof(T));
  return record;
}

template <typename T>
void Store(const T& record, absl::Span<std::byte> bytes, size_t offset) {
  TF_CHECK(offset + sizeof(T) <= bytes.size());
  std::memcpy(bytes.data() + offset, &record, sizeof(T));
}

template <typename T>
uint32_t RecordCrc(const T& record, uint32_t seed) {
  return ExtendCrc32c(seed, BytesOf(record).subspan(format::kCrcCoversFrom));
}

bool IsZero(absl::Span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

format::SegmentHeader MakeHeader(const SegmentIdentity& identity) {
  format::SegmentHeader header{};
  header.magic = format::kHeaderMagic;
  header.version = format::kLogVersion;
  header.store_id = identity.store_id;
  header.segment = identity.segment.value();
  header.slot = identity.slot.value();
  header.incarnation = identity.incarnation.value();
  header.secret = identity.secret;
  header.segment_bytes = identity.segment_bytes;
  header.crc = RecordCrc(header, 0);
  return header;
}

absl::StatusOr<SegmentIdentity> ParseHeader(const format::SegmentHeader& header) {
  if (header.magic != format::kHeaderMagic || header.crc != RecordCrc(header, 0)) {
    return absl::DataLossError("the segment header does not verify");
  }
  if (header.version != format::kLogVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the segment has log format ", header.version.value(), ", this program knows ",
                     format::kLogVersion, ": use the version that wrote it, or a newer one"));
  }
  SegmentIdentity identity;
  identity.store_id = header.store_id;
  identity.segment = SegmentNumber(header.segment);
  identity.slot = SlotIndex(header.slot);
  identity.incarnation = Incarnation(header.incarnation);
  identity.secret = header.secret;
  identity.segment_bytes = header.segment_bytes;
  if (identity.segment == SegmentNumber() || identity.segment_bytes < kMinSegmentBytes ||
      identity.segment_bytes > kMaxSegmentBytes || identity.segment_bytes % kBlockSize != 0) {
    return absl::DataLossError("the segment header holds impossible values");
  }
  return identity;
}

}  // namespace

// ---- Segment header -----------------------------------------------------------------------------

uint32_t SegmentIdentity::CrcSeed() const { return Crc32c(BytesOf(secret)); }

uint64_t SegmentIdentity::Tag() const {
  return Load<format::little_uint64_t>(BytesOf(secret), sizeof(secret) - sizeof(uint64_t));
}

void EncodeHeaderBlock(const SegmentIdentity& identity, absl::Span<std::byte> block) {
  TF_CHECK_EQ(block.size(), kBlockSize);
  const format::SegmentHeader header = MakeHeader(identity);
  std::memset(block.data(), 0, block.size());
  Store(header, block, format::kHeaderCopy1Offset);
  Store(header, block, format::kHeaderCopy2Offset);
}

absl::StatusOr<SegmentIdentity> DecodeHeaderBlock(absl::Span<const std::byte> block) {
  TF_CHECK_EQ(block.size(), kBlockSize);
  absl::StatusOr<SegmentIdentity> first =
      ParseHeader(Load<format::SegmentHeader>(block, format::kHeaderCopy1Offset));
  absl::StatusOr<SegmentIdentity> second =
      ParseHeader(Load<format::SegmentHeader>(block, format::kHeaderCopy2Offset));
  if (absl::IsFailedPrecondition(first.status())) return first;
  if (absl::IsFailedPrecondition(second.status())) return second;
  // A rewrite that a crash tore leaves one of each: the newer one wins, now and at every later
  // look.
  if (first.ok() && second.ok()) return first->segment >= second->segment ? first : second;
  if (first.ok()) return first;
  if (second.ok()) return second;
  if (IsZero(block)) return absl::NotFoundError("no segment was written here yet");
  return first;
}

// ---- Batch --------------------------------------------------------------------------------------

absl::Status CheckEntry(const LogEntry& entry) {
  const uint64_t count = entry.range.count.value();
  switch (entry.kind) {
    case EntryKind::kWrite:
    case EntryKind::kMoved:
    case EntryKind::kFill:
      if (count == 0 || count > kMaxEntryBlocks || entry.block_crcs.size() != count) {
        return absl::InvalidArgumentError(
            absl::StrCat("an entry with payload has 1 to ", kMaxEntryBlocks,
                         " blocks and a checksum for each; this one has ", count, " blocks and ",
                         entry.block_crcs.size(), " checksums"));
      }
      break;
    case EntryKind::kZero:
    case EntryKind::kSnapshot:
    case EntryKind::kSnapshotDelete:
    case EntryKind::kTimelineStart:
    case EntryKind::kResize:
    case EntryKind::kVolumeCreate:
    case EntryKind::kVolumeDelete:
    case EntryKind::kSeal:
    case EntryKind::kMembership:
    case EntryKind::kCatalogue:
    case EntryKind::kCut:
    case EntryKind::kVoid:
    case EntryKind::kResyncBegin:
    case EntryKind::kResyncEnd:
    case EntryKind::kMovedZeros:
    case EntryKind::kFillZeros:
    case EntryKind::kResyncSpan:
      if (!entry.block_crcs.empty()) {
        return absl::InvalidArgumentError("checksums in an entry without payload");
      }
      break;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("entry kind ", static_cast<int>(entry.kind), " is unknown"));
  }
  if (entry.range.first.value() > kMaxBlockNumber || count > kMaxBlockNumber) {
    return absl::InvalidArgumentError(
        absl::StrCat("impossible blocks: ", count, " from ", entry.range.first.value(), " on"));
  }
  if (entry.body.size() > kMaxEntryBodyBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a body of ", entry.body.size(), " bytes; at most ", kMaxEntryBodyBytes, " are allowed"));
  }
  return absl::OkStatus();
}

BatchEncoder::BatchEncoder(absl::Span<std::byte> buffer) : buffer_(buffer) {
  TF_CHECK_EQ(buffer.size(), kMaxDescriptorBlocks * kBlockSize);
}

void BatchEncoder::Begin(absl::Span<const CommitMark> commits) {
  TF_CHECK_LE(commits.size(), kMaxBatchCommitMarks);
  used_bytes_ = sizeof(format::BatchDescriptor);
  payload_blocks_ = 0;
  entries_ = 0;
  commit_marks_ = static_cast<uint16_t>(commits.size());
  for (const CommitMark& commit : commits) {
    format::CommitMark mark;
    mark.volume = commit.volume.value();
    mark.generation = commit.position.generation.value();
    mark.seq = commit.position.seq.value();
    Store(mark, buffer_, used_bytes_);
    used_bytes_ += sizeof(mark);
  }
}

size_t BatchEncoder::EncodedBytes(const LogEntry& entry) {
  return sizeof(format::Entry) + entry.block_crcs.size() * sizeof(uint32_t) +
         Padded(entry.body.size());
}

bool BatchEncoder::Fits(const LogEntry& entry) const {
  return entries_ < kMaxBatchEntries &&
         payload_blocks_ + PayloadBlocks(entry) <= kMaxBatchPayloadBlocks &&
         used_bytes_ + EncodedBytes(entry) <= buffer_.size();
}

void BatchEncoder::Add(const LogEntry& entry) {
  TF_CHECK(Fits(entry));
  format::Entry fixed;
  fixed.kind = static_cast<uint8_t>(entry.kind);
  fixed.reserved = 0;
  fixed.body_bytes = static_cast<uint16_t>(entry.body.size());
  fixed.checksums = static_cast<uint32_t>(entry.block_crcs.size());
  fixed.volume = entry.volume.value();
  fixed.timeline = entry.timeline.value();
  fixed.first_block = entry.range.first.value();
  fixed.block_count = entry.range.count.value();
  fixed.generation = entry.position.generation.value();
  fixed.seq = entry.position.seq.value();
  fixed.stamp = static_cast<uint64_t>(entry.stamp);
  Store(fixed, buffer_, used_bytes_);
  used_bytes_ += sizeof(fixed);
  for (uint32_t crc : entry.block_crcs) {
    Store(format::little_uint32_t(crc), buffer_, used_bytes_);
    used_bytes_ += sizeof(crc);
  }
  if (!entry.body.empty()) {
    const size_t padded = Padded(entry.body.size());
    std::memcpy(buffer_.data() + used_bytes_, entry.body.data(), entry.body.size());
    std::memset(buffer_.data() + used_bytes_ + entry.body.size(), 0, padded - entry.body.size());
    used_bytes_ += padded;
  }
  payload_blocks_ += PayloadBlocks(entry);
  ++entries_;
}

uint32_t BatchEncoder::Finish(const SegmentIdentity& identity, const BatchHeader& header) {
  format::BatchDescriptor fixed{};
  fixed.magic = format::kBatchMagic;
  fixed.used_bytes = static_cast<uint32_t>(used_bytes_);
  fixed.tag = identity.Tag();
  fixed.store_id = identity.store_id;
  fixed.segment = identity.segment.value();
  fixed.block = header.block;
  fixed.payload_blocks = payload_blocks_;
  fixed.batch = header.batch.value();
  fixed.incarnation = header.incarnation.value();
  fixed.known_durable = header.known_durable.value();
  fixed.catalogue_segment = header.catalogue.segment.value();
  fixed.catalogue_batch = header.catalogue.batch.value();
  fixed.previous_checksum = header.previous_checksum;
  fixed.entries = entries_;
  fixed.commit_marks = commit_marks_;
  Store(fixed, buffer_, 0);
  const uint32_t crc =
      ExtendCrc32c(identity.CrcSeed(),
                   buffer_.subspan(format::kCrcCoversFrom, used_bytes_ - format::kCrcCoversFrom));
  Store(format::little_uint32_t(crc), buffer_, offsetof(format::BatchDescriptor, crc));
  std::memset(buffer_.data() + used_bytes_, 0,
              size_t{descriptor_blocks()} * kBlockSize - used_bytes_);
  return crc;
}

namespace {

absl::Status Broken(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("the batch descriptor ", what));
}

// Decodes entry after entry and gives each its place among the payload.
class EntryDecoder {
 public:
  EntryDecoder(absl::Span<const std::byte> entries, LogAddress payload)
      : reader_(entries), payload_(payload) {}

  absl::Status Next(LoggedBatch::Item& item) {
    const absl::Span<const std::byte> bytes = reader_.ReadBytes(sizeof(format::Entry));
    if (bytes.empty()) return Broken("ends in the middle of an entry");
    const auto fixed = Load<format::Entry>(bytes, 0);
    LogEntry& entry = item.entry;
    entry.kind = static_cast<EntryKind>(fixed.kind);
    entry.volume = VolumeId(fixed.volume);
    entry.timeline = TimelineId(fixed.timeline);
    entry.range = {BlockIndex(fixed.first_block), BlockCount(fixed.block_count)};
    entry.position = {Generation(fixed.generation), Seq(fixed.seq)};
    entry.stamp = static_cast<WallNanos>(fixed.stamp.value());
    if (fixed.checksums > kMaxEntryBlocks) return Broken("has an entry with too many checksums");
    entry.block_crcs.resize(fixed.checksums);
    for (uint32_t& crc : entry.block_crcs) crc = reader_.ReadU32Le();
    entry.body = std::string(reader_.ReadString(fixed.body_bytes));
    reader_.Skip(Padded(fixed.body_bytes) - fixed.body_bytes);
    if (reader_.failed()) return Broken("ends in the middle of an entry");
    TF_RETURN_IF_ERROR(ToDataLoss(CheckEntry(entry)));
    if (HasPayload(entry.kind)) {
      item.payload = payload_;
      payload_.block += BatchEncoder::PayloadBlocks(entry);
    }
    return absl::OkStatus();
  }

  bool finished() const { return reader_.finished(); }
  uint32_t payload_end() const { return payload_.block; }

 private:
  static absl::Status ToDataLoss(const absl::Status& status) {
    return status.ok() ? status
                       : Broken(absl::StrCat("has a bad entry: ", std::string(status.message())));
  }

  ByteReader reader_;
  LogAddress payload_;
};

}  // namespace

std::optional<uint32_t> PeekDescriptor(absl::Span<const std::byte> bytes,
                                       const SegmentIdentity& identity) {
  const auto fixed = Load<format::BatchDescriptor>(bytes, 0);
  if (fixed.magic != format::kBatchMagic || fixed.tag != identity.Tag() ||
      fixed.segment != identity.segment.value() || fixed.store_id != identity.store_id ||
      fixed.used_bytes < sizeof(format::BatchDescriptor) ||
      fixed.used_bytes > kMaxDescriptorBlocks * kBlockSize) {
    return std::nullopt;
  }
  return fixed.used_bytes;
}

std::optional<SegmentNumber> PeekSegment(absl::Span<const std::byte> block,
                                         const format::RawId& store_id) {
  const auto fixed = Load<format::BatchDescriptor>(block, 0);
  if (fixed.magic != format::kBatchMagic || fixed.store_id != store_id) return std::nullopt;
  return SegmentNumber(fixed.segment);
}

absl::StatusOr<DecodedBatch> DecodeBatch(absl::Span<const std::byte> bytes,
                                         const SegmentIdentity& identity) {
  if (bytes.size() < sizeof(format::BatchDescriptor)) return Broken("is cut short");
  const std::optional<uint32_t> used_bytes = PeekDescriptor(bytes, identity);
  if (!used_bytes.has_value()) return Broken("is none of this segment");
  if (*used_bytes > bytes.size()) return Broken("is cut short");
  bytes = bytes.subspan(0, *used_bytes);
  const auto fixed = Load<format::BatchDescriptor>(bytes, 0);
  if (fixed.crc != ExtendCrc32c(identity.CrcSeed(), bytes.subspan(format::kCrcCoversFrom))) {
    return Broken("does not verify");
  }
  const uint64_t descriptor_blocks = (*used_bytes + kBlockSize - 1) / kBlockSize;
  const uint64_t payload_block = fixed.block + descriptor_blocks;
  const size_t marks_bytes = fixed.commit_marks * sizeof(format::CommitMark);
  if (fixed.block == 0 || fixed.payload_blocks > kMaxBatchPayloadBlocks ||
      fixed.entries > kMaxBatchEntries || fixed.commit_marks > kMaxBatchCommitMarks ||
      payload_block + fixed.payload_blocks > SegmentBlocks(identity.segment_bytes) ||
      marks_bytes > bytes.size() - sizeof(fixed) || fixed.batch == 0 ||
      fixed.known_durable >= fixed.batch) {
    return Broken("holds impossible values");
  }

  DecodedBatch decoded;
  decoded.known_durable = BatchNumber(fixed.known_durable);
  decoded.checksum = fixed.crc;
  decoded.used_bytes = *used_bytes;
  decoded.payload_blocks = fixed.payload_blocks;
  LoggedBatch& batch = decoded.batch;
  batch.start = {BatchNumber(fixed.batch), identity.segment, fixed.block, fixed.previous_checksum};
  batch.end = {batch.start.batch.Next(), identity.segment,
               static_cast<uint32_t>(payload_block + fixed.payload_blocks), fixed.crc};
  batch.incarnation = Incarnation(fixed.incarnation);
  batch.catalogue = {SegmentNumber(fixed.catalogue_segment), BatchNumber(fixed.catalogue_batch)};
  batch.commits.reserve(fixed.commit_marks);
  for (size_t i = 0; i < fixed.commit_marks; ++i) {
    const auto mark =
        Load<format::CommitMark>(bytes, sizeof(fixed) + i * sizeof(format::CommitMark));
    batch.commits.push_back({VolumeId(mark.volume), {Generation(mark.generation), Seq(mark.seq)}});
  }
  EntryDecoder entries(bytes.subspan(sizeof(fixed) + marks_bytes),
                       {identity.segment, static_cast<uint32_t>(payload_block)});
  // A count that the bytes don't bear out must not reserve memory.
  batch.items.reserve(std::min<size_t>(fixed.entries, *used_bytes / sizeof(format::Entry)));
  for (size_t i = 0; i < fixed.entries; ++i) {
    LoggedBatch::Item item;
    TF_RETURN_IF_ERROR(entries.Next(item));
    batch.items.push_back(std::move(item));
  }
  if (!entries.finished()) return Broken("has bytes that belong to no entry");
  if (entries.payload_end() != batch.end.block) return Broken("counts its payload wrong");
  return decoded;
}

// ---- The end of a sealed segment ----------------------------------------------------------------

void EncodeTrailer(const SegmentIdentity& identity, const SealRecord& seal,
                   absl::Span<std::byte> block) {
  TF_CHECK_EQ(block.size(), kBlockSize);
  format::SegmentTrailer trailer{};
  trailer.magic = format::kTrailerMagic;
  trailer.first_block = seal.first_block;
  trailer.tag = identity.Tag();
  trailer.segment = identity.segment.value();
  trailer.copies_bytes = seal.copies_bytes;
  trailer.batches = seal.batches;
  trailer.first_batch = seal.first_batch.value();
  trailer.last_batch = seal.last_batch.value();
  trailer.previous_checksum = seal.previous_checksum;
  trailer.last_checksum = seal.last_checksum;
  trailer.end_block = seal.end_block;
  trailer.copies_crc = seal.copies_crc;
  trailer.next_segment = seal.next_segment.value();
  trailer.crc = RecordCrc(trailer, identity.CrcSeed());
  Store(MakeHeader(identity), block, format::kTrailerHeaderOffset);
  Store(trailer, block, format::kTrailerOffset);
}

absl::StatusOr<SealRecord> DecodeTrailer(absl::Span<const std::byte> block,
                                         const SegmentIdentity& identity) {
  TF_CHECK_EQ(block.size(), kBlockSize);
  const auto trailer = Load<format::SegmentTrailer>(block, format::kTrailerOffset);
  if (trailer.magic != format::kTrailerMagic || trailer.tag != identity.Tag() ||
      trailer.segment != identity.segment.value() ||
      trailer.crc != RecordCrc(trailer, identity.CrcSeed())) {
    return absl::DataLossError("the segment's trailer does not verify");
  }
  SealRecord seal;
  seal.first_block = trailer.first_block;
  seal.copies_bytes = trailer.copies_bytes;
  seal.batches = trailer.batches;
  seal.first_batch = BatchNumber(trailer.first_batch);
  seal.last_batch = BatchNumber(trailer.last_batch);
  seal.previous_checksum = trailer.previous_checksum;
  seal.last_checksum = trailer.last_checksum;
  seal.end_block = trailer.end_block;
  seal.copies_crc = trailer.copies_crc;
  seal.next_segment = SegmentNumber(trailer.next_segment);
  const uint64_t blocks = SegmentBlocks(identity.segment_bytes);
  if (seal.copies_bytes > identity.segment_bytes || SealBlocks(seal.copies_bytes) >= blocks ||
      seal.first_block != blocks - SealBlocks(seal.copies_bytes) ||
      seal.end_block > seal.first_block || seal.batches == 0 ||
      seal.batches > seal.copies_bytes / sizeof(format::BatchDescriptor) ||
      seal.first_batch.value() == 0 ||
      seal.last_batch.value() - seal.first_batch.value() != seal.batches - 1) {
    return absl::DataLossError("the segment's trailer holds impossible values");
  }
  return seal;
}

absl::StatusOr<SegmentIdentity> DecodeHeaderFromTrailer(absl::Span<const std::byte> block) {
  TF_CHECK_EQ(block.size(), kBlockSize);
  absl::StatusOr<SegmentIdentity> identity =
      ParseHeader(Load<format::SegmentHeader>(block, format::kTrailerHeaderOffset));
  if (!identity.ok()) return absl::DataLossError(identity.status().message());
  TF_RETURN_IF_ERROR(DecodeTrailer(block, *identity).status());
  return identity;
}

// ---- Bodies of the log's own records
// -------------------------------------------------------------

std::string EncodeCut(const CutRecord& cut) {
  format::CutBody body{};
  body.batch = cut.cut.batch.value();
  body.segment = cut.cut.segment.value();
  body.block = cut.cut.block;
  body.previous_checksum = cut.cut.previous_checksum;
  body.last_incarnation = cut.last_incarnation.value();
  return std::string(reinterpret_cast<const char*>(&body), sizeof(body));
}

absl::StatusOr<CutRecord> DecodeCut(absl::string_view body) {
  if (body.size() != sizeof(format::CutBody)) {
    return absl::DataLossError(absl::StrCat("a cut record of ", body.size(), " bytes"));
  }
  const auto fixed = Load<format::CutBody>(AsBytes(body), 0);
  CutRecord cut;
  cut.cut = {BatchNumber(fixed.batch), SegmentNumber(fixed.segment), fixed.block,
             fixed.previous_checksum};
  cut.last_incarnation = Incarnation(fixed.last_incarnation);
  return cut;
}

}  // namespace twofold
