#pragma once

// CRC32C (Castagnoli), the one checksum of every block, descriptor and message.
// Source: RFC 3720 section 12.1 and appendix B.4.

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace twofold {

// The CRC32C of `data`. That of nothing is 0; that of "123456789" is 0xE3069283.
std::uint32_t Crc32c(absl::Span<const std::byte> data);

// The CRC32C of A followed by `data`, where `crc` is that of A.
std::uint32_t ExtendCrc32c(std::uint32_t crc, absl::Span<const std::byte> data);

// Copies `length_bytes` from `source` to `destination`, which must not overlap, and returns the
// CRC32C of exactly the bytes that `destination` then holds, also when somebody changes `source`
// meanwhile. It works a block of 4 KiB at a time, so that the checksum reads from the cache.
std::uint32_t CopyAndCrc32c(std::byte* destination, const std::byte* source,
                            std::size_t length_bytes);

}  // namespace twofold
