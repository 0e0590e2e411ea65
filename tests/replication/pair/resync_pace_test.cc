#include "replication/pair/resync_pace.h"

#include <gtest/gtest.h>

#include "storage/runtime/executor.h"
#include "storage/runtime/task_scope.h"
#include "tests/sim/sim_poller.h"

namespace twofold {
namespace {

constexpr int64_t kStep = 2 * kNanosPerMilli;
constexpr uint64_t kPiece = uint64_t{128} << 10;

// Steps of 2 ms, beside clients that send a request each half millisecond or none at all.
class Steps {
 public:
  void Run(Task<void> body) { executor_.Run(std::move(body)); }

  // How long `count` steps took, with their rests.
  Task<int64_t> Take(ResyncPace* pace, int count, bool clients) {
    const int64_t began = poller_.Now();
    for (int i = 0; i < count; ++i) {
      co_await poller_.Delay(kStep);
      if (clients) ++requests_;
      const absl::Status status = co_await pace->Next(kPiece);
      EXPECT_TRUE(status.ok()) << status;
    }
    co_return poller_.Now() - began;
  }

  Task<void> KeepAsking() {
    while (!done_) {
      ++requests_;
      co_await poller_.Delay(kNanosPerMilli / 2);
    }
  }

  sim::SimPoller poller_{1};
  Executor executor_{poller_};
  CancelSource cancel_;
  uint64_t requests_ = 0;
  bool done_ = false;
};

Task<void> WithAndWithoutClients(Steps* steps) {
  ResyncPace pace(0, [steps] { return steps->requests_; }, &steps->cancel_);
  const int64_t alone = co_await steps->Take(&pace, 100, /*clients=*/false);
  EXPECT_FALSE(pace.clients_work());
  EXPECT_LT(alone, 101 * kStep);

  TaskScope scope;
  scope.Spawn(steps->KeepAsking());
  const int64_t beside = co_await steps->Take(&pace, 100, /*clients=*/false);
  EXPECT_TRUE(pace.clients_work());
  // A quarter of the time is its own: no less, so that it ends.
  EXPECT_GE(beside, 100 * kStep * (1 + ResyncPace::kRests));
  EXPECT_LT(beside, 101 * kStep * (1 + ResyncPace::kRests) + 100 * kNanosPerMilli);

  pace.SetYielding(false);
  const int64_t determined = co_await steps->Take(&pace, 100, /*clients=*/false);
  EXPECT_LT(determined, 101 * kStep);
  steps->done_ = true;
  co_await scope.Join();
}

TEST(ResyncPace, LeavesThreeQuartersOfTheTimeToClientsWhileTheyWork) {
  Steps steps;
  steps.Run(WithAndWithoutClients(&steps));
}

Task<void> LongStep(Steps* steps) {
  ResyncPace pace(0, [steps] { return steps->requests_; }, &steps->cancel_);
  TaskScope scope;
  scope.Spawn(steps->KeepAsking());
  co_await steps->poller_.Delay(10 * kNanosPerSecond);
  const int64_t began = steps->poller_.Now();
  const absl::Status status = co_await pace.Next(kPiece);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_LE(steps->poller_.Now() - began, 2 * ResyncPace::kMaxRestNanos);
  // Clients that have gone are not waited for.
  steps->done_ = true;
  co_await scope.Join();
  co_await steps->poller_.Delay(10 * kNanosPerSecond);
  ++steps->requests_;
  const int64_t gone = steps->poller_.Now();
  const absl::Status next = co_await pace.Next(kPiece);
  EXPECT_TRUE(next.ok()) << next;
  EXPECT_LT(steps->poller_.Now() - gone, ResyncPace::kMaxRestNanos / 2);
}

TEST(ResyncPace, RestsNoLongerThanItsBoundAndNotForClientsThatHaveGone) {
  Steps steps;
  steps.Run(LongStep(&steps));
}

Task<void> Hurry(Steps* steps) {
  ResyncPace pace(1 << 20, [steps] { return steps->requests_; }, &steps->cancel_);
  const int64_t limited = co_await steps->Take(&pace, 17, /*clients=*/true);
  EXPECT_GE(limited, 2 * kNanosPerSecond);  // the first piece goes at once
  pace.SetHurry(true);
  const int64_t hurried = co_await steps->Take(&pace, 17, /*clients=*/true);
  EXPECT_LT(hurried, 18 * kStep);
}

TEST(ResyncPace, KeepsNobodyWaitingWhoWaitsForIt) {
  Steps steps;
  steps.Run(Hurry(&steps));
}

Task<void> CancelWhileItRests(Steps* steps) {
  ResyncPace pace(0, [steps] { return steps->requests_; }, &steps->cancel_);
  co_await steps->poller_.Delay(kNanosPerSecond);
  ++steps->requests_;
  steps->cancel_.Cancel();
  const absl::Status status = co_await pace.Next(kPiece);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
}

TEST(ResyncPace, EndsWhenItIsCancelled) {
  Steps steps;
  steps.Run(CancelWhileItRests(&steps));
}

}  // namespace
}  // namespace twofold
