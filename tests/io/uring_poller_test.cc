#include "storage/io/uring_poller.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "storage/base/limits.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task_scope.h"

namespace twofold {
namespace {

using ::testing::HasSubstr;

class UringPollerTest : public ::testing::Test {
 protected:
  std::unique_ptr<UringPoller> poller_ = UringPoller::Create().value();
  Executor executor_{*poller_};
};

Task<int32_t> Nop(UringPoller* poller) {
  const int32_t result =
      co_await UringOp(*poller, [](io_uring_sqe* sqe) { io_uring_prep_nop(sqe); });
  co_return result;
}

TEST_F(UringPollerTest, ReturnsTheResultOfAnOperation) {
  EXPECT_EQ(executor_.Run(Nop(poller_.get())), 0);
  EXPECT_EQ(poller_->stats().submitted, 2u);  // and the one that waits for Wake
  EXPECT_EQ(poller_->stats().submits, 1u);
  EXPECT_EQ(poller_->stats().completions, 1u);
}

Task<int32_t> ReadBadDescriptor(UringPoller* poller) {
  char byte;
  const int32_t result = co_await UringOp(
      *poller, [&](io_uring_sqe* sqe) { io_uring_prep_read(sqe, -1, &byte, 1, 0); });
  co_return result;
}

TEST_F(UringPollerTest, ReturnsErrorsAsNegativeErrno) {
  EXPECT_EQ(executor_.Run(ReadBadDescriptor(poller_.get())), -EBADF);
}

Task<void> CountNop(UringPoller* poller, size_t* done) {
  const int32_t result = co_await Nop(poller);
  EXPECT_EQ(result, 0);
  ++*done;
}

Task<void> SpawnNops(UringPoller* poller, size_t count, size_t* done) {
  TaskScope scope;
  for (size_t i = 0; i < count; ++i) scope.Spawn(CountNop(poller, done));
  co_await scope.Join();
}

TEST_F(UringPollerTest, SubmitsOnceForAllThatATurnQueued) {
  size_t done = 0;
  executor_.Run(SpawnNops(poller_.get(), 100, &done));
  EXPECT_EQ(done, 100u);
  EXPECT_EQ(poller_->stats().submits, 1u);
}

Task<void> NopSoon(UringPoller* poller) {
  co_await Yield();
  const auto prepare = [](io_uring_sqe* sqe) { io_uring_prep_nop(sqe); };
  const int32_t result = co_await UringOp(*poller, prepare, Submission::kSoon);
  EXPECT_EQ(result, 0);
}

Task<void> LookAtStats(UringPoller* poller, UringPoller::Stats* seen) {
  co_await Yield();
  *seen = poller->stats();
}

// In one turn two operations that go soon, one right after the other, and somebody who looks.
Task<void> TwoNopsSoon(UringPoller* poller, UringPoller::Stats* before, UringPoller::Stats* seen) {
  TaskScope scope;
  co_await LookAtStats(poller, before);
  scope.Spawn(NopSoon(poller));
  scope.Spawn(NopSoon(poller));
  scope.Spawn(LookAtStats(poller, seen));
  co_await scope.Join();
}

TEST_F(UringPollerTest, SubmitsWhatGoesSoonWithItsNeighbourBeforeTheTurnHasEnded) {
  UringPoller::Stats before;
  UringPoller::Stats seen;
  executor_.Run(TwoNopsSoon(poller_.get(), &before, &seen));
  EXPECT_EQ(seen.submits, before.submits + 1);
  EXPECT_EQ(seen.submitted, before.submitted + 2);
}

TEST_F(UringPollerTest, TakesManyMoreOperationsThanTheRingHasEntries) {
  // More than the submission queue, and more than the completion queue.
  size_t done = 0;
  executor_.Run(SpawnNops(poller_.get(), 20 * kRingEntries, &done));
  EXPECT_EQ(done, 20 * kRingEntries);
  EXPECT_EQ(poller_->operations_in_flight(), 0u);
}

Task<int32_t> WaitReadable(UringPoller* poller, int fd) {
  const int32_t result = co_await UringOp(
      *poller, [&](io_uring_sqe* sqe) { io_uring_prep_poll_add(sqe, fd, POLLIN); });
  co_return result;
}

Task<void> PollDescriptor(UringPoller* poller, int fd, size_t* done) {
  const int32_t result = co_await WaitReadable(poller, fd);
  EXPECT_EQ(result, POLLIN);
  ++*done;
}

// All of them wait at once, and all complete at once: the kernel keeps what does not fit the queue.
Task<void> PollMany(UringPoller* poller, int fd, size_t count, size_t* done) {
  TaskScope scope;
  for (size_t i = 0; i < count; ++i) scope.Spawn(PollDescriptor(poller, fd, done));
  co_await Yield();
  EXPECT_EQ(poller->operations_in_flight(), count);
  const uint64_t one = 1;
  EXPECT_EQ(write(fd, &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
  co_await scope.Join();
}

TEST_F(UringPollerTest, LosesNothingWhenTheCompletionQueueOverflows) {
  const int fd = eventfd(0, EFD_CLOEXEC);
  size_t done = 0;
  executor_.Run(PollMany(poller_.get(), fd, 6 * kRingEntries, &done));
  EXPECT_EQ(done, 6 * kRingEntries);
  close(fd);
}

Task<MonoNanos> Sleep(UringPoller* poller, int64_t nanos) {
  const MonoNanos start = poller->Now();
  co_await SleepFor(nanos);
  co_return poller->Now() - start;
}

TEST_F(UringPollerTest, SleepsUntilADeadlineWithoutSpinning) {
  const uint64_t waits = poller_->stats().waits;
  EXPECT_GE(executor_.Run(Sleep(poller_.get(), 20 * kNanosPerMilli)), 20 * kNanosPerMilli);
  EXPECT_LE(poller_->stats().waits - waits, 5u);
}

Task<void> WaitFor(Event* event) { co_await event->Wait(); }

TEST_F(UringPollerTest, WakesForPostedFunctions) {
  Event done;
  std::atomic<int> seen = 0;
  std::thread thread([&] {
    for (int i = 0; i < 3000; ++i) {
      executor_.Post([&] { seen.fetch_add(1); });
      // Sometimes the loop sleeps, sometimes it does not.
      if (i % 3 != 0) {
        while (seen.load() <= i) std::this_thread::yield();
      }
    }
    executor_.Post([&] { done.Set(); });
  });
  executor_.Run(WaitFor(&done));
  thread.join();
  EXPECT_EQ(seen.load(), 3000);
}

TEST_F(UringPollerTest, AWakeBeforeThePollMakesItReturn) {
  poller_->Wake();
  poller_->Wake();
  poller_->Poll(kNever);
  EXPECT_EQ(poller_->stats().wakes, 1u);
}

// The ring fills up in the middle of a turn, and making room harvests the wake-up: the next poll
// must not block.
Task<void> FillRingAfterPost(UringPoller* poller, Executor* executor, Event* event, size_t* done) {
  TaskScope scope;
  co_await Yield();
  executor->Post([event] { event->Set(); });
  for (size_t i = 0; i < 3 * kRingEntries; ++i) scope.Spawn(CountNop(poller, done));
  co_await scope.Join();
  co_await event->Wait();
}

TEST_F(UringPollerTest, KeepsAWakeThatWasHarvestedInTheMiddleOfATurn) {
  Event event;
  size_t done = 0;
  executor_.Run(FillRingAfterPost(poller_.get(), &executor_, &event, &done));
}

TEST_F(UringPollerTest, IsUsedOnAnotherThreadThanItWasMadeOn) {
  int32_t result = -1;
  std::thread thread([&] { result = executor_.Run(Nop(poller_.get())); });
  thread.join();
  EXPECT_EQ(result, 0);
}

TEST_F(UringPollerTest, ClocksGoForward) {
  const MonoNanos mono = poller_->Now();
  const WallNanos wall = poller_->WallNow();
  EXPECT_GT(mono, 0);
  EXPECT_GT(wall, WallNanos{1'700'000'000} * kNanosPerSecond);
  EXPECT_GE(poller_->Now(), mono);
}

TEST(RingSetupStatus, SaysWhatIsMissingAndWhatToDo) {
  const absl::Status none = internal::RingSetupStatus(ENOSYS);
  EXPECT_TRUE(absl::IsFailedPrecondition(none));
  EXPECT_THAT(std::string(none.message()), HasSubstr("CONFIG_IO_URING"));
  const absl::Status old = internal::RingSetupStatus(EINVAL);
  EXPECT_TRUE(absl::IsFailedPrecondition(old));
  EXPECT_THAT(std::string(old.message()), HasSubstr("Linux 6.1"));
  const absl::Status forbidden = internal::RingSetupStatus(EPERM);
  EXPECT_TRUE(absl::IsFailedPrecondition(forbidden));
  EXPECT_THAT(std::string(forbidden.message()), HasSubstr("kernel.io_uring_disabled"));
  const absl::Status memory = internal::RingSetupStatus(ENOMEM);
  EXPECT_TRUE(absl::IsResourceExhausted(memory));
  EXPECT_THAT(std::string(memory.message()), HasSubstr("LimitMEMLOCK"));
}

}  // namespace
}  // namespace twofold
