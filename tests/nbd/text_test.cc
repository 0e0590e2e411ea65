#include "tools/nbd/text.h"

#include <gtest/gtest.h>

#include <string>

namespace twofold::nbd {
namespace {

TEST(DisplayText, LeavesPrintableAscii) {
  EXPECT_EQ(DisplayText("block 7: bad CRC, \"vol\" ~"), "block 7: bad CRC, \"vol\" ~");
}

TEST(DisplayText, ReplacesEverythingElse) {
  EXPECT_EQ(DisplayText(absl::string_view("a\0b\n\x1b\x7f\xff", 7)), "a?b????");
}

TEST(DisplayText, CutsAtItsBound) {
  EXPECT_EQ(DisplayText(std::string(5000, 'x')), std::string(kMaxErrorTextBytes, 'x'));
}

TEST(Quoted, EscapesAndCuts) {
  EXPECT_EQ(Quoted("vol"), "\"vol\"");
  EXPECT_EQ(Quoted("a\"\n\xff"), R"("a\"\n\xff")");
  EXPECT_EQ(Quoted(std::string(129, 'n')), "\"" + std::string(128, 'n') + "...\"");
}

}  // namespace
}  // namespace twofold::nbd
