// The writing half of the log: one batch in flight, or two durable ones; entries that arrive
// meanwhile form the next (docs/decisions/0002).
//
// Everything that is not durable lies in the open segment: the writer syncs before it leaves one.
// So one sync of one file makes all durable, and `known durable` (R12) is one number.
//
//   Append -> queue -> Step: batch -> device -> on_logged, appenders in order
//                        |
//                        +- the first entry doesn't fit: Roll: next ready segment, seal the old one
//
// Three tasks: Run (batches, syncs), PrepareLoop (ready segments), CoverLoop (idle: R12); and one
// that seals, one segment at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/base/types.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/codec.h"
#include "storage/log/seal_builder.h"
#include "storage/log/segment_files.h"
#include "storage/log/segment_log.h"
#include "storage/runtime/cancel.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task.h"
#include "storage/runtime/task_scope.h"

namespace twofold {

class LogWriter {
 public:
  // `files` and what `options` calls outlive it.
  LogWriter(SegmentFiles& files, const SegmentLog::Options& options);
  // Stop() first, once started.
  ~LogWriter();

  // Goes on from `end`, everything before which is durable, in a new segment.
  void Start(LogPosition end, Incarnation incarnation);

  // Contracts: SegmentLog.
  Task<absl::StatusOr<LogAddress>> Append(const LogEntry& entry,
                                          absl::Span<const std::byte> payload,
                                          Durability durability);
  Task<absl::Status> Flush();
  Task<void> Stop();

  void SetCatalogue(CatalogueReference catalogue) { catalogue_ = catalogue; }
  // Contract: SegmentLog.
  void LeaveSegment(SegmentNumber segment) {
    leave_ = leave_ || (open_.has_value() && segment == end_.segment);
  }
  // Another log of the group has sent a batch: sends one, too, if that is all there is to do.
  void Accompany();
  // Slots were freed.
  void OnFreed() { prepare_.Set(); }

  const LogPosition& end() const { return end_; }
  BatchNumber known_durable() const { return known_durable_; }
  uint64_t open_segment_blocks_left() const;
  const absl::Status& health() const { return health_; }
  const SegmentLog::Counters& counters() const { return counters_; }
  const SegmentLog::Latency& latency() const { return latency_; }

 private:
  // An Append that waits; it lives in the coroutine's frame.
  struct Request {
    const LogEntry* entry = nullptr;
    absl::Span<const std::byte> payload;
    Durability durability = Durability::kDurable;
    MonoNanos queued = 0;  // when it came
    LogAddress address;
    absl::Status status;
    Event done;
  };
  struct FlushRequest {
    absl::Status status;
    Event done;
  };
  // The segment that is being written.
  struct OpenSegment {
    SegmentFile file;
    std::unique_ptr<SealBuilder> copies;  // what is in flight included
  };

  // A batch that is being made or is in flight. Used again: its buffers stay.
  struct Flight {
    Flight() : descriptor(kMaxDescriptorBlocks * kBlockSize), encoder(descriptor.span()) {}
    uint64_t blocks() const { return logged.end.block - logged.start.block; }

    AlignedBytes descriptor;
    BatchEncoder encoder;
    std::vector<Request*> requests;
    std::vector<iovec> pieces;
    LoggedBatch logged;
    MonoNanos started = 0;
    BatchNumber announces;  // what it says is durable
    bool syncs = false;     // it is a plain write and a sync: plain writes came before it
    std::optional<absl::Status> landed;
  };

  // log_writer.cc
  Task<void> Run();
  bool HasWork();
  void NoteWork();
  void PlanHold(const Flight& landed);
  bool HoldsBack() const;
  Task<void> HoldBack();
  bool MayFollow() const;
  Task<void> Step();
  bool FitsOpenSegment(uint64_t descriptor_bytes, uint64_t payload_blocks) const;
  bool FirstFitsOpenSegment() const;
  Flight& BuildBatch();
  std::vector<CommitMark> TakeCommits();
  Task<void> Fly(Flight& flight);
  void Land();
  Task<absl::Status> WriteBatch(Flight& flight);
  void Complete(Flight& flight);
  Task<absl::Status> SyncOpenSegment();
  void BecomeDurable();
  void FailQueue(const absl::Status& why);
  void FailBatch(Flight& flight);
  void FinishFlushes(const absl::Status& status);
  void Fail(const absl::Status& why);
  bool CoverNeeded() const { return announced_durable_ < last_entry_batch_; }

  // log_writer_segments.cc
  Task<absl::Status> Roll();
  Task<void> SealOld(SegmentFile file, std::unique_ptr<SealBuilder> copies, SegmentNumber next);
  size_t WantedReady() const;
  Task<void> PrepareLoop();
  Task<void> CoverLoop();

  SegmentFiles& files_;
  const SegmentLog::Options& options_;
  Incarnation incarnation_;
  absl::Status health_;
  bool stopping_ = false;  // nothing more is taken
  bool closing_ = false;   // nothing is left to write

  std::deque<Request*> queue_;
  uint64_t queued_blocks_ = 0;  // of their payloads
  std::deque<FlushRequest*> flushes_;
  Event work_;

  std::deque<std::unique_ptr<Flight>> air_;  // in flight, in log order
  std::vector<std::unique_ptr<Flight>> grounded_;
  // The next batch waits for `expected_` requests (0: it doesn't) until `hold_until_`.
  size_t expected_ = 0;
  MonoNanos hold_until_ = kNever;
  std::optional<CancelSource> hold_;  // while it does
  uint32_t holds_skipped_ = 0;
  uint32_t holds_to_skip_ = 0;
  std::vector<CommitMark> waiting_marks_;

  std::optional<OpenSegment> open_;
  bool stepping_ = false;  // Run is within Step
  bool leave_ = false;     // no batch with entries goes into it any more
  LogPosition end_;        // of what is logged
  LogPosition next_;       // of the next batch: behind what is in flight
  BatchNumber known_durable_;
  BatchNumber announced_durable_;  // what a durable batch says is durable
  BatchNumber last_entry_batch_;
  uint64_t unsynced_blocks_ = 0;  // written to the open segment, not durable
  CatalogueReference catalogue_;

  std::deque<SegmentNumber> ready_;
  bool preparing_ = false;
  absl::Status preparation_;  // of the last attempt
  bool idle_ = false;         // no entries for a while: the time to prepare segments ahead
  Event prepare_;             // there may be something to prepare
  Event ready_changed_;       // a preparation has ended
  bool sealing_ = false;
  Event sealed_;
  Event cover_due_;  // a batch with entries was logged
  bool cover_wanted_ = false;
  CancelSource close_;
  TaskScope run_;  // Run alone: it ends before the others
  TaskScope tasks_;
  SegmentLog::Counters counters_;
  SegmentLog::Latency latency_;
};

}  // namespace twofold
