// Time and completions of a simulated machine.
//
// The model. Time is virtual: it stands still while coroutines run, moves on a little with each
// turn of the loop (a program that only spins gets older too), and jumps to the next event when
// nothing else is left to do. Whatever completes does so as an event at a time that the simulated
// device or network drew from the seed, so completions come in any order that the delays allow;
// events of the same instant come in an order from the seed. Nothing depends on real time, on
// addresses or on other threads, so a seed replays a run exactly, as long as blocking work runs in
// place (Offload with no threads).
//
// When nothing is ready, no timer runs and no event is to come, no progress is possible any more:
// the process ends with a message that names the seed.
#pragma once

#include <condition_variable>
#include <coroutine>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <tuple>

#include "storage/base/prng.h"
#include "storage/runtime/poller.h"

namespace twofold::sim {

class SimPoller final : public Poller {
 public:
  explicit SimPoller(uint64_t seed);
  SimPoller(const SimPoller&) = delete;
  SimPoller& operator=(const SimPoller&) = delete;
  // Events that are still to come are dropped: nobody may wait for them.
  ~SimPoller() override;

  void Poll(MonoNanos deadline) override;
  // Real threads may wake it (a test that mixes both); such a run cannot be replayed.
  void Wake() noexcept override;
  MonoNanos Now() const override { return now_; }
  WallNanos WallNow() const override { return now_ + wall_offset_; }

  // The operator or NTP sets the wall clock.
  void JumpWallClock(int64_t nanos) { wall_offset_ += nanos; }

  // Runs `action` in the first Poll at or after `when`.
  void Schedule(MonoNanos when, std::function<void()> action);

  // co_await poller.Delay(nanos): goes on after that time. Cannot be cancelled.
  struct DelayAwaiter {
    SimPoller& poller;
    int64_t nanos;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle);
    void await_resume() const noexcept {}
  };
  DelayAwaiter Delay(int64_t nanos) { return {*this, nanos}; }

  uint64_t seed() const { return seed_; }
  // For those who are simulated on this machine; each takes a Fork() of its own at its start.
  Prng& random() { return random_; }
  uint64_t events_run() const { return events_run_; }

 private:
  // When, a tie-break from the seed, and a number that makes it unique.
  using EventKey = std::tuple<MonoNanos, uint64_t, uint64_t>;

  bool RunDue();  // true when there was something
  bool TakeWake();
  void WaitForThreads();

  const uint64_t seed_;
  Prng random_;
  Prng ties_;
  MonoNanos now_ = kNanosPerSecond;  // not 0, so that a forgotten time is seen
  int64_t wall_offset_;
  std::map<EventKey, std::function<void()>> events_;
  uint64_t next_event_ = 0;
  uint64_t events_run_ = 0;

  std::mutex mutex_;
  std::condition_variable woken_;
  bool wake_ = false;  // guarded by mutex_
};

}  // namespace twofold::sim
