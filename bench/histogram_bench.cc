// What the histograms of latencies cost on the data path: reading the clock, adding a value, and
// all that one write of 4 KiB to two sets adds up to (storage/base/histogram.h).
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "storage/base/histogram.h"
#include "storage/base/prng.h"
#include "storage/io/uring_poller.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

std::vector<int64_t> Values() {
  Prng prng(1);
  std::vector<int64_t> values;
  for (int i = 0; i < 4096; ++i)
    values.push_back(static_cast<int64_t>(prng.Between(50'000, 900'000)));
  return values;
}

void Add(benchmark::State& state) {
  const std::vector<int64_t> values = Values();
  LatencyHistogram histogram;
  size_t i = 0;
  for (auto _ : state) histogram.Add(values[i++ & 4095]);
  benchmark::DoNotOptimize(histogram.Percentile(50));
}

void Percentiles(benchmark::State& state) {
  LatencyHistogram histogram;
  for (const int64_t value : Values()) histogram.Add(value);
  for (auto _ : state) {
    for (const double percent : {50.0, 90.0, 99.0, 99.9}) {
      benchmark::DoNotOptimize(histogram.Percentile(percent));
    }
  }
}

void Tick(benchmark::State& state) {
  auto poller = UringPoller::Create();
  if (!poller.ok()) return state.SkipWithError(std::string(poller.status().message()).c_str());
  Executor executor(**poller);
  for (auto _ : state) benchmark::DoNotOptimize(executor.Tick());
}

// What one write to two sets adds: a look at the clock of its own, when it has its place in the
// order, seven more stamps that share one with others, ten values. What a batch or a turn of the
// loop adds is shared by all its writes.
void OneWrite(benchmark::State& state) {
  auto poller = UringPoller::Create();
  if (!poller.ok()) return state.SkipWithError(std::string(poller.status().message()).c_str());
  Executor executor(**poller);
  const std::vector<int64_t> values = Values();
  std::vector<LatencyHistogram> histograms(10);
  size_t i = 0;
  for (auto _ : state) {
    int64_t stamps = executor.Tick();
    for (int shared = 0; shared < 7; ++shared) stamps += executor.LastTick();
    benchmark::DoNotOptimize(stamps);
    for (LatencyHistogram& histogram : histograms) histogram.Add(values[i++ & 4095]);
  }
}

BENCHMARK(Tick)->Name("Histogram/LookAtTheClock");
BENCHMARK(OneWrite)->Name("Histogram/OneWrite");
BENCHMARK(Add)->Name("Histogram/Add");
BENCHMARK(Percentiles)->Name("Histogram/FourPercentiles");

}  // namespace
}  // namespace twofold
