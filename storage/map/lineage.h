// Where a timeline's chunks end and its ancestors' begin, as the map of one replica has it
// (MAP_AND_SPACE M8, M20; docs/decisions/0013-timelines-made-flat.md).
//
// The catalogue says what descends from what, and is the same on every replica. How the map keeps
// it is each replica's own affair, and changes behind the scenes without changing any answer:
//
//   flat    the timeline's chunks hold what its ancestors show as well: a lookup ends there. The
//           runs that it has from them are *inherited*, as they were: who owns a block frees it,
//           and it is owned by the timeline that it was written on, found by its position (M1).
//   folded  the timeline was nothing but the base of one other, flat one. Its heir owns what the
//           heir shows of it, and the rest is free. It has no chunks any more. The catalogue goes
//           on having it, with the fork point that holds nothing now.
//
// What is pure of it is here: the records, who owns what, and what is to be done next.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/base/types.h"
#include "storage/map/catalogue.h"
#include "storage/map/metadata_store.h"

namespace twofold {

// Kept in the checkpoints, for timelines of which there is something to say: docs/formats/map.md,
// "Lineages".
struct LineageRecord {
  bool flat = false;
  // Runs from here on are its own, since others were folded into it; else from where it was opened.
  std::optional<Position> owned_from;
  TimelineId heir;  // it was folded into; 0: it was not
  // Another one is being folded into it, chunk by chunk; 0: none. Of the chunks below `fold_next`
  // its own runs begin at `fold_owned_from`.
  TimelineId folding;
  Position fold_owned_from;
  uint64_t fold_next = 0;
  bool operator==(const LineageRecord&) const = default;
};

std::string EncodeLineage(const LineageRecord& record);
absl::StatusOr<LineageRecord> DecodeLineage(absl::string_view bytes);  // kDataLoss

class Lineages {
 public:
  bool IsFlat(TimelineId timeline) const;
  bool IsFolded(TimelineId timeline) const;
  // Who has what was the timeline's: itself where it was not folded.
  TimelineId HeirOf(TimelineId timeline) const;
  // The timeline that it is just being folded into.
  std::optional<TimelineId> FoldingInto(TimelineId timeline) const;
  // Runs of its chunk below this are inherited.
  Position OwnedFrom(const TimelineRecord& timeline, uint64_t chunk) const;

  // Null where there is nothing to say.
  const LineageRecord* Find(TimelineId timeline) const;
  // To be changed; goes with the next freeze.
  LineageRecord& Change(TimelineId timeline);
  // It is gone, and its record from the store with the batch that says so.
  void Forget(TimelineId timeline);

  // Appends what changed since the last call.
  void Freeze(MetadataBatch* batch);
  absl::Status Load(const std::vector<KeyValue>& entries);

 private:
  absl::flat_hash_map<TimelineId, LineageRecord> records_;
  absl::btree_set<TimelineId> changed_;
};

// What the map should do next to its timelines.
struct LineageWork {
  enum class Kind : uint8_t {
    kFlatten,
    kFold,
  };
  Kind kind = Kind::kFlatten;
  TimelineId timeline;  // to be made flat, or the heir
  TimelineId source;    // kFold: what goes into it
  bool gives_space = false;
  bool operator==(const LineageWork&) const = default;
};

// First what gives space: a timeline that is the base of one other and nothing else goes into that
// one, once that is flat. Then chains of more than `max_depth`, the oldest timeline first, so that
// those behind it are short again. A fold that has begun comes before all others.
std::optional<LineageWork> PlanLineage(const Catalogue& catalogue, const Lineages& lineages,
                                       uint32_t max_depth);

}  // namespace twofold
