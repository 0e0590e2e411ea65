// Encoding and decoding of the small records that every log entry and message consists of.

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "storage/base/bytes.h"

namespace twofold {
namespace {

constexpr int kRecords = 100;

void Encode(std::string* output) {
  ByteWriter writer(output);
  for (uint64_t i = 0; i < kRecords; ++i) {
    writer.WriteU8(1);
    writer.WriteU64Le(i);
    writer.WriteVarint64(i << 20);
    writer.WriteU32Le(7);
    writer.WriteLengthPrefixed("volume");
  }
}

void BM_ByteWriter(benchmark::State& state) {
  std::string output;
  for (auto _ : state) {
    output.clear();
    Encode(&output);
    benchmark::DoNotOptimize(output.data());
  }
  state.SetItemsProcessed(state.iterations() * kRecords);
}
BENCHMARK(BM_ByteWriter);

void BM_ByteReader(benchmark::State& state) {
  std::string input;
  Encode(&input);
  for (auto _ : state) {
    ByteReader reader{absl::string_view(input)};
    uint64_t sum = 0;
    while (!reader.finished() && !reader.failed()) {
      sum += reader.ReadU8();
      sum += reader.ReadU64Le();
      sum += reader.ReadVarint64();
      sum += reader.ReadU32Le();
      sum += reader.ReadLengthPrefixed(64).size();
    }
    benchmark::DoNotOptimize(sum);
  }
  state.SetItemsProcessed(state.iterations() * kRecords);
}
BENCHMARK(BM_ByteReader);

}  // namespace
}  // namespace twofold
