// Which snapshots of the uncommitted tails belong to a group that a crash left incomplete (R34).
// Pure.
//
// The head completes a group in all its volumes at once, and only when every member's record is in
// every log. So a group of which a part is committed is complete, and one that is wholly in the
// tails is complete when each member is there.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "storage/base/types.h"
#include "storage/log/entry.h"
#include "storage/map/catalogue.h"

namespace twofold {

class SnapshotGroups {
 public:
  // An entry that is in a log and not known to be committed, in the order of its stream. kDataLoss
  // where a body can't be read.
  absl::Status AddUncommitted(const LogEntry& entry);

  struct Incomplete {
    VolumeId volume;
    TimelineId timeline;
    SnapshotId snapshot;
  };
  // What must be deleted. `committed` is a replica's catalogue; of several replicas ask each: a
  // group that one of them knows is complete.
  std::vector<Incomplete> FindIncomplete(const std::vector<const Catalogue*>& committed) const;

 private:
  struct Group {
    std::set<VolumeId> members;
    std::map<VolumeId, Incomplete> present;
  };
  std::map<GroupId, Group> groups_;
  std::set<SnapshotId> deleted_;  // given up already by an attach that did not come to its end
};

}  // namespace twofold
