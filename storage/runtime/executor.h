// One thread's event loop: a FIFO of ready coroutines, timers, and a Poller for what comes from
// outside.
//
// Everything that belongs to an executor runs on its thread and needs no locks. Other threads reach
// it by Post() alone. A turn of the loop polls once (one submission for all that the turn before
// queued), then runs what is ready, and what that makes ready, first in first out,
// kMaxResumesPerTurn at most.
#pragma once

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "storage/runtime/poller.h"
#include "storage/runtime/task.h"

namespace twofold {

class Executor {
 public:
  // `poller` outlives the executor. The executor becomes Current() of the thread that calls Run.
  explicit Executor(Poller& poller) : poller_(poller) {}
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;
  ~Executor();

  // The executor whose Run is active on this thread; must exist.
  static Executor& Current();

  Poller& poller() { return poller_; }
  MonoNanos Now() const { return poller_.Now(); }
  WallNanos WallNow() const { return poller_.WallNow(); }

  // For stamps of stages (storage/base/stage_latency.h), where each look at the clock counts: one
  // that Tick, or this, has taken earlier in this turn, or a new one.
  MonoNanos LastTick() {
    if (tick_turn_ != turn_) Tick();
    return tick_;
  }
  // Looks at the clock.
  MonoNanos Tick() {
    tick_turn_ = turn_;
    tick_ = Now();
    return tick_;
  }

  // Drives the loop until `task` has finished, and returns its result. Not reentrant.
  template <typename T>
  T Run(Task<T> task);

  // Runs `function` on this executor's thread, in the order of arrival. Any thread; never blocks
  // for long. The executor and its poller outlive the call: a thread that posts is joined before
  // they go.
  void Post(std::function<void()> function);

  // Queues a ready coroutine. This thread only.
  void Push(std::coroutine_handle<> handle) { ready_.push_back(handle); }
  // Queues it behind everything that is ready and everything that the next poll makes ready.
  void PushNextTurn(std::coroutine_handle<> handle) { next_turn_.push_back(handle); }

  // Has the poller submit what is queued before the turn has ended: once the coroutine that runs
  // now and the next one have had their say. What goes to two devices is queued by two coroutines,
  // one right after the other, and a submission for both costs one system call and, where the
  // devices are one, one kick of it.
  void SubmitSoon() { submit_after_ = submit_after_ == 0 ? 2 : 1; }

  // Counts the turns of the loop. Between two polls it stays the same.
  uint64_t turn() const { return turn_; }

  // A timer resumes `handle` at `when`. The id cancels it; cancelling does not resume.
  using TimerId = std::pair<MonoNanos, uint64_t>;
  TimerId AddTimer(MonoNanos when, std::coroutine_handle<> handle);
  bool CancelTimer(TimerId id);

 private:
  void Loop(const bool& done);
  void Turn();
  void RunPosted();
  void FireTimers();
  void RunReady();

  Poller& poller_;
  uint64_t turn_ = 0;
  uint32_t submit_after_ = 0;  // so many coroutines; 0: with the turn
  uint64_t tick_turn_ = ~uint64_t{0};
  MonoNanos tick_ = 0;
  std::vector<std::coroutine_handle<>> ready_;  // from ready_head_ on; what is before has run
  size_t ready_head_ = 0;
  std::vector<std::coroutine_handle<>> next_turn_;
  std::vector<std::coroutine_handle<>> running_yielded_;  // empty between turns
  std::map<TimerId, std::coroutine_handle<>> timers_;
  uint64_t next_timer_ = 0;

  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;  // guarded by posted_mutex_
  std::atomic<bool> has_posted_ = false;       // posted_ is not empty; written under posted_mutex_
  std::vector<std::function<void()>> running_posted_;
};

namespace internal {
template <typename T>
SelfOwned RunInto(Task<T> task, std::optional<T>& result, bool& done) {
  T value = co_await std::move(task);
  result.emplace(std::move(value));
  done = true;
}
inline SelfOwned RunInto(Task<void> task, bool& done) {
  co_await std::move(task);
  done = true;
}

// Sets Executor::Current for the length of a Run.
class CurrentExecutor {
 public:
  explicit CurrentExecutor(Executor* executor);
  ~CurrentExecutor();
};
}  // namespace internal

template <typename T>
T Executor::Run(Task<T> task) {
  internal::CurrentExecutor current(this);
  bool done = false;
  if constexpr (std::is_void_v<T>) {
    internal::RunInto(std::move(task), done);
    Loop(done);
  } else {
    std::optional<T> result;
    internal::RunInto(std::move(task), result, done);
    Loop(done);
    return std::move(*result);
  }
}

// Lets everything else run first: what is ready, and what has completed meanwhile outside. For long
// loops.
struct YieldAwaiter {
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) const {
    Executor::Current().PushNextTurn(handle);
  }
  void await_resume() const noexcept {}
};
inline YieldAwaiter Yield() { return {}; }

// A short wait that nobody needs to cut short; for longer ones CancelSource has the same names.
struct SleepAwaiter {
  MonoNanos until;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) const {
    Executor::Current().AddTimer(until, handle);
  }
  void await_resume() const noexcept {}
};
inline SleepAwaiter SleepUntil(MonoNanos until) { return {until}; }
inline SleepAwaiter SleepFor(int64_t nanos) { return {Executor::Current().Now() + nanos}; }

}  // namespace twofold
