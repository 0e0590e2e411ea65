// How fast a resync goes: no faster than its rate, and with most of the time left to clients while
// there are any (docs/decisions/0023-a-resync-rests-while-clients-work.md).
//
// While clients' requests come in, each step of the resync is small, and is followed by a rest
// kRests times as long as the step took. A device that is busy makes steps longer, and so the rests
// too. It never stands still: a fixed share of the time is its own, whatever clients do.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "storage/base/types.h"
#include "storage/runtime/cancel.h"
#include "storage/runtime/task.h"

namespace twofold {

class ResyncPace {
 public:
  static constexpr int64_t kRests = 3;
  static constexpr int64_t kMaxRestNanos = 50'000'000;
  // What is over in so short a time is over: it doesn't rest before.
  static constexpr int64_t kFirstRestAfterNanos = 20'000'000;

  // `client_requests`: how many were ever begun; empty: there are no clients. `cancel` outlives it.
  ResyncPace(uint64_t rate_bytes_per_second, std::function<uint64_t()> client_requests,
             CancelSource* cancel);

  // Before `bytes` are sent: waits for as long as they have to. kUnavailable: cancelled.
  Task<absl::Status> Next(uint64_t bytes);

  // Whether clients' requests came in since the step before.
  bool clients_work() const { return clients_work_; }

  // From now on; 0: no limit.
  void SetRate(uint64_t bytes_per_second) { rate_ = bytes_per_second; }
  // While clients wait for the resync itself there is nobody to yield to, and a rate protects
  // nobody.
  void SetHurry(bool hurry) { hurry_ = hurry; }
  // Where resting doesn't get it nearer to its end.
  void SetYielding(bool yielding) { yielding_ = yielding; }

 private:
  void LookAtClients();
  Task<absl::Status> Rest(int64_t nanos);
  int64_t PayDebt();

  uint64_t rate_;
  const std::function<uint64_t()> client_requests_;
  CancelSource* const cancel_;
  bool hurry_ = false;
  bool yielding_ = true;
  bool clients_work_ = false;
  uint64_t requests_seen_ = 0;
  const int64_t began_nanos_;
  int64_t step_began_nanos_;
  double debt_bytes_ = 0;         // sent ahead of what the rate allows
  int64_t debt_since_nanos_ = 0;  // when it was that
};

}  // namespace twofold
