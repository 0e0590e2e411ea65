// What benchmarks of asynchronous parts run on: a real ring, and work shared among tasks.
#pragma once

#include <benchmark/benchmark.h>

#include <memory>

#include "storage/io/uring_poller.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/offload.h"

namespace twofold {

struct Machine {
  std::unique_ptr<UringPoller> poller = UringPoller::Create().value();
  Executor executor{*poller};
  Offload offload{1};
  ~Machine() { offload.Stop(); }
};

// Items are handed out to workers until the benchmark has had enough.
class Meter {
 public:
  explicit Meter(benchmark::State& state) : state_(state) {}
  bool Next() {
    if (!finished_) finished_ = !state_.KeepRunning();
    return !finished_;
  }

 private:
  benchmark::State& state_;
  bool finished_ = false;
};

}  // namespace twofold
