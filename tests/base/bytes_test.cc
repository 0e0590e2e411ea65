#include "storage/base/bytes.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "storage/base/prng.h"

namespace twofold {
namespace {

constexpr uint64_t kMax64 = std::numeric_limits<uint64_t>::max();

TEST(ByteWriter, WritesLittleAndBigEndianAsSpecified) {
  std::string out;
  ByteWriter writer(&out);
  writer.WriteU8(0x01);
  writer.WriteU16Le(0x0203);
  writer.WriteU16Be(0x0203);
  writer.WriteU32Le(0x04050607);
  writer.WriteU32Be(0x04050607);
  writer.WriteU64Le(0x08090a0b0c0d0e0f);
  writer.WriteU64Be(0x08090a0b0c0d0e0f);
  EXPECT_EQ(out, std::string("\x01"
                             "\x03\x02\x02\x03"
                             "\x07\x06\x05\x04\x04\x05\x06\x07"
                             "\x0f\x0e\x0d\x0c\x0b\x0a\x09\x08\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"));
  EXPECT_EQ(writer.position(), out.size());
}

TEST(ByteReader, ReadsBackWhatWasWritten) {
  std::string out;
  ByteWriter writer(&out);
  writer.WriteU8(200);
  writer.WriteU16Le(60000);
  writer.WriteU16Be(60001);
  writer.WriteU32Le(4000000000u);
  writer.WriteU32Be(4000000001u);
  writer.WriteU64Le(kMax64 - 1);
  writer.WriteU64Be(kMax64 - 2);
  writer.WriteLengthPrefixed("a name");
  writer.WriteZeros(100);
  writer.WriteString("end");

  ByteReader reader{absl::string_view(out)};
  EXPECT_EQ(reader.ReadU8(), 200);
  EXPECT_EQ(reader.ReadU16Le(), 60000);
  EXPECT_EQ(reader.ReadU16Be(), 60001);
  EXPECT_EQ(reader.ReadU32Le(), 4000000000u);
  EXPECT_EQ(reader.ReadU32Be(), 4000000001u);
  EXPECT_EQ(reader.ReadU64Le(), kMax64 - 1);
  EXPECT_EQ(reader.ReadU64Be(), kMax64 - 2);
  EXPECT_EQ(reader.ReadLengthPrefixed(6), "a name");
  EXPECT_EQ(reader.ReadString(100), std::string(100, '\0'));
  EXPECT_FALSE(reader.finished());
  EXPECT_EQ(reader.remaining(), 3u);
  reader.Skip(3);
  EXPECT_TRUE(reader.finished());
}

TEST(ByteReader, FailsForGoodAtTheFirstReadPastTheEnd) {
  const std::string input("\x01\x02\x03", 3);
  ByteReader reader{absl::string_view(input)};
  EXPECT_EQ(reader.ReadU16Le(), 0x0201);
  EXPECT_EQ(reader.ReadU16Le(), 0);
  EXPECT_TRUE(reader.failed());
  EXPECT_EQ(reader.ReadU8(), 0) << "the byte that is left must not be given out after a failure";
  EXPECT_EQ(reader.remaining(), 0u);
  EXPECT_FALSE(reader.finished());
}

TEST(ByteReader, OfNothingIsFinishedAndFailsOnAnyRead) {
  ByteReader reader(absl::Span<const std::byte>{});
  EXPECT_TRUE(reader.finished());
  EXPECT_TRUE(reader.ReadBytes(0).empty());
  EXPECT_TRUE(reader.finished());
  EXPECT_EQ(reader.ReadU64Be(), 0u);
  EXPECT_TRUE(reader.failed());
}

TEST(ByteReader, RefusesLengthsThatWouldOverflow) {
  ByteReader reader(absl::string_view("abc"));
  reader.ReadU8();
  EXPECT_TRUE(reader.ReadBytes(std::numeric_limits<size_t>::max()).empty());
  EXPECT_TRUE(reader.failed());
}

TEST(ByteReader, RefusesAPrefixOverTheLimitOrTheInput) {
  std::string out;
  ByteWriter(&out).WriteLengthPrefixed("12345");
  ByteReader over_limit{absl::string_view(out)};
  EXPECT_EQ(over_limit.ReadLengthPrefixed(4), "");
  EXPECT_TRUE(over_limit.failed());
  ByteReader cut(absl::string_view(out).substr(0, 4));
  EXPECT_EQ(cut.ReadLengthPrefixed(100), "");
  EXPECT_TRUE(cut.failed());
}

TEST(Varint64, KeepsEveryValueInTheFewestBytes) {
  std::vector<uint64_t> values = {0, 1, 0x7f, 0x80, 0x3fff, 0x4000, kMax64 - 1, kMax64};
  for (int bit = 0; bit < 64; ++bit) values.push_back(uint64_t{1} << bit);
  for (const uint64_t value : values) {
    std::string out;
    ByteWriter(&out).WriteVarint64(value);
    size_t expected_bytes = 1;
    for (uint64_t rest = value >> 7; rest != 0; rest >>= 7) ++expected_bytes;
    EXPECT_EQ(out.size(), expected_bytes);
    ByteReader reader{absl::string_view(out)};
    EXPECT_EQ(reader.ReadVarint64(), value);
    EXPECT_TRUE(reader.finished());
  }
}

TEST(Varint64, RefusesWhatIsCutTooLongOrNotTheShortestForm) {
  for (const std::string& bad : {
           std::string("\x80"),                                      // Cut.
           std::string("\x80\x00", 2),                               // 0 in two bytes.
           std::string("\xff\x00", 2),                               // 127 in two bytes.
           std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),  // 65 bits.
           std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", 11),
           std::string(),
       }) {
    ByteReader reader{absl::string_view(bad)};
    EXPECT_EQ(reader.ReadVarint64(), 0u);
    EXPECT_TRUE(reader.failed());
  }
}

TEST(ByteReader, NeverReadsPastTheEndOfRandomInput) {
  Prng random(7);
  for (int round = 0; round < 2000; ++round) {
    // On the heap and of the exact size, so that AddressSanitizer sees a byte too far.
    std::vector<std::byte> input(random.Uniform(40));
    for (std::byte& byte : input) byte = static_cast<std::byte>(random.Next());
    ByteReader reader{absl::MakeConstSpan(input)};
    size_t before = 0;
    while (!reader.failed() && !reader.finished()) {
      switch (random.Uniform(5)) {
        case 0:
          reader.ReadU8();
          break;
        case 1:
          reader.ReadU32Be();
          break;
        case 2:
          reader.ReadVarint64();
          break;
        case 3:
          reader.ReadLengthPrefixed(16);
          break;
        default:
          reader.ReadBytes(1 + random.Uniform(10));
          break;
      }
      ASSERT_LE(reader.position(), input.size());
      ASSERT_GE(reader.position(), before);
      before = reader.position();
    }
  }
}

TEST(FixedByteWriter, FillsItsMemoryAndRefusesWhatDoesNotFit) {
  std::array<std::byte, 8> memory;
  memory.fill(std::byte{0xee});
  FixedByteWriter writer(absl::MakeSpan(memory).first(6));
  writer.WriteU32Le(0x01020304);
  EXPECT_EQ(writer.remaining(), 2u);
  writer.WriteU32Le(0x05060708);
  EXPECT_TRUE(writer.failed());
  writer.WriteU8(9);
  EXPECT_EQ(writer.position(), 4u) << "nothing may be written after a failure";
  EXPECT_EQ(AsText(memory), absl::string_view("\x04\x03\x02\x01\xee\xee\xee\xee", 8));
}

TEST(FixedByteWriter, WritesZerosUpToTheVeryEnd) {
  std::vector<std::byte> memory(200, std::byte{0xee});
  FixedByteWriter writer(absl::MakeSpan(memory).first(199));
  writer.WriteZeros(199);
  EXPECT_FALSE(writer.failed());
  EXPECT_EQ(writer.remaining(), 0u);
  EXPECT_EQ(memory[198], std::byte{0});
  EXPECT_EQ(memory[199], std::byte{0xee});
}

TEST(ByteWriter, PatchesWhatIsKnownAtTheEnd) {
  std::string out;
  ByteWriter writer(&out);
  writer.WriteU32Le(0);
  writer.WriteU64Le(0);
  writer.WriteU32Be(0);
  writer.PatchU32Le(0, 0x01020304);
  writer.PatchU64Le(4, 0x1112131415161718);
  writer.PatchU32Be(12, 0x01020304);
  EXPECT_EQ(out, "\x04\x03\x02\x01\x18\x17\x16\x15\x14\x13\x12\x11\x01\x02\x03\x04");
}

using ByteWriterDeathTest = testing::Test;

TEST(ByteWriterDeathTest, ChecksThatAPatchLiesInWhatWasWritten) {
  std::string out = "12345";
  EXPECT_DEATH(ByteWriter(&out).PatchU32Le(2, 0), "patch of 4 bytes at 2 in 5");
}

}  // namespace
}  // namespace twofold
