// Cleaning a segment: what lives in it is logged again, in order, and leaves a forwarding entry
// (M14-M18).
//
// The map is not touched, so the cost does not depend on how many chunk versions refer to a block.
// The segment itself is freed by the first checkpoint that holds its dead bits and its forwarding
// entry, by the same rule as any other dead segment (M14).
//
// A block keeps the checksum that it came with (P7). One that can't be read, or fails it, is never
// given a new one: without other bytes for it its segment is left as it is, for repair to evacuate
// with a source of bytes from the other set (Store::Repair).
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "storage/base/types.h"
#include "storage/runtime/task.h"

namespace twofold {

// A block by what it is: the version of it that the entry at `position` wrote.
struct BlockIdentity {
  VolumeId volume;
  TimelineId timeline;
  BlockIndex block;
  Position position;
  uint32_t crc = 0;  // CRC32C, as it came with the write
};

// Fills `into`, one block aligned to kBlockSize, with the bytes of exactly that version. They are
// checked against the checksum. kUnavailable: nobody can be asked now; cleaning ends with it. Any
// other error: nobody has the block, which stays where it is while the others are moved. Empty:
// there are no other bytes.
using BlockSource = std::function<Task<absl::Status>(BlockIdentity, absl::Span<std::byte> into)>;

// What Store::Clean did. It returns, beside errors of the log and of the map:
//   kNotFound             the store has no such segment (any more)
//   kFailedPrecondition   it is still being written, or entries of it are not committed (R2)
//   kDataLoss             a live block is bad and there are no other bytes, or nothing says what it
//                         is (R15); what was moved before stays moved, nothing is lost
//   kResourceExhausted    no room to move to; the same
struct CleanOutcome {
  uint64_t moved_blocks = 0;
  uint64_t moved_zero_records = 0;
  uint64_t replaced_blocks = 0;  // bad ones, whose bytes came from the source
  // Why blocks were left where they are: they are bad, and nobody has other bytes for them. With OK
  // from Clean: they have died since.
  absl::Status left;
};

}  // namespace twofold
