#include "replication/volume/names.h"

#include <gtest/gtest.h>

#include "replication/volume/ack_mode.h"
#include "storage/base/limits.h"

namespace twofold {
namespace {

TEST(Names, TakesLettersDigitsAndAFewSigns) {
  for (const char* name : {"a", "vm-1.disk_0", "Z9", "_x", "0"}) {
    EXPECT_TRUE(CheckName(name).ok()) << name;
  }
  EXPECT_TRUE(CheckName(std::string(kMaxNameBytes, 'x')).ok());
}

TEST(Names, RefusesWhatWouldNotBeAName) {
  for (const char* name :
       {"", ".", "..", "-rf", ".hidden", "a b", "a/b", "a@b", "a\nb", "\xc3\xa4"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckName(name))) << name;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(CheckName(std::string(kMaxNameBytes + 1, 'x'))));
}

TEST(Names, SplitsSnapshotNamesAtTheSign) {
  const absl::StatusOr<SnapshotName> name = SnapshotName::Parse("vol@before.upgrade");
  ASSERT_TRUE(name.ok());
  EXPECT_EQ(name->volume, "vol");
  EXPECT_EQ(name->snapshot, "before.upgrade");
  EXPECT_EQ(name->ToString(), "vol@before.upgrade");
  for (const char* text : {"", "vol", "@", "vol@", "@snap", "a@b@c", "vol@ snap"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(SnapshotName::Parse(text).status())) << text;
  }
}

TEST(Names, AckModesReadBack) {
  for (const AckMode mode : {AckMode::kDurable, AckMode::kWritten}) {
    EXPECT_EQ(ParseAckMode(AckModeName(mode)).value(), mode);
  }
  EXPECT_TRUE(absl::IsInvalidArgument(ParseAckMode("maybe").status()));
}

}  // namespace
}  // namespace twofold
