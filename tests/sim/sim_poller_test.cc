#include "tests/sim/sim_poller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "storage/runtime/executor.h"
#include "storage/runtime/offload.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task_scope.h"

namespace twofold::sim {
namespace {

using ::testing::ElementsAre;

Task<MonoNanos> SleepLong() {
  const MonoNanos start = Executor::Current().Now();
  co_await SleepFor(30 * 24 * 3600 * kNanosPerSecond);
  co_return Executor::Current().Now() - start;
}

TEST(SimPoller, JumpsToTheNextTimer) {
  SimPoller poller(1);
  Executor executor(poller);
  const MonoNanos slept = executor.Run(SleepLong());
  EXPECT_GE(slept, 30 * 24 * 3600 * kNanosPerSecond);
  EXPECT_LT(slept, 30 * 24 * 3600 * kNanosPerSecond + kNanosPerMilli);
}

Task<void> DelayAndNote(SimPoller* poller, int64_t nanos, int name, std::vector<int>* order) {
  co_await poller->Delay(nanos);
  order->push_back(name);
}

Task<void> DelayMany(SimPoller* poller, int64_t step, std::vector<int>* order) {
  TaskScope scope;
  for (int i = 0; i < 6; ++i) scope.Spawn(DelayAndNote(poller, (6 - i) * step, i, order));
  co_await scope.Join();
}

std::vector<int> OrderOf(uint64_t seed, int64_t step) {
  SimPoller poller(seed);
  Executor executor(poller);
  std::vector<int> order;
  executor.Run(DelayMany(&poller, step, &order));
  return order;
}

TEST(SimPoller, CompletesInTheOrderOfTime) {
  EXPECT_THAT(OrderOf(1, 1000), ElementsAre(5, 4, 3, 2, 1, 0));
}

TEST(SimPoller, OrdersEventsOfOneInstantBySeed) {
  std::set<std::vector<int>> orders;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    orders.insert(OrderOf(seed, 0));
    EXPECT_EQ(OrderOf(seed, 0), OrderOf(seed, 0)) << "seed " << seed;
  }
  EXPECT_GT(orders.size(), 30u);
}

Task<void> SpinUntil(MonoNanos time) {
  while (Executor::Current().Now() < time) co_await Yield();
}

TEST(SimPoller, TimePassesForThoseWhoSpin) {
  SimPoller poller(1);
  Executor executor(poller);
  executor.Run(SpinUntil(poller.Now() + kNanosPerMilli));
}

TEST(SimPoller, TheWallClockJumpsAlone) {
  SimPoller poller(1);
  const MonoNanos mono = poller.Now();
  const WallNanos wall = poller.WallNow();
  poller.JumpWallClock(-3600 * kNanosPerSecond);
  EXPECT_EQ(poller.Now(), mono);
  EXPECT_EQ(poller.WallNow(), wall - 3600 * kNanosPerSecond);
}

Task<int> OnAThread(Offload* offload) {
  const int result = co_await offload->Run([] { return 7; });
  co_return result;
}

TEST(SimPoller, WaitsForRealThreadsWhereATestHasSome) {
  SimPoller poller(1);
  Executor executor(poller);
  Offload offload(1);
  EXPECT_EQ(executor.Run(OnAThread(&offload)), 7);
  offload.Stop();
}

Task<void> WaitFor(Event* event) { co_await event->Wait(); }

TEST(SimPollerDeathTest, NamesTheSeedOfADeadlock) {
  SimPoller poller(4711);
  Executor executor(poller);
  Event never;
  EXPECT_DEATH(executor.Run(WaitFor(&never)), "seed 4711: deadlock at virtual time");
}

}  // namespace
}  // namespace twofold::sim
