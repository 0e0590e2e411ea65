// What the runtime itself costs: awaiting, switching, spawning, waiting, waking from another
// thread.

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "storage/runtime/executor.h"
#include "storage/runtime/offload.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task.h"
#include "storage/runtime/task_scope.h"
#include "tests/runtime/test_poller.h"

namespace twofold {
namespace {

struct Reschedule {
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) const noexcept { PushReady(handle); }
  void await_resume() const noexcept {}
};

Task<uint64_t> ReadyChild(uint64_t value) { co_return value; }

Task<uint64_t> SuspendingChild(uint64_t value) {
  co_await Reschedule{};
  co_return value;
}

Task<void> AwaitReadyChildren(benchmark::State* state) {
  uint64_t sum = 0;
  for (auto _ : *state) {
    const uint64_t value = co_await ReadyChild(1);
    benchmark::DoNotOptimize(sum += value);
  }
}

Task<void> AwaitSuspendingChildren(benchmark::State* state) {
  uint64_t sum = 0;
  for (auto _ : *state) {
    const uint64_t value = co_await SuspendingChild(1);
    benchmark::DoNotOptimize(sum += value);
  }
}

Task<void> SwitchTasks(benchmark::State* state) {
  for (auto _ : *state) co_await Reschedule{};
}

Task<void> Nothing() { co_return; }

Task<void> SpawnTasks(benchmark::State* state) {
  TaskScope scope;
  for (auto _ : *state) scope.Spawn(Nothing());
  co_await scope.Join();
}

// Two tasks hand one permit to and fro.
Task<void> Answer(Semaphore* from, Semaphore* to, const bool* stop) {
  while (true) {
    co_await from->Acquire(1);
    if (*stop) co_return;
    to->Release(1);
  }
}

Task<void> HandOff(benchmark::State* state) {
  Semaphore there(0);
  Semaphore back(0);
  bool stop = false;
  TaskScope scope;
  scope.Spawn(Answer(&there, &back, &stop));
  for (auto _ : *state) {
    there.Release(1);
    co_await back.Acquire(1);
  }
  stop = true;
  there.Release(1);
  co_await scope.Join();
}

Task<void> OffloadCalls(benchmark::State* state) {
  Offload offload(1);
  for (auto _ : *state) {
    const int result = co_await offload.Run([] { return 1; });
    benchmark::DoNotOptimize(result);
  }
  offload.Stop();
}

template <Task<void> (*kBody)(benchmark::State*)>
void InExecutor(benchmark::State& state) {
  TestPoller poller;
  Executor executor(poller);
  executor.Run(kBody(&state));
  state.SetItemsProcessed(state.iterations());
}

BENCHMARK(InExecutor<AwaitReadyChildren>)->Name("Task/AwaitReadyChild");
BENCHMARK(InExecutor<AwaitSuspendingChildren>)->Name("Task/AwaitSuspendingChild");
BENCHMARK(InExecutor<SwitchTasks>)->Name("Task/Switch");
BENCHMARK(InExecutor<SpawnTasks>)->Name("Task/Spawn");
BENCHMARK(InExecutor<HandOff>)->Name("Task/SemaphoreThereAndBack");
BENCHMARK(InExecutor<OffloadCalls>)->Name("Offload/Run")->UseRealTime();

}  // namespace
}  // namespace twofold
