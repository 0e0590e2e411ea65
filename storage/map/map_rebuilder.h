// The extent map made anew from what the log says (M4, M12, R17), into an empty metadata store.
//
// Takes writes and zeros in any order, sorts them through the metadata store itself (tables R and Q
// of docs/formats/map.md), so that its memory does not grow with the log, and writes what a
// checkpoint holds: chunk versions, version index, dead lists, live bitmaps and usages. Nothing of
// it counts before the caller's checkpoint record is committed with TakeRest; a crash before starts
// over with Begin.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/types.h"
#include "storage/map/catalogue.h"
#include "storage/map/chunk_history.h"
#include "storage/map/metadata_store.h"
#include "storage/runtime/task.h"

namespace twofold {

class MapRebuilder {
 public:
  // Both outlive it.
  MapRebuilder(MetadataStore* metadata, const Catalogue* catalogue)
      : metadata_(*metadata), catalogue_(*catalogue) {}

  // Empties the metadata store of all but what can't be in the way.
  Task<absl::Status> Begin();

  // A write or zeros of a timeline of the catalogue, committed; twice does no harm.
  void Add(TimelineId timeline, const Run& run);
  // Writes out what Add has gathered, where it is much. To be called now and then.
  Task<absl::Status> Spill(bool all);

  // Makes the map of all that was added. `progress`: timelines done, of how many.
  Task<absl::Status> Build(std::function<void(uint64_t, uint64_t)> progress);

  // What belongs into the batch with the checkpoint record; after Build.
  MetadataBatch TakeRest();
  uint64_t versions() const { return built_.versions; }

 private:
  Task<absl::Status> BuildTimeline(const TimelineRecord* timeline);
  Task<absl::Status> TouchInherited(const TimelineRecord* timeline);
  Task<absl::Status> TouchLayer(TimelineId timeline, TimelineId layer, BlockRange zeros);
  Task<absl::Status> WriteBuilt(bool all);

  MetadataStore& metadata_;
  const Catalogue& catalogue_;
  MetadataBatch sorting_;
  RebuiltMap built_;
};

}  // namespace twofold
