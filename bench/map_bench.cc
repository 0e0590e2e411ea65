// The extent map's hot paths: what Apply and a lookup do for each entry.

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "storage/map/run_list.h"

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

}  // namespace
}  // namespace twofold
