// Which blocks of the log the map needs: what becomes live, what dies, and for which retained
// points the dead are kept (MAP_AND_SPACE M14, M19, M20). Every block that was born dies exactly
// once.
//
// A run is seen by a retained point s of its timeline when it was born below s and displaced at or
// above it. With none it is dead at once; otherwise it goes on a dead list, by the epochs of its
// birth and death, and is freed when the last point between them goes (reclaim.h).
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "storage/base/types.h"
#include "storage/log/segment_table.h"
#include "storage/map/catalogue.h"
#include "storage/map/extent.h"
#include "storage/map/forwarding.h"
#include "storage/map/lineage.h"
#include "storage/map/metadata_store.h"

namespace twofold {

class SpaceAccounting {
 public:
  // All outlive it. What the map says of places counts where it lies now.
  SpaceAccounting(const Catalogue* catalogue, const Forwarding* forwarding,
                  const Lineages* lineages, SegmentTable* table)
      : catalogue_(*catalogue), forwarding_(*forwarding), lineages_(*lineages), table_(*table) {}

  // The timeline is written in its current epoch: to be called before the runs of a new epoch.
  void NoteEpoch(const TimelineRecord& timeline);

  // `run` is in the map now.
  void Born(const Run& run);
  // `run` is no longer part of the newest state of the timeline; a version of `death` displaced it.
  void Displaced(const TimelineRecord& timeline, const Run& run, Epoch death);
  // `run`, of one chunk, is seen by retained points of the timeline alone, the last one below
  // `death`.
  void ListDead(const TimelineRecord& timeline, const Run& run, Epoch death);
  // Nothing sees `run` any more.
  void Free(const Run& run);

  // Whether a retained point sees the newest version of epoch `older` or before, and not the one of
  // `newer`.
  bool SeenBetween(TimelineId timeline, Position older, Epoch newer) const;

  // Points that go with a reclaim job count as retained until it takes effect.
  void HoldPoints(TimelineId timeline, const std::vector<Position>& points);
  void LetGoPoints(TimelineId timeline, const std::vector<Position>& points);

  // Forgets what is kept in memory of a timeline that is gone.
  void Forget(TimelineId timeline) { epochs_.erase(timeline); }

  // Appends the dead-list entries since the last call.
  void Freeze(MetadataBatch* batch);

 private:
  Epoch EpochOf(const TimelineRecord& timeline, Position position);

  const Catalogue& catalogue_;
  const Forwarding& forwarding_;
  const Lineages& lineages_;
  SegmentTable& table_;
  // Ascending: the points where the timeline's runs were, or may have been, divided.
  absl::flat_hash_map<TimelineId, std::vector<Epoch>> epochs_;
  absl::flat_hash_map<TimelineId, std::multiset<Position>> held_;  // none is empty
  MetadataBatch dead_;
};

}  // namespace twofold
