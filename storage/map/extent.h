// SHARED CONTRACT. What the extent map says of blocks.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "storage/base/types.h"
#include "storage/log/entry.h"

namespace twofold {

enum class RunKind : uint8_t {
  kData = 0,
  kZero =
      1,  // explicitly zero since `position`; `address.segment` is where the record stands (R17)
};

// Consecutive blocks written by one log entry. Runs are ordered by (position, segment number) (M2,
// R18).
struct Run {
  BlockRange range;
  RunKind kind = RunKind::kData;
  Position position;
  LogAddress address;                           // of the first block; kZero: block 0
  absl::InlinedVector<uint32_t, 1> block_crcs;  // kData: one a block
  bool operator==(const Run&) const = default;
};

// One piece of a lookup's answer. `mapped` false: never written, here or in an ancestor (reads as
// zeros).
struct Piece {
  bool mapped = false;
  Run run;  // when mapped: cut to the piece; else only its range counts
};

// Data or hole, for a client.
struct BlockExtent {
  BlockRange range;
  bool data = false;
  bool operator==(const BlockExtent&) const = default;
};

}  // namespace twofold
