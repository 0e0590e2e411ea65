// SHARED CONTRACT. What the log hands out: places in it, and batches as written or as replayed.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "storage/base/types.h"
#include "storage/log/entry.h"

namespace twofold {

// A place between two batches: where the next one starts. Ordered by batch number. Where a segment
// ends two places name the same batch: the end of the one segment and the beginning of the next.
struct LogPosition {
  BatchNumber batch;  // of the batch that starts here
  SegmentNumber segment;
  uint32_t block = 0;              // in the segment, in units of 4 KiB
  uint32_t previous_checksum = 0;  // of the descriptor before (the chain)
  bool operator==(const LogPosition&) const = default;
};

// "Everything of the volume up to `position` is complete on every in-sync replica" (R2).
struct CommitMark {
  VolumeId volume;
  Position position;
  bool operator==(const CommitMark&) const = default;
};

// Where the newest complete catalogue starts (R17); batch 0: there is none.
struct CatalogueReference {
  SegmentNumber segment;
  BatchNumber batch;
  bool operator==(const CatalogueReference&) const = default;
};

// One batch that is in the log, in log order: as just written, or as replayed.
struct LoggedBatch {
  LogPosition start;
  LogPosition end;  // where the next batch starts
  Incarnation incarnation;
  bool durable = false;  // false: written only (ack=written), until a Flush
  CatalogueReference catalogue;
  std::vector<CommitMark> commits;
  struct Item {
    LogEntry entry;
    LogAddress payload;  // kinds with payload
  };
  std::vector<Item> items;
};

// Something that recovery found wrong, for people and for healing.
struct LogDamage {
  SegmentNumber segment;  // 0: unknown
  uint32_t block = 0;
  std::string what;
  std::string where;  // the file, of segment 0
};

}  // namespace twofold
