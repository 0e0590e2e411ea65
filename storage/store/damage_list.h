// What is damaged in a store, as far as anybody has met it (P7): for people, who see it in status,
// and for repair, which takes the segments from here. Pure.
//
// In memory only: after a restart what is still bad is met again, by the next read of it or the
// next scrub. A place is known by its address, which is never used for anything else: segment
// numbers are not given twice.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "storage/base/types.h"
#include "storage/log/entry.h"
#include "storage/runtime/poller.h"

namespace twofold {

// Blocks of a segment that are bad; or, with `count` 0, its records: descriptors, their copies, its
// header, or the file as a whole.
struct DamagedPlace {
  LogAddress first;
  uint32_t count = 0;
  std::string where;     // for people: the file, and the offset of the first bad byte at the latest
  std::string what;      // what was met there
  WallNanos seen = 0;    // first
  uint64_t times = 0;    // how often it was met
  WallNanos healed = 0;  // 0: not yet
  std::string why_not;   // it could not be healed the last time that it was tried

  bool operator==(const DamagedPlace&) const = default;
};

// The list as others see it.
struct DamageReport {
  uint64_t found = 0;   // places, ever
  uint64_t healed = 0;  // of them; the rest is bad now
  // The newest ones, those that are bad now before others; at most kMaxDamagedPlaces.
  std::vector<DamagedPlace> places;

  uint64_t bad() const { return found - healed; }
  bool operator==(const DamageReport&) const = default;
};

class DamageList {
 public:
  // Counts a place that is known already once more, with what was met now. True: it is new, or was
  // healed before.
  bool Note(DamagedPlace place);

  // The segments in which something is bad, ascending.
  std::vector<SegmentNumber> Segments() const;
  bool Has(SegmentNumber segment) const { return bad_.contains(segment); }

  // Nothing of the segment is needed any more.
  void Heal(SegmentNumber segment, WallNanos now);
  // The same of its bad blocks, those excepted of which `live` is true; not of its records.
  void HealDead(SegmentNumber segment, WallNanos now,
                const std::function<bool(uint32_t block)>& live);
  // What is bad in the segment could not be healed, because of `why`.
  void NoteFailure(SegmentNumber segment, const std::string& why);

  // By address, in the order in which they were found.
  const std::vector<DamagedPlace>& places() const { return places_; }
  DamageReport Report() const { return {found_, healed_, places_}; }

 private:
  DamagedPlace* Find(const LogAddress& first);
  void MakeRoom();
  void SetHealed(DamagedPlace* place, WallNanos now);

  std::vector<DamagedPlace> places_;
  // Places of each segment that are bad, those included that the list had no room for.
  struct Bad {
    uint64_t listed = 0;
    uint64_t unlisted = 0;
  };
  std::map<SegmentNumber, Bad> bad_;
  uint64_t found_ = 0;
  uint64_t healed_ = 0;
};

}  // namespace twofold
