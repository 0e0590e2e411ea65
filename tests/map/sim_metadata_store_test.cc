// What the simulated store does beyond the contract: crashes, failures and damage, from the seed.

#include "tests/sim/sim_metadata_store.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "storage/map/key_codec.h"
#include "storage/runtime/task_scope.h"
#include "tests/map/store_harness.h"

namespace twofold {
namespace {

using sim::SimMetadataDisk;

constexpr int64_t kDelayNs = 200'000;

Task<void> CommitInto(MetadataStore* store, MetadataBatch batch, absl::Status* result) {
  *result = co_await store->Commit(std::move(batch));
}

struct SleepAwaiter {
  int64_t nanos;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) const {
    Executor& executor = Executor::Current();
    executor.AddTimer(executor.Now() + nanos, handle);
  }
  void await_resume() const noexcept {}
};

// Commits, and crashes after `nanos`.
Task<absl::Status> CommitAndCrash(SimMetadataDisk* disk, MetadataStore* store, MetadataBatch batch,
                                  int64_t nanos) {
  absl::Status status;
  TaskScope scope;
  scope.Spawn(CommitInto(store, std::move(batch), &status));
  co_await SleepAwaiter{nanos};
  disk->Crash();
  co_await scope.Join();
  co_return status;
}

class SimMetadataStoreTest : public testing::Test {
 protected:
  absl::Status Commit(MetadataStore* store, MetadataBatch batch) {
    return harness_.Run(store->Commit(std::move(batch)));
  }
  void Close(std::unique_ptr<MetadataStore> store) { harness_.Run(store->Close()); }

  StoreHarness harness_;
};

TEST_F(SimMetadataStoreTest, ACrashDuringACommitKeepsAllOfItOrNothingM9) {
  int kept = 0;
  int lost = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SimMetadataDisk disk(seed, {.max_read_delay_ns = 0, .max_commit_delay_ns = kDelayNs});
    auto store = disk.Open();
    ASSERT_TRUE(Commit(store.get(), {Put("Ma", "1"), Put("Mb", "1"), Put("Mc", "1")}).ok());
    const auto before = disk.contents();
    const absl::Status status = harness_.Run(CommitAndCrash(
        &disk, store.get(), {Put("Ma", "2"), Delete("Mb"), DeleteRange("Mc", "Md"), Put("Me", "2")},
        static_cast<int64_t>(seed) * 2 * kDelayNs / 200));
    const std::map<std::string, std::string> after = {{"Ma", "2"}, {"Me", "2"}};
    if (status.ok()) {
      ASSERT_EQ(disk.contents(), after) << "a commit that succeeded is gone; seed " << seed;
    } else {
      ASSERT_EQ(status.code(), absl::StatusCode::kUnavailable);
      ASSERT_TRUE(disk.contents() == before || disk.contents() == after) << "seed " << seed;
      ++(disk.contents() == after ? kept : lost);
    }
  }
  EXPECT_GT(kept, 5);
  EXPECT_GT(lost, 5);
}

TEST_F(SimMetadataStoreTest, AStoreOfBeforeTheCrashIsDead) {
  SimMetadataDisk disk(1);
  auto old = disk.Open();
  ASSERT_TRUE(Commit(old.get(), {Put("Ma", "1")}).ok());
  disk.Crash();
  auto store = disk.Open();
  EXPECT_EQ(harness_.Run(old->Get("Ma")).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Commit(old.get(), {Put("Ma", "2")}).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(harness_.Run(store->Get("Ma"))->value(), "1");
  Close(std::move(store));
}

TEST_F(SimMetadataStoreTest, AfterAFailedCommitNothingIsCommittedAndTheBatchIsKeptOrLost) {
  int kept = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SimMetadataDisk disk(seed);
    auto store = disk.Open();
    ASSERT_TRUE(Commit(store.get(), {Put("Ma", "1")}).ok());
    disk.FailNextCommit(absl::UnavailableError("no more"));
    EXPECT_EQ(Commit(store.get(), {Put("Ma", "2")}), absl::UnavailableError("no more"));
    EXPECT_EQ(Commit(store.get(), {Put("Ma", "3")}).code(), absl::StatusCode::kFailedPrecondition);
    Close(std::move(store));
    store = disk.Open();
    const std::string value = **harness_.Run(store->Get("Ma"));
    ASSERT_TRUE(value == "1" || value == "2") << value;
    kept += value == "2" ? 1 : 0;
    ASSERT_TRUE(Commit(store.get(), {Put("Ma", "4")}).ok()) << "opened again it works";
    Close(std::move(store));
  }
  EXPECT_GT(kept, 5);
  EXPECT_LT(kept, 45);
}

TEST_F(SimMetadataStoreTest, DamageIsMetByEveryReadUntilItIsOverwrittenM12) {
  SimMetadataDisk disk(1);
  auto store = disk.Open();
  ASSERT_TRUE(Commit(store.get(), {Put("Ma", "1"), Put("Mb", "2"), Put("Mc", "3")}).ok());
  disk.Damage("Mb");
  EXPECT_EQ(harness_.Run(store->Get("Mb")).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(harness_.Run(store->Seek("Mb", "M")).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(harness_.Run(store->Scan("M", "N", 10)).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(harness_.Run(store->Get("Ma"))->value(), "1");
  EXPECT_EQ(harness_.Run(store->Scan("M", "N", 1))->size(), 1u) << "it ends before the damage";
  ASSERT_TRUE(Commit(store.get(), {Put("Mb", "4")}).ok());
  EXPECT_EQ(harness_.Run(store->Get("Mb"))->value(), "4");
  Close(std::move(store));
}

TEST_F(SimMetadataStoreTest, FailsAsManyReadsAsItWasTold) {
  SimMetadataDisk disk(1);
  auto store = disk.Open();
  disk.FailNextReads(2, absl::UnavailableError("slow disk"));
  EXPECT_EQ(harness_.Run(store->Get("Ma")).status(), absl::UnavailableError("slow disk"));
  EXPECT_EQ(harness_.Run(store->Scan("M", "N", 1)).status(), absl::UnavailableError("slow disk"));
  EXPECT_TRUE(harness_.Run(store->Get("Ma")).ok());
  EXPECT_EQ(disk.reads(), 3u);
  Close(std::move(store));
}

using SimMetadataStoreDeathTest = SimMetadataStoreTest;

TEST_F(SimMetadataStoreDeathTest, AStoreIsClosedBeforeItGoes) {
  SimMetadataDisk disk(1);
  EXPECT_DEATH({ disk.Open(); }, "not closed");
}

}  // namespace
}  // namespace twofold
