#include "storage/map/lineage.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/status_macros.h"
#include "storage/map/key_codec.h"

namespace twofold {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint8_t kFlat = 1;
constexpr uint8_t kOwnsMore = 2;

void WritePosition(ByteWriter& writer, const Position& position) {
  writer.WriteVarint64(position.generation.value());
  writer.WriteVarint64(position.seq.value());
}

Position ReadPosition(ByteReader& reader) {
  const Generation generation(reader.ReadVarint64());
  const Seq seq(reader.ReadVarint64());
  return {generation, seq};
}

bool IsCurrent(const Catalogue& catalogue, const TimelineRecord& timeline) {
  const auto volume = catalogue.volumes().find(timeline.volume);
  return volume != catalogue.volumes().end() && volume->second.current_timeline == timeline.id;
}

// The timelines that descend from each, at once.
using Children = std::map<TimelineId, std::vector<TimelineId>>;

Children FindChildren(const Catalogue& catalogue) {
  Children children;
  for (const auto& [id, timeline] : catalogue.timelines()) {
    if (timeline.parent != TimelineId()) children[timeline.parent].push_back(id);
  }
  return children;
}

// The only child of a timeline that is needed for nothing else (M20).
std::optional<TimelineId> OnlyUse(const Catalogue& catalogue, const Children& children,
                                  const TimelineRecord& timeline) {
  const auto found = children.find(timeline.id);
  if (found == children.end() || found->second.size() != 1) return std::nullopt;
  if (IsCurrent(catalogue, timeline)) return std::nullopt;
  if (catalogue.HoldersOfOnlyPoint(timeline.id) != 1) return std::nullopt;
  return found->second.front();
}

// The newest first: one that is folded into its heir takes along what it owned, so what is owned by
// the heir is all that was written from some position on. And a chain of them is copied once.
std::optional<LineageWork> PlanFold(const Catalogue& catalogue, const Lineages& lineages) {
  const Children children = FindChildren(catalogue);
  const auto& timelines = catalogue.timelines();
  for (auto it = timelines.rbegin(); it != timelines.rend(); ++it) {
    if (lineages.IsFolded(it->first)) continue;
    const std::optional<TimelineId> child = OnlyUse(catalogue, children, it->second);
    if (!child.has_value()) continue;
    const TimelineId heir = lineages.HeirOf(*child);
    if (lineages.IsFlat(heir)) {
      return LineageWork{LineageWork::Kind::kFold, heir, it->first, /*gives_space=*/true};
    }
    return LineageWork{LineageWork::Kind::kFlatten, heir, TimelineId(), /*gives_space=*/true};
  }
  return std::nullopt;
}

}  // namespace

// ---- Records ------------------------------------------------------------------------------------

std::string EncodeLineage(const LineageRecord& record) {
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.WriteU8(kVersion);
  writer.WriteU8((record.flat ? kFlat : 0) | (record.owned_from.has_value() ? kOwnsMore : 0));
  if (record.owned_from.has_value()) WritePosition(writer, *record.owned_from);
  writer.WriteVarint64(record.heir.value());
  writer.WriteVarint64(record.folding.value());
  WritePosition(writer, record.fold_owned_from);
  writer.WriteVarint64(record.fold_next);
  return bytes;
}

absl::StatusOr<LineageRecord> DecodeLineage(absl::string_view bytes) {
  ByteReader reader(bytes);
  if (reader.ReadU8() != kVersion) reader.Fail();
  const uint8_t flags = reader.ReadU8();
  if (flags > (kFlat | kOwnsMore)) reader.Fail();
  LineageRecord record;
  record.flat = (flags & kFlat) != 0;
  if ((flags & kOwnsMore) != 0) record.owned_from = ReadPosition(reader);
  record.heir = TimelineId(reader.ReadVarint64());
  record.folding = TimelineId(reader.ReadVarint64());
  record.fold_owned_from = ReadPosition(reader);
  record.fold_next = reader.ReadVarint64();
  const bool fold_fields = record.fold_owned_from != kFirstPosition || record.fold_next != 0;
  if (record.folding == TimelineId() ? fold_fields : !record.flat) reader.Fail();
  if (!reader.finished()) {
    return absl::DataLossError(absl::StrCat("map: lineage of a timeline does not decode (",
                                            bytes.size(), " bytes); rebuild the map from the log"));
  }
  return record;
}

const LineageRecord* Lineages::Find(TimelineId timeline) const {
  const auto found = records_.find(timeline);
  return found == records_.end() ? nullptr : &found->second;
}

bool Lineages::IsFlat(TimelineId timeline) const {
  const LineageRecord* const record = Find(timeline);
  return record != nullptr && record->flat;
}

bool Lineages::IsFolded(TimelineId timeline) const {
  const LineageRecord* const record = Find(timeline);
  return record != nullptr && record->heir != TimelineId();
}

TimelineId Lineages::HeirOf(TimelineId timeline) const {
  for (const LineageRecord* record = Find(timeline);
       record != nullptr && record->heir != TimelineId(); record = Find(timeline)) {
    timeline = record->heir;
  }
  return timeline;
}

std::optional<TimelineId> Lineages::FoldingInto(TimelineId timeline) const {
  for (const auto& [id, record] : records_) {
    if (record.folding == timeline) return id;
  }
  return std::nullopt;
}

Position Lineages::OwnedFrom(const TimelineRecord& timeline, uint64_t chunk) const {
  const LineageRecord* const record = Find(timeline.id);
  if (record == nullptr) return timeline.opened;
  if (record->folding != TimelineId() && chunk < record->fold_next) return record->fold_owned_from;
  return record->owned_from.value_or(timeline.opened);
}

LineageRecord& Lineages::Change(TimelineId timeline) {
  changed_.insert(timeline);
  return records_[timeline];
}

void Lineages::Forget(TimelineId timeline) {
  records_.erase(timeline);
  changed_.erase(timeline);
}

void Lineages::Freeze(MetadataBatch* batch) {
  for (const TimelineId timeline : changed_) {
    batch->push_back({.kind = MetadataWrite::Kind::kPut,
                      .key = EncodeLineageKey(timeline),
                      .value = EncodeLineage(records_.at(timeline))});
  }
  changed_.clear();
}

absl::Status Lineages::Load(const std::vector<KeyValue>& entries) {
  for (const auto& [key, value] : entries) {
    TF_ASSIGN_OR_RETURN(const TimelineId timeline, DecodeLineageKey(key));
    TF_ASSIGN_OR_RETURN(const LineageRecord record, DecodeLineage(value));
    records_[timeline] = record;
  }
  return absl::OkStatus();
}

// ---- Plans --------------------------------------------------------------------------------------

std::optional<LineageWork> PlanLineage(const Catalogue& catalogue, const Lineages& lineages,
                                       uint32_t max_depth) {
  for (const auto& [id, timeline] : catalogue.timelines()) {
    const LineageRecord* const record = lineages.Find(id);
    if (record == nullptr || record->folding == TimelineId()) continue;
    return LineageWork{LineageWork::Kind::kFold, id, record->folding, /*gives_space=*/true};
  }
  const std::optional<LineageWork> fold = PlanFold(catalogue, lineages);
  if (fold.has_value()) return fold;
  // Ids grow, so parents come before their children.
  std::map<TimelineId, uint32_t> depths;
  for (const auto& [id, timeline] : catalogue.timelines()) {
    if (lineages.IsFolded(id)) continue;
    const bool ends_here = timeline.parent == TimelineId() || lineages.IsFlat(id);
    const uint32_t depth = ends_here ? 0 : depths[timeline.parent] + 1;
    if (depth > max_depth) return LineageWork{LineageWork::Kind::kFlatten, id, {}, false};
    depths[id] = depth;
  }
  return std::nullopt;
}

}  // namespace twofold
