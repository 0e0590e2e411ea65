// The owner of tasks that nobody awaits: they are counted in, and Join() waits until all have
// ended. Nothing is detached: destroying a scope that was not joined, or has tasks left, is a bug
// and ends the process.
#pragma once

#include <cstddef>

#include "storage/base/check.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task.h"

namespace twofold {

class TaskScope {
 public:
  TaskScope() = default;
  TaskScope(const TaskScope&) = delete;
  TaskScope& operator=(const TaskScope&) = delete;
  ~TaskScope() { TF_CHECK_EQ(running_, 0) << "tasks left; Join() was not awaited"; }

  // Starts `task` at once, up to its first suspension. Must not be called after Join has returned.
  void Spawn(Task<void> task);
  size_t running() const { return running_; }

  // Refuses nothing by itself: whoever spawns stops doing so first. Returns when no task is left.
  Task<void> Join();

 private:
  static internal::SelfOwned RunOwned(Task<void> task, TaskScope* scope);

  size_t running_ = 0;
  Event ended_;
};

}  // namespace twofold
