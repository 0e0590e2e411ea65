// Task<T>: a lazy, move-only coroutine. It runs when it is awaited, on the awaiting thread.
//
// Awaiting resumes the child in place; if it finishes without suspending the parent goes on at
// once, otherwise the end of the child pushes the parent on the executor's FIFO. There is no
// symmetric transfer: g++ 12 does not turn it into a tail call at -O0 or under the sanitizers, and
// a loop over ready children would overflow the stack.
//
// Rules for coroutines under g++ 12:
// - parameters by value (or references that outlive the task); no capturing lambda as a coroutine;
// - `co_await` only as a statement, an initializer or after `co_return`;
// - no lambda and no aggregate (braced, or parenthesized) as a temporary anywhere in an expression
// with
//   `co_await`, if its captures or members need destruction: they are destroyed twice. Name it
//   first and move it in, or make the task first and await it then. Constructors, functions that
//   return an aggregate, and conversions are fine.
//
// A task that has started must run to its end before it is destroyed: the kernel may own its
// buffers. No exceptions: one that escapes a task ends the process.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>

#include "storage/base/check.h"
#include "storage/runtime/frame_pool.h"

namespace twofold {

template <typename T>
class Task;

// Makes `handle` run in this thread's executor, after what is already queued. (executor.cc)
void PushReady(std::coroutine_handle<> handle) noexcept;

namespace internal {

class PromiseBase {
 public:
  static void* operator new(size_t size) { return AllocateFrame(size); }
  static void operator delete(void* frame, size_t size) noexcept { FreeFrame(frame, size); }

  std::suspend_always initial_suspend() noexcept { return {}; }

  struct FinalAwaiter {
    bool await_ready() const noexcept { return false; }
    template <typename Promise>
    void await_suspend(std::coroutine_handle<Promise> self) const noexcept {
      PromiseBase& promise = self.promise();
      if (promise.waiter_) PushReady(promise.waiter_);
    }
    void await_resume() const noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }
  [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }

  void set_waiter(std::coroutine_handle<> waiter) { waiter_ = waiter; }
  bool started() const { return started_; }
  void set_started() { started_ = true; }

 private:
  std::coroutine_handle<> waiter_;  // null while nobody is suspended on this task
  bool started_ = false;
};

template <typename T>
class Promise final : public PromiseBase {
 public:
  Task<T> get_return_object();
  template <typename U>
  void return_value(U&& value) {
    result_.emplace(std::forward<U>(value));
  }
  T TakeResult() { return std::move(*result_); }

 private:
  std::optional<T> result_;
};

template <>
class Promise<void> final : public PromiseBase {
 public:
  Task<void> get_return_object();
  void return_void() {}
  void TakeResult() {}
};

}  // namespace internal

template <typename T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = internal::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      Destroy();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  ~Task() { Destroy(); }

  bool valid() const { return handle_ != nullptr; }

  struct Awaiter {
    Handle child;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> parent) noexcept {
      child.promise().set_started();
      child.resume();
      if (child.done()) return false;
      child.promise().set_waiter(parent);
      return true;
    }
    T await_resume() { return child.promise().TakeResult(); }
  };
  // The task stays the owner of the frame: await a temporary, or a named task with std::move.
  Awaiter operator co_await() && {
    TF_CHECK(handle_ != nullptr);
    TF_CHECK(!handle_.promise().started());
    return Awaiter{handle_};
  }

 private:
  void Destroy() noexcept {
    if (handle_ == nullptr) return;
    TF_CHECK(!handle_.promise().started() || handle_.done());
    handle_.destroy();
    handle_ = nullptr;
  }

  Handle handle_ = nullptr;
};

namespace internal {

template <typename T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

// A coroutine that owns itself: runs at once and frees its frame at its end. Only TaskScope and
// Executor::Run make one; everything else is awaited.
struct SelfOwned {
  struct promise_type {
    static void* operator new(size_t size) { return AllocateFrame(size); }
    static void operator delete(void* frame, size_t size) noexcept { FreeFrame(frame, size); }
    SelfOwned get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }
  };
};

}  // namespace internal
}  // namespace twofold
