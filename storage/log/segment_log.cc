#include "storage/log/segment_log.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/base/check.h"
#include "storage/base/prng.h"
#include "storage/base/status_macros.h"
#include "storage/log/codec.h"
#include "storage/log/log_recovery.h"
#include "storage/log/log_writer.h"
#include "storage/log/segment_check.h"
#include "storage/log/segment_files.h"
#include "storage/log/segment_reader.h"
#include "storage/runtime/sync.h"

namespace twofold {
namespace {

Task<absl::Status> AppendTo(LogWriter* writer, const LogEntry* entry) {
  const absl::StatusOr<LogAddress> logged =
      co_await writer->Append(*entry, {}, Durability::kDurable);
  co_return logged.status();
}

}  // namespace

class SegmentLog::Impl {
 public:
  Impl(std::unique_ptr<SegmentFiles> files_in, Options options_in)
      : options(std::move(options_in)),
        files(std::move(files_in)),
        recovery(std::make_unique<LogRecovery>(*files)),
        writer(*files, options) {}

  std::vector<LoggedBatch> ToLogged(std::vector<DecodedBatch> batches) const;
  Task<absl::StatusOr<bool>> EndsThere(SegmentReader* reader,
                                       const std::vector<DecodedBatch>* batches);

  const Options options;
  const std::unique_ptr<SegmentFiles> files;
  std::unique_ptr<LogRecovery> recovery;  // until StartAppending
  LogWriter writer;
};

Task<absl::StatusOr<std::unique_ptr<SegmentLog>>> SegmentLog::Open(
    std::vector<BlockDevice*> devices, Options options) {
  TF_CHECK_EQ(options.store_id.size(), sizeof(format::RawId));
  SegmentFiles::Options file_options;
  std::copy(options.store_id.begin(), options.store_id.end(), file_options.store_id.begin());
  file_options.segment_bytes = options.segment_bytes;
  file_options.max_segments = options.max_segments;
  file_options.number_floor = options.number_floor;
  file_options.random = options.random ? options.random : SecureRandom64;
  absl::StatusOr<std::unique_ptr<SegmentFiles>> files =
      co_await SegmentFiles::Open(std::move(devices), std::move(file_options));
  TF_CO_RETURN_IF_ERROR(files);
  co_return std::unique_ptr<SegmentLog>(
      new SegmentLog(std::make_unique<Impl>(*std::move(files), std::move(options))));
}

SegmentLog::SegmentLog(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SegmentLog::~SegmentLog() = default;

std::vector<SegmentNumber> SegmentLog::Segments() const { return impl_->files->Numbers(); }

Task<absl::StatusOr<SegmentLog::Replayed>> SegmentLog::Replay(
    LogPosition from, std::function<absl::Status(const LoggedBatch&)> on_batch, Known known) {
  TF_CHECK(impl_->recovery != nullptr) << "Replay after StartAppending";
  absl::StatusOr<Replayed> replayed =
      co_await impl_->recovery->Replay(from, std::move(on_batch), known);
  co_return replayed;
}

Task<absl::Status> SegmentLog::StartAppending(Replayed replayed, Incarnation incarnation,
                                              std::vector<SegmentNumber> in_use,
                                              std::vector<LogEntry> say) {
  TF_CHECK(impl_->recovery != nullptr) << "StartAppending twice";
  if (incarnation <= replayed.last_incarnation) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("incarnation ", incarnation.value(), " was used: the log has ",
                     replayed.last_incarnation.value(), " already"));
  }
  const std::unique_ptr<LogRecovery> recovery = std::move(impl_->recovery);
  std::set<SegmentNumber> keep(in_use.begin(), in_use.end());
  for (SegmentNumber segment : recovery->passed()) {
    if (segment >= replayed.needed_from.segment) keep.insert(segment);
  }
  // The replay has met all that it needs: what is missing holds only blocks.
  std::erase_if(keep,
                [this](SegmentNumber segment) { return impl_->files->Find(segment) == nullptr; });
  // Up to the last step a crash leaves a log that recovers to the same cut.
  absl::Status status = co_await recovery->DestroyBeyondCut();
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await recovery->SealOpenSegments(keep, impl_->options.on_sealed);
  TF_CO_RETURN_IF_ERROR(status);
  impl_->files->Keep(keep);
  impl_->writer.Start(replayed.cut, incarnation);
  LogEntry cut;
  cut.kind = EntryKind::kCut;
  cut.body = EncodeCut({replayed.cut, replayed.last_incarnation});
  // All are in the queue before the writer takes from it: one batch (a few small entries).
  std::vector<Task<absl::Status>> appends;
  appends.push_back(AppendTo(&impl_->writer, &cut));
  for (const LogEntry& entry : say) appends.push_back(AppendTo(&impl_->writer, &entry));
  const std::vector<absl::Status> statuses = co_await WhenAll(std::move(appends));
  TF_CO_RETURN_IF_ERROR(FirstError(statuses));
  TF_CHECK_EQ(impl_->writer.counters().batches, 1u);
  co_return absl::OkStatus();
}

Task<absl::StatusOr<LogAddress>> SegmentLog::Append(const LogEntry& entry,
                                                    absl::Span<const std::byte> payload,
                                                    Durability durability) {
  return impl_->writer.Append(entry, payload, durability);
}

Task<absl::Status> SegmentLog::Flush() { return impl_->writer.Flush(); }

Task<absl::Status> SegmentLog::ReadPayload(LogAddress first, uint32_t count,
                                           absl::Span<const iovec> pieces) {
  const SegmentFile* file = impl_->files->Find(first.segment);
  if (file == nullptr || uint64_t{first.block} + count > file->blocks()) {
    co_return absl::DataLossError(absl::StrCat("the log has no ", count, " blocks from block ",
                                               first.block, " of segment ", first.segment.value(),
                                               " on"));
  }
  absl::Status read =
      co_await file->device->Read(file->handle, uint64_t{first.block} * kBlockSize, pieces);
  if (read.ok()) co_return read;
  co_return Annotate(
      read, absl::StrCat("reading block ", first.block, " of segment ", first.segment.value()));
}

std::string SegmentLog::Locate(LogAddress address) const {
  const SegmentFile* file = impl_->files->Find(address.segment);
  if (file == nullptr) {
    const std::vector<std::string> lost = LostFiles();
    return absl::StrCat("segment ", address.segment.value(), ", without a file",
                        lost.empty() ? "" : "; lost: ", absl::StrJoin(lost, ", "));
  }
  return absl::StrCat(file->device->name(), "/", file->path, " at byte ",
                      uint64_t{address.block} * kBlockSize);
}

std::vector<LoggedBatch> SegmentLog::Impl::ToLogged(std::vector<DecodedBatch> batches) const {
  std::vector<LoggedBatch> logged;
  logged.reserve(batches.size());
  for (DecodedBatch& batch : batches) {
    batch.batch.durable = batch.batch.start.batch <= writer.known_durable();
    logged.push_back(std::move(batch.batch));
  }
  return logged;
}

Task<absl::StatusOr<std::vector<LoggedBatch>>> SegmentLog::ReadSegment(SegmentNumber segment) {
  absl::StatusOr<Records> records = co_await ReadRecords(segment);
  TF_CO_RETURN_IF_ERROR(records);
  co_return std::move(records->batches);
}

Task<absl::StatusOr<SegmentLog::Records>> SegmentLog::ReadRecords(SegmentNumber segment) {
  const SegmentFile* file = impl_->files->Find(segment);
  if (file == nullptr) {
    co_return absl::DataLossError(absl::StrCat("the log has no segment ", segment.value()));
  }
  SegmentReader reader(*file);
  Records records;
  absl::StatusOr<std::vector<DecodedBatch>> batches = co_await reader.ReadCopies();
  records.complete = batches.ok();
  if (!batches.ok()) batches = co_await reader.ReadChain();
  TF_CO_RETURN_IF_ERROR(batches);
  records.batches = impl_->ToLogged(*std::move(batches));
  co_return records;
}

void SegmentLog::LeaveSegment(SegmentNumber segment) { impl_->writer.LeaveSegment(segment); }

Task<absl::StatusOr<SegmentCheck>> SegmentLog::CheckSegment(SegmentNumber segment, bool open,
                                                            std::vector<bool> needed,
                                                            BeforeRead before_read) {
  const SegmentFile* file = impl_->files->Find(segment);
  if (file == nullptr) {
    co_return absl::NotFoundError(absl::StrCat("the log has no segment ", segment.value()));
  }
  SegmentToCheck to_check;
  to_check.file = *file;
  to_check.needed = std::move(needed);
  if (open) {
    to_check.end = impl_->writer.end();
    TF_CHECK_EQ(to_check.end.segment, segment);
  }
  co_return co_await twofold::CheckSegment(std::move(to_check), std::move(before_read));
}

Task<absl::StatusOr<std::vector<LoggedBatch>>> SegmentLog::ReadWholeSegment(SegmentNumber segment) {
  const SegmentFile* file = impl_->files->Find(segment);
  if (file == nullptr) {
    co_return absl::DataLossError(absl::StrCat("the log has no segment ", segment.value()));
  }
  SegmentReader reader(*file);
  absl::StatusOr<std::vector<DecodedBatch>> batches = co_await reader.ReadCopies();
  if (!absl::IsNotFound(batches.status())) {
    TF_CO_RETURN_IF_ERROR(batches);
    co_return impl_->ToLogged(*std::move(batches));
  }
  batches = co_await reader.ReadChain();
  TF_CO_RETURN_IF_ERROR(batches);
  // A chain that breaks in the middle has descriptors behind the break.
  const uint32_t end = batches->empty() ? 1 : batches->back().batch.end.block;
  absl::StatusOr<std::vector<DecodedBatch>> behind = co_await reader.Scan(end, file->blocks());
  TF_CO_RETURN_IF_ERROR(behind);
  if (!behind->empty()) {
    co_return absl::DataLossError(
        absl::StrCat(file->Describe(), ": the descriptor at block ", end,
                     " is damaged, and so are the copies at the end of the segment"));
  }
  absl::StatusOr<bool> sure = co_await impl_->EndsThere(&reader, &*batches);
  TF_CO_RETURN_IF_ERROR(sure);
  if (!*sure) {
    co_return absl::DataLossError(
        absl::StrCat(file->Describe(),
                     ": the copies of its descriptors are damaged, and whether any stood at "
                     "block ",
                     end, " can't be told"));
  }
  co_return impl_->ToLogged(*std::move(batches));
}

// Whether `batches`, read without the copies, are all of the segment: the log goes on behind them
// in the next one, or the segment was on its way to be reused.
Task<absl::StatusOr<bool>> SegmentLog::Impl::EndsThere(SegmentReader* reader,
                                                       const std::vector<DecodedBatch>* batches) {
  absl::StatusOr<bool> recycled = co_await reader->LastBlockIsZero();
  TF_CO_RETURN_IF_ERROR(recycled);
  if (*recycled) co_return true;
  if (batches->empty()) co_return false;
  for (SegmentNumber segment : files->Numbers()) {
    if (segment <= reader->file().number()) continue;
    SegmentReader next(*files->Find(segment));
    absl::StatusOr<DecodedBatch> first = co_await next.ReadBatch(1);
    if (first.ok()) co_return Continues(batches->back().batch.end, first->batch);
    if (!absl::IsNotFound(first.status())) co_return first.status();
  }
  co_return false;
}

std::vector<std::string> SegmentLog::LostFiles() const { return impl_->files->LostFiles(); }

void SegmentLog::SetCatalogue(CatalogueReference catalogue) {
  impl_->writer.SetCatalogue(catalogue);
}

void SegmentLog::Free(const std::vector<SegmentNumber>& segments) {
  for (SegmentNumber segment : segments) {
    TF_CHECK(segment != impl_->writer.end().segment) << "segment " << segment << " is open";
    // Of one whose file is lost there is nothing to reuse.
    if (impl_->files->Find(segment) != nullptr) impl_->files->Free(segment);
  }
  if (!segments.empty()) impl_->writer.OnFreed();
}

Task<absl::Status> SegmentLog::Remake(SegmentNumber segment) {
  absl::Status made = co_await impl_->files->Remake(segment);
  if (made.ok()) impl_->writer.OnFreed();
  co_return made;
}

bool SegmentLog::HasFile(SegmentNumber segment) const {
  return impl_->files->Find(segment) != nullptr;
}

std::vector<std::string> SegmentLog::DamagedFiles() const { return impl_->files->DamagedSlots(); }

Task<absl::Status> SegmentLog::ReuseDamagedFiles() {
  absl::Status made = co_await impl_->files->ReuseDamaged();
  if (made.ok()) impl_->writer.OnFreed();
  co_return made;
}

Incarnation SegmentLog::last_incarnation() const { return impl_->files->last_incarnation(); }

LogPosition SegmentLog::end() const { return impl_->writer.end(); }
BatchNumber SegmentLog::known_durable() const { return impl_->writer.known_durable(); }
uint64_t SegmentLog::free_segments() const { return impl_->files->free_slots(); }
uint64_t SegmentLog::total_segments() const { return impl_->files->total_slots(); }

uint64_t SegmentLog::WorstCaseBlocks(uint64_t payload_blocks, uint64_t entries) {
  return payload_blocks + entries * kEntryOverheadBlocks;
}

uint64_t SegmentLog::open_segment_blocks_left() const {
  return impl_->writer.open_segment_blocks_left();
}

uint64_t SegmentLog::usable_blocks_per_segment() const {
  return UsableBlocks(SegmentBlocks(impl_->options.segment_bytes));
}

Task<absl::Status> SegmentLog::CheckPresence() const { return impl_->files->CheckPresence(); }

absl::Status SegmentLog::health() const { return impl_->writer.health(); }
SegmentLog::Counters SegmentLog::counters() const { return impl_->writer.counters(); }
const SegmentLog::Latency& SegmentLog::latency() const { return impl_->writer.latency(); }

Task<void> SegmentLog::Stop() { return impl_->writer.Stop(); }

}  // namespace twofold
