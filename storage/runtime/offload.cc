#include "storage/runtime/offload.h"

#include "storage/base/check.h"

namespace twofold {

Offload::Offload(size_t threads) : in_place_(threads == 0) {
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { ThreadMain(); });
}

Offload::~Offload() { TF_CHECK(threads_.empty()) << "Stop() was not called"; }

void Offload::Awaiter::await_suspend(std::coroutine_handle<> handle) {
  Executor* executor = &Executor::Current();
  // The awaiter lives in the caller's frame, which stays suspended until the posted closure resumes
  // it.
  offload.Submit([executor, handle, this] {
    work();
    executor->Post([handle] { PushReady(handle); });
  });
}

void Offload::Submit(std::function<void()> work) {
  {
    std::lock_guard lock(mutex_);
    TF_CHECK(!stopping_) << "work after Stop()";
    queue_.push_back(std::move(work));
  }
  ready_.notify_one();
}

void Offload::ThreadMain() {
  std::unique_lock lock(mutex_);
  while (true) {
    ready_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    work();
    work = nullptr;
    lock.lock();
  }
}

void Offload::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ready_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace twofold
