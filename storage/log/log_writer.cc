#include "storage/log/log_writer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"

namespace twofold {

LogWriter::LogWriter(SegmentFiles& files, const SegmentLog::Options& options)
    : files_(files),
      options_(options),
      descriptor_(kMaxDescriptorBlocks * kBlockSize),
      encoder_(descriptor_.span()) {}

LogWriter::~LogWriter() {
  TF_CHECK(run_.running() == 0 && tasks_.running() == 0) << "Stop() was not awaited";
}

void LogWriter::Start(LogPosition end, Incarnation incarnation) {
  incarnation_ = incarnation;
  end_ = end;
  known_durable_ = BatchNumber(end.batch.value() - 1);
  announced_durable_ = known_durable_;
  last_entry_batch_ = known_durable_;
  tasks_.Spawn(PrepareLoop());
  tasks_.Spawn(CoverLoop());
  run_.Spawn(Run());
}

Task<void> LogWriter::Stop() {
  stopping_ = true;
  work_.Set();
  co_await run_.Join();
  closing_ = true;
  close_.Cancel();
  prepare_.Set();
  cover_due_.Set();
  co_await tasks_.Join();
}

Task<absl::StatusOr<LogAddress>> LogWriter::Append(const LogEntry& entry,
                                                   absl::Span<const std::byte> payload,
                                                   Durability durability) {
  if (!health_.ok()) co_return health_;
  if (stopping_) co_return absl::UnavailableError("the log is closed");
  TF_CO_RETURN_IF_ERROR(CheckEntry(entry));
  TF_CHECK_EQ(payload.size(), size_t{BatchEncoder::PayloadBlocks(entry)} * kBlockSize);
  Request request;
  request.entry = &entry;
  request.payload = payload;
  request.durability = durability;
  queue_.push_back(&request);
  work_.Set();
  co_await request.done.Wait();
  if (!request.status.ok()) co_return request.status;
  co_return request.address;
}

Task<absl::Status> LogWriter::Flush() {
  if (!health_.ok()) co_return health_;
  if (unsynced_blocks_ == 0) co_return absl::OkStatus();
  FlushRequest request;
  flushes_.push_back(&request);
  work_.Set();
  co_await request.done.Wait();
  co_return request.status;
}

uint64_t LogWriter::open_segment_blocks_left() const {
  if (!open_.has_value() || leave_) return 0;
  // The empty batch that is due will take its room.
  const bool cover = CoverNeeded();
  return BlocksLeft(open_->file.blocks(), open_->next_block + (cover ? kCoverBlocks : 0),
                    open_->copies->bytes() + (cover ? kCoverBytes : 0));
}

Task<void> LogWriter::Run() {
  while (true) {
    if (HasWork()) {
      co_await Step();
    } else if (stopping_) {
      break;
    } else {
      work_.Reset();
      co_await work_.Wait();
    }
  }
}

bool LogWriter::HasWork() {
  if (!health_.ok()) return false;
  if (stopping_ && CoverNeeded()) cover_wanted_ = true;
  return !queue_.empty() || !flushes_.empty() || cover_wanted_;
}

// One batch, or one sync.
Task<void> LogWriter::Step() {
  absl::Status status;
  if (queue_.empty()) {
    // A flush; and an empty batch has something to say only after it.
    if (unsynced_blocks_ > 0) status = co_await SyncOpenSegment();
    if (!status.ok()) {
      Fail(status);
      co_return;
    }
    BecomeDurable();
    if (!cover_wanted_ || !queue_.empty()) co_return;
  } else {
    const LogEntry& first = *queue_.front()->entry;
    if (!open_.has_value() || leave_ ||
        !FitsOpenSegment(kCoverBytes + BatchEncoder::EncodedBytes(first),
                         BatchEncoder::PayloadBlocks(first))) {
      status = co_await Roll();
      // No room was promised for these entries, and none that come later may overtake them.
      if (absl::IsResourceExhausted(status)) FailQueue(status);
      if (!status.ok() && !absl::IsResourceExhausted(status)) Fail(status);
      if (!status.ok() || queue_.empty()) co_return;
    }
  }
  BuildBatch();
  status = co_await WriteBatch();
  if (status.ok() && health_.ok()) {
    Complete();
  } else {
    Fail(status);
    FailBatch();
  }
}

bool LogWriter::FitsOpenSegment(uint64_t descriptor_bytes, uint64_t payload_blocks) const {
  const uint64_t blocks = (descriptor_bytes + kBlockSize - 1) / kBlockSize + payload_blocks;
  return BatchFits(open_->file.blocks(), open_->next_block, open_->copies->bytes(), blocks,
                   descriptor_bytes);
}

// Takes entries from the queue while they fit; none at all for an empty batch.
void LogWriter::BuildBatch() {
  logged_.commits = TakeCommits();
  encoder_.Begin(logged_.commits);
  batch_.clear();
  pieces_.assign(1, iovec{});  // the descriptor's place
  bool durable = queue_.empty() || !flushes_.empty();
  while (!queue_.empty()) {
    Request* request = queue_.front();
    const LogEntry& entry = *request->entry;
    if (!encoder_.Fits(entry) ||
        !FitsOpenSegment(encoder_.used_bytes() + BatchEncoder::EncodedBytes(entry),
                         encoder_.payload_blocks() + BatchEncoder::PayloadBlocks(entry))) {
      break;
    }
    queue_.pop_front();
    encoder_.Add(entry);
    batch_.push_back(request);
    if (!request->payload.empty()) pieces_.push_back(Piece(request->payload));
    durable = durable || request->durability == Durability::kDurable;
  }
  cover_wanted_ = false;
  const uint32_t blocks = encoder_.descriptor_blocks() + encoder_.payload_blocks();
  if (unsynced_blocks_ + blocks > kMaxUnsyncedBlocks) durable = true;

  BatchHeader header;
  header.batch = end_.batch;
  header.block = open_->next_block;
  header.previous_checksum = end_.previous_checksum;
  header.incarnation = incarnation_;
  header.known_durable = known_durable_;
  header.catalogue = catalogue_;
  const uint32_t checksum = encoder_.Finish(open_->file.identity, header);
  pieces_.front() = Piece(encoder_.blocks());
  batch_announces_ = known_durable_;
  logged_.start = end_;
  logged_.end = {end_.batch.Next(), end_.segment, header.block + blocks, checksum};
  logged_.incarnation = incarnation_;
  logged_.catalogue = catalogue_;
  logged_.durable = durable;
}

// New marks replace waiting ones of the same volume; what doesn't fit waits on.
std::vector<CommitMark> LogWriter::TakeCommits() {
  std::vector<CommitMark> marks =
      options_.take_commits ? options_.take_commits() : std::vector<CommitMark>();
  for (const CommitMark& waiting : waiting_marks_) {
    const bool replaced = std::any_of(marks.begin(), marks.end(), [&](const CommitMark& mark) {
      return mark.volume == waiting.volume;
    });
    if (!replaced) marks.push_back(waiting);
  }
  waiting_marks_.clear();
  if (marks.size() > kMaxBatchCommitMarks) {
    // The oldest ones stand at the end: they go first.
    waiting_marks_.assign(marks.begin(), marks.end() - kMaxBatchCommitMarks);
    marks.erase(marks.begin(), marks.end() - kMaxBatchCommitMarks);
  }
  return marks;
}

Task<absl::Status> LogWriter::WriteBatch() {
  // A durable write makes no earlier plain write durable, so it is not enough after one.
  const bool sync = logged_.durable && unsynced_blocks_ > 0;
  const Durability durability =
      logged_.durable && !sync ? Durability::kDurable : Durability::kWritten;
  const SegmentFile& file = open_->file;
  absl::Status written = co_await file.device->Write(
      file.handle, uint64_t{open_->next_block} * kBlockSize, pieces_, durability);
  if (!written.ok()) {
    co_return Annotate(written, absl::StrCat("writing batch ", logged_.start.batch.value(), " to ",
                                             file.Describe()));
  }
  if (!sync) co_return absl::OkStatus();
  absl::Status synced = co_await SyncOpenSegment();
  co_return synced;
}

void LogWriter::Complete() {
  open_->copies->Add(encoder_.blocks().subspan(0, encoder_.used_bytes()), logged_.start,
                     logged_.end);
  uint32_t payload_block = open_->next_block + encoder_.descriptor_blocks();
  const uint32_t blocks = logged_.end.block - open_->next_block;
  logged_.items.resize(batch_.size());
  for (size_t i = 0; i < batch_.size(); ++i) {
    LoggedBatch::Item& item = logged_.items[i];
    item.entry = *batch_[i]->entry;
    item.payload = {};
    if (!HasPayload(item.entry.kind)) continue;
    item.payload = {end_.segment, payload_block};
    batch_[i]->address = item.payload;
    payload_block += BatchEncoder::PayloadBlocks(item.entry);
  }
  open_->next_block = logged_.end.block;
  end_ = logged_.end;
  ++counters_.batches;
  counters_.entries += batch_.size();
  counters_.payload_blocks += encoder_.payload_blocks();
  counters_.descriptor_blocks += encoder_.descriptor_blocks();
  if (!batch_.empty()) {
    last_entry_batch_ = logged_.start.batch;
    idle_ = false;
    cover_due_.Set();
  }
  if (logged_.durable) {
    announced_durable_ = batch_announces_;
    BecomeDurable();
  } else {
    unsynced_blocks_ += blocks;
  }
  if (options_.on_logged) options_.on_logged(logged_);
  for (Request* request : batch_) request->done.Set();
  batch_.clear();
}

Task<absl::Status> LogWriter::SyncOpenSegment() {
  ++counters_.flushes;
  const SegmentFile& file = open_->file;
  absl::Status synced = co_await file.device->Sync(file.handle);
  co_return Annotate(synced, absl::StrCat("syncing ", file.Describe()));
}

// Everything that was logged is durable now.
void LogWriter::BecomeDurable() {
  unsynced_blocks_ = 0;
  known_durable_ = BatchNumber(end_.batch.value() - 1);
  FinishFlushes(absl::OkStatus());
}

void LogWriter::FinishFlushes(const absl::Status& status) {
  for (FlushRequest* flush : flushes_) {
    flush->status = status;
    flush->done.Set();
  }
  flushes_.clear();
}

void LogWriter::FailQueue(const absl::Status& why) {
  for (Request* request : queue_) {
    request->status = why;
    request->done.Set();
  }
  queue_.clear();
}

// The batch whose write has failed: its buffers are the callers' again.
void LogWriter::FailBatch() {
  for (Request* request : batch_) {
    request->status = health_;
    request->done.Set();
  }
  batch_.clear();
}

void LogWriter::Fail(const absl::Status& why) {
  if (!health_.ok()) return;
  health_ = absl::UnavailableError(absl::StrCat(
      "the log has stopped, what is on its disk is unknown: ", std::string(why.message())));
  FailQueue(health_);
  FinishFlushes(health_);
  prepare_.Set();
  cover_due_.Set();
  ready_changed_.WakeAll();
  sealed_.WakeAll();
  if (options_.on_failed) options_.on_failed(health_);
}

}  // namespace twofold
