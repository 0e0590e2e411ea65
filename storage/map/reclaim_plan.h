// What deleting a snapshot or a volume leaves to do (MAP_AND_SPACE M6, M19, M20). Pure.
//
// A retained point goes from between its neighbours: what was born after the one before it and died
// before the one behind it is free, found by the dead lists. The last point of a timeline that is
// no volume's current one has nothing behind it: what it alone sees has not died at all, and is
// found by the versions that are newer than the point before. That is one job too, `kTail`; with no
// point before it takes the whole timeline.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/base/types.h"
#include "storage/map/catalogue.h"

namespace twofold {

// Kept in the checkpoints until it is done: docs/formats/map.md, "Reclaim jobs".
//
// A job takes effect at a freeze: until then the points that go count as retained in all
// accounting, so that what it will look for is in the checkpoint. A tail waits with that until its
// timeline has come to rest: then nothing changes the versions that it takes for the whole truth.
struct ReclaimJob {
  enum class Kind : uint8_t {
    kPoint = 1,
    kTail = 2,
  };
  Kind kind = Kind::kPoint;
  // As the catalogue had it, which may have forgotten it by now.
  TimelineRecord timeline;
  // The newest point before that stays; kFirstPosition: none.
  Position previous;
  // kPoint: the point that goes, and the next one behind it (kLastPosition: the timeline's end).
  Position point;
  Position next;
  // Those that go with it, ascending; empty once the job has taken effect.
  std::vector<Position> points;
  bool in_effect = false;

  bool whole_timeline() const { return kind == Kind::kTail && previous == kFirstPosition; }
};
// A resync changes the catalogue from `before` to `after` (resync_plan.h): what only `before`
// retains.
std::vector<ReclaimJob> PlanCatalogueChange(const Catalogue& before, const Catalogue& after);

std::string EncodeReclaimJob(const ReclaimJob& job);
absl::StatusOr<ReclaimJob> DecodeReclaimJob(absl::string_view bytes);

// In the order in which they are to be done. `catalogue` is as it was before the entry.
std::vector<ReclaimJob> PlanSnapshotDelete(const Catalogue& catalogue, SnapshotId snapshot);
std::vector<ReclaimJob> PlanVolumeDelete(const Catalogue& catalogue, VolumeId volume);
// The volume leaves its current timeline for another one.
std::vector<ReclaimJob> PlanTimelineStart(const Catalogue& catalogue, VolumeId volume);

}  // namespace twofold
