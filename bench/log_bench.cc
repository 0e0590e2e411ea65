// The segment log: what encoding a batch costs, and an append to a real file with so many in flight
// (the argument). Files are made below /var/tmp, or TWOFOLD_TEST_DIR.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/machine.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/io/aligned_bytes.h"
#include "storage/io/uring_block_device.h"
#include "storage/log/codec.h"
#include "storage/log/segment_log.h"
#include "storage/runtime/task_scope.h"
#include "tests/io/temp_dir.h"

namespace twofold {
namespace {

LogEntry OneBlockWrite(uint64_t seq) {
  LogEntry entry;
  entry.volume = VolumeId(1);
  entry.timeline = TimelineId(1);
  entry.range = {BlockIndex(seq * 7919 % 262144), BlockCount(1)};
  entry.position = {Generation(1), Seq(seq)};
  entry.block_crcs.assign(1, static_cast<uint32_t>(seq));
  return entry;
}

// A descriptor of so many writes of a block.
void EncodeBatch(benchmark::State& state) {
  AlignedBytes buffer(kMaxDescriptorBlocks * kBlockSize);
  BatchEncoder encoder(buffer.span());
  const std::vector<CommitMark> marks = {{VolumeId(1), {Generation(1), Seq(1)}}};
  SegmentIdentity identity;
  BatchHeader header;
  uint64_t seq = 0;
  for (auto _ : state) {
    encoder.Begin(marks);
    for (int64_t i = 0; i < state.range(0); ++i) encoder.Add(OneBlockWrite(++seq));
    benchmark::DoNotOptimize(encoder.Finish(identity, header));
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(EncodeBatch)->Name("Log/EncodeBatch")->Arg(1)->Arg(16);

constexpr uint64_t kSegmentBytes = uint64_t{64} << 20;

Task<void> Appender(SegmentLog* log, Durability durability, uint64_t* seq, Meter* meter) {
  AlignedBytes payload(kBlockSize);
  while (meter->Next()) {
    const LogEntry entry = OneBlockWrite(++*seq);
    const absl::StatusOr<LogAddress> logged =
        co_await log->Append(entry, payload.span(), durability);
    TF_CHECK_OK(logged);
  }
}

// What a store does with a segment of which nothing lives: frees it when the next is full.
class Recycler {
 public:
  explicit Recycler(std::unique_ptr<SegmentLog>* log) : log_(log) {}
  void OnSealed(SegmentNumber segment) {
    if (last_ != SegmentNumber()) (*log_)->Free({last_});
    last_ = segment;
  }

 private:
  std::unique_ptr<SegmentLog>* const log_;
  SegmentNumber last_;
};

Task<void> Appends(Machine* machine, std::string dir, Durability durability,
                   benchmark::State* state) {
  absl::StatusOr<std::unique_ptr<UringBlockDevice>> device =
      co_await UringBlockDevice::Open(*machine->poller, machine->offload, dir);
  TF_CHECK_OK(device);
  std::unique_ptr<SegmentLog> log;
  Recycler recycler(&log);
  SegmentLog::Options options;
  options.store_id = std::string(16, 'b');
  options.segment_bytes = kSegmentBytes;
  options.max_segments = 8;
  options.on_sealed = [&recycler](SegmentNumber segment) { recycler.OnSealed(segment); };
  std::vector<BlockDevice*> devices = {device->get()};
  absl::StatusOr<std::unique_ptr<SegmentLog>> opened =
      co_await SegmentLog::Open(std::move(devices), std::move(options));
  TF_CHECK_OK(opened);
  log = *std::move(opened);
  absl::StatusOr<SegmentLog::Replayed> replayed =
      co_await log->Replay(LogPosition(), [](const LoggedBatch&) { return absl::OkStatus(); });
  TF_CHECK_OK(replayed);
  std::vector<SegmentNumber> in_use;
  const absl::Status started =
      co_await log->StartAppending(*std::move(replayed), Incarnation(1), std::move(in_use));
  TF_CHECK_OK(started);
  Meter meter(*state);
  uint64_t seq = 0;
  {
    TaskScope scope;
    for (int64_t i = 0; i < state->range(0); ++i) {
      scope.Spawn(Appender(log.get(), durability, &seq, &meter));
    }
    co_await scope.Join();
  }
  state->counters["entries_per_batch"] =
      static_cast<double>(log->counters().entries) / static_cast<double>(log->counters().batches);
  co_await log->Stop();
  log.reset();
  co_await (*device)->Close();
}

template <Durability kDurability>
void Append4k(benchmark::State& state) {
  Machine machine;
  const TempDir dir;
  machine.executor.Run(Appends(&machine, dir.path(), kDurability, &state));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(Append4k<Durability::kDurable>)
    ->Name("Log/AppendDurable4k")
    ->Arg(1)
    ->Arg(32)
    ->UseRealTime();
BENCHMARK(Append4k<Durability::kWritten>)
    ->Name("Log/AppendWritten4k")
    ->Arg(1)
    ->Arg(32)
    ->UseRealTime();

}  // namespace
}  // namespace twofold
