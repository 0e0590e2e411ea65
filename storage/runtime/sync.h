// Waiting within one executor: nothing here locks, and nothing is shared between threads.
//
// Waiters queue in order and are resumed through the executor's FIFO, never from inside the call that
// wakes them. Each object must outlive its waiters; the destructors check that nobody waits.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "storage/base/check.h"
#include "storage/runtime/task.h"

namespace twofold {

// A condition that stays set until it is reset.
class Event {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { TF_CHECK(waiters_.empty()); }

  bool is_set() const { return set_; }
  void Set() {
    set_ = true;
    WakeAll();
  }
  void Reset() { set_ = false; }
  // Resumes everybody who waits now, without setting the event.
  void WakeAll() {
    for (std::coroutine_handle<> waiter : std::exchange(waiters_, {})) PushReady(waiter);
  }

  struct Awaiter {
    Event& event;
    bool await_ready() const noexcept { return event.set_; }
    void await_suspend(std::coroutine_handle<> handle) { event.waiters_.push_back(handle); }
    void await_resume() const noexcept {}
  };
  // Suspends until Set or WakeAll: after a WakeAll the caller looks again at what it waits for.
  Awaiter Wait() { return Awaiter{*this}; }

 private:
  bool set_ = false;
  std::vector<std::coroutine_handle<>> waiters_;
};

// A counted resource, granted in the order of asking: a large request is not overtaken by small ones.
class Semaphore {
 public:
  explicit Semaphore(uint64_t count) : available_(count) {}
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;
  ~Semaphore() { TF_CHECK(waiters_.empty()); }

  uint64_t available() const { return available_; }
  bool TryAcquire(uint64_t count) {
    if (!waiters_.empty() || available_ < count) return false;
    available_ -= count;
    return true;
  }
  void Release(uint64_t count) {
    available_ += count;
    while (!waiters_.empty() && waiters_.front().count <= available_) {
      available_ -= waiters_.front().count;
      PushReady(waiters_.front().handle);
      waiters_.pop_front();
    }
  }

  struct Awaiter {
    Semaphore& semaphore;
    uint64_t count;
    bool await_ready() const { return semaphore.TryAcquire(count); }
    void await_suspend(std::coroutine_handle<> handle) {
      semaphore.waiters_.push_back({count, handle});
    }
    void await_resume() const noexcept {}
  };
  Awaiter Acquire(uint64_t count) { return Awaiter{*this, count}; }

 private:
  struct Waiter {
    uint64_t count;
    std::coroutine_handle<> handle;
  };
  uint64_t available_;
  std::deque<Waiter> waiters_;
};

// Mutual exclusion over awaits, first come first served.
//   const auto lock = co_await mutex.Lock();
class AsyncMutex {
 public:
  class [[nodiscard]] Guard {
   public:
    explicit Guard(AsyncMutex* mutex) : mutex_(mutex) {}
    Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (mutex_ != nullptr) mutex_->semaphore_.Release(1);
    }

   private:
    AsyncMutex* mutex_;
  };
  struct Awaiter {
    AsyncMutex& mutex;
    Semaphore::Awaiter inner;
    bool await_ready() const { return inner.await_ready(); }
    void await_suspend(std::coroutine_handle<> handle) { inner.await_suspend(handle); }
    Guard await_resume() const { return Guard(&mutex); }
  };
  Awaiter Lock() { return Awaiter{*this, semaphore_.Acquire(1)}; }

 private:
  Semaphore semaphore_{1};
};

// Runs the tasks at once, each started in order before the first is waited for, and returns their
// statuses in the same order.
Task<std::vector<absl::Status>> WhenAll(std::vector<Task<absl::Status>> tasks);

// The first status that is not OK, else OK.
absl::Status FirstError(const std::vector<absl::Status>& statuses);

}  // namespace twofold
