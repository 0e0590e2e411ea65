#include "storage/log/lost_block.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "absl/strings/escaping.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/io/aligned_bytes.h"

namespace twofold {
namespace {

TEST(LostBlock, HasTheBytesOfItsDocument) {
  AlignedBytes block(kBlockSize);
  std::memset(block.span().data(), 0x5a, kBlockSize);
  MakeLostBlock(0xe3069283, block.span());
  const std::string bytes(reinterpret_cast<const char*>(block.span().data()), kBlockSize);
  EXPECT_EQ(absl::BytesToHexString(bytes.substr(0, 24)),
            "54776f666f6c644c6f7374426c6f636b839206e300000000");
  EXPECT_EQ(bytes.substr(24), std::string(kBlockSize - 24, '\0'));
}

TEST(LostBlock, IsBadWhateverTheChecksum) {
  AlignedBytes block(kBlockSize);
  for (uint32_t i = 0; i < 1000; ++i) {
    const uint32_t crc = i * 4'294'967;
    MakeLostBlock(crc, block.span());
    EXPECT_NE(Crc32c(block.span()), crc);
    EXPECT_TRUE(IsLostBlock(crc, block.span()));
    EXPECT_FALSE(IsLostBlock(crc + 1, block.span())) << "it stands for something else";
  }
}

TEST(LostBlock, IsToldFromWhatIsNotOne) {
  AlignedBytes block(kBlockSize);
  EXPECT_FALSE(IsLostBlock(7, block.span()));
  MakeLostBlock(7, block.span());
  block.span()[kBlockSize - 1] = std::byte{1};
  EXPECT_FALSE(IsLostBlock(7, block.span())) << "a client's data that happens to begin so";
  EXPECT_FALSE(IsLostBlock(7, block.span().first(512)));
}

}  // namespace
}  // namespace twofold
