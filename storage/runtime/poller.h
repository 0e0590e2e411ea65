// The seam to the kernel and to time: where completions and clocks come from.
//
// Two implementations: UringPoller (storage/io/uring_poller.h) and SimPoller (tests/sim), whose
// clock is virtual and whose completions come from a seed. All calls but Wake() belong to the
// executor's thread.
#pragma once

#include <cstdint>
#include <limits>

namespace twofold {

// Nanoseconds. Mono counts since boot, time asleep included (CLOCK_BOOTTIME); wall since the Unix
// epoch.
using MonoNanos = int64_t;
using WallNanos = int64_t;
inline constexpr MonoNanos kNever = std::numeric_limits<MonoNanos>::max();
inline constexpr int64_t kNanosPerMilli = 1'000'000;
inline constexpr int64_t kNanosPerSecond = 1'000'000'000;

class Poller {
 public:
  virtual ~Poller() = default;

  // Submits what was queued, harvests completions and pushes their waiters (PushReady). Returns at
  // once when something completed; otherwise blocks until a completion, Wake() or `deadline`
  // (0 = do not block, kNever = no deadline).
  virtual void Poll(MonoNanos deadline) = 0;

  // Submits what was queued before the next Poll does, without harvesting. Where nothing is queued
  // but by Poll itself there is nothing to do.
  virtual void Submit() {}

  // Makes a Poll that blocks, or the next one, return. Any thread.
  virtual void Wake() noexcept = 0;

  virtual MonoNanos Now() const = 0;
  virtual WallNanos WallNow() const = 0;
};

}  // namespace twofold
