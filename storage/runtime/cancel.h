// A request to stop waiting. Cancelling never destroys a task: it resumes those that sleep, and
// each looks at cancelled() where it can stop.
#pragma once

#include <coroutine>
#include <cstdint>
#include <unordered_map>

#include "storage/base/check.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task.h"

namespace twofold {

class CancelSource {
 public:
  CancelSource() = default;
  CancelSource(const CancelSource&) = delete;
  CancelSource& operator=(const CancelSource&) = delete;
  ~CancelSource() { TF_CHECK(sleepers_.empty()); }

  bool cancelled() const { return cancelled_; }
  // Wakes every sleeper; those that come later do not sleep at all. Idempotent.
  void Cancel();

  struct SleepAwaiter {
    CancelSource& source;
    MonoNanos until;
    uint64_t key = 0;
    bool await_ready() const { return source.cancelled_; }
    void await_suspend(std::coroutine_handle<> handle);
    // True when the whole time passed, false when cancelled.
    bool await_resume();
  };
  SleepAwaiter SleepUntil(MonoNanos until) { return SleepAwaiter{*this, until}; }
  SleepAwaiter SleepFor(int64_t nanos) { return SleepUntil(Executor::Current().Now() + nanos); }

 private:
  struct Sleeper {
    Executor::TimerId timer;
    std::coroutine_handle<> handle;
  };
  bool cancelled_ = false;
  uint64_t next_key_ = 1;
  std::unordered_map<uint64_t, Sleeper> sleepers_;
};

}  // namespace twofold
