// A set that was lost comes back while the pool is open, by itself or by a person's word (R23).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "storage/base/log.h"
#include "tests/replication/test_pool.h"

namespace twofold {
namespace {

using testing::HasSubstr;

constexpr int64_t kSecond = kNanosPerSecond;

class ReturnTest : public testing::Test {
 protected:
  ReturnTest() {
    SetLogLevel(LogLevel::kError);
    pool_.MustAttach();
    pool_.MakeVolume("vol");
    mount_ = pool_.Open("vol");
  }
  ~ReturnTest() override { mount_.reset(); }

  static Task<void> SleepOn(TestPool* pool, int64_t nanos) { co_await pool->poller().Delay(nanos); }
  void Pass(int64_t nanos) { pool_.Run(SleepOn(&pool_, nanos)); }

  void Write(char fill) {
    const absl::Status status = pool_.Write(*mount_, 0, kBlockSize, fill);
    EXPECT_TRUE(status.ok()) << status;
  }
  ReplicaInfo Info(const std::string& set) {
    for (const ReplicaInfo& info : pool_.pool().Info().replicas) {
      if (info.set == set) return info;
    }
    ADD_FAILURE() << "no set " << set;
    return {};
  }
  std::string State(const std::string& set) { return Info(set).state; }
  // Set b has what was written last.
  void ExpectLevel(char fill) {
    EXPECT_EQ(pool_.pool().Info().state, "healthy");
    // Each is asked in turn.
    EXPECT_EQ(pool_.Read(*mount_, 0, kBlockSize), std::string(kBlockSize, fill));
    EXPECT_EQ(pool_.Read(*mount_, 0, kBlockSize), std::string(kBlockSize, fill));
    EXPECT_GT(pool_.replica(1).reads(), 0u);
  }

  TestPool pool_;
  std::unique_ptr<Mount> mount_;
};

TEST_F(ReturnTest, ASetThatVanishedComesBackByItself) {
  pool_.Call([this] { pool_.replica(1).Vanish(); });
  Write('x');
  Pass(3 * kSecond);
  EXPECT_EQ(State("b"), "dropped");
  EXPECT_FALSE(pool_.present(1));  // its disk can be taken out
  pool_.disks()[1].gone = false;
  Pass(3 * kSecond);
  ExpectLevel('x');
}

TEST_F(ReturnTest, ASetWhoseDeviceFailedWaitsForAPerson) {
  pool_.Call([this] { pool_.replica(1).FailNextAppend(); });
  Write('x');
  Pass(1000 * kSecond);
  EXPECT_EQ(State("b"), "dropped");
  EXPECT_THAT(pool_.pool().Info().degraded->what_to_do, HasSubstr("twofold replica attach b"));
  const auto attached = pool_.Run(pool_.pool().AttachSet("b"));
  ASSERT_TRUE(attached.ok()) << attached.status();
  Pass(3 * kSecond);
  ExpectLevel('x');
}

TEST_F(ReturnTest, AttachingWhatIsInSyncOrUnknownChangesNothing) {
  EXPECT_TRUE(pool_.Run(pool_.pool().AttachSet("b")).ok());
  EXPECT_TRUE(absl::IsNotFound(pool_.Run(pool_.pool().AttachSet("c")).status()));
  EXPECT_EQ(pool_.pool().Info().state, "healthy");
}

TEST_F(ReturnTest, ADetachedSetStaysAwayUntilItIsAttached) {
  const auto detached = pool_.Run(pool_.pool().DetachSet("b"));
  ASSERT_TRUE(detached.ok()) << detached.status();
  EXPECT_EQ(detached->state, "detached");
  EXPECT_FALSE(pool_.present(1));
  Write('x');
  Pass(1000 * kSecond);
  EXPECT_EQ(State("b"), "detached");
  EXPECT_TRUE(pool_.Run(pool_.pool().AttachSet("b")).ok());
  Pass(3 * kSecond);
  ExpectLevel('x');
}

TEST_F(ReturnTest, TheLastSetIsNotDetached) {
  ASSERT_TRUE(pool_.Run(pool_.pool().DetachSet("b")).ok());
  const auto refused = pool_.Run(pool_.pool().DetachSet("a"));
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status())) << refused.status();
  Write('x');
}

TEST_F(ReturnTest, AnEmptyStoreTakesThePlaceOfASet) {
  const auto refused = pool_.Run(pool_.pool().ReplaceSet("b", {std::string(32, 'c')}));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("detach b"));
  Write('x');
  ASSERT_TRUE(pool_.Run(pool_.pool().DetachSet("b")).ok());
  const auto replaced = pool_.Run(pool_.pool().ReplaceSet("b", {std::string(32, 'c')}));
  ASSERT_TRUE(replaced.ok()) << replaced.status();
  EXPECT_EQ(replaced->store, std::string(32, 'c'));
  Pass(3 * kSecond);
  ExpectLevel('x');
  EXPECT_TRUE(pool_.InSync(1));
  EXPECT_THAT(pool_.witness()->configured,
              testing::ElementsAre(std::string(32, 'a'), std::string(32, 'c')));
}

// It fails while it is brought level: then it is tried again, later and later.
TEST_F(ReturnTest, ASetThatFailsAgainAndAgainIsTriedMoreAndMoreSeldom) {
  pool_.Call([this] { pool_.replica(1).FailNextAppend(); });
  Write('x');
  Pass(kSecond);
  pool_.disks()[1].fail_fills = true;
  EXPECT_TRUE(pool_.Run(pool_.pool().AttachSet("b")).ok());
  const uint64_t before = pool_.disks()[1].opened;
  Pass(600 * kSecond);
  const uint64_t tries = pool_.disks()[1].opened - before;
  EXPECT_GE(tries, 3u);
  EXPECT_LE(tries, 10u);
  EXPECT_GT(Info("b").next_try, 0);
  EXPECT_THAT(Info("b").reason, HasSubstr("the disk said no"));
  pool_.disks()[1].fail_fills = false;
  EXPECT_TRUE(pool_.Run(pool_.pool().AttachSet("b")).ok());
  Pass(3 * kSecond);
  ExpectLevel('x');
}

// Requests wait for the moment of a join; nobody is turned away.
TEST_F(ReturnTest, AClientThatComesWhileASetJoinsIsLetIn) {
  ASSERT_TRUE(pool_.Run(pool_.pool().DetachSet("b")).ok());
  Write('x');
  ASSERT_TRUE(pool_.Run(pool_.pool().AttachSet("b")).ok());
  int tries = 0;
  while (pool_.pool().Info().state != "healthy" && ++tries < 1'000'000) {
    const absl::StatusOr<std::unique_ptr<Mount>> mount = pool_.pool().OpenMount("vol");
    ASSERT_TRUE(mount.ok()) << mount.status();
    Pass(5'000);
  }
  EXPECT_GT(tries, 10);
  ExpectLevel('x');
}

TEST_F(ReturnTest, AStoreThatAnotherHeadHadIsRefused) {
  ASSERT_TRUE(pool_.Run(pool_.pool().DetachSet("b")).ok());
  pool_.disks()[1].recorded.membership_version = 1000;
  const auto refused = pool_.Run(pool_.pool().AttachSet("b"));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("another head"));
  Write('x');
  EXPECT_FALSE(pool_.present(1));
}

}  // namespace
}  // namespace twofold
