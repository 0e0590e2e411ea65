// One entry of a log's end, for levelling.
#pragma once

#include "storage/io/aligned_bytes.h"
#include "storage/log/entry.h"

namespace twofold {

struct TailEntry {
  LogEntry entry;
  AlignedBytes
      payload;  // entry.range.count blocks for kWrite, else empty; its checksums were verified
};

}  // namespace twofold
