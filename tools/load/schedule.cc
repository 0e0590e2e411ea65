#include "tools/load/schedule.h"

namespace twofold::load {

int64_t Schedule::Due(uint64_t request) const {
  // From the start each time: errors do not add up.
  const double seconds = static_cast<double>(request) / options_.per_second;
  return options_.start_ns + static_cast<int64_t>(seconds * 1e9);
}

std::optional<int64_t> Schedule::Next(int64_t now_ns, size_t in_flight) {
  if (Over(now_ns) || in_flight >= options_.depth) return std::nullopt;
  if (options_.per_second == 0) return now_ns;
  const int64_t due = Due(sent_);
  if (due > now_ns) return std::nullopt;
  ++sent_;
  return due;
}

int64_t Schedule::NextDue() const {
  if (options_.per_second == 0) return kNever;
  const int64_t due = Due(sent_);
  return due < end_ns() ? due : kNever;
}

std::optional<int64_t> Schedule::NextUnsent() {
  const int64_t due = NextDue();
  if (due == kNever) return std::nullopt;
  ++sent_;
  return due;
}

}  // namespace twofold::load
