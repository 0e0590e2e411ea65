#include "storage/runtime/cancel.h"

namespace twofold {

void CancelSource::Cancel() {
  cancelled_ = true;
  Executor* executor = sleepers_.empty() ? nullptr : &Executor::Current();
  for (auto& [key, sleeper] : sleepers_) {
    // A timer that has fired already has queued its handle: it must not be queued twice.
    if (executor->CancelTimer(sleeper.timer)) executor->Push(sleeper.handle);
  }
}

void CancelSource::SleepAwaiter::await_suspend(std::coroutine_handle<> handle) {
  key = source.next_key_++;
  source.sleepers_.emplace(key, Sleeper{Executor::Current().AddTimer(until, handle), handle});
}

bool CancelSource::SleepAwaiter::await_resume() {
  if (key != 0) source.sleepers_.erase(key);
  return !source.cancelled_;
}

}  // namespace twofold
