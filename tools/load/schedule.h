// When the requests of a load are sent. Pure: told the time, it says which request may go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace twofold::load {

// Closed loop (no rate): a request goes as soon as fewer than `depth` are in flight, and is due at
// that moment.
//
// Open loop (a rate): request i is due at i / rate, whatever became of those before it. It is sent
// late where `depth` are in flight, and its latency counts from when it was due: a server that
// stalls does not make its clients ask less (no coordinated omission).
class Schedule {
 public:
  static constexpr int64_t kNever = INT64_MAX;

  struct Options {
    size_t depth = 1;
    double per_second = 0;  // 0: closed loop
    int64_t start_ns = 0;
    int64_t duration_ns = 0;
  };
  explicit Schedule(Options options) : options_(options) {}

  // When the request that may be sent now was due; none: not now. Each counts as sent.
  std::optional<int64_t> Next(int64_t now_ns, size_t in_flight);

  // When the next one is due, if room is there: kNever in a closed loop, where only an answer makes
  // room, and when none is to come.
  int64_t NextDue() const;

  // No further request is sent from then on.
  bool Over(int64_t now_ns) const { return now_ns >= end_ns(); }
  int64_t end_ns() const { return options_.start_ns + options_.duration_ns; }

  // After the end: when a request that was due before it and never sent was due; none: no more.
  std::optional<int64_t> NextUnsent();

 private:
  int64_t Due(uint64_t request) const;

  const Options options_;
  uint64_t sent_ = 0;
};

}  // namespace twofold::load
