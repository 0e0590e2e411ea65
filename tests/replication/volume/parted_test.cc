// A set was forced to go on alone, and the other one, which has what clients were told, comes back
// (R1, R3): nothing of it is given up, and nothing merged, but by a person's word.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "storage/base/log.h"
#include "storage/runtime/task_scope.h"
#include "tests/replication/test_pool.h"

namespace twofold {
namespace {

using testing::HasSubstr;

constexpr int64_t kSecond = kNanosPerSecond;

class PartedTest : public testing::TestWithParam<uint64_t> {
 protected:
  // Both sets have 'c'; what comes then only set a has. Its machine died right after the answer.
  PartedTest() : pool_(GetParam()) {
    SetLogLevel(LogLevel::kError);
    pool_.MustAttach();
    pool_.MakeVolume("vol");
    pool_.MakeVolume("other");
    Write("vol", 'c');
    pool_.Stop();
    pool_.set_absent({1});
    pool_.MustAttach();
  }

  void Write(const std::string& volume, char fill) {
    const std::unique_ptr<Mount> mount = pool_.Open(volume);
    const absl::Status status = pool_.Write(*mount, 0, kBlockSize, fill);
    EXPECT_TRUE(status.ok()) << status;
  }
  void ExpectContent(const std::string& volume, char fill) {
    const std::unique_ptr<Mount> mount = pool_.Open(volume);
    EXPECT_EQ(pool_.Read(*mount, 0, kBlockSize), std::string(kBlockSize, fill));
  }
  // The pool goes on with that set, as it is there alone.
  void Force(size_t index) {
    pool_.set_absent({1 - index});
    pool_.options().force_stale = pool_.disks()[index].set_name;
    pool_.options().confirm = [](const std::string&) { return absl::OkStatus(); };
    pool_.MustAttach();
    pool_.options() = AttachOptions();
  }
  static Task<void> WriteInto(Mount* mount, Buffer payload, absl::Status* result) {
    *result = co_await mount->Write(0, kBlockSize, std::move(payload), /*fua=*/false);
  }
  // The machine dies while the write is under way.
  static Task<void> WriteAndDie(TestPool* pool, Mount* mount, Buffer payload,
                                absl::Status* result) {
    TaskScope scope;
    scope.Spawn(WriteInto(mount, std::move(payload), result));
    co_await pool->poller().Delay(kSecond);
    pool->CrashMachines(/*power_loss=*/false);
    co_await scope.Join();
  }
  static Task<void> SleepOn(TestPool* pool, int64_t nanos) { co_await pool->poller().Delay(nanos); }
  void Pass(int64_t nanos) { pool_.Run(SleepOn(&pool_, nanos)); }

  // Set a is there again.
  std::string ReasonOfA() {
    pool_.disks()[0].gone = false;
    Pass(3 * kSecond);
    EXPECT_EQ(pool_.pool().Info().state, "degraded");
    for (const ReplicaInfo& info : pool_.pool().Info().replicas) {
      if (info.set == "a") return info.reason;
    }
    return "";
  }

  // Set a is there again, and counts.
  void ExpectALevelWith(const std::string& volume, char content) {
    pool_.disks()[0].gone = false;
    Pass(3 * kSecond);
    EXPECT_EQ(pool_.pool().Info().state, "healthy");
    // Read from one set and from the other.
    ExpectContent(volume, content);
    ExpectContent(volume, content);
  }

  TestPool pool_;
};

TEST_P(PartedTest, WhatOnlyTheOtherHasIsNotGivenUpR3) {
  Write("vol", 'a');
  pool_.Crash();
  Force(1);
  ExpectContent("vol", 'c');
  const std::string reason = ReasonOfA();
  EXPECT_THAT(reason, HasSubstr("parted"));
  EXPECT_THAT(reason, HasSubstr("volume vol: 1 entries after entry 1, up to "));
  EXPECT_THAT(reason, HasSubstr("replica replace a"));
  Write("vol", 'b');
  ExpectContent("vol", 'b');
  pool_.Stop();
  pool_.set_absent({});
  pool_.MustAttach();
  EXPECT_THAT(ReasonOfA(), HasSubstr("parted"));
  ExpectContent("vol", 'b');
  pool_.Stop();
  // Whatever was tried.
  Force(0);
  ExpectContent("vol", 'a');
}

TEST_P(PartedTest, NorIsAVolumeThatThePoolHasDeletedSince) {
  Write("other", 'a');
  pool_.Crash();
  Force(1);
  const auto deleted = pool_.Run(pool_.pool().DeleteVolume("other", /*force=*/true));
  EXPECT_TRUE(deleted.ok()) << deleted;
  EXPECT_THAT(ReasonOfA(), HasSubstr("volume other, which the pool has deleted"));
  pool_.Stop();
  Force(0);
  ExpectContent("other", 'a');
}

TEST_P(PartedTest, WhoHasNothingOfItsOwnIsBroughtLevel) {
  pool_.Crash();
  Force(1);
  Write("vol", 'b');
  ExpectALevelWith("vol", 'b');
}

// An end that was never acknowledged is given up without a word: set b failed while set a had it
// already, and nobody was told.
TEST_P(PartedTest, ADeadEndIsGivenUpR3) {
  pool_.Stop();
  pool_.set_absent({});
  pool_.MustAttach();
  Pass(3 * kSecond);
  EXPECT_EQ(pool_.pool().Info().state, "healthy");
  {
    const std::unique_ptr<Mount> mount = pool_.Open("vol");
    pool_.Call([this] { pool_.replica(1).HoldAppends(true); });
    absl::Status status;
    pool_.Run(WriteAndDie(&pool_, mount.get(), pool_.Payload(*mount, 0, kBlockSize, 'x'), &status));
    EXPECT_FALSE(status.ok());
  }
  pool_.Stop();
  pool_.set_absent({0});
  pool_.MustAttach();
  Write("vol", 'b');
  ExpectALevelWith("vol", 'b');
}

INSTANTIATE_TEST_SUITE_P(Seeds, PartedTest, testing::Range(uint64_t{1}, uint64_t{21}));

}  // namespace
}  // namespace twofold
