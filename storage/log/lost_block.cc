#include "storage/log/lost_block.h"

#include <algorithm>
#include <boost/endian/conversion.hpp>
#include <cstring>

#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"

namespace twofold {
namespace {

constexpr absl::string_view kMagic = "TwofoldLostBlock";
constexpr size_t kCrcOffset = 16;
constexpr size_t kSaltOffset = 20;
static_assert(kMagic.size() == kCrcOffset);

void Store32(uint32_t value, std::byte* at) {
  boost::endian::native_to_little_inplace(value);
  std::memcpy(at, &value, sizeof(value));
}

void Make(uint32_t crc, uint32_t salt, absl::Span<std::byte> block) {
  std::fill(block.begin(), block.end(), std::byte{0});
  std::memcpy(block.data(), kMagic.data(), kMagic.size());
  Store32(crc, block.data() + kCrcOffset);
  Store32(salt, block.data() + kSaltOffset);
}

}  // namespace

// Blocks that differ in these four bytes alone differ in their checksum, so one of two salts does.
void MakeLostBlock(uint32_t crc, absl::Span<std::byte> block) {
  TF_CHECK_EQ(block.size(), kBlockSize);
  Make(crc, 0, block);
  if (Crc32c(block) == crc) Make(crc, 1, block);
  TF_CHECK(Crc32c(block) != crc);
}

bool IsLostBlock(uint32_t crc, absl::Span<const std::byte> block) {
  if (block.size() != kBlockSize || std::memcmp(block.data(), kMagic.data(), kMagic.size()) != 0) {
    return false;
  }
  std::byte wanted[sizeof(crc)];
  Store32(crc, wanted);
  return std::memcmp(block.data() + kCrcOffset, wanted, sizeof(wanted)) == 0 &&
         std::all_of(block.begin() + kSaltOffset + sizeof(uint32_t), block.end(),
                     [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace twofold
