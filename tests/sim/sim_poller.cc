#include "tests/sim/sim_poller.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "storage/base/check.h"
#include "storage/runtime/task.h"

namespace twofold::sim {
namespace {

constexpr MonoNanos kTurnNanos = 200;
constexpr WallNanos kWallStart = WallNanos{1'795'000'000} * kNanosPerSecond;  // in November 2026
constexpr auto kPatienceWithThreads = std::chrono::seconds(2);

}  // namespace

SimPoller::SimPoller(uint64_t seed)
    : seed_(seed), random_(seed), ties_(random_.Fork()), wall_offset_(kWallStart) {}

SimPoller::~SimPoller() = default;

void SimPoller::Wake() noexcept {
  std::lock_guard lock(mutex_);
  wake_ = true;
  woken_.notify_one();
}

bool SimPoller::TakeWake() {
  std::lock_guard lock(mutex_);
  return std::exchange(wake_, false);
}

void SimPoller::Schedule(MonoNanos when, std::function<void()> action) {
  events_.emplace(EventKey(std::max(when, now_), ties_.Next(), next_event_++), std::move(action));
}

void SimPoller::DelayAwaiter::await_suspend(std::coroutine_handle<> handle) {
  poller.Schedule(poller.Now() + nanos, [handle] { PushReady(handle); });
}

bool SimPoller::RunDue() {
  bool any = false;
  while (!events_.empty() && std::get<0>(events_.begin()->first) <= now_) {
    const std::function<void()> action = std::move(events_.begin()->second);
    events_.erase(events_.begin());
    ++events_run_;
    action();
    any = true;
  }
  return any;
}

void SimPoller::Poll(MonoNanos deadline) {
  now_ += kTurnNanos;
  const bool woken = TakeWake();
  if (RunDue() || woken || deadline <= now_) return;
  const MonoNanos next =
      events_.empty() ? deadline : std::min(deadline, std::get<0>(events_.begin()->first));
  if (next == kNever) return WaitForThreads();
  now_ = next;
  RunDue();
}

void SimPoller::WaitForThreads() {
  std::unique_lock lock(mutex_);
  const bool woken = woken_.wait_for(lock, kPatienceWithThreads, [this] { return wake_; });
  TF_CHECK(woken) << "simulation with seed " << seed_ << ": deadlock at virtual time " << now_
                  << " ns: nothing is ready, no timer runs, no operation is under way";
  wake_ = false;
}

}  // namespace twofold::sim
