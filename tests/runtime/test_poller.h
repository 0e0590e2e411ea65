// A poller without a kernel ring: real clocks, and nothing to wait for but Wake() and deadlines.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "storage/runtime/poller.h"

namespace twofold {

class TestPoller final : public Poller {
 public:
  void Poll(MonoNanos deadline) override {
    ++polls_;
    std::unique_lock lock(mutex_);
    if (deadline == kNever) {
      woken_.wait(lock, [this] { return wake_; });
    } else if (deadline > Now()) {
      woken_.wait_for(lock, std::chrono::nanoseconds(deadline - Now()), [this] { return wake_; });
    }
    wake_ = false;
  }

  void Wake() noexcept override {
    std::lock_guard lock(mutex_);
    wake_ = true;
    woken_.notify_one();
  }

  MonoNanos Now() const override {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  }
  WallNanos WallNow() const override {
    return std::chrono::system_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  }

  uint64_t polls() const { return polls_; }

 private:
  uint64_t polls_ = 0;
  std::mutex mutex_;
  std::condition_variable woken_;
  bool wake_ = false;  // guarded by mutex_
};

}  // namespace twofold
