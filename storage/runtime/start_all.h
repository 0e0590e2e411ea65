// Runs several tasks at once without a coroutine frame of its own: for paths where each frame
// counts. Elsewhere WhenAll (sync.h) is easier to use.
//
//   StartAll<absl::Status, 2> all;
//   all.Add(First());
//   all.Add(Second());
//   co_await all.Start();                       // starts them in order; does not suspend
//   while (all.pending()) co_await all.Next();  // one of them has ended
//   use(all.TakeResult(0), all.TakeResult(1));
#pragma once

#include <coroutine>
#include <cstddef>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "storage/base/check.h"
#include "storage/runtime/task.h"

namespace twofold {

template <typename T, size_t kInline>
class StartAll {
 public:
  StartAll() = default;
  StartAll(const StartAll&) = delete;
  StartAll& operator=(const StartAll&) = delete;
  ~StartAll() { TF_CHECK_EQ(pending_, 0u); }

  void Add(Task<T> task) { tasks_.push_back(std::move(task)); }

  struct StartAwaiter {
    StartAll& all;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> parent) {
      for (Task<T>& task : all.tasks_) {
        all.started_.push_back(std::move(task).operator co_await());
        if (all.started_.back().await_suspend(parent)) ++all.pending_;
      }
      return false;
    }
    void await_resume() const noexcept {}
  };
  // Each task that does not end at once will queue the awaiting coroutine one time. Until all have
  // been taken by Next() it must await nothing else.
  StartAwaiter Start() { return StartAwaiter{*this}; }

  bool pending() const { return pending_ > 0; }

  struct NextAwaiter {
    StartAll& all;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    void await_resume() const noexcept { --all.pending_; }
  };
  NextAwaiter Next() { return NextAwaiter{*this}; }

  size_t size() const { return tasks_.size(); }
  // Once, when nothing is pending.
  T TakeResult(size_t index) { return started_[index].await_resume(); }

 private:
  absl::InlinedVector<Task<T>, kInline> tasks_;
  absl::InlinedVector<typename Task<T>::Awaiter, kInline> started_;
  size_t pending_ = 0;
};

}  // namespace twofold
