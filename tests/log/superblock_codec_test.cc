#include "storage/log/superblock_codec.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/escaping.h"
#include "storage/base/limits.h"
#include "storage/io/aligned_bytes.h"
#include "tests/map/golden.h"

namespace twofold {
namespace {

SuperblockCopy TestCopy() {
  SuperblockCopy copy;
  copy.superblock.pool_id = "00112233445566778899aabbccddeeff";
  copy.superblock.store_id = "ffeeddccbbaa99887766554433221100";
  copy.superblock.set_name = "a";
  copy.superblock.segment_bytes = uint64_t{64} << 20;
  copy.superblock.max_segments = 1000;
  copy.superblock.incarnation = Incarnation(9);
  copy.superblock.opened_segment = SegmentNumber(12);
  copy.superblock.disk_ids = {"00000000000000000000000000000001",
                              "00000000000000000000000000000002"};
  copy.superblock.version = 5;
  copy.place = 1;
  return copy;
}

TEST(SuperblockCodec, SlotIsTheGoldenBytes) {
  AlignedBytes block(kBlockSize);
  EncodeSuperblock(TestCopy(), block.span());
  std::string golden = Golden("log/superblock.hex");
  golden.resize(kBlockSize);
  const std::string encoded(reinterpret_cast<const char*>(block.data()), kBlockSize);
  EXPECT_EQ(absl::BytesToHexString(encoded), absl::BytesToHexString(golden));
  const absl::StatusOr<SuperblockCopy> decoded = DecodeSuperblock(block.span());
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, TestCopy());
}

}  // namespace
}  // namespace twofold
