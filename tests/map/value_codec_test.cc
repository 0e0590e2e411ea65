#include "storage/map/value_codec.h"

#include <gtest/gtest.h>

#include <string>

#include "storage/base/limits.h"
#include "tests/map/golden.h"

namespace twofold {
namespace {

const SegmentUsage kUsage{SegmentNumber(9), 300, uint64_t{1} << 40};
const Tombstone kTombstone{
    {BlockIndex(1000), BlockCount(uint64_t{1} << 30)}, SegmentNumber(9), {Generation(2), Seq(300)}};

TEST(ValueCodec, HasTheGoldenBytes) {
  EXPECT_EQ(EncodeUsage(kUsage), Golden("map/usage.hex"));
  EXPECT_EQ(EncodeDeadCount(BlockCount(5)), Golden("map/dead_count.hex"));
  EXPECT_EQ(EncodeTombstone(kTombstone), Golden("map/tombstone.hex"));
}

TEST(ValueCodec, ReadsTheGoldenBytes) {
  const absl::StatusOr<SegmentUsage> usage = DecodeUsage(SegmentNumber(9), Golden("map/usage.hex"));
  ASSERT_TRUE(usage.ok()) << usage.status();
  EXPECT_EQ(usage->segment, kUsage.segment);
  EXPECT_EQ(usage->live_blocks, kUsage.live_blocks);
  EXPECT_EQ(usage->zero_blocks, kUsage.zero_blocks);
  EXPECT_EQ(DecodeDeadCount(Golden("map/dead_count.hex")).value(), BlockCount(5));
  EXPECT_EQ(DecodeTombstone(Golden("map/tombstone.hex")).value(), kTombstone);
}

void ExpectAllRefuse(const std::string& bytes) {
  const absl::Status statuses[] = {DecodeUsage(SegmentNumber(1), bytes).status(),
                                   DecodeDeadCount(bytes).status(),
                                   DecodeTombstone(bytes).status()};
  for (const absl::Status& status : statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  }
}

TEST(ValueCodec, RefusesTruncationAndBytesLeftOver) {
  for (const std::string& whole :
       {EncodeUsage(kUsage), EncodeDeadCount(BlockCount(5)), EncodeTombstone(kTombstone)}) {
    // Each value is one of the three: none of the others' lengths fits it either.
    ExpectAllRefuse(whole.substr(0, 1));
    ExpectAllRefuse(whole + '\0' + '\0' + '\0' + '\0');
  }
  ExpectAllRefuse("");
}

TEST(ValueCodec, RefusesAnotherVersion) {
  for (std::string bytes :
       {EncodeUsage(kUsage), EncodeDeadCount(BlockCount(5)), EncodeTombstone(kTombstone)}) {
    bytes[0] = '\2';
    ExpectAllRefuse(bytes);
  }
}

TEST(ValueCodec, RefusesNumbersThatCannotBe) {
  const uint32_t too_many = kMaxSegmentBytes / kBlockSize + 1;
  EXPECT_FALSE(DecodeUsage(SegmentNumber(1), EncodeUsage({SegmentNumber(1), too_many, 0})).ok());
  EXPECT_FALSE(DecodeDeadCount(std::string("\1\0", 2)).ok());
  EXPECT_FALSE(DecodeDeadCount(std::string("\1\x21", 2)).ok()) << "more than a chunk";
  const BlockIndex last(kMaxVolumeBytes / kBlockSize);
  EXPECT_FALSE(DecodeTombstone(EncodeTombstone({{last, BlockCount(1)}, {}, {}})).ok());
  EXPECT_FALSE(
      DecodeTombstone(EncodeTombstone({{BlockIndex(1), BlockCount(~uint64_t{0})}, {}, {}})).ok());
}

}  // namespace
}  // namespace twofold
