#include "storage/store/damage_list.h"

#include <algorithm>
#include <utility>

#include "storage/base/check.h"
#include "storage/base/limits.h"

namespace twofold {

DamagedPlace* DamageList::Find(const LogAddress& first) {
  const auto found = std::find_if(places_.begin(), places_.end(),
                                  [&first](const auto& place) { return place.first == first; });
  return found == places_.end() ? nullptr : &*found;
}

bool DamageList::Note(DamagedPlace place) {
  DamagedPlace* const known = Find(place.first);
  if (known != nullptr && known->healed == 0) {
    ++known->times;
    known->count = std::max(known->count, place.count);
    known->what = std::move(place.what);
    return false;
  }
  if (known != nullptr) places_.erase(places_.begin() + (known - places_.data()));
  MakeRoom();
  ++found_;
  place.times = 1;
  place.healed = 0;
  Bad& bad = bad_[place.first.segment];
  if (places_.size() == kMaxDamagedPlaces) {
    ++bad.unlisted;
    return true;
  }
  ++bad.listed;
  places_.push_back(std::move(place));
  return true;
}

// What is bad now stays in the list as long as it is; what comes when it is full of that is only
// counted, and known by its segment.
void DamageList::MakeRoom() {
  if (places_.size() < kMaxDamagedPlaces) return;
  const auto oldest = std::find_if(places_.begin(), places_.end(),
                                   [](const DamagedPlace& place) { return place.healed != 0; });
  if (oldest != places_.end()) places_.erase(oldest);
}

std::vector<SegmentNumber> DamageList::Segments() const {
  std::vector<SegmentNumber> segments;
  segments.reserve(bad_.size());
  for (const auto& [segment, bad] : bad_) segments.push_back(segment);
  return segments;
}

void DamageList::SetHealed(DamagedPlace* place, WallNanos now) {
  place->healed = now;
  place->why_not.clear();
  ++healed_;
  Bad& bad = bad_.at(place->first.segment);
  TF_CHECK(bad.listed > 0);
  --bad.listed;
}

void DamageList::Heal(SegmentNumber segment, WallNanos now) {
  const auto bad = bad_.find(segment);
  if (bad == bad_.end()) return;
  for (DamagedPlace& place : places_) {
    if (place.first.segment == segment && place.healed == 0) SetHealed(&place, now);
  }
  healed_ += bad->second.unlisted;
  bad_.erase(bad);
}

void DamageList::HealDead(SegmentNumber segment, WallNanos now,
                          const std::function<bool(uint32_t block)>& live) {
  const auto bad = bad_.find(segment);
  if (bad == bad_.end()) return;
  for (DamagedPlace& place : places_) {
    if (place.first.segment != segment || place.healed != 0 || place.count == 0) continue;
    bool any = false;
    for (uint32_t i = 0; i < place.count; ++i) any = any || live(place.first.block + i);
    if (!any) SetHealed(&place, now);
  }
  if (bad->second.listed + bad->second.unlisted == 0) bad_.erase(bad);
}

void DamageList::NoteFailure(SegmentNumber segment, const std::string& why) {
  for (DamagedPlace& place : places_) {
    if (place.first.segment == segment && place.healed == 0) place.why_not = why;
  }
}

}  // namespace twofold
