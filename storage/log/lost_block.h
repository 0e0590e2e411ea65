// What stands in the log in the place of a block whose bytes no set has any more
// (docs/formats/log.md, "Lost blocks";
// docs/decisions/0024-a-resync-goes-on-without-what-is-lost.md).
//
// A set that is brought level from one with a bad block gets the block's identity and the checksum
// of what was written, and these bytes instead of it. They never have that checksum, so whoever
// reads, moves or scrubs them finds the block bad, as it is. Pure.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace twofold {

// How it stands in the list of what is damaged.
inline constexpr absl::string_view kLostBlock =
    "a block is lost: no set had it when this one was brought level";

// Fills `block` (kBlockSize): for what had the checksum `crc`, which the result has not.
void MakeLostBlock(uint32_t crc, absl::Span<std::byte> block);

// Whether `block`, which was to have the checksum `crc` and has not, is what MakeLostBlock makes.
// Only for telling people: it is bad in any case.
bool IsLostBlock(uint32_t crc, absl::Span<const std::byte> block);

}  // namespace twofold
