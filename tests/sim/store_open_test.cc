// What opening a store costs.
#include <gtest/gtest.h>

#include "tests/fuzz/store_driver.h"

namespace twofold {
namespace {

// Segments that were ready for the log and never written are free again (found by
// tests/fuzz/store_ops_fuzz: three crashes in a row, and a small store had no segment left).
Task<void> CrashRightAfterOpening(StoreDriver* driver) {
  co_await driver->Format(kMinSegments);
  co_await driver->Open();
  co_await driver->Write(0, 5);
  co_await driver->Settle();
  uint64_t free = driver->free_segments();
  for (int crash = 0; crash < 4; ++crash) {
    co_await driver->Write(10, 5);  // so that there is a tail to settle, and no checkpoint frees
    co_await driver->Settle();
    co_await driver->Crash(sim::CrashKind::kProcess);
    co_await driver->Open();
    EXPECT_GE(driver->free_segments() + 1, free);
    free = driver->free_segments();
  }
  co_await driver->Stop();
}

TEST(StoreOpen, TakesOneSegmentWhateverWasReady) {
  StoreDriver driver(1);
  driver.executor().Run(CrashRightAfterOpening(&driver));
}

// One entry that nobody has committed stands at the log's end, and holds on to all that is behind
// it.
Task<void> CrashAgainAndAgain(StoreDriver* driver) {
  co_await driver->Format(kMinSegments);
  co_await driver->Open();
  co_await driver->Write(0, 5);
  co_await driver->Settle();
  for (int crash = 0; crash < 50; ++crash) {
    co_await driver->Crash(sim::CrashKind::kProcess);
    co_await driver->Open();
    co_await driver->Pause(30 * kNanosPerMilli);
  }
  co_await driver->Stop();
}

TEST(StoreOpen, OpensAgainAndAgainWithAnUncommittedTail) {
  StoreDriver driver(1);
  driver.executor().Run(CrashAgainAndAgain(&driver));
}

}  // namespace
}  // namespace twofold
