#include "storage/runtime/executor.h"

#include <utility>

namespace twofold {
namespace {
thread_local Executor* current_executor = nullptr;
}  // namespace

void PushReady(std::coroutine_handle<> handle) noexcept { Executor::Current().Push(handle); }

namespace internal {
CurrentExecutor::CurrentExecutor(Executor* executor) {
  TF_CHECK(current_executor == nullptr);
  current_executor = executor;
}
CurrentExecutor::~CurrentExecutor() { current_executor = nullptr; }
}  // namespace internal

Executor& Executor::Current() {
  TF_CHECK(current_executor != nullptr);
  return *current_executor;
}

Executor::~Executor() {
  TF_CHECK(ready_.empty());
  TF_CHECK(timers_.empty());
}

void Executor::Post(std::function<void()> function) {
  {
    std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(function));
  }
  poller_.Wake();
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
  MonoNanos deadline = kNever;
  if (!ready_.empty()) {
    deadline = 0;
  } else if (!timers_.empty()) {
    deadline = timers_.begin()->first.first;
  }
  poller_.Poll(deadline);
  RunPosted();
  FireTimers();
  // Only what is ready now: what these make ready waits for the next turn, after a poll.
  for (size_t left = ready_.size(); left > 0; --left) {
    std::coroutine_handle<> handle = ready_.front();
    ready_.pop_front();
    handle.resume();
  }
}

void Executor::RunPosted() {
  std::vector<std::function<void()>> functions;
  {
    std::lock_guard lock(posted_mutex_);
    functions.swap(posted_);
  }
  for (auto& function : functions) function();
}

void Executor::FireTimers() {
  if (timers_.empty()) return;
  const MonoNanos now = poller_.Now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    ready_.push_back(timers_.begin()->second);
    timers_.erase(timers_.begin());
  }
}

}  // namespace twofold
