// The writer's way from segment to segment, and what it does in the background.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/log/log_writer.h"

namespace twofold {

// kResourceExhausted: no segment is left; nothing has changed.
Task<absl::Status> LogWriter::Roll() {
  // What is not durable stays in one file, and a seal says that all in it was.
  if (unsynced_blocks_ > 0) {
    absl::Status synced = co_await SyncOpenSegment();
    TF_CO_RETURN_IF_ERROR(synced);
    BecomeDurable();
  }
  // At most the two newest segments lack their copies.
  while (sealing_ && health_.ok()) co_await sealed_.Wait();
  bool retried = false;
  while (ready_.empty() && health_.ok()) {
    if (!preparing_ && !files_.CanPrepare()) {
      files_.RetryNewFiles();
      if (retried || !files_.CanPrepare()) {
        co_return absl::ResourceExhaustedError(preparation_.ok()
                                                   ? std::string("the log has no free segment")
                                                   : std::string(preparation_.message()));
      }
      retried = true;
    }
    prepare_.Set();
    co_await ready_changed_.Wait();
  }
  if (!health_.ok()) co_return health_;

  const SegmentNumber next = ready_.front();
  ready_.pop_front();
  const SegmentFile& file = files_.Use(next);
  if (open_.has_value()) {
    sealing_ = true;
    tasks_.Spawn(SealOld(open_->file, std::move(open_->copies), next));
  }
  open_.emplace(OpenSegment{file, std::make_unique<SealBuilder>(file.identity)});
  leave_ = false;
  end_.segment = next;
  end_.block = 1;
  next_ = end_;
  ++counters_.segments_opened;
  if (options_.on_opened) options_.on_opened(next);
  prepare_.Set();
  co_return absl::OkStatus();
}

Task<void> LogWriter::SealOld(SegmentFile file, std::unique_ptr<SealBuilder> copies,
                              SegmentNumber next) {
  absl::Status sealed = co_await copies->Write(file, next);
  sealing_ = false;
  if (!sealed.ok()) {
    Fail(sealed);
  } else if (options_.on_sealed) {
    options_.on_sealed(file.number());
  }
  sealed_.WakeAll();
}

// A new file is written with zeros once, which takes half of what the device can do while it lasts:
// so in idle times it is done ahead, as far as the log is not small.
size_t LogWriter::WantedReady() const {
  if (!idle_) return kReadySegments;
  return std::clamp<size_t>(files_.total_slots() / 16, kReadySegments, kReadySegmentsIdle);
}

Task<void> LogWriter::PrepareLoop() {
  while (!closing_ && health_.ok()) {
    if (ready_.size() >= WantedReady() || !files_.CanPrepare()) {
      prepare_.Reset();
      co_await prepare_.Wait();
      continue;
    }
    preparing_ = true;
    absl::StatusOr<SegmentNumber> segment = co_await files_.Prepare(incarnation_);
    preparing_ = false;
    preparation_ = segment.status();
    if (segment.ok()) {
      ready_.push_back(*segment);
    } else if (!absl::IsResourceExhausted(preparation_)) {
      Fail(preparation_);
    }
    ready_changed_.WakeAll();
  }
}

// Some time after the last batch with entries an empty one says that it is durable (R12).
Task<void> LogWriter::CoverLoop() {
  while (!closing_ && health_.ok()) {
    co_await cover_due_.Wait();
    cover_due_.Reset();
    const BatchNumber last = last_entry_batch_;
    const bool slept = co_await close_.SleepFor(int64_t{kIdleCoverMs} * kNanosPerMilli);
    if (!slept || last != last_entry_batch_) continue;
    idle_ = true;
    prepare_.Set();
    if (!CoverNeeded()) continue;
    cover_wanted_ = true;
    work_.Set();
  }
}

}  // namespace twofold
