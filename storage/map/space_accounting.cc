#include "storage/map/space_accounting.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "storage/base/check.h"
#include "storage/map/chunk.h"
#include "storage/map/key_codec.h"
#include "storage/map/value_codec.h"

namespace twofold {

void SpaceAccounting::NoteEpoch(const TimelineRecord& timeline) {
  std::vector<Epoch>& epochs = epochs_[timeline.id];
  if (epochs.empty()) {
    // What was born before this process is divided well enough by the points that are left.
    epochs = catalogue_.RetainedPoints(timeline.id);
    const auto held = held_.find(timeline.id);
    if (held != held_.end()) epochs.insert(epochs.end(), held->second.begin(), held->second.end());
    epochs.push_back(timeline.opened);
    std::sort(epochs.begin(), epochs.end());
  }
  if (epochs.back() < timeline.current_epoch) epochs.push_back(timeline.current_epoch);
}

Epoch SpaceAccounting::EpochOf(const TimelineRecord& timeline, Position position) {
  NoteEpoch(timeline);
  const std::vector<Epoch>& epochs = epochs_[timeline.id];
  const auto next = std::upper_bound(epochs.begin(), epochs.end(), position);
  // Taken over from a timeline that was folded into this one: before all of its points.
  return next == epochs.begin() ? kFirstPosition : *std::prev(next);
}

void SpaceAccounting::Born(const Run& run) {
  if (run.kind == RunKind::kData) {
    table_.MarkLive(run.address, static_cast<uint32_t>(run.range.count.value()));
  } else {
    // A tombstone that is worked off late may be older than the move of its record.
    table_.AddZeroBlocks(forwarding_.ResolveZeros(run.address.segment), run.range.count.value());
  }
}

void SpaceAccounting::Free(const Run& run) {
  if (run.kind == RunKind::kZero) {
    table_.DropZeroBlocks(forwarding_.ResolveZeros(run.address.segment), run.range.count.value());
  } else if (!forwarding_.Has(run.address.segment)) {
    table_.MarkDead(run.address, static_cast<uint32_t>(run.range.count.value()));
  } else {
    for (const Run& part : forwarding_.Resolve(run)) {
      table_.MarkDead(part.address, static_cast<uint32_t>(part.range.count.value()));
    }
  }
}

bool SpaceAccounting::SeenBetween(TimelineId timeline, Position older, Epoch newer) const {
  const auto held = held_.find(timeline);
  if (held != held_.end()) {
    const auto next = held->second.upper_bound(older);
    if (next != held->second.end() && *next <= newer) return true;
  }
  const Position newest = catalogue_.NewestRetainedPoint(timeline);
  if (newest <= older) return false;
  if (newest <= newer) return true;
  // A snapshot came between the change and its accounting: rare.
  const std::vector<Position> points = catalogue_.RetainedPoints(timeline);
  const auto next = std::upper_bound(points.begin(), points.end(), older);
  return next != points.end() && *next <= newer;
}

void SpaceAccounting::HoldPoints(TimelineId timeline, const std::vector<Position>& points) {
  if (!points.empty()) held_[timeline].insert(points.begin(), points.end());
}

void SpaceAccounting::LetGoPoints(TimelineId timeline, const std::vector<Position>& points) {
  if (points.empty()) return;
  std::multiset<Position>& held = held_.at(timeline);
  for (const Position& point : points) held.erase(held.find(point));
  if (held.empty()) held_.erase(timeline);
}

void SpaceAccounting::Displaced(const TimelineRecord& timeline, const Run& run, Epoch death) {
  // Inherited: it belongs to an ancestor, where the fork point holds it (M20).
  if (run.position < lineages_.OwnedFrom(timeline, ChunkOf(run.range.first))) return;
  if (!SeenBetween(timeline.id, run.position, death)) {
    Free(run);
    return;
  }
  ListDead(timeline, run, death);
}

void SpaceAccounting::ListDead(const TimelineRecord& timeline, const Run& run, Epoch death) {
  const DeadKey key{.timeline = timeline.id,
                    .death = death,
                    .birth = EpochOf(timeline, run.position),
                    .chunk = ChunkOf(run.range.first),
                    .block = run.range.first,
                    .position = run.position};
  dead_.push_back({.kind = MetadataWrite::Kind::kPut,
                   .key = EncodeDeadKey(key),
                   .value = EncodeDeadCount(run.range.count)});
}

void SpaceAccounting::Freeze(MetadataBatch* batch) {
  std::move(dead_.begin(), dead_.end(), std::back_inserter(*batch));
  dead_.clear();
}

}  // namespace twofold
