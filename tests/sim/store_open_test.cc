// What opening a store costs, and what it must refuse.
#include <gtest/gtest.h>

#include "storage/base/limits.h"
#include "storage/runtime/executor.h"
#include "tests/fuzz/store_driver.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_metadata_store.h"
#include "tests/sim/sim_poller.h"
#include "tests/sim/store_world.h"

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

// The map is gone, and with the first segment's descriptor and its copy the beginning of the log:
// what follows is not all there was (found by tests/fuzz/log_recovery_fuzz).
Task<void> LoseMapAndBeginning(sim::SimPoller* poller, sim::SimDisk* disk) {
  const sim::StoreShape shape;
  absl::Status status = co_await sim::FormatStoreOn(poller, disk, shape);
  EXPECT_TRUE(status.ok()) << status;
  sim::SimMetadataDisk metadata(1, {});
  for (uint64_t generation = 1; generation <= 2; ++generation) {
    const StoreOptions options;
    const auto store = co_await sim::OpenStoreOn(poller, disk, &metadata, options);
    EXPECT_TRUE(store.ok()) << store.status();
    if (!store.ok()) co_return;
    status = co_await (*store)->Seal(Generation(generation));
    EXPECT_TRUE(status.ok()) << status;
    co_await (*store)->Stop();
  }
  disk->ZeroBlock("log/00000000.seg", 1);
  disk->ZeroBlock("log/00000000.seg", kMinSegmentBytes / kBlockSize - 1);
  sim::SimMetadataDisk empty(1, {});
  const StoreOptions options;
  const auto store = co_await sim::OpenStoreOn(poller, disk, &empty, options);
  EXPECT_TRUE(absl::IsDataLoss(store.status())) << store.status();
  if (store.ok()) co_await (*store)->Stop();
}

TEST(StoreOpen, RefusesALogWithoutItsBeginningWhereTheMapIsLost) {
  sim::SimPoller poller(1);
  Executor executor(poller);
  sim::SimDisk disk("a");
  executor.Run(LoseMapAndBeginning(&poller, &disk));
}

}  // namespace
}  // namespace twofold
