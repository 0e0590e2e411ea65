// P3 from the outside: clients read, write, zero and trim a few blocks at random; the head crashes,
// a set fails and is dropped while the other goes on, comes back and joins while they write, or is
// taken out and attached by a person, the witness loses its answers, a set is away at an attach, an
// attach is cut short; a set that is not in-sync is never read (P6); and at the end every 512 bytes
// must have behaved as one atomic register throughout.
//
// Partial writes are in whole units of 512 bytes, so a lost byte around one shows as a unit that
// went back in time. TWOFOLD_SEEDS sets the number of seeds, TWOFOLD_FIRST_SEED the first one.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "storage/base/log.h"
#include "storage/runtime/task_scope.h"
#include "tests/replication/register_checker.h"
#include "tests/replication/test_pool.h"

namespace twofold {
namespace {

constexpr uint64_t kUnit = 512;
constexpr uint64_t kBlocks = 5;
constexpr uint64_t kUnits = kBlocks * kBlockSize / kUnit;
constexpr int kRounds = 4;
constexpr LogLevel kSilent{static_cast<int>(LogLevel::kError) + 1};

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

class World {
 public:
  World(uint64_t seed, AckMode ack) : seed_(seed), ack_(ack), random_(seed), pool_(seed) {
    histories_.assign(kUnits, RegisterHistory(0));
  }

  // Sets that joined while clients wrote, in all worlds of the test.
  static inline uint64_t joined = 0;

  void Run() {
    pool_.MustAttach();
    pool_.MakeVolume("vol", kBlocks * kBlockSize, ack_);
    for (int round = 0; round < kRounds; ++round) {
      if (round > 0) AttachAfterCrash();
      if (testing::Test::HasFatalFailure()) return;
      RunRound();
    }
    AttachAfterCrash();
    if (testing::Test::HasFatalFailure()) return;
    ReadEverything();
    Check();
  }

 private:
  // The process may die again while it attaches.
  void AttachAfterCrash() {
    if (random_.OneIn(5) && AttachWithOneAway()) return;
    for (int attempt = 0; random_.OneIn(3) && attempt < 3; ++attempt) {
      const bool attached =
          pool_.AttachOrCrashAfter(static_cast<int64_t>(random_.Uniform(2'000'000)), PowerLoss());
      if (attached) return;
    }
    pool_.MustAttach();
  }

  // One set alone attaches if it has every acknowledged write, and never else (P6).
  bool AttachWithOneAway() {
    const size_t away = random_.Uniform(2);
    pool_.set_absent({away});
    const bool allowed = pool_.InSync(1 - away);
    const absl::Status status = pool_.Attach();
    pool_.set_absent({});
    EXPECT_EQ(status.ok(), allowed) << status;
    return status.ok();
  }

  uint64_t RecordedVersion(size_t index) {
    return pool_.disks()[index].recorded.membership_version;
  }

  // What was only written may be gone with the power; that is what ack=written gives up.
  bool PowerLoss() { return ack_ == AckMode::kDurable && random_.OneIn(2); }

  void RunRound() {
    crashed_ = false;
    mount_ = pool_.Open("vol");
    if (random_.OneIn(2)) pool_.live_witness().LoseAnswers();
    // A stale set is not read before it has joined; nor is one that was dropped, from then on.
    const std::vector<bool> counts = {pool_.InSync(0), pool_.InSync(1)};
    const std::vector<uint64_t> versions = {RecordedVersion(0), RecordedVersion(1)};
    pool_.Run(DriveRound(this));
    for (size_t i = 0; i < 2; ++i) {
      // It recorded that it joins; it may have failed again since.
      if (!counts[i] && RecordedVersion(i) != versions[i]) ++joined;
      if (counts[i] || RecordedVersion(i) != versions[i] || !pool_.present(i)) continue;
      // It is in the witness first, and counts from then on; the machine may have died before the
      // record.
      if (pool_.InSync(i)) continue;
      EXPECT_EQ(pool_.replica(i).reads(), 0u);
    }
    mount_.reset();
    pool_.Stop();
  }

  static Task<void> DriveRound(World* world) {
    TaskScope clients;
    const uint64_t count = 1 + world->random_.Uniform(6);
    for (uint64_t i = 0; i < count; ++i) {
      clients.Spawn(Client(world, world->random_.Fork()));
    }
    TaskScope people;
    for (uint64_t left = world->random_.Uniform(4); left > 0; --left) {
      co_await world->RandomDelay(2'000'000);
      world->Trouble(world->random_.Uniform(2), &people);
    }
    co_await world->RandomDelay(3'000'000);
    world->crashed_ = true;
    const bool power_loss = world->PowerLoss();
    world->pool_.CrashMachines(power_loss);
    co_await clients.Join();
    co_await people.Join();
  }

  // Something happens to a set, or a person does something with it.
  void Trouble(size_t index, TaskScope* people) {
    sim::SimReplica* const victim = pool_.present(index) ? &pool_.replica(index) : nullptr;
    switch (random_.Uniform(6)) {
      case 0:
        if (victim != nullptr) victim->FailQuietly();
        break;
      case 1:
        if (victim != nullptr) victim->FailNextAppend();
        break;
      case 2:
        if (victim != nullptr) victim->Vanish();
        break;
      case 3:
        people->Spawn(Detach(this, index));
        break;
      default:
        pool_.disks()[index].gone = false;
        people->Spawn(Reattach(this, index));
    }
  }

  // Whatever comes of it.
  static Task<void> Reattach(World* world, size_t index) {
    co_await world->pool_.pool().CheckReplicas();
    const auto unused =
        co_await world->pool_.pool().AttachSet(world->pool_.disks()[index].set_name);
  }
  static Task<void> Detach(World* world, size_t index) {
    const auto unused =
        co_await world->pool_.pool().DetachSet(world->pool_.disks()[index].set_name);
  }

  sim::SimPoller::DelayAwaiter RandomDelay(uint64_t nanos) {
    return pool_.poller().Delay(static_cast<int64_t>(random_.Uniform(nanos)));
  }

  static Task<void> Client(World* world, Prng random) {
    for (int left = 60; left > 0 && !world->crashed_; --left) {
      co_await world->pool_.poller().Delay(static_cast<int64_t>(random.Uniform(100'000)));
      const bool aligned = random.OneIn(2);
      const uint64_t unit = aligned ? random.Uniform(kBlocks) * 8 : random.Uniform(kUnits);
      const uint64_t most = std::min<uint64_t>(kUnits - unit, 24);
      const uint64_t units =
          aligned ? (1 + random.Uniform(most / 8)) * 8 : 1 + random.Uniform(most);
      switch (random.Uniform(7)) {
        case 0:
          co_await Zero(world, unit, units, random.OneIn(2));
          break;
        case 1:
        case 2:
        case 3:
          co_await Write(world, unit, units);
          break;
        default:
          co_await Read(world, unit, units);
      }
    }
  }

  // Times an operation that changes something. Without a good answer before the crash it may have
  // taken place or not, then or later.
  int64_t Answer(const absl::Status& status) const {
    return status.ok() && !crashed_ ? world_time_ : RegisterHistory::kNoAnswer;
  }

  static Task<void> Write(World* world, uint64_t unit, uint64_t units) {
    const uint64_t offset = unit * kUnit;
    Buffer payload = world->pool_.Payload(*world->mount_, offset, units * kUnit, 0);
    const uint64_t value = ++world->last_value_;
    for (uint64_t i = 0; i < units; ++i) {
      std::memcpy(payload.data() + offset % kBlockSize + i * kUnit, &value, sizeof(value));
    }
    const int64_t called = ++world->world_time_;
    const absl::Status status =
        co_await world->mount_->Write(offset, units * kUnit, std::move(payload), false);
    ++world->world_time_;
    for (uint64_t i = 0; i < units; ++i) {
      world->histories_[unit + i].AddWrite(called, world->Answer(status), value);
    }
  }

  // A trim leaves the blocks that it covers in part as they are.
  static Task<void> Zero(World* world, uint64_t unit, uint64_t units, bool trim) {
    const uint64_t offset = unit * kUnit;
    const uint64_t length = units * kUnit;
    const int64_t called = ++world->world_time_;
    absl::Status status;
    if (trim) {
      status = co_await world->mount_->Trim(offset, length, false);
    } else {
      status = co_await world->mount_->WriteZeroes(offset, length, ZeroOptions());
    }
    ++world->world_time_;
    for (uint64_t i = unit; i < unit + units; ++i) {
      const uint64_t block_begin = i * kUnit / kBlockSize * kBlockSize;
      const bool whole = block_begin >= offset && block_begin + kBlockSize <= offset + length;
      if (trim && !whole) continue;
      world->histories_[i].AddWrite(called, world->Answer(status), 0);
    }
  }

  static Task<void> Read(World* world, uint64_t unit, uint64_t units) {
    const int64_t called = ++world->world_time_;
    const absl::StatusOr<ReadReply> reply =
        co_await world->mount_->Read(unit * kUnit, units * kUnit);
    ++world->world_time_;
    if (!reply.ok() || world->crashed_) co_return;
    for (uint64_t i = 0; i < units; ++i) {
      uint64_t value = 0;
      std::memcpy(&value, reply->buffer.data() + reply->skip + i * kUnit, sizeof(value));
      world->histories_[unit + i].AddRead(called, world->world_time_, value);
    }
  }

  void ReadEverything() {
    crashed_ = false;
    mount_ = pool_.Open("vol");
    // From each set: they hold the same.
    for (int i = 0; i < 2; ++i) pool_.Run(Read(this, 0, kUnits));
    for (size_t i = 0; i < 2; ++i) {
      if (!pool_.present(i)) continue;
      EXPECT_EQ(pool_.replica(i).reads() > 0, pool_.InSync(i));
    }
    mount_.reset();
  }

  void Check() const {
    for (uint64_t unit = 0; unit < kUnits; ++unit) {
      EXPECT_TRUE(histories_[unit].IsLinearizable())
          << "seed " << seed_ << ", unit " << unit << " of 512 bytes:\n"
          << histories_[unit].ToString();
      if (testing::Test::HasFailure()) return;
    }
  }

  const uint64_t seed_;
  const AckMode ack_;
  Prng random_;
  TestPool pool_;
  std::unique_ptr<Mount> mount_;
  std::vector<RegisterHistory> histories_;
  int64_t world_time_ = 0;
  uint64_t last_value_ = 0;
  bool crashed_ = false;
};

// Shards, so that no single test takes long.
constexpr uint64_t kSeedsPerShard = 250;

class Linearizability : public testing::TestWithParam<uint64_t> {
 protected:
  void RunSeeds(AckMode ack) {
    const LogLevel level = GetLogLevel();
    SetLogLevel(kSilent);
    const uint64_t count = FromEnvironment("TWOFOLD_SEEDS", kSeedsPerShard);
    const uint64_t first = FromEnvironment("TWOFOLD_FIRST_SEED", 1) + GetParam() * count;
    for (uint64_t seed = first; seed < first + count; ++seed) {
      SCOPED_TRACE(testing::Message() << "seed " << seed);
      World(seed, ack).Run();
      if (testing::Test::HasFailure()) break;
    }
    SetLogLevel(level);
    // It happens often: else it would not be tested.
    EXPECT_GT(World::joined, count / 10);
    World::joined = 0;
  }
};

TEST_P(Linearizability, HoldsOverCrashesAndLossOfPower) { RunSeeds(AckMode::kDurable); }

TEST_P(Linearizability, HoldsOverCrashesWithAckWritten) { RunSeeds(AckMode::kWritten); }

INSTANTIATE_TEST_SUITE_P(Shards, Linearizability, testing::Range<uint64_t>(0, 4));

}  // namespace
}  // namespace twofold
