// A few threads for calls that block (RocksDB, opening files). The caller suspends; the result comes
// back to its executor. Closures run in the order of submission when there is one thread; with more,
// in any order.
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

  // Runs `function` (no arguments, returns a value) on another thread. It may touch only what it owns
  // or what is thread-safe.
  template <typename F>
  Task<std::invoke_result_t<F>> Run(F function) {
    using Result = std::invoke_result_t<F>;
    std::optional<Result> result;
    std::function<void()> work = [&result, &function] { result.emplace(function()); };
    co_await Awaiter{*this, std::move(work)};
    co_return std::move(*result);
  }

  // Finishes what was submitted and joins the threads.
  void Stop();

 private:
  struct Awaiter {
    Offload& offload;
    std::function<void()> work;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle);
    void await_resume() const noexcept {}
  };

  void Submit(std::function<void()> work);
  void ThreadMain();

  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> queue_;  // guarded by mutex_
  bool stopping_ = false;                    // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace twofold
