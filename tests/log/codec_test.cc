#include "storage/log/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "storage/base/bytes.h"
#include "storage/base/crc32c.h"
#include "storage/base/prng.h"
#include "storage/io/aligned_bytes.h"
#include "tests/map/golden.h"

namespace twofold {
namespace {

using ::testing::HasSubstr;

SegmentIdentity TestIdentity() {
  SegmentIdentity identity;
  for (size_t i = 0; i < 16; ++i) {
    identity.store_id[i] = static_cast<uint8_t>(0xa0 + i);
    identity.secret[i] = static_cast<uint8_t>(0x50 + i);
  }
  identity.segment = SegmentNumber(7);
  identity.slot = SlotIndex(3);
  identity.incarnation = Incarnation(2);
  identity.segment_bytes = kMinSegmentBytes;
  return identity;
}

BatchHeader TestHeader() {
  BatchHeader header;
  header.batch = BatchNumber(41);
  header.block = 9;
  header.previous_checksum = 0x11223344;
  header.incarnation = Incarnation(2);
  header.known_durable = BatchNumber(40);
  header.catalogue = {SegmentNumber(5), BatchNumber(17)};
  return header;
}

LogEntry Write(uint64_t block, std::vector<uint32_t> crcs, uint64_t seq = 300) {
  LogEntry entry;
  entry.volume = VolumeId(6);
  entry.timeline = TimelineId(8);
  entry.range = {BlockIndex(block), BlockCount(crcs.size())};
  entry.position = {Generation(4), Seq(seq)};
  entry.stamp = 1'700'000'000'123'456'789;
  entry.block_crcs.assign(crcs.begin(), crcs.end());
  return entry;
}

LogEntry Record(EntryKind kind, std::string body) {
  LogEntry entry;
  entry.kind = kind;
  entry.position = {Generation(4), Seq()};
  entry.body = std::move(body);
  return entry;
}

// A descriptor that stands alone.
struct Encoded {
  AlignedBytes buffer{kMaxDescriptorBlocks * kBlockSize};
  BatchEncoder encoder{buffer.span()};
  uint32_t checksum = 0;
  absl::Span<const std::byte> used() const {
    return buffer.span().subspan(0, encoder.used_bytes());
  }
};

std::unique_ptr<Encoded> Encode(const std::vector<LogEntry>& entries,
                                const std::vector<CommitMark>& commits = {},
                                BatchHeader header = TestHeader(),
                                SegmentIdentity identity = TestIdentity()) {
  auto encoded = std::make_unique<Encoded>();
  encoded->encoder.Begin(commits);
  for (const LogEntry& entry : entries) encoded->encoder.Add(entry);
  encoded->checksum = encoded->encoder.Finish(identity, header);
  return encoded;
}

std::string Hex(absl::Span<const std::byte> bytes) { return absl::BytesToHexString(AsText(bytes)); }

TEST(LogCodec, HeaderIsTheGoldenBytesTwiceInItsBlock) {
  AlignedBytes block(kBlockSize);
  EncodeHeaderBlock(TestIdentity(), block.span());
  const std::string golden = Golden("log/segment_header.hex");
  EXPECT_EQ(Hex(block.span().subspan(0, golden.size())), absl::BytesToHexString(golden));
  EXPECT_EQ(Hex(block.span().subspan(3584, golden.size())), absl::BytesToHexString(golden));
  absl::StatusOr<SegmentIdentity> decoded = DecodeHeaderBlock(block.span());
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, TestIdentity());
}

TEST(LogCodec, DescriptorIsTheGoldenBytes) {
  const std::vector<LogEntry> entries = {
      Write(1000, {0xc1c2c3c4, 0xd1d2d3d4}),
      Record(EntryKind::kSnapshot, "body!"),
  };
  const std::vector<CommitMark> commits = {{VolumeId(6), {Generation(4), Seq(299)}}};
  const auto encoded = Encode(entries, commits);
  EXPECT_EQ(Hex(encoded->used()), absl::BytesToHexString(Golden("log/descriptor.hex")));
}

TEST(LogCodec, TrailerIsTheGoldenBytes) {
  AlignedBytes block(kBlockSize);
  SealRecord seal;
  seal.copies_bytes = 300;
  seal.first_block = 1023;
  seal.batches = 2;
  seal.first_batch = BatchNumber(41);
  seal.last_batch = BatchNumber(42);
  seal.previous_checksum = 0x11223344;
  seal.last_checksum = 0x55667788;
  seal.end_block = 12;
  seal.copies_crc = 0x99aabbcc;
  seal.next_segment = SegmentNumber(90);
  EncodeTrailer(TestIdentity(), seal, block.span());
  const std::string golden = Golden("log/trailer.hex");
  EXPECT_EQ(Hex(block.span().subspan(3584, golden.size())), absl::BytesToHexString(golden));
  absl::StatusOr<SealRecord> decoded = DecodeTrailer(block.span(), TestIdentity());
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, seal);
  absl::StatusOr<SegmentIdentity> identity = DecodeHeaderFromTrailer(block.span());
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(*identity, TestIdentity());
}

TEST(LogCodec, CutRecordIsTheGoldenBytes) {
  CutRecord cut;
  cut.cut = {BatchNumber(41), SegmentNumber(7), 9, 0x11223344};
  cut.last_incarnation = Incarnation(2);
  EXPECT_EQ(Hex(AsBytes(EncodeCut(cut))), absl::BytesToHexString(Golden("log/cut.hex")));
  absl::StatusOr<CutRecord> decoded = DecodeCut(EncodeCut(cut));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(*decoded, cut);
  EXPECT_EQ(DecodeCut("short").status().code(), absl::StatusCode::kDataLoss);
}

TEST(LogCodec, BatchComesBackAsItWent) {
  std::vector<LogEntry> entries = {Write(1000, {1, 2}), Write(5, {3}, 301)};
  LogEntry zero = Write(0, {}, 302);
  zero.kind = EntryKind::kZero;
  zero.range.count = BlockCount(uint64_t{1} << 38);
  entries.push_back(zero);
  for (EntryKind kind : {EntryKind::kSnapshot, EntryKind::kSeal, EntryKind::kCut,
                         EntryKind::kCatalogue, EntryKind::kVoid}) {
    entries.push_back(Record(kind, std::string(static_cast<size_t>(kind), 'x')));
  }
  const std::vector<CommitMark> commits = {{VolumeId(6), {Generation(4), Seq(299)}},
                                           {VolumeId(7), {Generation(1), Seq(1)}}};
  const auto encoded = Encode(entries, commits);
  absl::StatusOr<DecodedBatch> decoded = DecodeBatch(encoded->encoder.blocks(), TestIdentity());
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  const LoggedBatch& batch = decoded->batch;
  EXPECT_EQ(batch.start, (LogPosition{BatchNumber(41), SegmentNumber(7), 9, 0x11223344}));
  EXPECT_EQ(batch.end, (LogPosition{BatchNumber(42), SegmentNumber(7), 13, encoded->checksum}));
  EXPECT_EQ(batch.incarnation, Incarnation(2));
  EXPECT_EQ(decoded->known_durable, BatchNumber(40));
  EXPECT_EQ(batch.catalogue, (CatalogueReference{SegmentNumber(5), BatchNumber(17)}));
  EXPECT_EQ(batch.commits, commits);
  ASSERT_EQ(batch.items.size(), entries.size());
  for (size_t i = 0; i < entries.size(); ++i) EXPECT_EQ(batch.items[i].entry, entries[i]) << i;
  EXPECT_EQ(batch.items[0].payload, (LogAddress{SegmentNumber(7), 10}));
  EXPECT_EQ(batch.items[1].payload, (LogAddress{SegmentNumber(7), 12}));
}

TEST(LogCodec, BatchHoldsAsMuchAsItsBoundsAllow) {
  Encoded encoded;
  encoded.encoder.Begin({});
  uint64_t entries = 0;
  while (encoded.encoder.Fits(Write(1, {1}))) {
    encoded.encoder.Add(Write(1, {1}));
    ++entries;
  }
  EXPECT_EQ(entries, kMaxBatchPayloadBlocks);
  const std::vector<uint32_t> largest(kMaxEntryBlocks, 5);
  encoded.encoder.Begin({});
  encoded.encoder.Add(Write(1, largest));
  encoded.encoder.Add(Write(1, largest));
  EXPECT_FALSE(encoded.encoder.Fits(Write(1, {1})));
  encoded.encoder.Begin({});
  entries = 0;
  while (
      encoded.encoder.Fits(Record(EntryKind::kCatalogue, std::string(kMaxEntryBodyBytes, 'c')))) {
    encoded.encoder.Add(Record(EntryKind::kCatalogue, std::string(kMaxEntryBodyBytes, 'c')));
    ++entries;
  }
  EXPECT_EQ(entries, 15u);
  encoded.checksum = encoded.encoder.Finish(TestIdentity(), TestHeader());
  EXPECT_TRUE(DecodeBatch(encoded.encoder.blocks(), TestIdentity()).ok());
}

TEST(LogCodec, LargestLoneEntryTakesNoMoreThanRoomCountsOn) {
  std::vector<CommitMark> commits(kMaxBatchCommitMarks);
  LogEntry entry = Write(1, std::vector<uint32_t>(kMaxEntryBlocks, 9));
  entry.body.assign(kMaxEntryBodyBytes, 'b');
  const auto encoded = Encode({entry}, commits);
  EXPECT_EQ(encoded->encoder.used_bytes(), format::kMaxLoneDescriptorBytes);
  EXPECT_EQ(encoded->encoder.descriptor_blocks(), 2u);
}

// R14: everything that says where a descriptor belongs is looked at.
TEST(LogCodec, R14DescriptorOfAnotherPlaceDoesNotVerify) {
  const auto encoded = Encode({Write(1000, {1})});
  const auto decode = [&](SegmentIdentity identity) {
    return DecodeBatch(encoded->encoder.blocks(), identity).status().code();
  };
  EXPECT_EQ(decode(TestIdentity()), absl::StatusCode::kOk);
  SegmentIdentity other = TestIdentity();
  other.segment = SegmentNumber(8);
  EXPECT_EQ(decode(other), absl::StatusCode::kDataLoss);
  other = TestIdentity();
  other.store_id[5] ^= 1;
  EXPECT_EQ(decode(other), absl::StatusCode::kDataLoss);
  other = TestIdentity();
  other.secret[0] ^= 1;  // seeds the CRC; the tag is the same
  EXPECT_EQ(decode(other), absl::StatusCode::kDataLoss);
  other = TestIdentity();
  other.secret[15] ^= 1;
  EXPECT_EQ(decode(other), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(PeekDescriptor(encoded->encoder.blocks(), other).has_value());
}

TEST(LogCodec, EachFlippedBitOfADescriptorIsNoticed) {
  const auto encoded = Encode({Write(1000, {1}), Record(EntryKind::kSeal, "s")},
                              {{VolumeId(6), {Generation(4), Seq(299)}}});
  std::string bytes(AsText(encoded->used()));
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    EXPECT_FALSE(DecodeBatch(AsBytes(bytes), TestIdentity()).ok()) << "bit " << bit;
    bytes[bit / 8] ^= static_cast<char>(1 << (bit % 8));
  }
  EXPECT_TRUE(DecodeBatch(AsBytes(bytes), TestIdentity()).ok());
}

// Bytes that carry a good CRC and are wrong all the same: only a bug or a forger makes them.
TEST(LogCodec, DescriptorThatVerifiesButContradictsItselfIsDataLoss) {
  struct Case {
    const char* what;
    size_t offset;
    char value;
  };
  const Case cases[] = {
      {"payload count", offsetof(format::BatchDescriptor, payload_blocks), 2},
      {"too many entries", offsetof(format::BatchDescriptor, entries), 2},
      {"too few entries", offsetof(format::BatchDescriptor, entries), 0},
      {"commit marks", offsetof(format::BatchDescriptor, commit_marks), 1},
      {"commit marks beyond bound", offsetof(format::BatchDescriptor, commit_marks) + 1, 1},
      {"block 0", offsetof(format::BatchDescriptor, block), 0},
      {"known durable", offsetof(format::BatchDescriptor, known_durable), 41},
      {"entry kind", sizeof(format::BatchDescriptor), 99},
      {"body bytes", sizeof(format::BatchDescriptor) + 2, 9},
      {"checksums", sizeof(format::BatchDescriptor) + 4, 2},
      {"block count", sizeof(format::BatchDescriptor) + 32, 3},
      {"first block", sizeof(format::BatchDescriptor) + 31, 127},
  };
  const SegmentIdentity identity = TestIdentity();
  for (const Case& c : cases) {
    const auto encoded = Encode({Write(1000, {1})});
    std::string bytes(AsText(encoded->used()));
    bytes[c.offset] = c.value;
    const uint32_t crc = ExtendCrc32c(identity.CrcSeed(), AsBytes(bytes).subspan(12));
    std::string patch;
    ByteWriter(&patch).WriteU32Le(crc);
    bytes.replace(8, 4, patch);
    absl::StatusOr<DecodedBatch> decoded = DecodeBatch(AsBytes(bytes), identity);
    EXPECT_EQ(decoded.status().code(), absl::StatusCode::kDataLoss) << c.what;
  }
}

// R16: a rewrite that was torn between the two copies counts as the newer one.
TEST(LogCodec, R16TornHeaderRewriteIsTheNewerOne) {
  AlignedBytes older(kBlockSize);
  AlignedBytes newer(kBlockSize);
  SegmentIdentity identity = TestIdentity();
  EncodeHeaderBlock(identity, older.span());
  identity.segment = SegmentNumber(12);
  identity.secret[3] = 0;
  EncodeHeaderBlock(identity, newer.span());
  for (int sectors = 1; sectors < 256; ++sectors) {
    AlignedBytes torn(kBlockSize);
    for (size_t i = 0; i < 8; ++i) {
      const AlignedBytes& from = (sectors >> i & 1) != 0 ? newer : older;
      std::memcpy(torn.data() + i * 512, from.data() + i * 512, 512);
    }
    absl::StatusOr<SegmentIdentity> decoded = DecodeHeaderBlock(torn.span());
    ASSERT_TRUE(decoded.ok());
    EXPECT_EQ(decoded->segment, SegmentNumber((sectors & 0x81) != 0 ? 12 : 7)) << sectors;
  }
}

TEST(LogCodec, HeaderSurvivesTheLossOfOneCopyAndNotOfBoth) {
  AlignedBytes block(kBlockSize);
  EXPECT_EQ(DecodeHeaderBlock(block.span()).status().code(), absl::StatusCode::kNotFound);
  EncodeHeaderBlock(TestIdentity(), block.span());
  block.data()[100] ^= std::byte{1};
  EXPECT_TRUE(DecodeHeaderBlock(block.span()).ok());
  block.data()[3600] ^= std::byte{1};
  EXPECT_EQ(DecodeHeaderBlock(block.span()).status().code(), absl::StatusCode::kDataLoss);
}

TEST(LogCodec, HeaderOfANewerVersionIsRefusedWithWhatToDo) {
  AlignedBytes block(kBlockSize);
  EncodeHeaderBlock(TestIdentity(), block.span());
  format::SegmentHeader header;
  std::memcpy(&header, block.data(), sizeof(header));
  header.version = 2;
  const auto* bytes = reinterpret_cast<const std::byte*>(&header);
  header.crc = Crc32c(absl::MakeConstSpan(bytes + 12, sizeof(header) - 12));
  std::memcpy(block.data(), &header, sizeof(header));
  absl::Status status = DecodeHeaderBlock(block.span()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("newer"));
}

TEST(LogCodec, TrailerOfAnotherLifeOrImpossibleIsNone) {
  AlignedBytes block(kBlockSize);
  SealRecord seal;
  seal.copies_bytes = 300;
  seal.first_block = 1023;
  seal.batches = 2;
  seal.first_batch = BatchNumber(41);
  seal.last_batch = BatchNumber(42);
  seal.end_block = 12;
  EncodeTrailer(TestIdentity(), seal, block.span());
  SegmentIdentity other = TestIdentity();
  other.secret[1] ^= 1;
  EXPECT_FALSE(DecodeTrailer(block.span(), other).ok());
  seal.first_block = 1022;
  EncodeTrailer(TestIdentity(), seal, block.span());
  EXPECT_FALSE(DecodeTrailer(block.span(), TestIdentity()).ok());
  seal.first_block = 1023;
  seal.end_block = 1024;
  EncodeTrailer(TestIdentity(), seal, block.span());
  EXPECT_FALSE(DecodeTrailer(block.span(), TestIdentity()).ok());
  seal.end_block = 12;
  seal.batches = 3;
  EncodeTrailer(TestIdentity(), seal, block.span());
  EXPECT_FALSE(DecodeTrailer(block.span(), TestIdentity()).ok());
}

TEST(LogCodec, EntriesOutOfBoundsAreRefused) {
  EXPECT_TRUE(CheckEntry(Write(1, {1})).ok());
  LogEntry entry = Write(1, {});
  EXPECT_EQ(CheckEntry(entry).code(), absl::StatusCode::kInvalidArgument);
  entry = Write(1, std::vector<uint32_t>(kMaxEntryBlocks + 1));
  EXPECT_EQ(CheckEntry(entry).code(), absl::StatusCode::kInvalidArgument);
  entry = Write(1, {1});
  entry.range.count = BlockCount(2);
  EXPECT_EQ(CheckEntry(entry).code(), absl::StatusCode::kInvalidArgument);
  entry = Record(EntryKind::kSnapshot, std::string(kMaxEntryBodyBytes + 1, 'x'));
  EXPECT_EQ(CheckEntry(entry).code(), absl::StatusCode::kInvalidArgument);
  entry = Record(EntryKind::kSnapshot, "");
  entry.block_crcs.push_back(1);
  EXPECT_EQ(CheckEntry(entry).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckEntry(Record(static_cast<EntryKind>(99), "")).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace twofold
