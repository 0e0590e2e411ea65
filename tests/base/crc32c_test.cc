#include "storage/base/crc32c.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace twofold {
namespace {

absl::Span<const std::byte> AsBytes(absl::string_view text) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

// One bit at a time, straight from the definition (reflected polynomial 0x82F63B78).
std::uint32_t SlowCrc32c(absl::Span<const std::byte> data) {
  std::uint32_t crc = ~0u;
  for (const std::byte value : data) {
    crc ^= static_cast<std::uint32_t>(value);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
  }
  return ~crc;
}

std::vector<std::byte> Pattern(std::size_t length) {
  std::vector<std::byte> bytes(length);
  for (std::size_t i = 0; i < length; ++i) bytes[i] = static_cast<std::byte>(i * 131 + (i >> 8));
  return bytes;
}

TEST(Crc32c, AgreesWithTheCheckValue) { EXPECT_EQ(Crc32c(AsBytes("123456789")), 0xE3069283u); }

TEST(Crc32c, AgreesWithTheVectorsOfRfc3720) {
  std::string data(32, '\0');
  EXPECT_EQ(Crc32c(AsBytes(data)), 0x8A9136AAu);
  data.assign(32, '\xff');
  EXPECT_EQ(Crc32c(AsBytes(data)), 0x62A8AB43u);
  for (int i = 0; i < 32; ++i) data[i] = static_cast<char>(i);
  EXPECT_EQ(Crc32c(AsBytes(data)), 0x46DD794Eu);
  for (int i = 0; i < 32; ++i) data[i] = static_cast<char>(31 - i);
  EXPECT_EQ(Crc32c(AsBytes(data)), 0x113FDB5Cu);
}

TEST(Crc32c, OfNothingIsZero) { EXPECT_EQ(Crc32c({}), 0u); }

TEST(Crc32c, AgreesWithTheDefinitionAtEveryLengthAndOffset) {
  const std::vector<std::byte> bytes = Pattern(700);
  for (std::size_t offset = 0; offset < 16; ++offset) {
    for (std::size_t length = 0; length < 600; length += 7) {
      const auto piece = absl::MakeConstSpan(bytes).subspan(offset, length);
      ASSERT_EQ(Crc32c(piece), SlowCrc32c(piece)) << "offset " << offset << " length " << length;
    }
  }
}

TEST(ExtendCrc32c, OfTwoPartsIsThatOfTheWhole) {
  const std::vector<std::byte> bytes = Pattern(5000);
  const auto whole = absl::MakeConstSpan(bytes);
  for (std::size_t cut = 0; cut <= bytes.size(); cut += 613) {
    EXPECT_EQ(ExtendCrc32c(Crc32c(whole.first(cut)), whole.subspan(cut)), Crc32c(whole));
  }
}

TEST(CopyAndCrc32c, CopiesAndReturnsTheChecksumOfTheCopy) {
  for (const std::size_t length : {0, 1, 4095, 4096, 4097, 65536, 70001}) {
    const std::vector<std::byte> source = Pattern(length);
    std::vector<std::byte> copy(length + 1, std::byte{0x5a});
    EXPECT_EQ(CopyAndCrc32c(copy.data(), source.data(), length), Crc32c(source));
    EXPECT_EQ(copy[length], std::byte{0x5a}) << "wrote past the end at length " << length;
    copy.resize(length);
    EXPECT_EQ(copy, source);
  }
}

}  // namespace
}  // namespace twofold
