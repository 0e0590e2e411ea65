// How a stale copy comes to the state of another one, as far as catalogues say it (R1, R29, R30;
// docs/decisions/0020-resync-replays-history-compressed.md). Pure.
//
// The *goal* is the catalogue of the source at a frozen instant X, every stream of which ends with
// the snapshot of that instant. The target's history is a beginning of the goal's. What lies
// between is cut into *spans*: of one timeline, from one retained point of the goal to the next.
// They are replayed in the order in which they happened (timelines by their ids, which grow, and
// parents before their children; within one by position), and after each span the target's
// catalogue is one that the source has had, less what the goal has let go of since. So:
//
//   BeginReplay   snapshots, volumes and timelines that the goal does not have go; the state that
//   is
//                 there is pinned (R30); the timeline of the first span is there
//   OpenSpan      the timeline of the span is there
//   EndSpan       the span's retained point is there; its volume is complete up to it (R4)
//   CheckReplay   nothing of the goal is missing: it may take the place of the catalogue
//
// What each change lets go is planned by PlanCatalogueChange (reclaim_plan.h).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/types.h"
#include "storage/map/catalogue.h"
#include "storage/map/extent.h"

namespace twofold {

// The entries of `timeline` above `after` and below `as_of`, as far as `as_of` shows them.
struct ResyncSpan {
  TimelineId timeline;
  Position after;
  Position as_of;  // a retained point of the timeline in the goal
  bool operator==(const ResyncSpan&) const = default;
};

// Some of the runs of a span; see ExtentMap::ReadSpan.
struct ResyncPage {
  std::vector<Run> runs;
  // A read as of there shows them: the span's own end, or that of who has taken its timeline over.
  TimelineId timeline;
  Position as_of;
  std::string next;  // where the next page begins; empty: this was the last one
};

// Some of the blocks that a timeline shows as data, ascending; see ExtentMap::ReadShown.
struct ShownPage {
  std::vector<BlockRange> data;
  std::optional<BlockIndex> next;  // where the next page begins; none: this was the last one
};

// The position that zeros get of which only the end of a span tells: the newest that it shows. None
// where it shows nothing. `generations`: of the volume's stream (R1); empty where it is gone.
std::optional<Position> NewestShown(Position as_of, const std::vector<Position>& generations);

// The goal that a source is at, each volume's stream ending with the newest snapshot on its current
// timeline. kFailedPrecondition: a volume has none.
absl::StatusOr<Catalogue> MakeGoal(const Catalogue& source);

// Whether what `target` has applied is a beginning of what `source` has (R1). kFailedPrecondition
// with the volume and the positions where they part.
absl::Status CheckCommonHistory(const Catalogue& source, const Catalogue& target);

// The spans that are left to be replayed on `catalogue`, in their order.
std::vector<ResyncSpan> PlanResync(const Catalogue& catalogue, const Catalogue& goal);

// `pin`: the current state of each volume that stays is pinned privately; for the first begin of a
// resync. kInvalidArgument: the goal is none. kFailedPrecondition: CheckCommonHistory.
absl::StatusOr<Catalogue> BeginReplay(const Catalogue& catalogue, const Catalogue& goal, bool pin);

// `span` was filled: its retained point is there, and its volume complete up to it.
void EndSpan(Catalogue* catalogue, const Catalogue& goal, const ResyncSpan& span);
// The timeline of `span` is there, and its volume's current one. `LeftBy`: the volume that leaves
// another timeline for it, of which the map is to be told before.
std::optional<VolumeId> LeftBy(const Catalogue& catalogue, const Catalogue& goal,
                               const ResyncSpan& span);
void OpenSpan(Catalogue* catalogue, const Catalogue& goal, const ResyncSpan& span);

// kDataLoss where the replay is not at the goal.
absl::Status CheckReplay(const Catalogue& catalogue, const Catalogue& goal);

}  // namespace twofold
