#include "storage/runtime/task.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "storage/runtime/executor.h"
#include "tests/runtime/test_poller.h"

namespace twofold {
namespace {

Task<int> Ready(int value) { co_return value; }

Task<int> AfterYield(int value) {
  co_await Yield();
  co_return value;
}

Task<uint64_t> AwaitReadyChildren(int count) {
  uint64_t sum = 0;
  for (int i = 0; i < count; ++i) {
    const int one = co_await Ready(1);
    sum += static_cast<uint64_t>(one);
  }
  co_return sum;
}

TEST(Task, AwaitsThreeMillionReadyChildrenWithoutGrowingTheStack) {
  TestPoller poller;
  Executor executor(poller);
  EXPECT_EQ(executor.Run(AwaitReadyChildren(3'000'000)), 3'000'000u);
}

Task<uint64_t> AwaitSuspendingChildren(int count) {
  uint64_t sum = 0;
  for (int i = 0; i < count; ++i) {
    const int one = co_await AfterYield(1);
    sum += static_cast<uint64_t>(one);
  }
  co_return sum;
}

TEST(Task, AwaitsManySuspendingChildrenWithoutGrowingTheStack) {
  TestPoller poller;
  Executor executor(poller);
  EXPECT_EQ(executor.Run(AwaitSuspendingChildren(100'000)), 100'000u);
}

Task<int> Nested(int depth) {
  if (depth == 0) co_return 0;
  co_await Yield();
  const int below = co_await Nested(depth - 1);
  co_return below + 1;
}

TEST(Task, ReturnsThroughADeepChainThatSuspendedAtEachLevel) {
  TestPoller poller;
  Executor executor(poller);
  EXPECT_EQ(executor.Run(Nested(1000)), 1000);
}

Task<std::unique_ptr<std::string>> MoveOnlyResult(std::unique_ptr<std::string> text) {
  co_await Yield();
  co_return text;
}

TEST(Task, MovesParametersAndResults) {
  TestPoller poller;
  Executor executor(poller);
  const std::unique_ptr<std::string> result =
      executor.Run(MoveOnlyResult(std::make_unique<std::string>("block")));
  EXPECT_EQ(*result, "block");
}

Task<void> SetFlag(bool* flag) {
  *flag = true;
  co_return;
}

Task<bool> IsLazy() {
  bool started = false;
  Task<void> task = SetFlag(&started);
  const bool before = started;
  co_await std::move(task);
  co_return !before && started;
}

TEST(Task, RunsOnlyWhenItIsAwaited) {
  TestPoller poller;
  Executor executor(poller);
  EXPECT_TRUE(executor.Run(IsLazy()));
}

TEST(Task, IsDroppedBeforeItStartedWithItsParameters) {
  auto owned = std::make_shared<int>(7);
  struct Body {
    static Task<void> Hold(std::shared_ptr<int> held) {
      EXPECT_NE(held, nullptr);
      co_return;
    }
  };
  {
    Task<void> task = Body::Hold(owned);
    EXPECT_EQ(owned.use_count(), 2);
  }
  EXPECT_EQ(owned.use_count(), 1);
}

// Counts how many of its kind are alive.
struct Counted {
  explicit Counted(int* alive_in) : alive(alive_in) { ++*alive; }
  Counted(const Counted& other) : alive(other.alive) { ++*alive; }
  ~Counted() { --*alive; }
  int* alive;
};

Task<Counted> MakeCounted(int* alive) {
  const Counted local(alive);
  co_await Yield();
  co_return local;
}

Task<int> AwaitCounted(int* alive) {
  const Counted result = co_await MakeCounted(alive);
  co_return *result.alive;
}

TEST(Task, DestroysLocalsAndResultsOnce) {
  TestPoller poller;
  Executor executor(poller);
  int alive = 0;
  EXPECT_EQ(executor.Run(AwaitCounted(&alive)), 1);
  EXPECT_EQ(alive, 0);
}

TEST(TaskDeathTest, AbandoningAStartedTaskEndsTheProcess) {
  TestPoller poller;
  Executor executor(poller);
  struct Body {
    static Task<void> Suspend() { co_await std::suspend_always(); }
    static Task<void> Abandon() {
      Task<void> task = Suspend();
      {
        // As an await that is given up: started, suspended, destroyed.
        auto awaiter = std::move(task).operator co_await();
        awaiter.await_suspend(std::noop_coroutine());
      }
      task = Task<void>();
      co_return;
    }
  };
  EXPECT_DEATH(executor.Run(Body::Abandon()), "started");
}

TEST(TaskDeathTest, AwaitingTwiceEndsTheProcess) {
  TestPoller poller;
  Executor executor(poller);
  struct Body {
    static Task<void> Twice() {
      Task<int> task = Ready(1);
      co_await std::move(task);
      co_await std::move(task);
    }
  };
  EXPECT_DEATH(executor.Run(Body::Twice()), "started");
}

}  // namespace
}  // namespace twofold
