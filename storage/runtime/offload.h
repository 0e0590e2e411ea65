// A few threads for calls that block (RocksDB, opening files). The caller suspends; the result
// comes back to its executor. Closures start in the order of submission and, with more than one
// thread, end in any order. With no threads each runs in place, in the caller's turn: so a
// simulation stays repeatable.
//
// May serve several executors. It stops before they and their pollers are destroyed.
#pragma once

#include <condition_variable>
#include <coroutine>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "storage/runtime/executor.h"
#include "storage/runtime/task.h"

namespace twofold {

class Offload {
 public:
  // Starts the threads. Stop() before destruction.
  explicit Offload(size_t threads);
  Offload(const Offload&) = delete;
  Offload& operator=(const Offload&) = delete;
  ~Offload();

  // Runs `function` (no arguments, returns a value) on another thread. It may touch only what it
  // owns or what is thread-safe. The task has its own copy of it:
  //   auto load = [path] { return Load(path); };
  //   absl::StatusOr<Foo> foo = co_await offload.Run(load);
  template <typename F>
  Task<std::invoke_result_t<std::decay_t<F>>> Run(F&& function) {
    static_assert(
        std::is_lvalue_reference_v<F> || std::is_trivially_destructible_v<F>,
        "g++ 12 destroys a temporary lambda in an awaited expression twice: name it first");
    return RunOwned<std::decay_t<F>>(std::forward<F>(function));
  }

  // Finishes what was submitted and joins the threads.
  void Stop();

 private:
  template <typename F>
  Task<std::invoke_result_t<F>> RunOwned(F function) {
    if (in_place_) co_return function();
    using Result = std::invoke_result_t<F>;
    std::optional<Result> result;
    Awaiter awaiter{*this, [&result, &function] { result.emplace(function()); }};
    co_await awaiter;
    co_return std::move(*result);
  }

  struct Awaiter {
    Offload& offload;
    std::function<void()> work;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle);
    void await_resume() const noexcept {}
  };

  void Submit(std::function<void()> work);
  void ThreadMain();

  const bool in_place_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> queue_;  // guarded by mutex_
  bool stopping_ = false;                    // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace twofold
