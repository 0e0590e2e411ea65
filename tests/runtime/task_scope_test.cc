#include "storage/runtime/task_scope.h"

#include <gtest/gtest.h>

#include <memory>

#include "storage/runtime/executor.h"
#include "tests/runtime/test_poller.h"

namespace twofold {
namespace {

Task<void> YieldTimes(int times, int* finished, std::shared_ptr<int> held) {
  for (int i = 0; i < times; ++i) co_await Yield();
  ++*finished;
  EXPECT_NE(held, nullptr);
}

Task<void> SpawnTwice(int* finished) {
  auto held = std::make_shared<int>(1);
  TaskScope scope;
  scope.Spawn(YieldTimes(0, finished, held));
  EXPECT_EQ(*finished, 1);  // runs at once, up to its first suspension
  EXPECT_EQ(scope.running(), 0u);
  scope.Spawn(YieldTimes(3, finished, held));
  scope.Spawn(YieldTimes(1, finished, held));
  EXPECT_EQ(scope.running(), 2u);
  co_await scope.Join();
  EXPECT_EQ(held.use_count(), 1) << "the frames of ended tasks are gone after Join";
}

TEST(TaskScope, JoinsAllThatWereSpawned) {
  TestPoller poller;
  Executor executor(poller);
  int finished = 0;
  executor.Run(SpawnTwice(&finished));
  EXPECT_EQ(finished, 3);
}

Task<void> SpawnMore(TaskScope* scope, int depth, int* finished) {
  co_await Yield();
  if (depth > 0) scope->Spawn(SpawnMore(scope, depth - 1, finished));
  ++*finished;
}

Task<void> SpawnFromTasks(int* finished) {
  TaskScope scope;
  scope.Spawn(SpawnMore(&scope, 9, finished));
  co_await scope.Join();
}

TEST(TaskScope, JoinWaitsForTasksThatWereSpawnedMeanwhile) {
  TestPoller poller;
  Executor executor(poller);
  int finished = 0;
  executor.Run(SpawnFromTasks(&finished));
  EXPECT_EQ(finished, 10);
}

TEST(TaskScopeDeathTest, DestroyingItWithTasksEndsTheProcess) {
  TestPoller poller;
  Executor executor(poller);
  struct Body {
    static Task<void> Leave() {
      int finished = 0;
      TaskScope scope;
      scope.Spawn(YieldTimes(1, &finished, nullptr));
      co_return;
    }
  };
  EXPECT_DEATH(executor.Run(Body::Leave()), "Join");
}

}  // namespace
}  // namespace twofold
