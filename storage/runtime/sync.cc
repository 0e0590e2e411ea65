#include "storage/runtime/sync.h"

namespace twofold {
namespace {

struct Join {
  size_t left;
  std::coroutine_handle<> waiter;
};

internal::SelfOwned RunOne(Task<absl::Status> task, absl::Status* result, Join* join) {
  *result = co_await std::move(task);
  if (--join->left == 0 && join->waiter) PushReady(join->waiter);
}

struct JoinAwaiter {
  Join& join;
  bool await_ready() const noexcept { return join.left == 0; }
  void await_suspend(std::coroutine_handle<> handle) noexcept { join.waiter = handle; }
  void await_resume() const noexcept {}
};

}  // namespace

Task<std::vector<absl::Status>> WhenAll(std::vector<Task<absl::Status>> tasks) {
  std::vector<absl::Status> results(tasks.size());
  Join join{tasks.size(), nullptr};
  for (size_t i = 0; i < tasks.size(); ++i) RunOne(std::move(tasks[i]), &results[i], &join);
  co_await JoinAwaiter{join};
  co_return results;
}

absl::Status FirstError(const std::vector<absl::Status>& statuses) {
  for (const absl::Status& status : statuses) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace twofold
