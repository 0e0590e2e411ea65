// SIGTERM and SIGINT as events of the executor: the first asks for a clean stop, a second one
// leaves at once.
#pragma once

#include <csignal>

#include "absl/status/status.h"
#include "storage/io/uring_poller.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task.h"
#include "storage/runtime/task_scope.h"

namespace twofold::cli {

class StopSignals {
 public:
  // Blocks the signals in this thread and in those that it starts later: make it before any other
  // thread. The process ignores SIGPIPE from here on.
  StopSignals();
  // Not while it watches.
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // Begins to watch, on the executor of `poller`, which outlives the watching.
  absl::Status Start(UringPoller& poller);
  // Ends it. Needed after a successful Start.
  Task<void> Stop();

  // Set by the first signal. After the second the process ends with exit code 1, as if it had
  // crashed: the next start recovers.
  Event& requested() { return requested_; }

 private:
  Task<void> Watch(UringPoller* poller);

  sigset_t signals_;
  int descriptor_ = -1;
  bool stopping_ = false;
  Event requested_;
  TaskScope scope_;
};

}  // namespace twofold::cli
