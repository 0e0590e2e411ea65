#include "tools/load/load.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/base/prng.h"
#include "storage/base/status_macros.h"
#include "tools/load/schedule.h"

namespace twofold::load {
namespace {

constexpr int64_t kAnswerTimeoutNs = int64_t{120} * 1'000'000'000;
constexpr int64_t kProgressIntervalNs = int64_t{100} * 1'000'000;

int64_t Now() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

// One run. Slots own the buffers; a free one is there for each request that may be sent.
class Run {
 public:
  Run(NbdClient* client, const LoadOptions& options)
      : client_(client),
        options_(options),
        random_(options.seed),
        start_ns_(Now()),
        schedule_({.depth = options.depth,
                   .per_second = options.per_second,
                   .start_ns = start_ns_,
                   .duration_ns = options.duration_ns}) {
    for (size_t i = 0; i < options.depth; ++i) {
      buffers_.emplace_back(options.request_bytes);
      for (std::byte& byte : buffers_.back()) byte = static_cast<std::byte>(random_.Next());
      free_.push_back(i);
    }
  }

  absl::StatusOr<LoadResult> Go() {
    answered_ns_ = start_ns_;
    for (int64_t now = start_ns_; !schedule_.Over(now) || in_flight() > 0; now = Now()) {
      TF_RETURN_IF_ERROR(SendWhatIsDue(now));
      ShowProgress(now);
      TF_RETURN_IF_ERROR(client_->Wait(HowLong(Now())));
      if (in_flight() > 0 && Now() - answered_ns_ > kAnswerTimeoutNs) {
        return absl::DeadlineExceededError(
            absl::StrCat("no answer for ", kAnswerTimeoutNs / 1'000'000'000, " s with ",
                         in_flight(), " requests in flight"));
      }
    }
    result_.elapsed_ns = Now() - start_ns_;
    while (const auto due = schedule_.NextUnsent()) {
      ++result_.unsent;
      Histogram(NextIsRead())->Add(schedule_.end_ns() - *due);
    }
    return result_;
  }

 private:
  size_t in_flight() const { return options_.depth - free_.size(); }
  bool NextIsRead() { return random_.Uniform(100) < options_.read_percent; }
  LatencyHistogram* Histogram(bool read) { return read ? &result_.reads : &result_.writes; }

  int64_t HowLong(int64_t now) const {
    int64_t until = now + kProgressIntervalNs;
    if (in_flight() < options_.depth) until = std::min(until, schedule_.NextDue());
    if (!schedule_.Over(now)) until = std::min(until, schedule_.end_ns());
    return until - now;
  }

  absl::Status SendWhatIsDue(int64_t now) {
    while (const auto due = schedule_.Next(now, in_flight())) {
      TF_RETURN_IF_ERROR(Send(*due));
      now = Now();
    }
    return absl::OkStatus();
  }

  absl::Status Send(int64_t due) {
    // Nothing was awaited: the time without an answer begins now.
    if (in_flight() == 0) answered_ns_ = Now();
    const size_t slot = free_.back();
    free_.pop_back();
    std::vector<std::byte>& buffer = buffers_[slot];
    const bool read = NextIsRead();
    const uint64_t places = client_->size_bytes() / options_.request_bytes;
    const uint64_t offset = random_.Uniform(places) * options_.request_bytes;
    auto done = [this, slot, read, due](int error) { Answered(slot, read, due, error); };
    if (read) return client_->Read(absl::MakeSpan(buffer), offset, std::move(done));
    // No two writes are the same.
    std::memcpy(buffer.data(), &++writes_, sizeof(writes_));
    return client_->Write(buffer, offset, std::move(done));
  }

  void Answered(size_t slot, bool read, int64_t due, int error) {
    answered_ns_ = Now();
    free_.push_back(slot);
    if (error == 0) return Histogram(read)->Add(answered_ns_ - due);
    ++result_.errors;
    if (result_.first_error == 0) result_.first_error = error;
  }

  void ShowProgress(int64_t now) {
    if (options_.on_progress == nullptr || now - shown_ns_ < kProgressIntervalNs) return;
    shown_ns_ = now;
    options_.on_progress(now - start_ns_);
  }

  NbdClient* const client_;
  const LoadOptions& options_;
  Prng random_;
  const int64_t start_ns_;
  Schedule schedule_;
  std::vector<std::vector<std::byte>> buffers_;
  std::vector<size_t> free_;
  uint64_t writes_ = 0;
  int64_t answered_ns_ = 0;  // the last answer
  int64_t shown_ns_ = 0;
  LoadResult result_;
};

}  // namespace

absl::StatusOr<LoadResult> RunLoad(NbdClient* client, const LoadOptions& options) {
  return Run(client, options).Go();
}

}  // namespace twofold::load
