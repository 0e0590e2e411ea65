// Large trims that the chunks do not show yet (R38, M7): kept in memory and in the checkpoints,
// honoured by every lookup, and turned into zero runs of the chunks that exist by a background pass
// and by whoever changes a chunk first.
//
// So a version of an epoch after the tombstone's is never made without the tombstone in it: what is
// left to the pass are chunks whose newest version is of the tombstone's epoch or older.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/base/types.h"
#include "storage/map/extent.h"
#include "storage/map/forwarding.h"
#include "storage/map/metadata_store.h"

namespace twofold {

struct PendingTombstone {
  TimelineId timeline;
  BlockRange range;
  Position position;
  Epoch epoch;            // that was current when it came
  SegmentNumber segment;  // where its record stands
  uint64_t serial = 0;    // counts tombstones in memory
  bool in_store = false;  // its key is in the metadata store, or in the batch on its way there

  // The part of it that covers `part`, which it overlaps.
  Run ZeroRun(const BlockRange& part) const;
};

class Tombstones {
 public:
  // False where it is there already.
  bool Add(PendingTombstone tombstone);
  // Its work is done. It must be there.
  void Remove(TimelineId timeline, Position position);

  bool empty() const { return count_ == 0; }
  size_t size() const { return count_; }
  // Of the newest ever added: a chunk that has applied it needs to look no further.
  uint64_t last_serial() const { return last_serial_; }
  bool Any(TimelineId timeline) const { return by_timeline_.contains(timeline); }
  // Ascending by position.
  const std::vector<PendingTombstone>& Of(TimelineId timeline) const;
  // The one that came first; there is one.
  const PendingTombstone& Oldest() const;
  const PendingTombstone* Find(TimelineId timeline, Position position) const;

  // Makes each say where its record stands now (M17).
  void Renew(const Forwarding& forwarding);

  // Appends what changed since the last call.
  void Freeze(MetadataBatch* batch);
  absl::Status Load(const std::vector<KeyValue>& entries);

 private:
  std::map<TimelineId, std::vector<PendingTombstone>> by_timeline_;
  size_t count_ = 0;
  uint64_t last_serial_ = 0;
  std::vector<std::string> removed_;  // keys
};

}  // namespace twofold
