#include "storage/base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace twofold {
namespace {

constexpr std::size_t kCopyStepBytes = 4096;
// crc32_iscsi takes its length as an int.
constexpr std::size_t kCrcStepBytes = std::size_t{1} << 30;
static_assert(kCrcStepBytes <= static_cast<std::size_t>(std::numeric_limits<int>::max()));

}  // namespace

std::uint32_t Crc32c(absl::Span<const std::byte> data) { return ExtendCrc32c(0, data); }

std::uint32_t ExtendCrc32c(std::uint32_t crc, absl::Span<const std::byte> data) {
  // crc32_iscsi inverts neither its seed nor its result; CRC32C does both.
  std::uint32_t state = ~crc;
  while (!data.empty()) {
    const std::size_t step = std::min(data.size(), kCrcStepBytes);
    // It only reads, but its parameter is not const.
    auto* bytes = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(data.data()));
    state = crc32_iscsi(bytes, static_cast<int>(step), state);
    data.remove_prefix(step);
  }
  return ~state;
}

std::uint32_t CopyAndCrc32c(std::byte* destination, const std::byte* source,
                            std::size_t length_bytes) {
  std::uint32_t crc = 0;
  for (std::size_t done = 0; done < length_bytes;) {
    const std::size_t step = std::min(length_bytes - done, kCopyStepBytes);
    std::memcpy(destination + done, source + done, step);
    crc = ExtendCrc32c(crc, absl::MakeConstSpan(destination + done, step));
    done += step;
  }
  return crc;
}

}  // namespace twofold
