#include "storage/base/check.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "storage/base/types.h"

namespace twofold {
namespace {

TEST(Check, LetsTrueConditionsPassAndEvaluatesThemOnce) {
  int evaluations = 0;
  TF_CHECK(++evaluations == 1) << "not printed";
  TF_CHECK_EQ(++evaluations, 2);
  TF_CHECK_NE(1, 2);
  TF_CHECK_LT(1, 2);
  TF_CHECK_LE(2, 2);
  TF_CHECK_GT(2, 1);
  TF_CHECK_GE(2, 2);
  TF_CHECK_OK(absl::OkStatus());
  EXPECT_EQ(evaluations, 2);
}

TEST(Check, EvaluatesTheMessageOnlyOnFailure) {
  int evaluations = 0;
  TF_CHECK(true) << ++evaluations;
  TF_CHECK_EQ(1, 1) << ++evaluations;
  EXPECT_EQ(evaluations, 0);
}

TEST(Check, ComparesIntegersByValueAcrossSignedness) {
  TF_CHECK_LT(-1, 1u);
  TF_CHECK_NE(-1, 0xffffffffu);
  TF_CHECK_EQ(size_t{3}, 3);
}

TEST(Check, StandsInAnIfWithoutBraces) {
  bool other = false;
  if (other)
    TF_CHECK(false);
  else
    other = true;
  EXPECT_TRUE(other);
}

TEST(Check, WorksInConstexprFunctions) {
  struct Local {
    static constexpr int Half(int value) {
      TF_CHECK(value % 2 == 0);
      return value / 2;
    }
  };
  static_assert(Local::Half(8) == 4);
}

using CheckDeathTest = testing::Test;

TEST(CheckDeathTest, PrintsPlaceConditionAndMessage) {
  EXPECT_DEATH(TF_CHECK(1 > 2) << "while " << 42,
               "tests/base/check_test.cc:[0-9]+: check failed: 1 > 2 while 42\n");
}

TEST(CheckDeathTest, PrintsBothValues) {
  const uint64_t size = 7;
  EXPECT_DEATH(TF_CHECK_EQ(size, 8), "check failed: size == 8 \\(7 vs 8\\)\n");
  EXPECT_DEATH(TF_CHECK_LT(Seq(5), Seq(4)) << "in order", "\\(5 vs 4\\) in order\n");
  EXPECT_DEATH(TF_CHECK_EQ(uint8_t{65}, 66), "\\(65 vs 66\\)");
  EXPECT_DEATH(TF_CHECK_EQ(std::string("a"), "b"), "\\(a vs b\\)");
}

enum class Color : uint8_t { kRed = 1, kBlue = 2 };
struct Opaque {
  int value;
  bool operator==(const Opaque&) const = default;
};

TEST(CheckDeathTest, PrintsEnumsAsNumbersAndOpaqueTypesBySize) {
  EXPECT_DEATH(TF_CHECK_EQ(Color::kRed, Color::kBlue), "\\(1 vs 2\\)");
  EXPECT_DEATH(TF_CHECK_EQ(Opaque{1}, Opaque{2}), "a value of 4 bytes");
}

TEST(CheckDeathTest, PrintsTheStatus) {
  EXPECT_DEATH(TF_CHECK_OK(absl::DataLossError("block 7")),
               "DataLossError\\(\"block 7\"\\) is DATA_LOSS: block 7");
}

}  // namespace
}  // namespace twofold
