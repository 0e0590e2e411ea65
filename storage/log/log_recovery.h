// Finds the end of the log after a crash, hands out what is in it, and cuts it there (R11 to R13,
// R15). docs/formats/log.md, "Reading it back", is the procedure.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/types.h"
#include "storage/log/codec.h"
#include "storage/log/segment_files.h"
#include "storage/log/segment_log.h"
#include "storage/log/segment_reader.h"
#include "storage/runtime/task.h"

namespace twofold {

class LogRecovery {
 public:
  using OnBatch = std::function<absl::Status(const LoggedBatch&)>;

  explicit LogRecovery(SegmentFiles& files) : files_(files) {}

  // Contract: SegmentLog::Replay. Changes nothing on disk.
  Task<absl::StatusOr<SegmentLog::Replayed>> Replay(LogPosition from, OnBatch on_batch,
                                                    SegmentLog::Known known);

  // After Replay: the segments that hold what it has passed.
  const std::set<SegmentNumber>& passed() const { return passed_; }

  // After Replay: destroys the batches beyond the cut, durably.
  Task<absl::Status> DestroyBeyondCut();
  // After that: gives the copies of their descriptors (R15) to the newest segments with batches,
  // those of `in_use` that lack them. `on_sealed` is called for each that has them or can't get
  // them.
  Task<absl::Status> SealOpenSegments(std::set<SegmentNumber> in_use,
                                      std::function<void(SegmentNumber)> on_sealed);

 private:
  // What lies behind the place where the next batch is missing.
  struct Beyond {
    std::vector<LogPosition> heads;  // where batches start
    BatchNumber known_durable;       // what they, or trailers, say was durable
    SegmentNumber opened;            // the newest segment that trailers say was opened
  };

  Task<absl::Status> SyncFrom(SegmentNumber first);
  Task<absl::StatusOr<LogPosition>> FindBeginning();
  SegmentReader& ReaderOf(SegmentNumber segment);
  std::vector<SegmentNumber> SegmentsAfter(SegmentNumber segment) const;

  // kNotFound: there is none.
  Task<absl::StatusOr<DecodedBatch>> NextBatch(LogPosition place);
  Task<absl::StatusOr<DecodedBatch>> FindInCopies(LogPosition place);
  Task<absl::StatusOr<Beyond>> LookBeyond(LogPosition place);
  absl::Status CheckNothingIsMissing(const LogPosition& place, const Beyond& beyond) const;
  absl::Status CheckNoSegmentIsMissing(const LogPosition& place, const Beyond& beyond) const;
  absl::Status GiveUpEnd(const absl::Status& missing);

  bool IsBare(const LoggedBatch& batch);
  absl::Status Deliver(DecodedBatch batch);
  absl::Status DeliverDurable(BatchNumber known_durable);
  Task<absl::Status> DeliverTail();
  Task<absl::Status> SettleBareTail();

  Task<absl::StatusOr<LogPosition>> SealSegment(SegmentNumber segment, LogPosition end);

  SegmentFiles& files_;
  OnBatch on_batch_;
  SegmentLog::Known known_;
  SegmentLog::Replayed replayed_;
  std::set<SegmentNumber> passed_;
  std::unique_ptr<SegmentReader> reader_;
  std::deque<DecodedBatch> pending_;    // read, not known to be durable
  std::deque<DecodedBatch> bare_;       // passed on only when something follows
  std::vector<LogPosition> heads_;      // to destroy, in the order of the log
  std::map<VolumeId, Position> marks_;  // commit marks up to where it was read
};

}  // namespace twofold
