// The extent map's hot paths: what Apply and a lookup do for each entry.

#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "storage/log/segment_table.h"
#include "storage/map/catalogue.h"
#include "storage/map/catalogue_codec.h"
#include "storage/map/extent_map.h"
#include "storage/map/run_list.h"
#include "storage/runtime/executor.h"
#include "tests/sim/sim_metadata_store.h"
#include "tests/sim/sim_poller.h"

namespace twofold {
namespace {

Run DataRun(uint64_t first, uint64_t count, uint64_t seq) {
  Run run{.range = {BlockIndex(first), BlockCount(count)},
          .kind = RunKind::kData,
          .position = {Generation(1), Seq(seq)},
          .address = {SegmentNumber(1 + seq / 16000), static_cast<uint32_t>(seq % 16000)},
          .block_crcs = {}};
  run.block_crcs.assign(count, static_cast<uint32_t>(seq));
  return run;
}

// A chunk in which every block is a run of its own: the worst there is.
RunList FullChunk() {
  RunList list;
  for (uint64_t i = 0; i < kChunkBlocks; ++i) list.Insert(DataRun(i, 1, 1 + i * 7));
  return list;
}

void RunListOverwriteOneBlock(benchmark::State& state) {
  RunList list = FullChunk();
  Prng random(1);
  uint64_t seq = 1000;
  std::vector<Run> displaced;
  for (auto _ : state) {
    displaced.clear();
    list.Insert(DataRun(random.Uniform(kChunkBlocks), 1, ++seq), &displaced);
    benchmark::DoNotOptimize(list.runs().data());
  }
}
BENCHMARK(RunListOverwriteOneBlock);

void RunListFillOneByOne(benchmark::State& state) {
  std::vector<uint64_t> order(kChunkBlocks);
  for (uint64_t i = 0; i < kChunkBlocks; ++i) order[i] = (i * 13) % kChunkBlocks;
  for (auto _ : state) {
    RunList list;
    for (uint64_t i = 0; i < kChunkBlocks; ++i) list.Insert(DataRun(order[i], 1, 1 + i));
    benchmark::DoNotOptimize(list.runs().data());
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * kChunkBlocks));
}
BENCHMARK(RunListFillOneByOne);

void RunListSplitLongRun(benchmark::State& state) {
  const Run whole = DataRun(0, kChunkBlocks, 1);
  std::vector<Run> displaced;
  for (auto _ : state) {
    RunList list;
    list.Insert(whole);
    displaced.clear();
    list.Insert(DataRun(10, 1, 2), &displaced);
    benchmark::DoNotOptimize(list.runs().data());
  }
}
BENCHMARK(RunListSplitLongRun);

void RunListLookupOneBlock(benchmark::State& state) {
  const RunList list = FullChunk();
  Prng random(1);
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        list.Within({BlockIndex(random.Uniform(kChunkBlocks)), BlockCount(1)}));
  }
}
BENCHMARK(RunListLookupOneBlock);

void RunListEncode(benchmark::State& state) {
  const RunList list = FullChunk();
  for (auto _ : state) benchmark::DoNotOptimize(list.Encode(0));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * list.Encode(0).size()));
}
BENCHMARK(RunListEncode);

void RunListDecode(benchmark::State& state) {
  const std::string bytes = FullChunk().Encode(0);
  for (auto _ : state) benchmark::DoNotOptimize(RunList::Decode(0, bytes));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes.size()));
}
BENCHMARK(RunListDecode);

// ---- The whole map: a volume of 1 GiB that was written in full, in memory ----

constexpr uint64_t kVolumeBlocks = uint64_t{1} << 18;

class WarmMap {
 public:
  WarmMap() {
    VolumeCreateBody body;
    body.id = VolumeId(1);
    body.name = "vol";
    body.size_bytes = kVolumeBlocks * kBlockSize;
    body.first_timeline = kTimeline;
    LogEntry create;
    create.kind = EntryKind::kVolumeCreate;
    create.position = {Generation(1), Seq(1)};
    create.body = EncodeVolumeCreate(body);
    TF_CHECK_OK(catalogue_.Apply(create));
    executor_.Run(Fill());
  }
  ~WarmMap() {
    executor_.Run(map_.Stop());
    executor_.Run(metadata_->Close());
  }

  void Insert(uint64_t block) {
    const SegmentNumber segment(1 + ++seq_ / kSegmentBlocks);
    if (!table_.segments().contains(segment)) table_.Add(segment, SegmentState::kOpen);
    Run run{.range = {BlockIndex(block), BlockCount(1)},
            .kind = RunKind::kData,
            .position = {Generation(1), Seq(seq_)},
            .address = {segment, static_cast<uint32_t>(1 + seq_ % kSegmentBlocks)},
            .block_crcs = {static_cast<uint32_t>(seq_)}};
    map_.Insert(kTimeline, run);
  }
  void Prefetch(const std::vector<uint64_t>& blocks) {
    std::vector<ExtentMap::Place> places;
    for (const uint64_t block : blocks) places.push_back({kTimeline, BlockIndex(block)});
    map_.Prefetch(places);
  }
  bool Lookup(uint64_t block, std::vector<Piece>* pieces) {
    return map_.TryLookup(kTimeline, kLastPosition, {BlockIndex(block), BlockCount(1)}, pieces);
  }
  // In the executor, as a store does: background work of the map may begin in any call.
  template <typename F>
  void InExecutor(F function) {
    executor_.Run(Call(std::move(function)));
  }

 private:
  static constexpr TimelineId kTimeline{1};
  static constexpr uint64_t kSegmentBlocks = 16'000;

  Task<void> Fill() {
    for (uint64_t block = 0; block < kVolumeBlocks; ++block) Insert(block);
    // What lies below each chunk is read once: nothing.
    const absl::Status complete = co_await map_.PrepareFreeze();
    TF_CHECK_OK(complete);
  }
  template <typename F>
  static Task<void> Call(F function) {
    function();
    co_return;
  }

  sim::SimPoller poller_{1};
  Executor executor_{poller_};
  sim::SimMetadataDisk disk_{1};
  std::unique_ptr<MetadataStore> metadata_ = disk_.Open();
  Catalogue catalogue_;
  SegmentTable table_;
  ExtentMap map_{metadata_.get(),
                 &catalogue_,
                 &table_,
                 {.cache_bytes = size_t{256} << 20, .max_partial_chunks = kMaxPartialChunks}};
  uint64_t seq_ = 0;
};

void MapInsertRandom(benchmark::State& state) {
  WarmMap map;
  Prng random(1);
  map.InExecutor([&map, &random, &state] {
    for (auto _ : state) map.Insert(random.Uniform(kVolumeBlocks));
  });
}
BENCHMARK(MapInsertRandom)->Name("Map/InsertRandom4k")->Iterations(1'000'000);

// As a store applies a batch: what it will change is fetched for all of it first.
void MapInsertBatchRandom(benchmark::State& state) {
  WarmMap map;
  Prng random(1);
  std::vector<uint64_t> blocks(static_cast<size_t>(state.range(0)));
  map.InExecutor([&map, &random, &state, &blocks] {
    for (auto _ : state) {
      for (uint64_t& block : blocks) block = random.Uniform(kVolumeBlocks);
      map.Prefetch(blocks);
      for (const uint64_t block : blocks) map.Insert(block);
    }
  });
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(MapInsertBatchRandom)->Name("Map/InsertBatchRandom4k")->Arg(16)->Iterations(62'500);

void MapLookupRandom(benchmark::State& state) {
  WarmMap map;
  Prng random(1);
  std::vector<Piece> pieces;
  map.InExecutor([&map, &random, &state, &pieces] {
    for (auto _ : state) {
      pieces.clear();
      TF_CHECK(map.Lookup(random.Uniform(kVolumeBlocks), &pieces));
    }
  });
}
BENCHMARK(MapLookupRandom)->Name("Map/LookupRandom4k");

}  // namespace
}  // namespace twofold
