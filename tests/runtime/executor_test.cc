#include "storage/runtime/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "storage/base/limits.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task_scope.h"
#include "tests/runtime/test_poller.h"

namespace twofold {
namespace {

using ::testing::ElementsAre;

struct Reschedule {
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) const noexcept { PushReady(handle); }
  void await_resume() const noexcept {}
};

Task<void> Append(std::vector<int>* order, int name, int times) {
  for (int i = 0; i < times; ++i) {
    order->push_back(name);
    co_await Reschedule{};
  }
}

Task<void> RunThree(std::vector<int>* order) {
  TaskScope scope;
  for (int name = 1; name <= 3; ++name) scope.Spawn(Append(order, name, 3));
  co_await scope.Join();
}

TEST(Executor, RunsReadyCoroutinesInTurn) {
  TestPoller poller;
  Executor executor(poller);
  std::vector<int> order;
  executor.Run(RunThree(&order));
  EXPECT_THAT(order, ElementsAre(1, 2, 3, 1, 2, 3, 1, 2, 3));
}

Task<void> Spin(const bool* stop, uint64_t* spins) {
  while (!*stop) {
    ++*spins;
    co_await Reschedule{};
  }
}

Task<void> SleepBesideSpinner(uint64_t* spins) {
  bool stop = false;
  TaskScope scope;
  scope.Spawn(Spin(&stop, spins));
  co_await SleepFor(5 * kNanosPerMilli);
  stop = true;
  co_await scope.Join();
}

TEST(Executor, LooksAtTimersWhileCoroutinesKeepEachOtherReady) {
  TestPoller poller;
  Executor executor(poller);
  uint64_t spins = 0;
  executor.Run(SleepBesideSpinner(&spins));
  EXPECT_GT(spins, 0u);
  EXPECT_GE(poller.polls(), spins / kMaxResumesPerTurn);
}

Task<uint64_t> PollsWhileYielding(const TestPoller* poller, int yields) {
  const uint64_t before = poller->polls();
  for (int i = 0; i < yields; ++i) co_await Yield();
  co_return poller->polls() - before;
}

TEST(Executor, PollsBetweenYields) {
  TestPoller poller;
  Executor executor(poller);
  EXPECT_EQ(executor.Run(PollsWhileYielding(&poller, 10)), 10u);
}

Task<uint64_t> TurnsWhileRescheduling(int times) {
  const uint64_t before = Executor::Current().turn();
  for (int i = 0; i < times; ++i) co_await Reschedule{};
  co_return Executor::Current().turn() - before;
}

TEST(Executor, RunsAChainOfReadyStepsInOneTurn) {
  TestPoller poller;
  Executor executor(poller);
  EXPECT_EQ(executor.Run(TurnsWhileRescheduling(100)), 1u);
}

Task<void> SleepAndNote(std::vector<int>* order, int name, int64_t nanos) {
  co_await SleepFor(nanos);
  order->push_back(name);
}

Task<void> SleepInThree(std::vector<int>* order) {
  TaskScope scope;
  scope.Spawn(SleepAndNote(order, 3, 6 * kNanosPerMilli));
  scope.Spawn(SleepAndNote(order, 1, 0));
  scope.Spawn(SleepAndNote(order, 2, 3 * kNanosPerMilli));
  co_await scope.Join();
}

TEST(Executor, FiresTimersInTheOrderOfTheirTimes) {
  TestPoller poller;
  Executor executor(poller);
  std::vector<int> order;
  const MonoNanos start = poller.Now();
  executor.Run(SleepInThree(&order));
  EXPECT_GE(poller.Now() - start, 6 * kNanosPerMilli);
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
}

Task<void> WaitFor(Event* event) { co_await event->Wait(); }

TEST(Executor, RunsPostedFunctionsOfOtherThreadsInTheOrderOfEachThread) {
  constexpr int kThreads = 4;
  constexpr int kPosts = 5000;
  TestPoller poller;
  Executor executor(poller);
  Event done;
  std::vector<std::vector<int>> seen(kThreads);
  int left = kThreads * kPosts;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) {
        executor.Post([&, t, i] {
          seen[static_cast<size_t>(t)].push_back(i);
          if (--left == 0) done.Set();
        });
      }
    });
  }
  executor.Run(WaitFor(&done));
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<int>& of_thread : seen) {
    ASSERT_EQ(of_thread.size(), static_cast<size_t>(kPosts));
    EXPECT_TRUE(std::is_sorted(of_thread.begin(), of_thread.end()));
  }
}

TEST(Executor, AnswersAPingPongWithAThreadThatPostsWhileItSleeps) {
  TestPoller poller;
  Executor executor(poller);
  Event done;
  std::atomic<int> seen = 0;
  std::thread thread([&] {
    for (int i = 0; i < 2000; ++i) {
      executor.Post([&] { seen.fetch_add(1); });
      while (seen.load() <= i) std::this_thread::yield();
    }
    executor.Post([&] { done.Set(); });
  });
  executor.Run(WaitFor(&done));
  thread.join();
  EXPECT_EQ(seen.load(), 2000);
}

TEST(Executor, RunsSeveralTimes) {
  TestPoller poller;
  Executor executor(poller);
  std::vector<int> order;
  executor.Run(Append(&order, 1, 2));
  executor.Run(Append(&order, 2, 1));
  EXPECT_THAT(order, ElementsAre(1, 1, 2));
}

TEST(ExecutorDeathTest, CurrentOutsideRunEndsTheProcess) {
  EXPECT_DEATH(Executor::Current(), "executor");
}

}  // namespace
}  // namespace twofold
