#include "tests/replication/sim_replica.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/map/resync_plan.h"

namespace twofold::sim {

SimReplica::SimReplica(SimDisk* disk, SimPoller* poller, SimReplicaOptions options)
    : disk_(disk),
      poller_(poller),
      options_(options),
      random_(poller->random().Fork()),
      place_("/sim/" + disk->set_name),
      fence_(disk->recorded.sealed) {
  reads_allowed_.Set();
  appends_allowed_.Set();
  TF_CHECK(disk_->open == nullptr) << place_ << " is open";
  disk_->open = this;
  ++disk_->opened;
  catalogue_ = disk_->base;
  blocks_ = disk_->base_blocks;
  resync_ = disk_->resync;
  for (const auto& [volume, stream] : catalogue_.streams()) {
    streams_[volume].sent = stream.applied;
    streams_[volume].committed = stream.applied;
  }
  for (const SimLogItem& item : disk_->log) {
    StreamState& stream = streams_[item.entry.volume];
    TF_CHECK_EQ(item.entry.position.seq, stream.sent.seq.Next()) << place_;
    stream.committed = std::max(stream.committed, disk_->committed[item.entry.volume]);
    stream.sent = item.entry.position;
    if (item.entry.position <= stream.committed) {
      Apply(item);
    } else {
      stream.pending.push_back(item);
    }
  }
  disk_->durable = disk_->log.size();  // an open syncs what it serves (R13)
}

SimReplica::~SimReplica() {
  TF_CHECK_EQ(scope_.running(), 0u);
  disk_->open = nullptr;
}

int64_t SimReplica::RandomDelay() {
  return static_cast<int64_t>(random_.Uniform(static_cast<uint64_t>(options_.max_delay_nanos))) + 1;
}

void SimReplica::Crash(bool keep_batch, bool power_loss) {
  TF_CHECK(!crashed_);
  // After a failure an earlier batch may be missing.
  if (batch_in_flight_ != nullptr && keep_batch && failed_.ok()) Persist(*batch_in_flight_);
  crashed_ = true;
  if (power_loss) {
    disk_->log.resize(disk_->durable + random_.Uniform(disk_->log.size() - disk_->durable + 1));
  }
  Fail("the machine died");
  HoldReads(false);
  HoldAppends(false);
}

void SimReplica::FailQuietly() { Fail("its checkpoint failed"); }
void SimReplica::Vanish() {
  disk_->gone = true;
  Fail("its directory was deleted");
}

void SimReplica::HoldReads(bool hold) { hold ? reads_allowed_.Reset() : reads_allowed_.Set(); }
void SimReplica::HoldAppends(bool hold) {
  hold ? appends_allowed_.Reset() : appends_allowed_.Set();
}

void SimReplica::Fail(const std::string& why) {
  if (failed_.ok()) failed_ = absl::UnavailableError(why);
}

Task<absl::StatusOr<SealReport>> SimReplica::Seal(Generation generation) {
  co_await poller_->Delay(RandomDelay());
  TF_CO_RETURN_IF_ERROR(failed_);
  if (generation < fence_) co_return absl::AbortedError("sealed by a newer generation");
  fence_ = generation;
  disk_->recorded.sealed = generation;
  SealReport report;
  report.generation = generation;
  report.membership_version = disk_->recorded.membership_version;
  for (const auto& [volume, stream] : streams_) {
    SealReport::Stream end;
    end.volume = volume;
    end.end = stream.pending.empty() ? stream.committed : stream.pending.back().entry.position;
    end.committed = stream.committed;
    const auto applied = catalogue_.streams().find(volume);
    if (!stream.pending.empty()) {
      end.last_stamp = stream.pending.back().entry.stamp;
    } else if (applied != catalogue_.streams().end()) {
      end.last_stamp = applied->second.last_stamp;
    }
    report.streams.push_back(end);
  }
  co_return report;
}

Task<absl::Status> SimReplica::RecordMembership(Membership membership) {
  co_await poller_->Delay(RandomDelay());
  TF_CO_RETURN_IF_ERROR(failed_);
  AttachState& recorded = disk_->recorded;
  if (membership.generation < fence_ || membership.version < recorded.membership_version) {
    co_return absl::AbortedError("a newer membership is recorded");
  }
  recorded = {membership.generation, membership.version, membership.in_sync, membership.configured};
  // A crash may come between the record and its answer.
  co_await poller_->Delay(RandomDelay());
  co_return failed_;
}

bool SimReplica::TryReserve(BlockCount blocks, uint64_t entries) {
  if (!failed_.ok() || random_.OneIn(8)) return false;
  if (used_blocks_ + promised_blocks_ + blocks.value() > options_.capacity_blocks ||
      used_entries_ + promised_entries_ + entries > options_.capacity_entries) {
    return false;
  }
  promised_blocks_ += blocks.value();
  promised_entries_ += entries;
  return true;
}

Task<absl::Status> SimReplica::Reserve(BlockCount blocks, uint64_t entries, RoomFor use) {
  co_await poller_->Delay(RandomDelay());
  TF_CO_RETURN_IF_ERROR(failed_);
  if (use == RoomFor::kWrite &&
      (used_blocks_ + promised_blocks_ + blocks.value() > options_.capacity_blocks ||
       used_entries_ + promised_entries_ + entries > options_.capacity_entries)) {
    co_return absl::ResourceExhaustedError(absl::StrCat(place_, " is full"));
  }
  promised_blocks_ += blocks.value();
  promised_entries_ += entries;
  co_return absl::OkStatus();
}

void SimReplica::Release(BlockCount blocks, uint64_t entries) {
  TF_CHECK_GE(promised_blocks_, blocks.value());
  TF_CHECK_GE(promised_entries_, entries);
  promised_blocks_ -= blocks.value();
  promised_entries_ -= entries;
}

Task<absl::Status> SimReplica::Append(Generation generation, const LogEntry& entry,
                                      absl::Span<const std::byte> payload, Durability durability) {
  ++appends_;
  TF_CO_RETURN_IF_ERROR(failed_);
  TF_CHECK(generation >= fence_);
  TF_CHECK(!resyncing());
  // What every store may take for granted (R1, R5, R6, P7).
  StreamState& stream = streams_[entry.volume];
  TF_CHECK_EQ(entry.position.seq, stream.sent.seq.Next());
  TF_CHECK(entry.position > stream.sent);
  TF_CHECK_LE(entry.block_crcs.size(), kMaxEntryBlocks);
  TF_CHECK_EQ(payload.size(), entry.block_crcs.size() * kBlockSize);
  for (size_t i = 0; i < entry.block_crcs.size(); ++i) {
    TF_CHECK_EQ(Crc32c(payload.subspan(i * kBlockSize, kBlockSize)), entry.block_crcs[i]);
  }
  Release(BlockCount(entry.block_crcs.size()), 1);
  used_blocks_ += entry.block_crcs.size();
  used_entries_ += 1;
  stream.sent = entry.position;
  if (fail_next_append_) {
    fail_next_append_ = false;
    Fail("the disk said no");
    co_return failed_;
  }

  SimLogItem item{entry, nullptr};
  if (!payload.empty()) {
    item.payload = std::make_shared<const std::vector<std::byte>>(payload.begin(), payload.end());
  }
  if (open_batch_ == nullptr) open_batch_ = std::make_shared<Batch>();
  const std::shared_ptr<Batch> batch = open_batch_;
  batch->items.push_back(std::move(item));
  batch->durable |= durability == Durability::kDurable;
  if (!writing_) {
    writing_ = true;
    scope_.Spawn(WriteBatches());
  }
  co_await batch->done.Wait();
  if (batch->ok) co_return absl::OkStatus();
  co_return failed_;
}

Task<void> SimReplica::WriteBatches() {
  while (open_batch_ != nullptr) {
    co_await appends_allowed_.Wait();
    batch_in_flight_ = std::exchange(open_batch_, nullptr);
    batch_in_flight_->marks = std::exchange(moved_marks_, {});
    co_await poller_->Delay(RandomDelay());
    const std::shared_ptr<Batch> batch = std::exchange(batch_in_flight_, nullptr);
    if (failed_.ok()) {
      Persist(*batch);
      for (const SimLogItem& item : batch->items) {
        streams_[item.entry.volume].pending.push_back(item);
      }
      batch->ok = true;
    }
    batch->done.Set();
  }
  writing_ = false;
}

// A log is a prefix: a durable batch makes what stands before it durable.
void SimReplica::Persist(const Batch& batch) {
  disk_->log.insert(disk_->log.end(), batch.items.begin(), batch.items.end());
  for (const auto& [volume, position] : batch.marks) disk_->committed[volume] = position;
  if (batch.durable) disk_->durable = disk_->log.size();
}

void SimReplica::Commit(VolumeId volume, Position position) {
  StreamState& stream = streams_[volume];
  if (position <= stream.committed) return;
  stream.committed = position;
  moved_marks_[volume] = position;
  ApplyCommitted(volume);
}

void SimReplica::ApplyCommitted(VolumeId volume) {
  StreamState& stream = streams_[volume];
  while (failed_.ok() && !stream.pending.empty() &&
         stream.pending.front().entry.position <= stream.committed) {
    Apply(stream.pending.front());
    stream.pending.pop_front();
  }
}

void SimReplica::Apply(const SimLogItem& item) {
  const LogEntry& entry = item.entry;
  TF_CHECK_OK(catalogue_.Apply(entry)) << entry.position;
  if (entry.kind != EntryKind::kWrite && entry.kind != EntryKind::kZero) return;
  auto& blocks = blocks_[entry.timeline];
  for (uint64_t i = 0; i < entry.range.count.value(); ++i) {
    blocks[entry.range.first + BlockCount(i)].push_back(
        {entry.position, item.payload, i * kBlockSize});
    disk_->bad_blocks.erase({entry.timeline, entry.range.first + BlockCount(i)});
  }
}

const SimReplica::Version* SimReplica::Find(TimelineId timeline, Position as_of,
                                            BlockIndex block) const {
  while (timeline != TimelineId()) {
    const auto blocks = blocks_.find(timeline);
    if (blocks != blocks_.end()) {
      const auto versions = blocks->second.find(block);
      if (versions != blocks->second.end()) {
        for (auto it = versions->second.rbegin(); it != versions->second.rend(); ++it) {
          if (it->position < as_of) return &*it;
        }
      }
    }
    const TimelineRecord& record = catalogue_.timelines().at(timeline);
    timeline = record.parent;
    as_of = std::min(as_of, record.fork);
  }
  return nullptr;
}

Task<absl::Status> SimReplica::Flush() {
  ++flushes_;
  co_await poller_->Delay(RandomDelay());
  // What was appended before is in the log once the batches in flight are.
  while (writing_ && failed_.ok()) co_await poller_->Delay(RandomDelay());
  TF_CO_RETURN_IF_ERROR(failed_);
  disk_->durable = disk_->log.size();
  co_return absl::OkStatus();
}

Task<absl::StatusOr<std::vector<BlockExtent>>> SimReplica::Read(TimelineId timeline, Position as_of,
                                                                BlockRange range,
                                                                absl::Span<std::byte> into) {
  ++reads_;
  ++disk_->reads;
  TF_CHECK_EQ(into.size(), range.count.value() * kBlockSize);
  co_await poller_->Delay(RandomDelay());
  if (crashed_) co_return failed_;
  std::vector<BlockExtent> extents;
  absl::Status bad;
  for (uint64_t i = 0; i < range.count.value(); ++i) {
    const BlockIndex block = range.first + BlockCount(i);
    const Version* version = Find(timeline, as_of, block);
    const bool data = version != nullptr && version->payload != nullptr;
    if (data) {
      std::memcpy(into.data() + i * kBlockSize, version->payload->data() + version->offset,
                  kBlockSize);
    } else {
      std::memset(into.data() + i * kBlockSize, 0, kBlockSize);
    }
    if (disk_->bad_blocks.contains({timeline, block})) {
      bad = absl::DataLossError(absl::StrCat(place_, ": block ", block.value(), " is bad"));
    }
    if (!extents.empty() && extents.back().data == data) {
      extents.back().range.count += BlockCount(1);
    } else {
      extents.push_back({{block, BlockCount(1)}, data});
    }
  }
  co_await reads_allowed_.Wait();
  co_await poller_->Delay(RandomDelay());
  TF_CO_RETURN_IF_ERROR(bad);
  co_return extents;
}

Task<absl::StatusOr<std::vector<BlockExtent>>> SimReplica::Status(TimelineId timeline,
                                                                  Position as_of, BlockRange range,
                                                                  size_t max_extents) {
  co_await poller_->Delay(RandomDelay());
  if (crashed_) co_return failed_;
  std::vector<BlockExtent> extents;
  for (uint64_t i = 0; i < range.count.value(); ++i) {
    const BlockIndex block = range.first + BlockCount(i);
    const Version* version = Find(timeline, as_of, block);
    const bool data = version != nullptr && version->payload != nullptr;
    if (!extents.empty() && extents.back().data == data) {
      extents.back().range.count += BlockCount(1);
    } else if (extents.size() == max_extents) {
      break;
    } else {
      extents.push_back({{block, BlockCount(1)}, data});
    }
  }
  co_return extents;
}

Task<absl::StatusOr<std::vector<TailEntry>>> SimReplica::ReadTail(VolumeId volume, Position after,
                                                                  size_t max_bytes) {
  co_await poller_->Delay(RandomDelay());
  TF_CO_RETURN_IF_ERROR(failed_);
  std::vector<TailEntry> tail;
  size_t bytes = 0;
  for (const SimLogItem& item : disk_->log) {
    if (item.entry.volume != volume || item.entry.position <= after) continue;
    const size_t size = item.payload == nullptr ? 0 : item.payload->size();
    if (!tail.empty() && bytes + size > max_bytes) break;
    bytes += size;
    TailEntry& entry = tail.emplace_back();
    entry.entry = item.entry;
    entry.payload = AlignedBytes(size);
    if (size > 0) std::memcpy(entry.payload.data(), item.payload->data(), size);
  }
  co_return tail;
}

// ---- Resync -------------------------------------------------------------------------------------

Task<absl::Status> SimReplica::PinForResync() {
  co_await poller_->Delay(RandomDelay());
  co_return failed_;
}

Task<absl::Status> SimReplica::PrepareSpans() {
  co_await poller_->Delay(RandomDelay());
  co_return failed_;
}

Task<absl::StatusOr<ResyncPage>> SimReplica::ReadSpan(ResyncSpan span, std::string /*from*/) {
  co_await poller_->Delay(RandomDelay());
  TF_CO_RETURN_IF_ERROR(failed_);
  ResyncPage page;
  page.timeline = span.timeline;
  page.as_of = span.as_of;
  for (const auto& [block, versions] : blocks_[span.timeline]) {
    const Version* shown = nullptr;
    for (const Version& version : versions) {
      if (version.position < span.as_of) shown = &version;
    }
    if (shown == nullptr || shown->position <= span.after) continue;
    Run run;
    run.range = {block, BlockCount(1)};
    run.position = shown->position;
    run.kind = shown->payload == nullptr ? RunKind::kZero : RunKind::kData;
    if (shown->payload != nullptr) {
      run.block_crcs.push_back(
          Crc32c(absl::MakeConstSpan(*shown->payload).subspan(shown->offset, kBlockSize)));
    }
    page.runs.push_back(std::move(run));
  }
  co_return page;
}

absl::Status SimReplica::CheckTarget(Generation generation) const {
  TF_RETURN_IF_ERROR(failed_);
  if (generation < fence_) return absl::AbortedError("sealed by a newer generation");
  return absl::OkStatus();
}

// What was reached is what a crash leaves.
void SimReplica::Save() {
  for (const auto& [volume, stream] : streams_) TF_CHECK(stream.pending.empty());
  disk_->base = catalogue_;
  disk_->base_blocks = blocks_;
  disk_->resync = resync_;
  disk_->log.clear();
  disk_->durable = 0;
  disk_->committed.clear();
  moved_marks_.clear();
  streams_.clear();
  for (const auto& [volume, stream] : catalogue_.streams()) {
    streams_[volume].sent = stream.applied;
    streams_[volume].committed = stream.applied;
  }
}

Task<absl::Status> SimReplica::VoidTails(Generation generation) {
  co_await poller_->Delay(RandomDelay());
  TF_CO_RETURN_IF_ERROR(CheckTarget(generation));
  TF_CHECK(!writing_);
  for (auto& [volume, stream] : streams_) stream.pending.clear();
  Save();
  co_return absl::OkStatus();
}

void SimReplica::OpenNextSpan() {
  if (resync_->next < resync_->spans.size()) {
    OpenSpan(&catalogue_, resync_->goal, resync_->spans[resync_->next]);
  }
}

Task<absl::StatusOr<std::vector<ResyncSpan>>> SimReplica::BeginResync(Generation generation,
                                                                      Catalogue goal) {
  co_await poller_->Delay(RandomDelay());
  TF_CO_RETURN_IF_ERROR(CheckTarget(generation));
  TF_CO_ASSIGN_OR_RETURN(catalogue_, BeginReplay(catalogue_, goal, /*pin=*/!resyncing()));
  resync_.emplace();
  resync_->spans = PlanResync(catalogue_, goal);
  resync_->goal = std::move(goal);
  OpenNextSpan();
  Save();
  co_return resync_->spans;
}

Task<absl::StatusOr<std::vector<Run>>> SimReplica::Lacking(TimelineId timeline,
                                                           std::vector<Run> runs) {
  co_await poller_->Delay(RandomDelay());
  TF_CO_RETURN_IF_ERROR(failed_);
  std::vector<Run> lacking;
  for (const Run& run : runs) {  // of one block each
    const Version* version = Find(timeline, kLastPosition, run.range.first);
    if (version == nullptr || version->position < run.position) lacking.push_back(run);
  }
  co_return lacking;
}

Task<absl::Status> SimReplica::Fill(Generation generation, TimelineId timeline,
                                    std::vector<Run> runs, absl::Span<const std::byte> payload) {
  co_await poller_->Delay(RandomDelay());
  if (disk_->fail_fills) Fail("the disk said no");
  TF_CO_RETURN_IF_ERROR(CheckTarget(generation));
  TF_CHECK(resyncing() && resync_->spans.at(resync_->next).timeline == timeline);
  size_t at = 0;
  for (const Run& run : runs) {
    Version version{run.position, nullptr, 0};
    if (run.kind == RunKind::kData) {
      const absl::Span<const std::byte> block = payload.subspan(at, kBlockSize);
      at += kBlockSize;
      TF_CHECK_EQ(Crc32c(block), run.block_crcs[0]);
      version.payload = std::make_shared<const std::vector<std::byte>>(block.begin(), block.end());
    }
    std::vector<Version>& versions = blocks_[timeline][run.range.first];
    const auto after = std::find_if(
        versions.begin(), versions.end(),
        [&version](const Version& other) { return other.position > version.position; });
    versions.insert(after, std::move(version));
  }
  TF_CHECK_EQ(at, payload.size());
  co_return absl::OkStatus();
}

Task<absl::Status> SimReplica::EndSpan(Generation generation, ResyncSpan span) {
  co_await poller_->Delay(RandomDelay());
  TF_CO_RETURN_IF_ERROR(CheckTarget(generation));
  TF_CHECK(resyncing() && resync_->spans.at(resync_->next) == span);
  twofold::EndSpan(&catalogue_, resync_->goal, span);
  ++resync_->next;
  OpenNextSpan();
  Save();
  co_return absl::OkStatus();
}

Task<absl::Status> SimReplica::EndResync(Generation generation) {
  co_await poller_->Delay(RandomDelay());
  TF_CO_RETURN_IF_ERROR(CheckTarget(generation));
  TF_CO_RETURN_IF_ERROR(CheckReplay(catalogue_, resync_->goal));
  catalogue_ = std::move(resync_->goal);
  resync_.reset();
  Save();
  co_return absl::OkStatus();
}

ReplicaStatus SimReplica::status() const {
  ReplicaStatus status;
  status.failed = !failed_.ok();
  status.gone = status.failed && disk_->gone;
  status.reason = std::string(failed_.message());
  status.capacity_blocks = options_.capacity_blocks;
  status.used_blocks = used_blocks_;
  return status;
}

Task<void> SimReplica::Stop() {
  co_await scope_.Join();
  if (!failed_.ok()) co_return;
  // The end is covered, and with it the last marks (R12).
  for (const auto& [volume, position] : std::exchange(moved_marks_, {})) {
    disk_->committed[volume] = position;
  }
  disk_->durable = disk_->log.size();
}

}  // namespace twofold::sim
