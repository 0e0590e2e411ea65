#include "storage/log/log_writer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/log/departure_group.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

// A batch that took long, since the device hung, is no reason to let the next one wait as long.
constexpr int64_t kMaxHoldNanos = 5 * kNanosPerMilli;

}  // namespace

LogWriter::LogWriter(SegmentFiles& files, const SegmentLog::Options& options)
    : files_(files), options_(options) {}

LogWriter::~LogWriter() {
  TF_CHECK(run_.running() == 0 && tasks_.running() == 0) << "Stop() was not awaited";
}

void LogWriter::Start(LogPosition end, Incarnation incarnation) {
  incarnation_ = incarnation;
  end_ = end;
  next_ = end;
  known_durable_ = BatchNumber(end.batch.value() - 1);
  announced_durable_ = known_durable_;
  last_entry_batch_ = known_durable_;
  tasks_.Spawn(PrepareLoop());
  tasks_.Spawn(CoverLoop());
  run_.Spawn(Run());
  if (options_.departures != nullptr) options_.departures->Join(this);
}

Task<void> LogWriter::Stop() {
  stopping_ = true;
  NoteWork();
  co_await run_.Join();
  if (options_.departures != nullptr) options_.departures->Leave(this);
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
  request.queued = Executor::Current().LastTick();
  queue_.push_back(&request);
  queued_blocks_ += payload.size() / kBlockSize;
  NoteWork();
  co_await request.done.Wait();
  if (!request.status.ok()) co_return request.status;
  co_return request.address;
}

Task<absl::Status> LogWriter::Flush() {
  if (!health_.ok()) co_return health_;
  if (unsynced_blocks_ == 0) co_return absl::OkStatus();
  FlushRequest request;
  flushes_.push_back(&request);
  NoteWork();
  co_await request.done.Wait();
  co_return request.status;
}

uint64_t LogWriter::open_segment_blocks_left() const {
  if (!open_.has_value() || leave_) return 0;
  // The empty batch that is due will take its room.
  const bool cover = CoverNeeded();
  return BlocksLeft(open_->file.blocks(), next_.block + (cover ? kCoverBlocks : 0),
                    open_->copies->bytes() + (cover ? kCoverBytes : 0));
}

Task<void> LogWriter::Run() {
  while (true) {
    if (HoldsBack()) {
      co_await HoldBack();
    } else if (HasWork() && (air_.empty() || MayFollow())) {
      stepping_ = true;
      co_await Step();
      stepping_ = false;
    } else if (stopping_ && air_.empty()) {
      break;
    } else {
      work_.Reset();
      co_await work_.Wait();
    }
  }
}

// Something has come that Run may have to see to.
void LogWriter::NoteWork() {
  if (hold_.has_value() && !HoldsBack()) hold_->Cancel();
  if (air_.empty() || MayFollow()) work_.Set();
}

bool LogWriter::HasWork() {
  if (!health_.ok()) return false;
  // Not while one is in flight: what it says counts when it has landed, and each batch with entries
  // left room for one empty batch, not for two.
  if (stopping_ && air_.empty() && CoverNeeded()) cover_wanted_ = true;
  return !queue_.empty() || !flushes_.empty() || cover_wanted_;
}

// A batch costs two kicks of the device, a flush and some waking, however large it is. Clients that
// keep a number of requests in flight come back with new ones when they are answered: a batch that
// left at once would carry those that waited alone, and the two halves would go round in turns. So
// it waits for as many as were answered and are waiting, and no longer than a share of what a
// batch takes.
void LogWriter::PlanHold(const Flight& landed) {
  hold_until_ = kNever;
  expected_ = 0;
  if (!landed.logged.durable || landed.requests.empty() || queue_.empty() || !air_.empty()) return;
  if (holds_skipped_ < holds_to_skip_) {
    ++holds_skipped_;
    return;
  }
  const MonoNanos now = Executor::Current().Now();
  hold_until_ = now + std::min((now - landed.started) * kBatchHoldPercent / 100, kMaxHoldNanos);
  expected_ = queue_.size() + landed.requests.size();
}

bool LogWriter::HoldsBack() const {
  return queue_.size() < expected_ && air_.empty() && flushes_.empty() && health_.ok() &&
         !stopping_;
}

Task<void> LogWriter::HoldBack() {
  ++counters_.held_batches;
  const size_t missing = expected_ - queue_.size();
  hold_.emplace();
  co_await hold_->SleepUntil(hold_until_);
  hold_.reset();
  // Writers that don't come back at once (a rate that somebody sets, a slow link) wait for nothing:
  // then it is tried again now and then only.
  const bool worthwhile =
      expected_ <= queue_.size() || (expected_ - queue_.size()) * 4 < missing * 3;
  holds_skipped_ = 0;
  holds_to_skip_ = worthwhile ? 0 : kBatchHoldPause;
  expected_ = 0;
}

// A second durable batch goes out beside the first when it is no smaller: so batches stay large,
// and the device has something to do while the thread sees to what has come back. Nothing else goes
// beside a batch: a sync, a roll and a plain write find everything before them logged.
bool LogWriter::MayFollow() const {
  if (air_.size() >= kMaxBatchesInFlight || queue_.empty() || !flushes_.empty()) return false;
  const Flight& last = *air_.back();
  if (!last.logged.durable || last.syncs || unsynced_blocks_ > 0) return false;
  return queued_blocks_ >= last.encoder.payload_blocks() && !leave_ && FirstFitsOpenSegment();
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
    if (!open_.has_value() || leave_ || !FirstFitsOpenSegment()) {
      status = co_await Roll();
      // No room was promised for these entries, and none that come later may overtake them.
      if (absl::IsResourceExhausted(status)) FailQueue(status);
      if (!status.ok() && !absl::IsResourceExhausted(status)) Fail(status);
      if (!status.ok() || queue_.empty()) co_return;
    }
  }
  tasks_.Spawn(Fly(BuildBatch()));
  if (options_.departures != nullptr) options_.departures->Departed(this);
}

// What Run would do soon, where that is no more than to send a batch: it may be holding one back,
// or not have had its turn yet.
void LogWriter::Accompany() {
  if (stepping_ || queue_.empty() || !health_.ok()) return;
  if (!air_.empty() && !MayFollow()) return;
  if (!open_.has_value() || leave_ || !FirstFitsOpenSegment()) return;
  expected_ = 0;
  if (hold_.has_value()) hold_->Cancel();
  ++counters_.accompanying_batches;
  tasks_.Spawn(Fly(BuildBatch()));
}

Task<void> LogWriter::Fly(Flight& flight) {
  flight.started = Executor::Current().Now();
  absl::Status status = co_await WriteBatch(flight);
  flight.landed = std::move(status);
  Land();
}

// In the log's order: a batch counts when all before it do. A crash may leave the second of two
// without the first: recovery cuts the log before the first, finds the second among what lies
// beyond the cut and destroys it (R11), and nobody was told of either.
void LogWriter::Land() {
  while (!air_.empty() && air_.front()->landed.has_value()) {
    grounded_.push_back(std::move(air_.front()));
    air_.pop_front();
    Flight& flight = *grounded_.back();
    PlanHold(flight);
    if (flight.landed->ok() && health_.ok()) {
      Complete(flight);
    } else {
      Fail(*flight.landed);
      FailBatch(flight);
    }
  }
  work_.Set();
}

bool LogWriter::FitsOpenSegment(uint64_t descriptor_bytes, uint64_t payload_blocks) const {
  const uint64_t blocks = (descriptor_bytes + kBlockSize - 1) / kBlockSize + payload_blocks;
  return BatchFits(open_->file.blocks(), next_.block, open_->copies->bytes(), blocks,
                   descriptor_bytes);
}

bool LogWriter::FirstFitsOpenSegment() const {
  const LogEntry& first = *queue_.front()->entry;
  return FitsOpenSegment(kCoverBytes + BatchEncoder::EncodedBytes(first),
                         BatchEncoder::PayloadBlocks(first));
}

// Takes entries from the queue while they fit; none at all for an empty batch.
LogWriter::Flight& LogWriter::BuildBatch() {
  if (grounded_.empty()) grounded_.push_back(std::make_unique<Flight>());
  air_.push_back(std::move(grounded_.back()));
  grounded_.pop_back();
  Flight& flight = *air_.back();
  LoggedBatch& logged = flight.logged;
  BatchEncoder& encoder = flight.encoder;
  flight.landed.reset();
  logged.commits = TakeCommits();
  encoder.Begin(logged.commits);
  flight.requests.clear();
  flight.pieces.assign(1, iovec{});  // the descriptor's place
  bool durable = queue_.empty() || !flushes_.empty();
  while (!queue_.empty()) {
    Request* request = queue_.front();
    const LogEntry& entry = *request->entry;
    if (!encoder.Fits(entry) ||
        !FitsOpenSegment(encoder.used_bytes() + BatchEncoder::EncodedBytes(entry),
                         encoder.payload_blocks() + BatchEncoder::PayloadBlocks(entry))) {
      break;
    }
    queue_.pop_front();
    encoder.Add(entry);
    flight.requests.push_back(request);
    if (!request->payload.empty()) flight.pieces.push_back(Piece(request->payload));
    durable = durable || request->durability == Durability::kDurable;
  }
  queued_blocks_ -= encoder.payload_blocks();
  cover_wanted_ = false;
  const uint32_t blocks = encoder.descriptor_blocks() + encoder.payload_blocks();
  if (unsynced_blocks_ + blocks > kMaxUnsyncedBlocks) durable = true;

  BatchHeader header;
  header.batch = next_.batch;
  header.block = next_.block;
  header.previous_checksum = next_.previous_checksum;
  header.incarnation = incarnation_;
  header.known_durable = known_durable_;
  header.catalogue = catalogue_;
  const uint32_t checksum = encoder.Finish(open_->file.identity, header);
  flight.pieces.front() = Piece(encoder.blocks());
  flight.announces = known_durable_;
  logged.start = next_;
  logged.end = {next_.batch.Next(), next_.segment, header.block + blocks, checksum};
  logged.incarnation = incarnation_;
  logged.catalogue = catalogue_;
  logged.durable = durable;
  // A durable write makes no earlier plain write durable, so it is not enough after one.
  flight.syncs = durable && unsynced_blocks_ > 0;
  open_->copies->Add(encoder.blocks().subspan(0, encoder.used_bytes()), logged.start, logged.end);
  next_ = logged.end;
  if (air_.size() > 1) ++counters_.second_batches;
  return flight;
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

Task<absl::Status> LogWriter::WriteBatch(Flight& flight) {
  const LoggedBatch& logged = flight.logged;
  const Durability durability =
      logged.durable && !flight.syncs ? Durability::kDurable : Durability::kWritten;
  const SegmentFile& file = open_->file;
  absl::Status written = co_await file.device->Write(
      file.handle, uint64_t{logged.start.block} * kBlockSize, flight.pieces, durability);
  if (!written.ok()) {
    co_return Annotate(written, absl::StrCat("writing batch ", logged.start.batch.value(), " to ",
                                             file.Describe()));
  }
  if (!flight.syncs) co_return absl::OkStatus();
  absl::Status synced = co_await SyncOpenSegment();
  co_return synced;
}

void LogWriter::Complete(Flight& flight) {
  LoggedBatch& logged = flight.logged;
  const BatchEncoder& encoder = flight.encoder;
  uint32_t payload_block = logged.start.block + encoder.descriptor_blocks();
  logged.items.resize(flight.requests.size());
  for (size_t i = 0; i < flight.requests.size(); ++i) {
    LoggedBatch::Item& item = logged.items[i];
    item.entry = *flight.requests[i]->entry;
    item.payload = {};
    if (!HasPayload(item.entry.kind)) continue;
    item.payload = {logged.start.segment, payload_block};
    flight.requests[i]->address = item.payload;
    payload_block += BatchEncoder::PayloadBlocks(item.entry);
  }
  end_ = logged.end;
  ++counters_.batches;
  counters_.entries += flight.requests.size();
  counters_.payload_blocks += encoder.payload_blocks();
  counters_.descriptor_blocks += encoder.descriptor_blocks();
  if (!flight.requests.empty()) {
    last_entry_batch_ = logged.start.batch;
    idle_ = false;
    cover_due_.Set();
  }
  if (logged.durable) {
    announced_durable_ = flight.announces;
    BecomeDurable();
  } else {
    unsynced_blocks_ += flight.blocks();
  }
  const MonoNanos now = Executor::Current().Tick();
  for (const Request* request : flight.requests) {
    latency_.queue.Add(flight.started - request->queued);
    latency_.write.Add(now - flight.started);
  }
  if (options_.on_logged) options_.on_logged(logged);
  for (Request* request : flight.requests) request->done.Set();
  flight.requests.clear();
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
  queued_blocks_ = 0;
}

// The batch whose write has failed: its buffers are the callers' again.
void LogWriter::FailBatch(Flight& flight) {
  for (Request* request : flight.requests) {
    request->status = health_;
    request->done.Set();
  }
  flight.requests.clear();
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
