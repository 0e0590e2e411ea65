// What is used by what, for people and programs: blocks as bytes, ids as names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "storage/base/types.h"
#include "storage/log/entry.h"

namespace twofold {

struct SnapshotUsageInfo {
  std::string name;  // "noon"
  SnapshotId id;
  uint64_t shown_bytes = 0;  // data that it shows
  uint64_t own_bytes = 0;    // what comes free when it alone is deleted
  bool operator==(const SnapshotUsageInfo&) const = default;
};

struct VolumeUsageInfo {
  std::string name;
  Position position;           // up to which it was counted
  uint64_t present_bytes = 0;  // data that it shows now
  // What its snapshots, and what was rolled back from, need beyond that.
  uint64_t history_bytes = 0;
  // Of the history: what belongs to one snapshot each. The rest goes when several are deleted.
  uint64_t snapshots_own_bytes = 0;
  std::vector<SnapshotUsageInfo> snapshots;  // in order of their ids
  uint64_t total_bytes() const { return present_bytes + history_bytes; }
  bool operator==(const VolumeUsageInfo&) const = default;
};

struct UsageInfo {
  std::string set;  // where it was counted; each set has the same volumes
  WallNanos as_of = 0;
  uint64_t duration_ms = 0;
  std::vector<VolumeUsageInfo> volumes;  // all, or the one that was asked for; by name
  // Of a count of everything: what was live on that set, which is what the volumes hold in all and
  // what deletes have not given back yet.
  struct Sum {
    uint64_t live_bytes = 0;
    uint64_t present_bytes = 0;
    uint64_t history_bytes = 0;
    uint64_t to_give_back_bytes = 0;
    bool operator==(const Sum&) const = default;
  };
  std::optional<Sum> sum;
  bool operator==(const UsageInfo&) const = default;
};

}  // namespace twofold
