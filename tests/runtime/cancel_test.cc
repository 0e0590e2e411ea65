#include "storage/runtime/cancel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "storage/runtime/task_scope.h"
#include "tests/runtime/test_poller.h"

namespace twofold {
namespace {

using ::testing::ElementsAre;

constexpr int64_t kHour = 3600 * kNanosPerSecond;

Task<void> SleepAndNote(CancelSource* cancel, int64_t nanos, std::vector<bool>* ends) {
  const bool whole = co_await cancel->SleepFor(nanos);
  ends->push_back(whole);
}

Task<void> CancelSleepers(std::vector<bool>* ends) {
  CancelSource cancel;
  TaskScope scope;
  scope.Spawn(SleepAndNote(&cancel, 0, ends));
  for (int i = 0; i < 3; ++i) scope.Spawn(SleepAndNote(&cancel, kHour, ends));
  while (ends->empty()) co_await Yield();
  EXPECT_EQ(scope.running(), 3u);
  EXPECT_FALSE(cancel.cancelled());
  cancel.Cancel();
  cancel.Cancel();
  co_await scope.Join();
  const bool late = co_await cancel.SleepFor(kHour);
  EXPECT_FALSE(late);
}

TEST(CancelSource, WakesSleepersOnceAndLetsNobodySleepAfterwards) {
  TestPoller poller;
  Executor executor(poller);
  std::vector<bool> ends;
  executor.Run(CancelSleepers(&ends));
  EXPECT_THAT(ends, ElementsAre(true, false, false, false));
}

// The timer has fired and queued its sleeper, and the sleeper is cancelled before it runs.
Task<void> CancelAfterTheTimerFired(std::vector<bool>* ends) {
  CancelSource cancel;
  TaskScope scope;
  const MonoNanos when = Executor::Current().Now() + kNanosPerMilli;
  struct Body {
    static Task<void> CancelAt(CancelSource* source, MonoNanos time) {
      co_await SleepUntil(time);
      source->Cancel();
    }
  };
  scope.Spawn(Body::CancelAt(&cancel, when));
  scope.Spawn(SleepAndNote(&cancel, kNanosPerMilli / 2, ends));
  while (Executor::Current().Now() < when + kNanosPerMilli) {
  }
  co_await scope.Join();
}

TEST(CancelSource, DoesNotResumeASleeperTwice) {
  TestPoller poller;
  Executor executor(poller);
  std::vector<bool> ends;
  executor.Run(CancelAfterTheTimerFired(&ends));
  EXPECT_EQ(ends.size(), 1u);
}

}  // namespace
}  // namespace twofold
