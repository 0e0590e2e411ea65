// The checksum of a block, alone and together with the copy into the write buffer.

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "storage/base/crc32c.h"

namespace twofold {
namespace {

std::vector<std::byte> Filled(int64_t length_bytes) {
  std::vector<std::byte> bytes(static_cast<size_t>(length_bytes));
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 131);
  return bytes;
}

void SetBytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void BM_Crc32c(benchmark::State& state) {
  const std::vector<std::byte> data = Filled(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(Crc32c(data));
  SetBytes(state);
}
BENCHMARK(BM_Crc32c)->Arg(64)->Arg(4096)->Arg(1 << 20);

void BM_CopyThenCrc32c(benchmark::State& state) {
  const std::vector<std::byte> source = Filled(state.range(0));
  std::vector<std::byte> copy(source.size());
  for (auto _ : state) {
    std::memcpy(copy.data(), source.data(), source.size());
    benchmark::DoNotOptimize(Crc32c(copy));
  }
  SetBytes(state);
}
BENCHMARK(BM_CopyThenCrc32c)->Arg(4096)->Arg(1 << 20)->Arg(16 << 20);

void BM_CopyAndCrc32c(benchmark::State& state) {
  const std::vector<std::byte> source = Filled(state.range(0));
  std::vector<std::byte> copy(source.size());
  for (auto _ : state) {
    benchmark::DoNotOptimize(CopyAndCrc32c(copy.data(), source.data(), source.size()));
  }
  SetBytes(state);
}
BENCHMARK(BM_CopyAndCrc32c)->Arg(4096)->Arg(1 << 20)->Arg(16 << 20);

}  // namespace
}  // namespace twofold
