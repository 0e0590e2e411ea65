// Counting what is used by what, from a checkpoint of now, beside everything else: piece by piece
// where RocksDB's calls run, and resting between two pieces for as long as the last one took while
// clients do anything. It changes nothing but that it takes a checkpoint first, as any that is due.
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"
#include "storage/map/key_codec.h"
#include "storage/map/usage_count.h"
#include "storage/runtime/executor.h"
#include "storage/store/store.h"

namespace twofold {

Task<absl::StatusOr<UsageReport>> Store::CountUsage(std::optional<VolumeId> volume,
                                                    UsageCancelled cancelled) {
  const AsyncMutex::Guard one_at_a_time = co_await usage_mutex_.Lock();
  absl::StatusOr<UsageReport> report = co_await CountCheckpoint(volume, std::move(cancelled));
  if (!report.ok()) co_await NoteMapDamage(report.status());
  co_return report;
}

Task<absl::StatusOr<UsageReport>> Store::CountCheckpoint(std::optional<VolumeId> volume,
                                                         UsageCancelled cancelled) {
  const MonoNanos started = Executor::Current().Now();
  TF_CO_RETURN_IF_ERROR(CheckCounting(cancelled));
  if (!options_.read_only) {
    absl::Status status = co_await Checkpoint();
    TF_CO_RETURN_IF_ERROR(status);
  }
  UsageReport report;
  std::unique_ptr<MetadataView> view;
  {
    // One that is being committed could be seen already and still be lost.
    const AsyncMutex::Guard no_checkpoint = co_await checkpoint_mutex_.Lock();
    TF_CO_RETURN_IF_ERROR(CheckCounting(cancelled));
    view = parts_.metadata->View();
    report.checkpoint = last_checkpoint_.number;
    report.as_of = Executor::Current().WallNow();
  }
  const auto read_catalogue = [&view, &report]() -> absl::Status {
    TF_ASSIGN_OR_RETURN(const std::optional<std::string> bytes,
                        view->GetBlocking(MetaKey(kCatalogueName)));
    if (!bytes.has_value()) return absl::DataLossError("the checkpoint has no catalogue");
    TF_ASSIGN_OR_RETURN(report.catalogue, Catalogue::Decode(*bytes));
    return absl::OkStatus();
  };
  absl::Status status = co_await view->Run(read_catalogue);
  TF_CO_RETURN_IF_ERROR(status);

  UsageCounter counter(view.get(), &report.catalogue, volume);
  bool done = false;
  const auto step = [&counter, &done]() -> absl::Status {
    TF_ASSIGN_OR_RETURN(done, counter.Step());
    return absl::OkStatus();
  };
  while (!done) {
    TF_CO_RETURN_IF_ERROR(CheckCounting(cancelled));
    const uint64_t work = ClientWork();
    const MonoNanos began = Executor::Current().Now();
    status = co_await view->Run(step);
    TF_CO_RETURN_IF_ERROR(status);
    if (ClientWork() == work) continue;
    const bool slept = co_await pauses_.SleepFor(Executor::Current().Now() - began);
    if (!slept) co_return absl::UnavailableError("the store is being stopped");
  }
  report.count = counter.TakeResult();
  report.duration_nanos = static_cast<uint64_t>(Executor::Current().Now() - started);
  co_return report;
}

absl::Status Store::CheckCounting(const UsageCancelled& cancelled) const {
  TF_RETURN_IF_ERROR(failed_);
  if (stopping_) return absl::UnavailableError("the store is being stopped");
  if (cancelled && cancelled()) return absl::CancelledError("the count was ended");
  return absl::OkStatus();
}

uint64_t Store::ClientWork() const { return log_->counters().entries + reads_; }

}  // namespace twofold
