// Batches of the log on a simulated disk: held back for writers that come back, two in flight, and
// what a crash leaves of them (docs/decisions/0002).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/prng.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/segment_log.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task_scope.h"
#include "tests/sim/sim_block_device.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_poller.h"
#include "tests/sim/store_world.h"

namespace twofold {
namespace {

constexpr int kWriters = 12;

// One log, its disk, and writers that each append a block, wait for it, and append the next.
class World {
 public:
  explicit World(uint64_t seed)
      : random_(seed), poller_(seed), executor_(poller_), disk_("a", Disk(seed)) {
    SetLogLevel(LogLevel::kError);
  }

  Executor& executor() { return executor_; }
  sim::SimPoller& poller() { return poller_; }
  const SegmentLog::Counters& counters() const { return counters_; }
  const std::set<uint64_t>& acknowledged() const { return acknowledged_; }

  // Replays, and returns the Seqs of all writes, in the log's order.
  Task<std::vector<uint64_t>> Open(uint64_t incarnation) {
    auto device = co_await sim::SimBlockDevice::Open(poller_, disk_);
    EXPECT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    SegmentLog::Options options;
    options.store_id = std::string(16, 's');
    options.segment_bytes = kMinSegmentBytes;
    options.max_segments = 12;
    options.random = [this] { return random_.Next(); };
    options.on_logged = [this](const LoggedBatch& batch) {
      EXPECT_EQ(batch.start.batch, next_batch_);
      next_batch_ = batch.end.batch;
    };
    std::vector<BlockDevice*> devices(1, device_.get());
    auto log = co_await SegmentLog::Open(std::move(devices), std::move(options));
    EXPECT_TRUE(log.ok()) << log.status();
    log_ = *std::move(log);
    std::vector<uint64_t> seqs;
    auto replayed = co_await log_->Replay({}, [&seqs](const LoggedBatch& batch) {
      for (const LoggedBatch::Item& item : batch.items) {
        if (item.entry.kind == EntryKind::kWrite) {
          seqs.push_back(item.entry.position.seq.value());
        }
      }
      return absl::OkStatus();
    });
    EXPECT_TRUE(replayed.ok()) << replayed.status();
    if (!replayed.ok()) co_return seqs;
    next_batch_ = replayed->cut.batch;
    const absl::Status started =
        co_await log_->StartAppending(*replayed, Incarnation(incarnation), {});
    EXPECT_TRUE(started.ok()) << started;
    co_return seqs;
  }

  // `think`: how long a writer waits at most before it appends.
  Task<void> WriteUntil(MonoNanos end, uint64_t think) {
    TaskScope scope;
    for (int i = 0; i < kWriters; ++i) scope.Spawn(Writer(end, think));
    co_await scope.Join();
    counters_ = log_->counters();
  }
  Task<void> CrashAt(MonoNanos time) {
    co_await SleepUntil(time);
    disk_.Crash(sim::CrashKind::kPower, random_);
  }
  // The device hangs for so long, and goes on.
  Task<void> Hang(int64_t nanos) {
    disk_.Hold();
    hung_until_ = poller_.Now() + nanos;
    co_await SleepUntil(hung_until_);
    disk_.Release();
  }
  // The longest that an append took, of what came after the device went on.
  int64_t longest_after_hang() const { return longest_after_hang_; }
  Task<void> Close() {
    co_await log_->Stop();
    log_.reset();
    co_await device_->Close();
    device_.reset();
  }

 private:
  static sim::SimDiskOptions Disk(uint64_t seed) {
    sim::SimDiskOptions options;
    options.max_latency_nanos = seed % 2 == 0 ? 2 * kNanosPerMilli : 200'000;
    return options;
  }

  Task<void> Writer(MonoNanos end, uint64_t think) {
    AlignedBytes block(kBlockSize);
    while (poller_.Now() < end) {
      if (think > 0) co_await SleepFor(static_cast<int64_t>(random_.Uniform(think)));
      const uint64_t seq = ++last_seq_;
      std::memcpy(block.data(), &seq, sizeof(seq));
      LogEntry entry;
      entry.kind = EntryKind::kWrite;
      entry.volume = VolumeId(1);
      entry.timeline = TimelineId(1);
      entry.position = {Generation(1), Seq(seq)};
      entry.range = {BlockIndex(seq % 1000), BlockCount(1)};
      entry.block_crcs.push_back(Crc32c(block.span()));
      const MonoNanos start = poller_.Now();
      auto appended = co_await log_->Append(entry, block.span(), Durability::kDurable);
      longest_after_hang_ =
          std::max(longest_after_hang_, poller_.Now() - std::max(start, hung_until_));
      if (!appended.ok()) co_return;
      // Everything that was appended before it is durable, too.
      acknowledged_.insert(seq);
    }
  }

  Prng random_;
  sim::SimPoller poller_;
  Executor executor_;
  sim::SimDisk disk_;
  std::unique_ptr<sim::SimBlockDevice> device_;
  std::unique_ptr<SegmentLog> log_;
  SegmentLog::Counters counters_;
  BatchNumber next_batch_;
  uint64_t last_seq_ = 0;
  MonoNanos hung_until_ = 0;
  int64_t longest_after_hang_ = 0;
  std::set<uint64_t> acknowledged_;
};

Task<void> WriteAndLosePower(World* world, Prng* random, SegmentLog::Counters* sum) {
  co_await world->Open(1);
  const MonoNanos start = world->poller().Now();
  const int64_t length = static_cast<int64_t>(random->Between(1, 20)) * kNanosPerMilli;
  TaskScope scope;
  scope.Spawn(world->CrashAt(start + length));
  co_await world->WriteUntil(start + 2 * length, random->Uniform(3) * 300'000);
  co_await scope.Join();
  sum->second_batches += world->counters().second_batches;
  sum->held_batches += world->counters().held_batches;
  co_await world->Close();

  const std::vector<uint64_t> seqs = co_await world->Open(2);
  // Appended in this order, so found in this order, without a hole, and none is missing that a
  // writer was told of.
  for (size_t i = 0; i < seqs.size(); ++i) EXPECT_EQ(seqs[i], i + 1);
  const uint64_t last = world->acknowledged().empty() ? 0 : *world->acknowledged().rbegin();
  EXPECT_GE(seqs.size(), last);
  co_await world->Close();
}

TEST(LogWriter, APowerLossWithTwoBatchesInFlightLosesNothingThatWasAcknowledged) {
  const uint64_t first = sim::FromEnvironment("TWOFOLD_SEED", 1);
  const uint64_t count = sim::FromEnvironment("TWOFOLD_SEEDS", 200);
  SegmentLog::Counters sum;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE(absl::StrCat("TWOFOLD_SEED=", seed, " TWOFOLD_SEEDS=1"));
    World world(seed);
    Prng random(seed);
    world.executor().Run(WriteAndLosePower(&world, &random, &sum));
    if (HasFailure()) return;
  }
  if (count < 50) return;
  EXPECT_GT(sum.second_batches, 0u);
  EXPECT_GT(sum.held_batches, 0u);
}

Task<void> WriteFor(World* world, int64_t length, uint64_t think) {
  co_await world->Open(1);
  co_await world->WriteUntil(world->poller().Now() + length, think);
  co_await world->Close();
}

TEST(LogWriter, MakesLargeBatchesOfWritersThatComeBackAtOnce) {
  World world(1);
  world.executor().Run(WriteFor(&world, 100 * kNanosPerMilli, /*think=*/5'000));
  // Two halves that go round in turns, both in flight: no more batches than that.
  EXPECT_GT(world.counters().entries, world.counters().batches * kWriters * 2 / 5);
}

TEST(LogWriter, SeldomWaitsForWritersThatStayAway) {
  World world(1);
  world.executor().Run(WriteFor(&world, kNanosPerSecond, /*think=*/uint64_t{20} * kNanosPerMilli));
  EXPECT_LT(world.counters().held_batches, world.counters().batches / 10);
}

Task<void> WriteThroughAHang(World* world) {
  co_await world->Open(1);
  TaskScope scope;
  scope.Spawn(world->Hang(2 * kNanosPerSecond));
  co_await world->WriteUntil(world->poller().Now() + 5 * kNanosPerSecond,
                             /*think=*/uint64_t{4} * kNanosPerSecond);
  co_await scope.Join();
  co_await world->Close();
}

TEST(LogWriter, ABatchThatTookLongDoesNotMakeTheNextOneWaitAsLong) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    world.executor().Run(WriteThroughAHang(&world));
    EXPECT_LT(world.longest_after_hang(), 50 * kNanosPerMilli);
  }
}

}  // namespace
}  // namespace twofold
