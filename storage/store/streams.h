// The uncommitted tails of a store's streams (R2): entries that are in the log but not yet in the
// map.
//
// One stream per volume, the catalogue's included. An entry comes in when its batch is logged, in
// log order, and goes out when the head has committed it. Pure: no I/O.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "storage/base/types.h"
#include "storage/log/entry.h"
#include "storage/log/segment_log.h"
#include "storage/map/catalogue.h"

namespace twofold {

struct PendingEntry {
  LogEntry entry;
  LogAddress payload;
  LogPosition batch;  // where its batch starts: replay must not begin behind it
};

class Streams {
 public:
  struct Stream {
    Position sent;       // the last position given to the log, or applied
    Position committed;  // told by the head; entries up to here may be applied
    std::deque<PendingEntry> pending;
    uint64_t pending_records = 0;  // of them: neither writes nor zeros
  };

  // A stream as a checkpoint or the catalogue left it: everything up to `applied` is in the map.
  void Restore(VolumeId volume, Position applied);
  void Forget(VolumeId volume) { streams_.erase(volume); }

  // Gives up what is pending of the stream (R3): it goes on behind the last entry that is
  // committed. No append of it is under way.
  void Void(VolumeId volume);

  // Before an entry is given to the log: it must follow the stream's last one. kAlreadyExists for a
  // duplicate (R31), kInvalidArgument for a gap or a step back.
  absl::Status Admit(VolumeId volume, Position position);

  // An entry was logged or replayed. False where it is applied already (replay begins at the oldest
  // batch with a pending entry, and other streams may be ahead of it).
  bool Add(const LogEntry& entry, LogAddress payload, const LogPosition& batch);

  // The head has everything up to `position`. A mark below the last changes nothing.
  void Commit(VolumeId volume, Position position);

  // The next entry of the volume that is committed and not applied; empty when there is none.
  std::optional<PendingEntry> TakeCommitted(VolumeId volume);

  // Visits the first of what TakeCommitted will give, `max` at most, in its order; returns how
  // many.
  template <typename Visit>
  size_t ForCommitted(VolumeId volume, size_t max, Visit visit) const {
    const auto it = streams_.find(volume);
    if (it == streams_.end()) return 0;
    size_t count = 0;
    for (const PendingEntry& pending : it->second.pending) {
      if (count == max || pending.entry.position > it->second.committed) break;
      visit(pending.entry);
      ++count;
    }
    return count;
  }

  // Whether anything but writes and zeros is pending.
  bool HasPendingRecords(VolumeId volume) const;

  // The batch of the oldest pending entry; empty when nothing is pending.
  std::optional<LogPosition> OldestPendingBatch() const;

  // Commit marks that moved since the last call, at most `max`; the rest stays for the next.
  std::vector<CommitMark> TakeMovedMarks(size_t max);

  const std::map<VolumeId, Stream>& streams() const { return streams_; }
  uint64_t pending_entries() const { return pending_entries_; }

 private:
  std::map<VolumeId, Stream> streams_;
  std::vector<VolumeId> moved_;  // streams whose mark moved, each once
  uint64_t pending_entries_ = 0;
};

}  // namespace twofold
