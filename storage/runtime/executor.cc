#include "storage/runtime/executor.h"

#include <utility>

#include "storage/base/check.h"
#include "storage/base/limits.h"

namespace twofold {
namespace {
thread_local Executor* current_executor = nullptr;
}  // namespace

void PushReady(std::coroutine_handle<> handle) noexcept { Executor::Current().Push(handle); }

namespace internal {
CurrentExecutor::CurrentExecutor(Executor* executor) {
  TF_CHECK(current_executor == nullptr) << "Run is not reentrant";
  current_executor = executor;
}
CurrentExecutor::~CurrentExecutor() { current_executor = nullptr; }
}  // namespace internal

Executor& Executor::Current() {
  TF_CHECK(current_executor != nullptr) << "not on an executor's thread, or outside Run";
  return *current_executor;
}

Executor::~Executor() {
  TF_CHECK_EQ(ready_.size(), ready_head_) << "coroutines are ready, but nobody runs them";
  TF_CHECK(next_turn_.empty());
  TF_CHECK(timers_.empty()) << timers_.size() << " sleepers left";
}

void Executor::Post(std::function<void()> function) {
  bool first;
  {
    std::lock_guard lock(posted_mutex_);
    first = posted_.empty();
    posted_.push_back(std::move(function));
    has_posted_.store(true, std::memory_order_release);
  }
  // Who finds others waiting leaves the waking to the first of them.
  if (first) poller_.Wake();
}

Executor::TimerId Executor::AddTimer(MonoNanos when, std::coroutine_handle<> handle) {
  const TimerId id{when, next_timer_++};
  timers_.emplace(id, handle);
  return id;
}

bool Executor::CancelTimer(TimerId id) { return timers_.erase(id) == 1; }

void Executor::Loop(const bool& done) {
  while (!done) Turn();
}

void Executor::Turn() {
  ++turn_;
  MonoNanos deadline = kNever;
  if (ready_head_ < ready_.size() || !next_turn_.empty()) {
    deadline = 0;
  } else if (!timers_.empty()) {
    deadline = timers_.begin()->first.first;
  }
  submit_after_ = 0;
  poller_.Poll(deadline);
  RunPosted();
  FireTimers();
  running_yielded_.swap(next_turn_);
  RunReady();
  if (running_yielded_.empty()) return;
  // Those that yielded in the turn before come last.
  ready_.insert(ready_.end(), running_yielded_.begin(), running_yielded_.end());
  running_yielded_.clear();
  RunReady();
}

void Executor::RunPosted() {
  if (!has_posted_.load(std::memory_order_acquire)) return;
  {
    std::lock_guard lock(posted_mutex_);
    running_posted_.swap(posted_);
    has_posted_.store(false, std::memory_order_relaxed);
  }
  for (auto& function : running_posted_) function();
  running_posted_.clear();
}

void Executor::FireTimers() {
  if (timers_.empty()) return;
  const MonoNanos now = poller_.Now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    ready_.push_back(timers_.begin()->second);
    timers_.erase(timers_.begin());
  }
}

void Executor::RunReady() {
  // By index: each of them may push more and so move the vector.
  for (size_t left = kMaxResumesPerTurn; left > 0 && ready_head_ < ready_.size(); --left) {
    const std::coroutine_handle<> handle = ready_[ready_head_++];
    handle.resume();
    if (submit_after_ == 0) continue;
    --submit_after_;
    if (submit_after_ == 0) poller_.Submit();
  }
  ready_.erase(ready_.begin(), ready_.begin() + static_cast<ptrdiff_t>(ready_head_));
  ready_head_ = 0;
}

}  // namespace twofold
