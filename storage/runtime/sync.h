// Waiting within one executor: nothing here locks, and nothing is shared between threads.
//
// Waiters queue in order and are resumed through the executor's FIFO, never from inside the call
// that wakes them. Each object must outlive its waiters; the destructors check that nobody waits.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "storage/base/check.h"
#include "storage/runtime/task.h"

namespace twofold {
namespace internal {

// A suspended coroutine as a link of the queue that it waits in. It lives in the awaiter, which
// lives in the coroutine's frame: waiting allocates nothing.
struct WaitNode {
  std::coroutine_handle<> handle;
  WaitNode* next = nullptr;
};

class WaitQueue {
 public:
  bool empty() const { return first_ == nullptr; }
  WaitNode& front() { return *first_; }
  void PushBack(WaitNode& node) {
    node.next = nullptr;
    if (first_ == nullptr) {
      first_ = &node;
    } else {
      last_->next = &node;
    }
    last_ = &node;
  }
  // Takes the first one out and queues it for running.
  void WakeFront() {
    WaitNode& node = *first_;
    first_ = node.next;
    PushReady(node.handle);
  }

 private:
  WaitNode* first_ = nullptr;
  WaitNode* last_ = nullptr;
};

}  // namespace internal

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
    while (!waiters_.empty()) waiters_.WakeFront();
  }

  struct Awaiter {
    Event& event;
    internal::WaitNode node{};
    bool await_ready() const noexcept { return event.set_; }
    void await_suspend(std::coroutine_handle<> handle) noexcept {
      node.handle = handle;
      event.waiters_.PushBack(node);
    }
    void await_resume() const noexcept {}
  };
  // Suspends until Set or WakeAll: after a WakeAll the caller looks again at what it waits for.
  Awaiter Wait() { return Awaiter{*this}; }

 private:
  bool set_ = false;
  internal::WaitQueue waiters_;
};

// A counted resource, granted in the order of asking: a large request is not overtaken by small
// ones.
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
    while (!waiters_.empty()) {
      const uint64_t wanted = static_cast<Awaiter&>(waiters_.front()).count;
      if (wanted > available_) return;
      available_ -= wanted;
      waiters_.WakeFront();
    }
  }

  struct Awaiter : internal::WaitNode {
    Awaiter(Semaphore* semaphore_in, uint64_t count_in)
        : semaphore(semaphore_in), count(count_in) {}
    Semaphore* semaphore;
    uint64_t count;
    bool await_ready() const noexcept { return semaphore->TryAcquire(count); }
    void await_suspend(std::coroutine_handle<> waiter) noexcept {
      handle = waiter;
      semaphore->waiters_.PushBack(*this);
    }
    void await_resume() const noexcept {}
  };
  // What was granted is given back with Release. A count that never was there waits for ever.
  Awaiter Acquire(uint64_t count) { return Awaiter(this, count); }

 private:
  uint64_t available_;
  internal::WaitQueue waiters_;
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
  bool locked() const { return semaphore_.available() == 0; }

 private:
  Semaphore semaphore_{1};
};

// Runs the tasks at once, each started in order before the first is waited for, and returns their
// statuses in the same order.
Task<std::vector<absl::Status>> WhenAll(std::vector<Task<absl::Status>> tasks);

// The first status that is not OK, else OK.
absl::Status FirstError(const std::vector<absl::Status>& statuses);

}  // namespace twofold
