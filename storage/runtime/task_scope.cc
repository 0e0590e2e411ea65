#include "storage/runtime/task_scope.h"

namespace twofold {

internal::SelfOwned TaskScope::RunOwned(Task<void> task, TaskScope* scope) {
  co_await std::move(task);
  task = Task<void>();  // the frame goes before the count: what it holds may outlive nothing
  if (--scope->running_ == 0) scope->ended_.WakeAll();
}

void TaskScope::Spawn(Task<void> task) {
  ++running_;
  RunOwned(std::move(task), this);
}

Task<void> TaskScope::Join() {
  while (running_ > 0) {
    co_await ended_.Wait();
  }
}

}  // namespace twofold
