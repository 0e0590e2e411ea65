#include "storage/runtime/offload.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "storage/runtime/task_scope.h"
#include "tests/runtime/test_poller.h"

namespace twofold {
namespace {

Task<std::unique_ptr<int>> Compute(Offload* offload, std::thread::id home) {
  std::unique_ptr<int> result = co_await offload->Run([home] {
    EXPECT_NE(std::this_thread::get_id(), home);
    return std::make_unique<int>(42);
  });
  EXPECT_EQ(std::this_thread::get_id(), home);
  co_return result;
}

TEST(Offload, RunsElsewhereAndReturnsToItsExecutor) {
  TestPoller poller;
  Executor executor(poller);
  Offload offload(2);
  const std::unique_ptr<int> result = executor.Run(Compute(&offload, std::this_thread::get_id()));
  EXPECT_EQ(*result, 42);
  offload.Stop();
}

Task<void> Count(Offload* offload, std::atomic<int>* count, int times) {
  for (int i = 0; i < times; ++i) {
    const int value = co_await offload->Run([count] { return count->fetch_add(1); });
    EXPECT_GE(value, 0);
  }
}

Task<void> CountFromMany(Offload* offload, std::atomic<int>* count) {
  TaskScope scope;
  for (int i = 0; i < 16; ++i) scope.Spawn(Count(offload, count, 500));
  co_await scope.Join();
}

TEST(Offload, ServesManyCallersAtOnce) {
  TestPoller poller;
  Executor executor(poller);
  Offload offload(3);
  std::atomic<int> count = 0;
  executor.Run(CountFromMany(&offload, &count));
  EXPECT_EQ(count.load(), 8000);
  offload.Stop();
}

Task<int> TurnsMeanwhile(Offload* offload) {
  bool done = false;
  TaskScope scope;
  struct Body {
    static Task<void> Block(Offload* where, bool* finished) {
      const bool result = co_await where->Run([] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        return true;
      });
      *finished = result;
    }
  };
  scope.Spawn(Body::Block(offload, &done));
  int turns = 0;
  while (!done) {
    ++turns;
    co_await Yield();
  }
  co_await scope.Join();
  co_return turns;
}

TEST(Offload, DoesNotHoldUpItsExecutor) {
  TestPoller poller;
  Executor executor(poller);
  Offload offload(1);
  EXPECT_GT(executor.Run(TurnsMeanwhile(&offload)), 1);
  offload.Stop();
}

Task<bool> InPlace(Offload* offload) {
  const std::thread::id here = co_await offload->Run([] { return std::this_thread::get_id(); });
  co_return here == std::this_thread::get_id();
}

TEST(Offload, WithoutThreadsRunsInPlace) {
  TestPoller poller;
  Executor executor(poller);
  Offload offload(0);
  EXPECT_TRUE(executor.Run(InPlace(&offload)));
  EXPECT_EQ(poller.polls(), 0u);
  offload.Stop();
}

}  // namespace
}  // namespace twofold
