#include "storage/log/log_recovery.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/seal_builder.h"

namespace twofold {
namespace {

// Batches that were not durable lie within this many blocks behind the last one that was.
constexpr uint32_t kLookBlocks =
    kMaxUnsyncedBlocks + 2 * (kMaxBatchPayloadBlocks + kMaxDescriptorBlocks);

constexpr char kHeal[] = "This copy must be healed from the other set";
constexpr char kLostEnd[] = "twofold/lost-end";

absl::Status LostEnd(std::string what) {
  absl::Status status = absl::DataLossError(absl::StrCat(what, ". ", kHeal));
  status.SetPayload(kLostEnd, absl::Cord("lost"));
  return status;
}

std::string Describe(const LogPosition& place) {
  return absl::StrCat("batch ", place.batch.value(), " at block ", place.block, " of segment ",
                      place.segment.value());
}

}  // namespace

bool IsLostEnd(const absl::Status& status) {
  return !status.ok() && status.GetPayload(kLostEnd).has_value();
}

Task<absl::StatusOr<SegmentLog::Replayed>> LogRecovery::Replay(LogPosition from, OnBatch on_batch,
                                                               SegmentLog::Known known) {
  on_batch_ = std::move(on_batch);
  known_ = known;
  replayed_ = {};
  replayed_.damage = files_.damage();
  passed_.clear();
  pending_.clear();
  bare_.clear();
  heads_.clear();
  marks_.clear();
  reader_.reset();

  absl::Status status = co_await SyncFrom(from.segment);
  TF_CO_RETURN_IF_ERROR(status);
  if (from.batch == BatchNumber()) {
    absl::StatusOr<LogPosition> beginning = co_await FindBeginning();
    TF_CO_RETURN_IF_ERROR(beginning);
    from = *beginning;
  } else if (files_.Find(from.segment) == nullptr) {
    TF_CO_RETURN_IF_ERROR(GiveUpEnd(absl::DataLossError(absl::StrCat(
        "the log has no ", Describe(from), ", where the replay has to start. ", kHeal))));
  } else {
    passed_.insert(from.segment);
  }
  replayed_.cut = from;
  replayed_.needed_from = from;
  LogPosition place = from;
  while (true) {
    absl::StatusOr<DecodedBatch> batch = co_await NextBatch(place);
    if (absl::IsNotFound(batch.status())) break;
    TF_CO_RETURN_IF_ERROR(batch);
    const BatchNumber known_durable = batch->known_durable;
    place = batch->batch.end;
    pending_.push_back(*std::move(batch));
    TF_CO_RETURN_IF_ERROR(DeliverDurable(known_durable));
  }
  absl::StatusOr<Beyond> beyond = co_await LookBeyond(place);
  TF_CO_RETURN_IF_ERROR(beyond);
  const absl::Status complete = CheckNothingIsMissing(place, *beyond);
  if (!complete.ok()) TF_CO_RETURN_IF_ERROR(GiveUpEnd(complete));
  TF_CO_RETURN_IF_ERROR(DeliverDurable(std::max(beyond->known_durable, known_.durable)));
  heads_ = std::move(beyond->heads);
  status = co_await DeliverTail();
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await SettleBareTail();
  TF_CO_RETURN_IF_ERROR(status);
  replayed_.known_durable = BatchNumber(replayed_.cut.batch.value() - 1);
  co_return replayed_;
}

// R13: a dead process may have left batches that are readable and not durable.
Task<absl::Status> LogRecovery::SyncFrom(SegmentNumber first) {
  for (SegmentNumber segment : files_.Numbers()) {
    if (segment < first) continue;
    const SegmentFile& file = *files_.Find(segment);
    absl::Status synced = co_await file.device->Sync(file.handle);
    TF_CO_RETURN_IF_ERROR(Annotate(synced, absl::StrCat("syncing ", file.Describe())));
  }
  co_return absl::OkStatus();
}

SegmentReader& LogRecovery::ReaderOf(SegmentNumber segment) {
  if (reader_ == nullptr || reader_->file().number() != segment) {
    reader_ = std::make_unique<SegmentReader>(*files_.Find(segment));
  }
  return *reader_;
}

std::vector<SegmentNumber> LogRecovery::SegmentsAfter(SegmentNumber segment) const {
  std::vector<SegmentNumber> numbers = files_.Numbers();
  numbers.erase(numbers.begin(), std::upper_bound(numbers.begin(), numbers.end(), segment));
  return numbers;
}

// The place of the oldest batch that is there; of batch 1 in a log without any.
Task<absl::StatusOr<LogPosition>> LogRecovery::FindBeginning() {
  for (SegmentNumber segment : files_.Numbers()) {
    absl::StatusOr<DecodedBatch> first = co_await ReaderOf(segment).ReadBatch(1);
    if (absl::IsNotFound(first.status())) {
      absl::StatusOr<std::vector<DecodedBatch>> copies = co_await ReaderOf(segment).ReadCopies();
      if (absl::IsNotFound(copies.status())) continue;
      TF_CO_RETURN_IF_ERROR(copies);
      first = std::move(copies->front());
    }
    TF_CO_RETURN_IF_ERROR(first);
    co_return first->batch.start;
  }
  co_return LogPosition{BatchNumber(1), SegmentNumber(), 0, 0};
}

Task<absl::StatusOr<DecodedBatch>> LogRecovery::NextBatch(LogPosition place) {
  absl::Status device;  // the first place that can't be read, if the batch is nowhere else
  if (files_.Find(place.segment) != nullptr) {
    absl::StatusOr<DecodedBatch> batch = co_await ReaderOf(place.segment).ReadBatch(place.block);
    if (batch.ok() && Continues(place, batch->batch)) co_return batch;
    if (!batch.ok() && !absl::IsNotFound(batch.status())) device = batch.status();
  }
  for (SegmentNumber segment : SegmentsAfter(place.segment)) {
    absl::StatusOr<DecodedBatch> batch = co_await ReaderOf(segment).ReadBatch(1);
    if (batch.ok() && Continues(place, batch->batch)) co_return batch;
    if (!batch.ok() && !absl::IsNotFound(batch.status()) && device.ok()) device = batch.status();
  }
  absl::StatusOr<DecodedBatch> copy = co_await FindInCopies(place);
  if (absl::IsNotFound(copy.status()) && !device.ok()) co_return device;
  co_return copy;
}

Task<absl::StatusOr<DecodedBatch>> LogRecovery::FindInCopies(LogPosition place) {
  std::vector<SegmentNumber> segments = SegmentsAfter(place.segment);
  if (files_.Find(place.segment) != nullptr) segments.insert(segments.begin(), place.segment);
  for (SegmentNumber segment : segments) {
    absl::StatusOr<SealRecord> seal = co_await ReaderOf(segment).ReadTrailer();
    if (absl::IsNotFound(seal.status())) continue;
    TF_CO_RETURN_IF_ERROR(seal);
    if (place.batch < seal->first_batch || place.batch > seal->last_batch) continue;
    absl::StatusOr<std::vector<DecodedBatch>> copies = co_await ReaderOf(segment).ReadCopies();
    if (absl::IsNotFound(copies.status())) continue;
    TF_CO_RETURN_IF_ERROR(copies);
    DecodedBatch& copy = (*copies)[place.batch.value() - seal->first_batch.value()];
    if (!Continues(place, copy.batch)) continue;
    replayed_.damage.push_back({segment, copy.batch.start.block,
                                absl::StrCat("the descriptor of ", Describe(copy.batch.start),
                                             " is damaged; its copy at the segment's end is used"),
                                ""});
    co_return std::move(copy);
  }
  co_return absl::NotFoundError("no copy");
}

Task<absl::StatusOr<LogRecovery::Beyond>> LogRecovery::LookBeyond(LogPosition place) {
  Beyond beyond;
  std::vector<SegmentNumber> segments = SegmentsAfter(place.segment);
  if (files_.Find(place.segment) != nullptr) segments.insert(segments.begin(), place.segment);
  for (SegmentNumber segment : segments) {
    const uint32_t first = segment == place.segment ? place.block : 1;
    absl::StatusOr<std::vector<DecodedBatch>> batches =
        co_await ReaderOf(segment).Scan(first, first + kLookBlocks);
    TF_CO_RETURN_IF_ERROR(batches);
    for (const DecodedBatch& batch : *batches) {
      beyond.heads.push_back(batch.batch.start);
      beyond.known_durable = std::max(beyond.known_durable, batch.known_durable);
      replayed_.last_incarnation = std::max(replayed_.last_incarnation, batch.batch.incarnation);
    }
    absl::StatusOr<SealRecord> seal = co_await ReaderOf(segment).ReadTrailer();
    if (absl::IsNotFound(seal.status())) continue;
    TF_CO_RETURN_IF_ERROR(seal);
    beyond.known_durable = std::max(beyond.known_durable, seal->last_batch);
    beyond.opened = std::max(beyond.opened, seal->next_segment);
  }
  co_return beyond;
}

// R12: is this the end of the log, or a hole in it?
absl::Status LogRecovery::CheckNothingIsMissing(const LogPosition& place,
                                                const Beyond& beyond) const {
  const BatchNumber known_durable = std::max(beyond.known_durable, known_.durable);
  if (known_durable >= place.batch) {
    const std::string what = absl::StrCat("the log is damaged: ", Describe(place),
                                          " is missing, and everything up to batch ",
                                          known_durable.value(), " was durable");
    // Where the log goes on behind it in other segments only, or not at all where the map comes
    // from, the map may be the one that is not of today.
    const bool hole =
        std::any_of(beyond.heads.begin(), beyond.heads.end(),
                    [&place](const LogPosition& head) { return head.segment == place.segment; });
    if (hole || beyond.known_durable < place.batch) return LostEnd(what);
    return absl::DataLossError(absl::StrCat(what, ". ", kHeal));
  }
  if (files_.IsShort(place.segment)) {
    return LostEnd(absl::StrCat("the log ends at ", Describe(place), ", and ",
                                files_.Find(place.segment)->Describe(),
                                " is cut off: its end is lost"));
  }
  TF_RETURN_IF_ERROR(CheckNoSegmentIsMissing(place, beyond));
  const std::vector<std::string> unknown = files_.UnknownBehind(place.segment);
  if (!unknown.empty()) {
    return LostEnd(absl::StrCat(
        "the log ends at ", Describe(place),
        ", but its end could be in a file that is damaged: ", absl::StrJoin(unknown, ", ")));
  }
  return absl::OkStatus();
}

// A segment that was opened is there, with what was written into it first, until a checkpoint lies
// behind it. What trailers and the superblock say of that holds while no open was under way: once
// it has found the end, an open recycles what lies behind it, until the superblock knows where it
// began.
absl::Status LogRecovery::CheckNoSegmentIsMissing(const LogPosition& place,
                                                  const Beyond& beyond) const {
  if (known_.opened == SegmentNumber()) return absl::OkStatus();
  const bool begun = known_.opened > place.segment;
  const bool gone = beyond.opened > place.segment && files_.Find(beyond.opened) == nullptr;
  if (!begun && !gone) return absl::OkStatus();
  const SegmentNumber missing = begun ? known_.opened : beyond.opened;
  return LostEnd(absl::StrCat("the log ends at ", Describe(place), ", and segment ",
                              missing.value(), ", which was written after it, is ",
                              files_.Find(missing) == nullptr ? "gone" : "damaged"));
}

absl::Status LogRecovery::GiveUpEnd(const absl::Status& missing) {
  if (!known_.give_up_end) return missing;
  replayed_.gave_up_end = true;
  replayed_.damage.push_back(
      {SegmentNumber(), 0, absl::StrCat("given up: ", std::string(missing.message())), ""});
  return absl::OkStatus();
}

absl::Status LogRecovery::DeliverDurable(BatchNumber known_durable) {
  while (!pending_.empty() && pending_.front().batch.start.batch <= known_durable) {
    DecodedBatch batch = std::move(pending_.front());
    pending_.pop_front();
    TF_RETURN_IF_ERROR(Deliver(std::move(batch)));
  }
  return absl::OkStatus();
}

// The batches of which nobody says that they were durable: a payload that fails is a torn write.
Task<absl::Status> LogRecovery::DeliverTail() {
  while (!pending_.empty()) {
    const SegmentNumber segment = pending_.front().batch.start.segment;
    absl::StatusOr<bool> verifies =
        co_await ReaderOf(segment).PayloadVerifies(pending_.front().batch);
    TF_CO_RETURN_IF_ERROR(verifies);
    if (!*verifies) break;
    DecodedBatch batch = std::move(pending_.front());
    pending_.pop_front();
    TF_CO_RETURN_IF_ERROR(Deliver(std::move(batch)));
  }
  std::vector<LogPosition> torn;
  for (const DecodedBatch& batch : pending_) {
    torn.push_back(batch.batch.start);
    replayed_.last_incarnation = std::max(replayed_.last_incarnation, batch.batch.incarnation);
  }
  pending_.clear();
  heads_.insert(heads_.begin(), torn.begin(), torn.end());
  co_return absl::OkStatus();
}

// Cut records and the like, empty batches, and commit marks without news: what opening a store
// leaves. A checkpoint that lies behind a batch counts on it: its numbers are not given again.
bool LogRecovery::IsBare(const LoggedBatch& batch) {
  if (batch.start.batch <= known_.durable) return false;
  const auto is_known = [this](const CommitMark& mark) {
    const auto found = marks_.find(mark.volume);
    return found != marks_.end() && mark.position <= found->second;
  };
  if (!std::all_of(batch.commits.begin(), batch.commits.end(), is_known)) return false;
  return std::all_of(batch.items.begin(), batch.items.end(), [this](const LoggedBatch::Item& item) {
    return item.entry.kind == EntryKind::kCut ||
           (known_.goes_without_saying && known_.goes_without_saying(item.entry));
  });
}

// Passes the batch on; segments that begin bare wait until something else follows.
absl::Status LogRecovery::Deliver(DecodedBatch batch) {
  replayed_.last_incarnation = std::max(replayed_.last_incarnation, batch.batch.incarnation);
  const bool begins_segment = batch.batch.start.block == 1;
  const bool is_bare = (begins_segment || !bare_.empty()) && IsBare(batch.batch);
  for (const CommitMark& mark : batch.batch.commits) {
    marks_[mark.volume] = std::max(marks_[mark.volume], mark.position);
  }
  if (is_bare) {
    bare_.push_back(std::move(batch));
    return absl::OkStatus();
  }
  bare_.push_back(std::move(batch));
  while (!bare_.empty()) {
    LoggedBatch& next = bare_.front().batch;
    next.durable = true;
    TF_RETURN_IF_ERROR(on_batch_(next));
    replayed_.cut = next.end;
    ++replayed_.batches;
    passed_.insert(next.start.segment);
    bare_.pop_front();
  }
  return absl::OkStatus();
}

// A log that ends with segments that hold nothing is cut before them, those excepted that were
// sealed: their trailers say that they were there.
Task<absl::Status> LogRecovery::SettleBareTail() {
  size_t keep = 0;
  for (size_t i = 0; i < bare_.size(); ++i) {
    const SegmentNumber segment = bare_[i].batch.start.segment;
    const bool last_of_segment =
        i + 1 == bare_.size() || bare_[i + 1].batch.start.segment != segment;
    if (!last_of_segment) continue;
    absl::StatusOr<SealRecord> seal = co_await ReaderOf(segment).ReadTrailer();
    if (seal.ok()) keep = i + 1;
    if (!seal.ok() && !absl::IsNotFound(seal.status())) co_return seal.status();
  }
  std::vector<LogPosition> heads;
  for (size_t i = 0; i < bare_.size(); ++i) {
    LoggedBatch& batch = bare_[i].batch;
    if (i >= keep) {
      heads.push_back(batch.start);
      for (const LoggedBatch::Item& item : batch.items) {
        replayed_.cut_off_own = replayed_.cut_off_own || item.entry.kind != EntryKind::kCut;
      }
      continue;
    }
    batch.durable = true;
    TF_CO_RETURN_IF_ERROR(on_batch_(batch));
    replayed_.cut = batch.end;
    ++replayed_.batches;
    passed_.insert(batch.start.segment);
  }
  bare_.clear();
  heads_.insert(heads_.begin(), heads.begin(), heads.end());
  co_return absl::OkStatus();
}

// From the last one to the first, each durable before the next: a crash in between leaves a log
// that ends as this one did, or earlier among batches that hold nothing. In the other order a batch
// that is left could say that one which is gone was durable.
Task<absl::Status> LogRecovery::DestroyBeyondCut() {
  const AlignedBytes zeros(kBlockSize);
  const iovec piece = Piece(zeros.span());
  while (!heads_.empty()) {
    const LogPosition head = heads_.back();
    const SegmentFile& file = *files_.Find(head.segment);
    absl::Status written =
        co_await file.device->Write(file.handle, uint64_t{head.block} * kBlockSize,
                                    absl::MakeConstSpan(&piece, 1), Durability::kDurable);
    TF_CO_RETURN_IF_ERROR(
        Annotate(written, absl::StrCat("destroying ", Describe(head), " beyond the log's end")));
    heads_.pop_back();
  }
  reader_.reset();  // it may have kept what is gone now
  co_return absl::OkStatus();
}

Task<absl::Status> LogRecovery::SealOpenSegments(std::set<SegmentNumber> in_use,
                                                 std::function<void(SegmentNumber)> on_sealed) {
  reader_.reset();
  std::vector<SegmentNumber> newest;
  for (auto segment = in_use.rbegin(); segment != in_use.rend() && newest.size() < 2; ++segment) {
    if (*segment <= replayed_.cut.segment) newest.push_back(*segment);
  }
  // The later one first: where it begins tells where the earlier one has to end.
  LogPosition end = replayed_.cut;
  for (SegmentNumber segment : newest) {
    absl::StatusOr<LogPosition> begin = co_await SealSegment(segment, end);
    TF_CO_RETURN_IF_ERROR(begin);
    if (on_sealed) on_sealed(segment);
    end = *begin;
  }
  co_return absl::OkStatus();
}

// Returns where the segment begins. `end`: its end, or the same place at the beginning of the next
// one.
Task<absl::StatusOr<LogPosition>> LogRecovery::SealSegment(SegmentNumber segment, LogPosition end) {
  const SegmentFile& file = *files_.Find(segment);
  // A trailer that a dead process wrote may not be durable.
  absl::Status status = co_await file.device->Sync(file.handle);
  TF_CO_RETURN_IF_ERROR(Annotate(status, absl::StrCat("syncing ", file.Describe())));
  SegmentReader& reader = ReaderOf(segment);
  absl::StatusOr<std::vector<DecodedBatch>> copies = co_await reader.ReadCopies();
  if (copies.ok()) co_return copies->front().batch.start;
  if (!absl::IsNotFound(copies.status())) co_return copies.status();
  SealBuilder seal(file.identity);
  LogPosition begin;
  if (files_.IsShort(segment)) co_return begin;  // damage, as below
  LogPosition next{end.batch, segment, 1, 0};
  while (true) {
    absl::StatusOr<DecodedBatch> batch = co_await reader.ReadBatch(next.block);
    if (absl::IsNotFound(batch.status())) break;
    TF_CO_RETURN_IF_ERROR(batch);
    if (seal.empty()) begin = batch->batch.start;
    if (!seal.empty() && !Continues(next, batch->batch)) break;
    next = batch->batch.end;
    seal.Add(reader.last_descriptor(), batch->batch.start, next);
  }
  // A segment whose chain breaks in the middle is left as it is: damage, which healing sees to.
  const bool complete = next.batch == end.batch && next.previous_checksum == end.previous_checksum;
  if (seal.empty() || !complete) co_return begin;
  status = co_await seal.Write(file, SegmentNumber());
  TF_CO_RETURN_IF_ERROR(status);
  co_return begin;
}

}  // namespace twofold
