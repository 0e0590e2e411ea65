#include "storage/runtime/sync.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "storage/runtime/executor.h"
#include "storage/runtime/task_scope.h"
#include "tests/runtime/test_poller.h"

namespace twofold {
namespace {

using ::testing::ElementsAre;

class SyncTest : public ::testing::Test {
 protected:
  TestPoller poller_;
  Executor executor_{poller_};
  std::vector<int> order_;
};

Task<void> WaitAndNote(Event* event, std::vector<int>* order, int name) {
  co_await event->Wait();
  order->push_back(name);
}

Task<void> SetWithWaiters(std::vector<int>* order) {
  Event event;
  TaskScope scope;
  for (int name = 1; name <= 3; ++name) scope.Spawn(WaitAndNote(&event, order, name));
  event.Set();
  order->push_back(0);  // nobody runs inside Set
  co_await scope.Join();
  co_await event.Wait();  // stays set
  EXPECT_TRUE(event.is_set());
  event.Reset();
  EXPECT_FALSE(event.is_set());
}

TEST_F(SyncTest, EventResumesWaitersInOrderAndThroughTheQueue) {
  executor_.Run(SetWithWaiters(&order_));
  EXPECT_THAT(order_, ElementsAre(0, 1, 2, 3));
}

Task<void> WaitForValue(Event* event, const int* value, int wanted) {
  while (*value < wanted) co_await event->Wait();
}

Task<void> WakeAllTwice() {
  Event event;
  int value = 0;
  TaskScope scope;
  scope.Spawn(WaitForValue(&event, &value, 1));
  scope.Spawn(WaitForValue(&event, &value, 2));
  value = 1;
  event.WakeAll();
  co_await Yield();
  EXPECT_EQ(scope.running(), 1u);
  EXPECT_FALSE(event.is_set());
  value = 2;
  event.WakeAll();
  co_await scope.Join();
}

TEST_F(SyncTest, WakeAllLetsWaitersLookAgain) { executor_.Run(WakeAllTwice()); }

Task<void> AcquireAndNote(Semaphore* semaphore, uint64_t count, std::vector<int>* order, int name) {
  co_await semaphore->Acquire(count);
  order->push_back(name);
}

Task<void> LargeBeforeSmall(std::vector<int>* order) {
  Semaphore semaphore(4);
  TaskScope scope;
  scope.Spawn(AcquireAndNote(&semaphore, 3, order, 1));
  scope.Spawn(AcquireAndNote(&semaphore, 4, order, 2));  // waits
  scope.Spawn(AcquireAndNote(&semaphore, 1, order, 3));  // would fit, but came later
  EXPECT_FALSE(semaphore.TryAcquire(1));
  EXPECT_EQ(semaphore.available(), 1u);
  co_await Yield();
  EXPECT_THAT(*order, ElementsAre(1));
  semaphore.Release(3);
  co_await Yield();
  EXPECT_THAT(*order, ElementsAre(1, 2));
  semaphore.Release(4);
  co_await scope.Join();
  EXPECT_EQ(semaphore.available(), 3u);
  EXPECT_TRUE(semaphore.TryAcquire(3));
}

TEST_F(SyncTest, SemaphoreGrantsInTheOrderOfAsking) {
  executor_.Run(LargeBeforeSmall(&order_));
  EXPECT_THAT(order_, ElementsAre(1, 2, 3));
}

Task<void> ReleaseForMany(std::vector<int>* order) {
  Semaphore semaphore(0);
  TaskScope scope;
  for (int name = 1; name <= 4; ++name) scope.Spawn(AcquireAndNote(&semaphore, 2, order, name));
  semaphore.Release(7);  // three of them, one left over
  co_await Yield();
  EXPECT_EQ(order->size(), 3u);
  EXPECT_EQ(semaphore.available(), 1u);
  semaphore.Release(1);
  co_await scope.Join();
}

TEST_F(SyncTest, SemaphoreReleaseServesAsManyAsFit) {
  executor_.Run(ReleaseForMany(&order_));
  EXPECT_THAT(order_, ElementsAre(1, 2, 3, 4));
}

Task<void> Exclusive(AsyncMutex* mutex, int* inside, std::vector<int>* order, int name) {
  const AsyncMutex::Guard guard = co_await mutex->Lock();
  EXPECT_EQ(++*inside, 1);
  for (int i = 0; i < 3; ++i) co_await Yield();
  --*inside;
  order->push_back(name);
}

Task<void> LockFromMany(std::vector<int>* order) {
  AsyncMutex mutex;
  int inside = 0;
  TaskScope scope;
  for (int name = 1; name <= 4; ++name) scope.Spawn(Exclusive(&mutex, &inside, order, name));
  EXPECT_TRUE(mutex.locked());
  co_await scope.Join();
  EXPECT_FALSE(mutex.locked());
}

TEST_F(SyncTest, MutexLetsOneInAtATimeInOrder) {
  executor_.Run(LockFromMany(&order_));
  EXPECT_THAT(order_, ElementsAre(1, 2, 3, 4));
}

Task<absl::Status> Finish(std::vector<int>* order, int name, int yields, absl::Status status) {
  order->push_back(name);
  for (int i = 0; i < yields; ++i) co_await Yield();
  order->push_back(-name);
  co_return status;
}

Task<std::vector<absl::Status>> AllOfThree(std::vector<int>* order) {
  std::vector<Task<absl::Status>> tasks;
  tasks.push_back(Finish(order, 1, 4, absl::OkStatus()));
  tasks.push_back(Finish(order, 2, 0, absl::UnavailableError("two")));
  tasks.push_back(Finish(order, 3, 2, absl::DataLossError("three")));
  co_return co_await WhenAll(std::move(tasks));
}

TEST_F(SyncTest, WhenAllStartsInOrderAndReturnsStatusesInOrder) {
  const std::vector<absl::Status> statuses = executor_.Run(AllOfThree(&order_));
  EXPECT_THAT(order_, ElementsAre(1, 2, -2, 3, -3, -1));
  EXPECT_THAT(statuses, ElementsAre(absl::OkStatus(), absl::UnavailableError("two"),
                                    absl::DataLossError("three")));
  EXPECT_EQ(FirstError(statuses), absl::UnavailableError("two"));
}

TEST_F(SyncTest, WhenAllOfNothingIsReady) {
  EXPECT_TRUE(executor_.Run(WhenAll({})).empty());
  EXPECT_TRUE(FirstError({}).ok());
}

Task<absl::Status> ReadyOk() { co_return absl::OkStatus(); }

Task<size_t> WhenAllOfManyReady(size_t count) {
  std::vector<Task<absl::Status>> tasks;
  for (size_t i = 0; i < count; ++i) tasks.push_back(ReadyOk());
  const std::vector<absl::Status> statuses = co_await WhenAll(std::move(tasks));
  co_return statuses.size();
}

TEST_F(SyncTest, WhenAllOfTasksThatNeverSuspendIsReady) {
  EXPECT_EQ(executor_.Run(WhenAllOfManyReady(10'000)), 10'000u);
}

}  // namespace
}  // namespace twofold
