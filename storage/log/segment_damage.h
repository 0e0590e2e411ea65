// What checking a segment (segment_check.h) finds.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "storage/log/entry.h"
#include "storage/runtime/task.h"

namespace twofold {

// Called before each read of the medium with the bytes that will be read; an error ends the work.
using BeforeRead = std::function<Task<absl::Status>(uint64_t bytes)>;

struct SegmentDamage {
  enum class Kind {
    kHeader,      // a copy of the segment's header
    kDescriptor,  // a batch's descriptor
    kCopies,      // the copies of the descriptors at the segment's end
    kPayload,     // a block of payload that is needed
    kUnknown,     // blocks that are needed, and nothing says any more what they are
  };
  Kind kind = Kind::kPayload;
  uint32_t block = 0;  // in the segment
  std::string what;
  // kPayload: the entry that the block belongs to, and which of its blocks it is.
  LogEntry entry;
  uint32_t index = 0;
};

struct SegmentCheck {
  std::vector<SegmentDamage> damage;  // by place
  uint64_t payload_blocks = 0;        // read and checked, bad ones included
  uint64_t bytes_read = 0;
};

}  // namespace twofold
