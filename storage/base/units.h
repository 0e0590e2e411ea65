// Sizes as people write and read them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace twofold {

// Bytes from "4096", "64K", "512M", "10G", "64KiB", "2TiB": a whole number and, straight after it,
// K, M, G, T, P or E in either case, alone or followed by "iB", each 1024 times the one before; or
// "B". "10GB" is refused, since half the world reads it as powers of 1000. kInvalidArgument says
// what is wrong with which text and how to write it.
absl::StatusOr<uint64_t> ParseSize(absl::string_view text);

// The exact size in the largest unit that divides it: "10G", "1536M", "4097". ParseSize reads it
// back.
std::string FormatSize(uint64_t size_bytes);

// For reading only, rounded to three or four digits: "1.40 GiB", "977 MiB", "512 B".
std::string FormatSizeRounded(uint64_t size_bytes);

}  // namespace twofold
