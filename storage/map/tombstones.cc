#include "storage/map/tombstones.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/map/chunk.h"
#include "storage/map/key_codec.h"
#include "storage/map/value_codec.h"

namespace twofold {

Run PendingTombstone::ZeroRun(const BlockRange& part) const {
  return Run{.range = Intersection(range, part),
             .kind = RunKind::kZero,
             .position = position,
             .address = {.segment = segment, .block = 0},
             .block_crcs = {}};
}

bool Tombstones::Add(PendingTombstone tombstone) {
  std::vector<PendingTombstone>& list = by_timeline_[tombstone.timeline];
  const auto place = std::upper_bound(
      list.begin(), list.end(), tombstone.position,
      [](const Position& position, const PendingTombstone& t) { return position < t.position; });
  if (place != list.begin() && std::prev(place)->position == tombstone.position) return false;
  tombstone.serial = ++last_serial_;
  list.insert(place, tombstone);
  ++count_;
  return true;
}

void Tombstones::Remove(TimelineId timeline, Position position) {
  const auto list = by_timeline_.find(timeline);
  TF_CHECK(list != by_timeline_.end()) << "timeline " << timeline;
  const auto found =
      std::find_if(list->second.begin(), list->second.end(),
                   [position](const PendingTombstone& t) { return t.position == position; });
  TF_CHECK(found != list->second.end()) << "timeline " << timeline << " at " << position;
  if (found->in_store) {
    removed_.push_back(EncodeTombstoneKey({.timeline = timeline, .position = position}));
  }
  list->second.erase(found);
  if (list->second.empty()) by_timeline_.erase(list);
  --count_;
}

const std::vector<PendingTombstone>& Tombstones::Of(TimelineId timeline) const {
  static const std::vector<PendingTombstone>& none = *new std::vector<PendingTombstone>();
  const auto list = by_timeline_.find(timeline);
  return list == by_timeline_.end() ? none : list->second;
}

const PendingTombstone& Tombstones::Oldest() const {
  const PendingTombstone* oldest = nullptr;
  for (const auto& [timeline, list] : by_timeline_) {
    if (oldest == nullptr || list.front().serial < oldest->serial) oldest = &list.front();
  }
  TF_CHECK(oldest != nullptr);
  return *oldest;
}

const PendingTombstone* Tombstones::Find(TimelineId timeline, Position position) const {
  for (const PendingTombstone& tombstone : Of(timeline)) {
    if (tombstone.position == position) return &tombstone;
  }
  return nullptr;
}

void Tombstones::Renew(const Forwarding& forwarding) {
  for (auto& [timeline, tombstones] : by_timeline_) {
    for (PendingTombstone& tombstone : tombstones) {
      const SegmentNumber now = forwarding.ResolveZeros(tombstone.segment);
      if (now == tombstone.segment) continue;
      tombstone.segment = now;
      tombstone.in_store = false;
    }
  }
}

void Tombstones::Freeze(MetadataBatch* batch) {
  for (std::string& key : removed_) {
    batch->push_back({.kind = MetadataWrite::Kind::kDelete, .key = std::move(key), .value = {}});
  }
  removed_.clear();
  for (auto& [timeline, list] : by_timeline_) {
    for (PendingTombstone& tombstone : list) {
      if (tombstone.in_store) continue;
      tombstone.in_store = true;
      batch->push_back(
          {.kind = MetadataWrite::Kind::kPut,
           .key = EncodeTombstoneKey({.timeline = timeline, .position = tombstone.position}),
           .value = EncodeTombstone({.range = tombstone.range,
                                     .segment = tombstone.segment,
                                     .epoch = tombstone.epoch})});
    }
  }
}

absl::Status Tombstones::Load(const std::vector<KeyValue>& entries) {
  for (const auto& [key_bytes, value_bytes] : entries) {
    TF_ASSIGN_OR_RETURN(const TombstoneKey key, DecodeTombstoneKey(key_bytes));
    TF_ASSIGN_OR_RETURN(const Tombstone value, DecodeTombstone(value_bytes));
    Add({.timeline = key.timeline,
         .range = value.range,
         .position = key.position,
         .epoch = value.epoch,
         .segment = value.segment,
         .in_store = true});
  }
  return absl::OkStatus();
}

}  // namespace twofold
