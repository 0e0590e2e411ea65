// One chunk of a timeline, made anew from all that the log says of it: the versions that retained
// points see, and what the space accounting says of them (M4, M19, M21). Pure.
//
// The retained points of a timeline divide its positions into windows: [opened, p1), [p1, p2), ...,
// [pn, end). What the last state of a window shows is what a point sees, so each window in which
// the chunk changed gets one version, in the epoch that the window begins with. The epochs of
// deleted snapshots in between are forgotten: nothing can tell them apart any more.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "storage/base/types.h"
#include "storage/log/segment_table.h"
#include "storage/map/catalogue.h"
#include "storage/map/metadata_store.h"
#include "storage/map/run_list.h"

namespace twofold {

// The points of a timeline that somebody sees.
struct TimelineWindows {
  TimelineWindows(const Catalogue& catalogue, const TimelineRecord& timeline);

  TimelineId id;
  Epoch opened;
  std::vector<Position> points;  // ascending
  bool has_end = false;          // what comes after the last point is seen too

  // The window in which `position` lies: how many points are at or below it.
  size_t WindowOf(Position position) const;
  bool IsSeen(size_t window) const { return has_end || window < points.size(); }
  Epoch EpochOf(size_t window) const { return window == 0 ? opened : points[window - 1]; }
};

// What is made, to be written in batches.
struct RebuiltMap {
  MetadataBatch batch;
  std::vector<LiveChange> changes;  // since they were last taken
  std::map<SegmentNumber, SegmentUsage> usages;
  uint64_t versions = 0;
};

class ChunkHistory {
 public:
  // `below`: an ancestor has something there, so that zeros must be said (M7). All outlive it.
  ChunkHistory(const TimelineWindows& windows, uint64_t chunk, bool below, RebuiltMap* out)
      : windows_(windows), chunk_(chunk), below_(below), out_(*out) {}

  // Within the chunk; ascending by position, and for equal positions by place (M2).
  void Add(const Run& run);
  void Finish() { CloseWindow(); }

 private:
  void CloseWindow();
  void AddDead(const Run& run);

  const TimelineWindows& windows_;
  const uint64_t chunk_;
  const bool below_;
  RebuiltMap& out_;

  size_t window_ = 0;
  bool changed_ = false;  // in this window
  bool has_data_ = false;
  RunList runs_;
  std::vector<Run> displaced_;  // reused
};

}  // namespace twofold
