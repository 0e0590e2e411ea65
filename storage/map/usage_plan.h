// Who holds what of the log, by the catalogue alone (docs/decisions/0014): what usage_count.h then
// counts blocks for. Pure.
//
// A block that was written on a timeline is held by the *holders* of that timeline that show it:
// its snapshots, the fork points of other timelines, its end where that is a volume's current
// state. They are in order, and a block is shown by some in a row (from the first after its birth
// to the last before its death). Two things are seen as they will be once the map has come to rest,
// since that is what a delete really gives back:
//
//   dead        a timeline that no volume's end and no snapshot needs, nor any of what descends
//   from
//               it: the next delete in its volume takes it, with its fork point.
//   passes on   a timeline that is the base of one other and nothing else: it is folded into that
//               one (lineage.h), its *heir*, which then owns what it shows. Its fork point holds
//               nothing for itself.
#pragma once

#include <cstddef>
#include <vector>

#include "storage/base/types.h"
#include "storage/map/catalogue.h"
#include "storage/map/lineage.h"

namespace twofold {

// A timeline that is not dead.
struct HeldTimeline {
  static constexpr size_t kNone = ~size_t{0};

  TimelineId id;
  VolumeId volume;
  size_t parent = kNone;  // in the plan
  size_t parent_holder = 0;
  bool flat = false;    // its versions say all (lineage.h)
  bool folded = false;  // it has no versions
  bool passes_on = false;
  size_t heir = 0;      // itself where it does not pass on
  Position owned_from;  // what is older in it belongs to ancestors that don't pass on

  std::vector<Position> points;  // of its holders, ascending, each once
  bool has_end = false;          // one more holder, behind the points
  size_t holders() const { return points.size() + (has_end ? 1 : 0); }
  // By holder: the snapshot with whose deletion alone it goes; 0: there is none. One that is all
  // that a descendant is there for takes the fork point along.
  std::vector<SnapshotId> goes_with;

  struct Fork {
    size_t child = 0;
    size_t holder = 0;
  };
  std::vector<Fork> forks;  // of timelines that are not dead
  // With `snapshot` alone deleted it passes on: what it shows at `fork` and its heir then shows
  // nowhere is given back.
  struct Fold {
    SnapshotId snapshot;
    Fork fork;
  };
  std::vector<Fold> folds;
};

struct UsagePlan {
  std::vector<HeldTimeline> timelines;  // of one tree, ascending by id: parents come first
  const HeldTimeline* Find(TimelineId timeline) const;
};

// Of the timelines that are one tree with the volume's current one. It must be there.
UsagePlan PlanUsage(const Catalogue& catalogue, const Lineages& lineages, VolumeId volume);
// One plan for each tree.
std::vector<UsagePlan> PlanUsage(const Catalogue& catalogue, const Lineages& lineages);

}  // namespace twofold
