// Batches of the log on a simulated disk: held back for writers that come back, two in flight, and
// what a crash leaves of them (docs/decisions/0002).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
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
#include "storage/log/departure_group.h"
#include "storage/log/segment_log.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/start_all.h"
#include "storage/runtime/task_scope.h"
#include "tests/sim/sim_block_device.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_poller.h"
#include "tests/sim/store_world.h"

namespace twofold {
namespace {

constexpr int kWriters = 12;

// Logs whose batches leave together, a disk each, and writers that each append a block to all of
// them, wait for it, and append the next.
class World {
 public:
  explicit World(uint64_t seed, size_t logs = 1)
      : random_(seed), poller_(seed), executor_(poller_), logs_(logs) {
    for (size_t i = 0; i < logs; ++i) {
      logs_[i].disk =
          std::make_unique<sim::SimDisk>(std::string(1, static_cast<char>('a' + i)), Disk(seed));
    }
    SetLogLevel(LogLevel::kError);
  }

  Executor& executor() { return executor_; }
  sim::SimPoller& poller() { return poller_; }
  // Of the first log.
  const SegmentLog::Counters& counters() const { return logs_.front().counters; }
  uint64_t accompanying_batches() const {
    uint64_t sum = 0;
    for (const Log& log : logs_) sum += log.counters.accompanying_batches;
    return sum;
  }
  const std::set<uint64_t>& acknowledged() const { return acknowledged_; }

  // Replays; `check` looks at the Seqs of all writes of each log, in its order.
  Task<void> Open(uint64_t incarnation, std::function<void(std::vector<uint64_t>)> check = {}) {
    for (Log& log : logs_) {
      std::vector<uint64_t> seqs = co_await OpenLog(&log, incarnation);
      if (check) check(std::move(seqs));
    }
  }

  // `think`: how long a writer waits at most before it appends.
  Task<void> WriteUntil(MonoNanos end, uint64_t think) {
    TaskScope scope;
    for (int i = 0; i < kWriters; ++i) scope.Spawn(Writer(end, think));
    co_await scope.Join();
    for (Log& log : logs_) log.counters = log.log->counters();
  }
  Task<void> CrashAt(MonoNanos time) {
    co_await SleepUntil(time);
    for (Log& log : logs_) log.disk->Crash(sim::CrashKind::kPower, random_);
  }
  // The device hangs for so long, and goes on.
  Task<void> Hang(int64_t nanos) {
    logs_.front().disk->Hold();
    hung_until_ = poller_.Now() + nanos;
    co_await SleepUntil(hung_until_);
    logs_.front().disk->Release();
  }
  // The longest that an append took, of what came after the device went on.
  int64_t longest_after_hang() const { return longest_after_hang_; }
  Task<void> Close() {
    for (Log& log : logs_) {
      co_await log.log->Stop();
      log.counters = log.log->counters();
      log.log.reset();
      co_await log.device->Close();
      log.device.reset();
    }
  }

 private:
  struct Log {
    std::unique_ptr<sim::SimDisk> disk;
    std::unique_ptr<sim::SimBlockDevice> device;
    std::unique_ptr<SegmentLog> log;
    SegmentLog::Counters counters;
    BatchNumber next_batch;
  };

  static sim::SimDiskOptions Disk(uint64_t seed) {
    sim::SimDiskOptions options;
    options.max_latency_nanos = seed % 2 == 0 ? 2 * kNanosPerMilli : 200'000;
    return options;
  }

  Task<std::vector<uint64_t>> OpenLog(Log* log, uint64_t incarnation) {
    auto device = co_await sim::SimBlockDevice::Open(poller_, *log->disk);
    EXPECT_TRUE(device.ok()) << device.status();
    log->device = *std::move(device);
    SegmentLog::Options options;
    options.store_id = std::string(16, log->disk->name()[0]);
    options.segment_bytes = kMinSegmentBytes;
    options.max_segments = 12;
    options.departures = &departures_;
    options.random = [this] { return random_.Next(); };
    options.on_logged = [log](const LoggedBatch& batch) {
      EXPECT_EQ(batch.start.batch, log->next_batch);
      log->next_batch = batch.end.batch;
    };
    std::vector<BlockDevice*> devices(1, log->device.get());
    auto opened = co_await SegmentLog::Open(std::move(devices), std::move(options));
    EXPECT_TRUE(opened.ok()) << opened.status();
    log->log = *std::move(opened);
    std::vector<uint64_t> seqs;
    auto replayed = co_await log->log->Replay({}, [&seqs](const LoggedBatch& batch) {
      for (const LoggedBatch::Item& item : batch.items) {
        if (item.entry.kind == EntryKind::kWrite) {
          seqs.push_back(item.entry.position.seq.value());
        }
      }
      return absl::OkStatus();
    });
    EXPECT_TRUE(replayed.ok()) << replayed.status();
    if (!replayed.ok()) co_return seqs;
    log->next_batch = replayed->cut.batch;
    const absl::Status started =
        co_await log->log->StartAppending(*replayed, Incarnation(incarnation), {});
    EXPECT_TRUE(started.ok()) << started;
    co_return seqs;
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
      StartAll<absl::StatusOr<LogAddress>, 2> appends;
      for (Log& log : logs_) {
        appends.Add(log.log->Append(entry, block.span(), Durability::kDurable));
      }
      co_await appends.Start();
      while (appends.pending()) co_await appends.Next();
      longest_after_hang_ =
          std::max(longest_after_hang_, poller_.Now() - std::max(start, hung_until_));
      for (size_t i = 0; i < appends.size(); ++i) {
        if (!appends.TakeResult(i).ok()) co_return;
      }
      // Everything that was appended before it is durable, too.
      acknowledged_.insert(seq);
    }
  }

  Prng random_;
  sim::SimPoller poller_;
  Executor executor_;
  DepartureGroup departures_;
  std::vector<Log> logs_;
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
  sum->accompanying_batches += world->accompanying_batches();
  co_await world->Close();

  // Appended in this order, so found in this order, without a hole, and none is missing that a
  // writer was told of.
  const uint64_t last = world->acknowledged().empty() ? 0 : *world->acknowledged().rbegin();
  co_await world->Open(2, [last](const std::vector<uint64_t>& seqs) {
    for (size_t i = 0; i < seqs.size(); ++i) EXPECT_EQ(seqs[i], i + 1);
    EXPECT_GE(seqs.size(), last);
  });
  co_await world->Close();
}

TEST(LogWriter, APowerLossWithTwoBatchesInFlightLosesNothingThatWasAcknowledged) {
  const uint64_t first = sim::FromEnvironment("TWOFOLD_SEED", 1);
  const uint64_t count = sim::FromEnvironment("TWOFOLD_SEEDS", 200);
  SegmentLog::Counters sum;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE(absl::StrCat("TWOFOLD_SEED=", seed, " TWOFOLD_SEEDS=1"));
    World world(seed, /*logs=*/1 + seed / 2 % 2);
    Prng random(seed);
    world.executor().Run(WriteAndLosePower(&world, &random, &sum));
    if (HasFailure()) return;
  }
  if (count < 50) return;
  EXPECT_GT(sum.second_batches, 0u);
  EXPECT_GT(sum.held_batches, 0u);
  EXPECT_GT(sum.accompanying_batches, 0u);
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

TEST(LogWriter, BatchesOfTwoLogsLeaveTogether) {
  World world(1, /*logs=*/2);
  world.executor().Run(WriteFor(&world, 100 * kNanosPerMilli, /*think=*/5'000));
  // Left alone, each log sends one when its own last one has landed.
  EXPECT_GT(world.accompanying_batches(), world.counters().batches / 8);
}

TEST(LogWriter, SeldomWaitsForWritersThatStayAway) {
  World world(1);
  world.executor().Run(WriteFor(&world, kNanosPerSecond, /*think=*/uint64_t{20} * kNanosPerMilli));
  EXPECT_LT(world.counters().held_batches, world.counters().batches / 10);
}

Task<void> StopAfterWriting(World* world, SegmentLog::Counters* before) {
  co_await world->Open(1);
  co_await world->WriteUntil(world->poller().Now() + 10 * kNanosPerMilli, /*think=*/0);
  *before = world->counters();
  co_await world->Close();
}

// A batch leaves room for one after it: with two the segment could not be sealed, nor opened.
TEST(LogWriter, StopsWithOneEmptyBatchR12) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    SegmentLog::Counters before;
    world.executor().Run(StopAfterWriting(&world, &before));
    EXPECT_EQ(world.counters().entries, before.entries);
    EXPECT_EQ(world.counters().batches, before.batches + 1);
  }
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
