#include "storage/base/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "storage/base/prng.h"

namespace twofold {
namespace {

using testing::HasSubstr;

constexpr uint64_t kMax64 = std::numeric_limits<uint64_t>::max();

TEST(ParseSize, KnowsAllUnits) {
  EXPECT_EQ(ParseSize("0").value(), 0u);
  EXPECT_EQ(ParseSize("4096").value(), 4096u);
  EXPECT_EQ(ParseSize("512B").value(), 512u);
  EXPECT_EQ(ParseSize("64K").value(), 64u << 10);
  EXPECT_EQ(ParseSize("64KiB").value(), 64u << 10);
  EXPECT_EQ(ParseSize("512m").value(), 512u << 20);
  EXPECT_EQ(ParseSize("10G").value(), uint64_t{10} << 30);
  EXPECT_EQ(ParseSize("3TiB").value(), uint64_t{3} << 40);
  EXPECT_EQ(ParseSize("2P").value(), uint64_t{2} << 50);
  EXPECT_EQ(ParseSize("15E").value(), uint64_t{15} << 60);
  EXPECT_EQ(ParseSize("18446744073709551615").value(), kMax64);
}

std::string ErrorOf(absl::string_view text) {
  const absl::StatusOr<uint64_t> size = ParseSize(text);
  EXPECT_EQ(size.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(size.status().message());
}

TEST(ParseSize, SaysExactlyWhatIsWrong) {
  EXPECT_EQ(ErrorOf(""),
            "size \"\": is empty; write a whole number with K, M, G, T, P or E (powers of 1024), "
            "such as 10G or 64KiB");
  EXPECT_THAT(ErrorOf("G"), HasSubstr("size \"G\": does not begin with a digit;"));
  EXPECT_THAT(ErrorOf("-1G"), HasSubstr("does not begin with a digit"));
  EXPECT_THAT(ErrorOf(" 1G"), HasSubstr("does not begin with a digit"));
  EXPECT_THAT(ErrorOf("1.5G"), HasSubstr("has a fraction"));
  EXPECT_THAT(ErrorOf("10X"), HasSubstr("unknown unit \"X\""));
  EXPECT_THAT(ErrorOf("10 G"), HasSubstr("unknown unit \" G\""));
  EXPECT_THAT(ErrorOf("10GiBs"), HasSubstr("unknown unit \"GiBs\""));
  EXPECT_THAT(ErrorOf("10GB"), HasSubstr("unit \"GB\" can mean powers of 1000 or of 1024"));
  EXPECT_THAT(ErrorOf("10\n"), HasSubstr("size \"10\\n\": unknown unit \"\\n\""));
}

TEST(ParseSize, RefusesWhatDoesNotFit) {
  EXPECT_THAT(ErrorOf("16E"), HasSubstr("does not fit in 64 bits"));
  EXPECT_THAT(ErrorOf("18446744073709551616"), HasSubstr("does not fit in 64 bits"));
  EXPECT_THAT(ErrorOf("17592186044416M"), HasSubstr("does not fit in 64 bits"));
}

TEST(FormatSize, UsesTheLargestUnitThatIsExact) {
  EXPECT_EQ(FormatSize(0), "0");
  EXPECT_EQ(FormatSize(4097), "4097");
  EXPECT_EQ(FormatSize(1024), "1K");
  EXPECT_EQ(FormatSize(uint64_t{10} << 30), "10G");
  EXPECT_EQ(FormatSize(uint64_t{1536} << 20), "1536M");
  EXPECT_EQ(FormatSize(uint64_t{1} << 63), "8E");
}

TEST(FormatSize, IsReadBackByParseSize) {
  Prng random(5);
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t size = (random.Next() >> random.Uniform(64)) << random.Uniform(64);
    EXPECT_EQ(ParseSize(FormatSize(size)).value(), size);
  }
}

TEST(FormatSizeRounded, RoundsToThreeOrFourDigits) {
  EXPECT_EQ(FormatSizeRounded(0), "0 B");
  EXPECT_EQ(FormatSizeRounded(1023), "1023 B");
  EXPECT_EQ(FormatSizeRounded(1024), "1.00 KiB");
  EXPECT_EQ(FormatSizeRounded(1536), "1.50 KiB");
  EXPECT_EQ(FormatSizeRounded(10'230), "9.99 KiB");
  EXPECT_EQ(FormatSizeRounded(10'239), "10.0 KiB");
  EXPECT_EQ(FormatSizeRounded(uint64_t{977} << 20), "977 MiB");
  EXPECT_EQ(FormatSizeRounded((uint64_t{1} << 30) - 1), "1.00 GiB");
  EXPECT_EQ(FormatSizeRounded(kMax64), "16.0 EiB");
}

}  // namespace
}  // namespace twofold
