#include "replication/pair/resync_pace.h"

#include <algorithm>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

constexpr int64_t kMaxRateStepNanos = 100 * kNanosPerMilli;
// A rest ends when nobody came for so long.
constexpr int64_t kRestStepNanos = 10 * kNanosPerMilli;

absl::Status Stopped() { return absl::UnavailableError("the resync was ended"); }

}  // namespace

ResyncPace::ResyncPace(uint64_t rate_bytes_per_second, std::function<uint64_t()> client_requests,
                       CancelSource* cancel)
    : rate_(rate_bytes_per_second),
      client_requests_(std::move(client_requests)),
      cancel_(cancel),
      began_nanos_(Executor::Current().Now()),
      step_began_nanos_(began_nanos_) {
  if (client_requests_) requests_seen_ = client_requests_();
}

Task<absl::Status> ResyncPace::Next(uint64_t bytes) {
  if (cancel_->cancelled()) co_return Stopped();
  LookAtClients();
  const int64_t now = Executor::Current().Now();
  const bool long_enough = now - began_nanos_ >= kFirstRestAfterNanos;
  if (clients_work_ && yielding_ && !hurry_ && long_enough) {
    const int64_t took = now - step_began_nanos_;
    absl::Status status = co_await Rest(std::min(took * kRests, kMaxRestNanos));
    TF_CO_RETURN_IF_ERROR(status);
  }
  // In short steps, since the rate may be changed meanwhile.
  while (!hurry_ && PayDebt() > 0) {
    const bool slept = co_await cancel_->SleepFor(std::min(PayDebt(), kMaxRateStepNanos));
    if (!slept) co_return Stopped();
  }
  debt_bytes_ += static_cast<double>(bytes);
  step_began_nanos_ = Executor::Current().Now();
  co_return absl::OkStatus();
}

void ResyncPace::LookAtClients() {
  const uint64_t requests = client_requests_ ? client_requests_() : 0;
  clients_work_ = requests != requests_seen_;
  requests_seen_ = requests;
}

Task<absl::Status> ResyncPace::Rest(int64_t nanos) {
  while (nanos > 0 && clients_work_ && !hurry_) {
    const int64_t step = std::min(nanos, kRestStepNanos);
    const bool slept = co_await cancel_->SleepFor(step);
    if (!slept) co_return Stopped();
    nanos -= step;
    // Less than a whole step is too short to say that nobody came.
    if (step == kRestStepNanos) LookAtClients();
  }
  co_return absl::OkStatus();
}

// How long it takes until what was sent is no more than the rate allows.
int64_t ResyncPace::PayDebt() {
  const int64_t now = Executor::Current().Now();
  const auto rate = static_cast<double>(rate_);
  const double paid = rate * static_cast<double>(now - debt_since_nanos_) / kNanosPerSecond;
  debt_bytes_ = rate_ == 0 ? 0 : std::max(0.0, debt_bytes_ - paid);
  debt_since_nanos_ = now;
  return debt_bytes_ < 1 ? 0 : static_cast<int64_t>(debt_bytes_ / rate * kNanosPerSecond) + 1;
}

}  // namespace twofold
