// Deleted snapshots and volumes: what only they saw is freed, job after job, in bounded steps.
//
// A job takes effect at a freeze and begins when that checkpoint is done, so all it needs to find
// is in the metadata store. What a step frees and what it deletes stand in the same checkpoint: a
// crash repeats the steps since the last one from the same state. Nothing that a step looks for is
// found twice in between, either: a dead-list entry belongs to one job, and a job moves on through
// its keys.
#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/map/extent_map_impl.h"
#include "storage/map/key_codec.h"
#include "storage/map/value_codec.h"

namespace twofold {
namespace {

constexpr size_t kPageEntries = 256;  // looked at in one step

Position After(const Position& position) {
  if (position.seq < kLastPosition.seq) return {position.generation, position.seq.Next()};
  return {position.generation.Next(), Seq(0)};
}

std::string FirstDeadKey(TimelineId timeline, Epoch death, Epoch birth) {
  return EncodeDeadKey({.timeline = timeline,
                        .death = death,
                        .birth = birth,
                        .chunk = 0,
                        .block = {},
                        .position = {}});
}

std::string FirstVersionKey(TimelineId timeline, Epoch epoch) {
  return EncodeVersionKey({.timeline = timeline, .chunk = 0, .epoch = epoch});
}

// The first key behind `key`.
std::string Behind(absl::string_view key) { return absl::StrCat(key, absl::string_view("\0", 1)); }

}  // namespace

// ---- Jobs ---------------------------------------------------------------------------------------

void ExtentMap::Impl::BeforeSnapshotDelete(const SnapshotRecord& snapshot) {
  AddJobs(PlanSnapshotDelete(catalogue_, snapshot.id));
}

void ExtentMap::Impl::BeforeVolumeDelete(VolumeId volume) {
  AddJobs(PlanVolumeDelete(catalogue_, volume));
}

void ExtentMap::Impl::BeforeTimelineStart(VolumeId volume) {
  AddJobs(PlanTimelineStart(catalogue_, volume));
}

void ExtentMap::Impl::AddJobs(const std::vector<ReclaimJob>& jobs) {
  look_for_lineage_work_ = true;
  // Of the earlier jobs alone: those that come together know of each other.
  for (const ReclaimJob& job : jobs) FixEnds(job.timeline.id);
  for (const ReclaimJob& job : jobs) {
    if (job.kind == ReclaimJob::Kind::kTail) DropTombstones(job.timeline.id, job.previous);
    if (job.whole_timeline()) {
      departed_.emplace(job.timeline.id, job.timeline);
      DropLineageWork(job.timeline.id);
    }
    accounting_.HoldPoints(job.timeline.id, job.points);
    jobs_.push_back({.number = next_job_++, .job = job});
  }
}

void ExtentMap::Impl::FixEnds(TimelineId timeline) {
  // Those that ended with the timeline's end: a point that came later and goes now is their end,
  // since what it sees is not theirs to free.
  std::vector<Position> points;
  for (PendingJob& pending : jobs_) {
    ReclaimJob& job = pending.job;
    if (job.timeline.id != timeline || job.kind != ReclaimJob::Kind::kPoint) continue;
    if (pending.finished || job.next != kLastPosition) continue;
    if (points.empty()) points = catalogue_.RetainedPoints(timeline);
    const auto next = std::upper_bound(points.begin(), points.end(), job.point);
    if (next == points.end()) continue;
    job.next = *next;
    pending.in_store = false;
  }
}

void ExtentMap::Impl::DropTombstones(TimelineId timeline, Position from) {
  // Only what goes with the job sees them.
  const std::vector<PendingTombstone> tombstones = tombstones_.Of(timeline);
  for (const PendingTombstone& tombstone : tombstones) {
    if (tombstone.position >= from) RemoveTombstone(tombstone);
  }
}

const ExtentMap::Impl::PendingJob* ExtentMap::Impl::RunnableJob() const {
  if (reclaimed_since_freeze_ >= kMaxReclaimedPerCheckpoint) return nullptr;
  bool unsettled = false;  // An earlier job is done, but not durably.
  for (const PendingJob& pending : jobs_) {
    if (pending.finished) {
      unsettled = true;
      continue;
    }
    if (!pending.durable) return nullptr;
    // A tail takes the versions for the whole truth: no earlier job's deletes may be on their way
    // to them.
    if (pending.job.kind == ReclaimJob::Kind::kTail && unsettled) return nullptr;
    return &pending;
  }
  return nullptr;
}

bool ExtentMap::Impl::has_reclaim_work() { return RunnableJob() != nullptr || IsLineageRunnable(); }

uint64_t ExtentMap::Impl::reclaim_jobs() { return jobs_.size() + (HasLineageWork() ? 1 : 0); }

Task<absl::Status> ExtentMap::Impl::ReclaimStep() {
  const PendingJob* const runnable = RunnableJob();
  TF_CHECK(!reclaiming_) << "one step at a time";
  reclaiming_ = true;
  if (runnable == nullptr) {
    const absl::Status status = co_await LineageStep();
    reclaiming_ = false;
    co_return status;
  }
  const uint64_t number = runnable->number;
  if (reclaim_.job != number) reclaim_ = {.job = number};
  absl::StatusOr<bool> done = false;
  if (runnable->job.kind == ReclaimJob::Kind::kPoint) {
    done = co_await ReclaimPoint(runnable->job);
  } else {
    done = co_await ReclaimTail(runnable->job);
  }
  reclaiming_ = false;
  if (!done.ok()) co_return Annotate(done.status(), absl::StrCat("reclaim job ", number));
  if (!*done) co_return absl::OkStatus();
  for (PendingJob& pending : jobs_) {
    if (pending.number == number) pending.finished = true;
  }
  co_return absl::OkStatus();
}

// ---- A point between others ---------------------------------------------------------------------

Task<absl::StatusOr<bool>> ExtentMap::Impl::ReclaimPoint(ReclaimJob job) {
  if (job.next == kLastPosition) {
    const std::vector<Position> points = catalogue_.RetainedPoints(job.timeline.id);
    const auto next = std::upper_bound(points.begin(), points.end(), job.point);
    if (next != points.end()) job.next = *next;
  }
  switch (reclaim_.phase) {
    case ReclaimCursor::Phase::kDead: {
      const absl::StatusOr<bool> done = co_await FreeDeadPage(job);
      if (!done.ok()) co_return done.status();
      if (*done) reclaim_.phase = ReclaimCursor::Phase::kCompare;
      co_return false;
    }
    case ReclaimCursor::Phase::kCompare: {
      const absl::Status compared = co_await CompareSides(job);
      if (!compared.ok()) co_return compared;
      co_return false;
    }
    case ReclaimCursor::Phase::kVersions:
      co_return co_await DropVersionsPage(job);
  }
  co_return true;
}

// Frees the entries of one epoch of death that only the job's point saw: born in [previous, point),
// died in [point, next).
Task<absl::StatusOr<bool>> ExtentMap::Impl::FreeDeadPage(ReclaimJob job) {
  const TimelineId timeline = job.timeline.id;
  if (reclaim_.from.empty()) reclaim_.from = FirstDeadKey(timeline, job.point, job.previous);
  const absl::StatusOr<std::optional<KeyValue>> found =
      co_await metadata_.Seek(reclaim_.from, TimelinePrefix(Table::kDead, timeline));
  if (!found.ok()) co_return found.status();
  if (!found->has_value()) co_return true;
  TF_CO_ASSIGN_OR_RETURN(const DeadKey first, DecodeDeadKey((*found)->first));
  if (first.death >= job.next) co_return true;
  if (first.birth < job.previous || first.birth >= job.point) {
    // Not ours: on to where ours begin, in this epoch of death or the next.
    reclaim_.from = first.birth < job.previous
                        ? FirstDeadKey(timeline, first.death, job.previous)
                        : FirstDeadKey(timeline, After(first.death), job.previous);
    co_return false;
  }
  const std::string end = FirstDeadKey(timeline, first.death, job.point);
  const absl::StatusOr<std::vector<KeyValue>> page =
      co_await metadata_.Scan((*found)->first, end, kPageEntries);
  if (!page.ok()) co_return page.status();
  std::optional<uint64_t> chunk;
  Base seen;  // what the point saw of `chunk`
  for (const auto& [key_bytes, value] : *page) {
    TF_CO_ASSIGN_OR_RETURN(const DeadKey key, DecodeDeadKey(key_bytes));
    TF_CO_ASSIGN_OR_RETURN(const BlockCount count, DecodeDeadCount(value));
    if (chunk != key.chunk) {
      absl::StatusOr<Base> read = co_await ReadVersion({timeline, key.chunk, job.point});
      if (!read.ok()) co_return read.status();
      seen = *std::move(read);
      chunk = key.chunk;
    }
    TF_CO_RETURN_IF_ERROR(FreeEntry(key, count, seen));
    deleted_.push_back(key_bytes);
    ++reclaimed_since_freeze_;
    reclaim_.from = Behind(key_bytes);
  }
  co_return false;
}

absl::Status ExtentMap::Impl::FreeEntry(const DeadKey& key, BlockCount count, const Base& seen) {
  // By identity: the cleaner may have moved it since it died (M19).
  std::vector<Run> runs;
  uint64_t found = 0;
  if (seen.has_value()) {
    for (Run& run : seen->second.Within({key.block, count})) {
      if (run.position != key.position) continue;
      found += run.range.count.value();
      runs.push_back(std::move(run));
    }
  }
  if (found != count.value()) {
    return absl::DataLossError(
        absl::StrCat("map of timeline ", key.timeline.value(), ", chunk ", key.chunk,
                     ": a dead list names blocks from ", key.block.value(),
                     " on that the snapshot does not show; rebuild the map from the log"));
  }
  for (const Run& run : runs) accounting_.Free(run);
  return absl::OkStatus();
}

// A version of [previous, point) that was changed in [point, next) is seen by nobody now. They are
// found from the side that has fewer versions: which one, both tell page by page.
Task<absl::Status> ExtentMap::Impl::CompareSides(ReclaimJob job) {
  const TimelineId timeline = job.timeline.id;
  if (reclaim_.older.empty()) {
    reclaim_.older = FirstVersionKey(timeline, job.previous);
    reclaim_.newer = FirstVersionKey(timeline, job.point);
  }
  const std::string point = FirstVersionKey(timeline, job.point);
  const std::string end = FirstVersionKey(timeline, job.next);
  const absl::StatusOr<std::vector<KeyValue>> older =
      co_await metadata_.Scan(reclaim_.older, point, kPageEntries);
  if (!older.ok()) co_return older.status();
  const absl::StatusOr<std::vector<KeyValue>> newer =
      co_await metadata_.Scan(reclaim_.newer, end, kPageEntries);
  if (!newer.ok()) co_return newer.status();
  if (older->size() == kPageEntries && newer->size() == kPageEntries) {
    reclaim_.older = Behind(older->back().first);
    reclaim_.newer = Behind(newer->back().first);
    co_return absl::OkStatus();
  }
  reclaim_.by_older = older->size() < kPageEntries;
  reclaim_.from = reclaim_.by_older ? FirstVersionKey(timeline, job.previous) : point;
  reclaim_.phase = ReclaimCursor::Phase::kVersions;
  co_return absl::OkStatus();
}

Task<absl::StatusOr<bool>> ExtentMap::Impl::DropVersionsPage(ReclaimJob job) {
  const TimelineId timeline = job.timeline.id;
  const std::string end = FirstVersionKey(timeline, reclaim_.by_older ? job.point : job.next);
  const absl::StatusOr<std::vector<KeyValue>> page =
      co_await metadata_.Scan(reclaim_.from, end, kPageEntries);
  if (!page.ok()) co_return page.status();
  if (page->empty()) co_return true;
  for (const auto& [key_bytes, ignored] : *page) {
    TF_CO_ASSIGN_OR_RETURN(const ChunkKey key, DecodeVersionKey(key_bytes));
    const ChunkId other{timeline, key.chunk, reclaim_.by_older ? job.next : job.point};
    const absl::StatusOr<Base> found = co_await ReadVersion(other);
    if (!found.ok()) co_return found.status();
    if (found->has_value()) {
      const Epoch epoch = (*found)->first;
      if (reclaim_.by_older && epoch >= job.point) DeleteVersion(other, key.epoch);
      if (!reclaim_.by_older && epoch >= job.previous && epoch < job.point) {
        DeleteVersion(other, epoch);
      }
    }
    ++reclaimed_since_freeze_;
    reclaim_.from = Behind(key_bytes);
  }
  co_return false;
}

// ---- A timeline's end, or all of it -------------------------------------------------------------

Task<absl::StatusOr<bool>> ExtentMap::Impl::ReclaimTail(ReclaimJob job) {
  const TimelineId timeline = job.timeline.id;
  std::optional<uint64_t> chunk;
  Epoch epoch = kFirstPosition;
  if (job.whole_timeline()) {
    if (reclaim_.from.empty()) reclaim_.from = TimelinePrefix(Table::kChunk, timeline);
    const absl::StatusOr<std::optional<KeyValue>> found =
        co_await metadata_.Seek(reclaim_.from, TimelinePrefix(Table::kChunk, timeline));
    if (!found.ok()) co_return found.status();
    if (found->has_value()) {
      TF_CO_ASSIGN_OR_RETURN(const ChunkKey key, DecodeChunkKey((*found)->first));
      chunk = key.chunk;
      reclaim_.from = PrefixEnd(ChunkPrefix(timeline, key.chunk));
    }
  } else {
    if (reclaim_.from.empty()) reclaim_.from = FirstVersionKey(timeline, job.previous);
    const absl::StatusOr<std::optional<KeyValue>> found =
        co_await metadata_.Seek(reclaim_.from, TimelinePrefix(Table::kVersion, timeline));
    if (!found.ok()) co_return found.status();
    if (found->has_value()) {
      TF_CO_ASSIGN_OR_RETURN(const ChunkKey key, DecodeVersionKey((*found)->first));
      chunk = key.chunk;
      epoch = key.epoch;
      reclaim_.from = Behind((*found)->first);
    }
  }
  if (chunk.has_value()) {
    const absl::Status freed = co_await FreeChunkTail(job, *chunk, epoch);
    if (!freed.ok()) co_return freed;
    co_return false;
  }
  // Its dead are among what was freed: the last point saw them, or they had been freed before.
  deleted_ranges_.emplace_back(FirstDeadKey(timeline, job.previous, kFirstPosition),
                               PrefixEnd(TimelinePrefix(Table::kDead, timeline)));
  deleted_ranges_.emplace_back(FirstVersionKey(timeline, job.previous),
                               PrefixEnd(TimelinePrefix(Table::kVersion, timeline)));
  co_return true;
}

// Frees what the chunk's versions from the job's end on hold, and deletes them: all at once, since
// they share blocks. `found_at`: the version that led here; the oldest of them does it for all.
Task<absl::Status> ExtentMap::Impl::FreeChunkTail(ReclaimJob job, uint64_t chunk, Epoch found_at) {
  const TimelineId timeline = job.timeline.id;
  std::string end =
      Behind(EncodeChunkKey({.timeline = timeline, .chunk = chunk, .epoch = job.previous}));
  const absl::StatusOr<Versions> found = co_await ReadVersions(timeline, chunk, std::move(end));
  if (!found.ok()) co_return found.status();
  const Versions& versions = *found;
  if (versions.empty()) co_return absl::OkStatus();
  if (!job.whole_timeline() && versions.back().first != found_at) co_return absl::OkStatus();

  FreeEachOnce(std::max(job.previous, lineages_.OwnedFrom(job.timeline, chunk)), versions);
  const ChunkId id{timeline, chunk};
  if (job.whole_timeline()) {
    AddDeletedRange(ChunkPrefix(timeline, chunk), PrefixEnd(ChunkPrefix(timeline, chunk)));
  } else {
    for (const auto& [epoch, runs] : versions) DeleteVersion(id, epoch);
  }
  reclaimed_since_freeze_ += versions.size();
  cache_.ErasePast(timeline, chunk);
  Chunk* cached = cache_.Find(id);
  if (cached != nullptr) cache_.Erase(*cached);
  co_return absl::OkStatus();
}

void ExtentMap::Impl::FreeEachOnce(Position born_from, const Versions& versions) {
  absl::flat_hash_set<std::pair<std::pair<BlockIndex, Position>, std::pair<uint64_t, uint32_t>>>
      freed;
  for (const auto& [epoch, runs] : versions) {
    for (const Run& run : runs.runs()) {
      if (run.position < born_from) continue;  // The point before sees it, or an ancestor's does.
      for (BlockIndex block = run.range.first; block < run.range.end();
           block = block + BlockCount(1)) {
        // By where it lies: some versions may know of a move and others not.
        const Run one = forwarding_.Resolve(Cut(run, {block, BlockCount(1)})).front();
        const bool first =
            freed.insert({{block, one.position}, {one.address.segment.value(), one.address.block}})
                .second;
        if (first) accounting_.Free(one);
      }
    }
  }
}

void ExtentMap::Impl::AddDeletedRange(std::string from, std::string to) {
  // Chunks come in order and there is nothing between them: one range grows.
  if (!deleted_ranges_.empty()) {
    auto& [last_from, last_to] = deleted_ranges_.back();
    const size_t timeline_bytes = TimelinePrefix(Table::kChunk, TimelineId()).size();
    if (last_to <= from && last_from.compare(0, timeline_bytes, from, 0, timeline_bytes) == 0) {
      last_to = std::move(to);
      return;
    }
  }
  deleted_ranges_.emplace_back(std::move(from), std::move(to));
}

// ---- Checkpoints --------------------------------------------------------------------------------

void ExtentMap::Impl::FreezeJobs(MetadataBatch* batch) {
  for (auto& [from, to] : deleted_ranges_) {
    batch->push_back({.kind = MetadataWrite::Kind::kDeleteRange,
                      .key = std::move(from),
                      .value = std::move(to)});
  }
  deleted_ranges_.clear();
  for (PendingJob& pending : jobs_) {
    TakeEffect(&pending);
    if (pending.finished) {
      pending.finish_frozen = true;
      batch->push_back(
          {.kind = MetadataWrite::Kind::kDelete, .key = EncodeJobKey(pending.number), .value = {}});
      if (pending.job.whole_timeline()) {
        const TimelineId timeline = pending.job.timeline.id;
        batch->push_back(
            {.kind = MetadataWrite::Kind::kDelete, .key = EncodeLineageKey(timeline), .value = {}});
      }
    } else if (!pending.in_store) {
      pending.in_store = true;
      batch->push_back({.kind = MetadataWrite::Kind::kPut,
                        .key = EncodeJobKey(pending.number),
                        .value = EncodeReclaimJob(pending.job)});
    }
  }
  reclaimed_since_freeze_ = 0;
}

void ExtentMap::Impl::TakeEffect(PendingJob* pending) {
  ReclaimJob& job = pending->job;
  if (job.in_effect || reclaim_held_) return;
  if (job.kind == ReclaimJob::Kind::kTail &&
      (tombstones_.Any(job.timeline.id) || HasPartial(job.timeline.id))) {
    return;
  }
  accounting_.LetGoPoints(job.timeline.id, job.points);
  job.points.clear();
  job.in_effect = true;
  pending->in_store = false;
  pending->frozen = true;
}

bool ExtentMap::Impl::HasPartial(TimelineId timeline) const {
  auto next = cache_.undurable().lower_bound({timeline, 0});
  for (; next != cache_.undurable().end() && next->first.first == timeline; ++next) {
    if (!next->second->complete) return true;
  }
  return false;
}

void ExtentMap::Impl::FreezeJobsDone() {
  for (PendingJob& pending : jobs_) pending.durable = pending.durable || pending.frozen;
  while (!jobs_.empty() && jobs_.front().finish_frozen) {
    const ReclaimJob& job = jobs_.front().job;
    if (job.whole_timeline()) {
      departed_.erase(job.timeline.id);
      accounting_.Forget(job.timeline.id);
      lineages_.Forget(job.timeline.id);
      inserted_up_to_.erase(job.timeline.id);
      cache_.EraseTimeline(job.timeline.id);
    }
    jobs_.pop_front();
  }
}

Task<absl::Status> ExtentMap::Impl::LoadJobs() {
  absl::StatusOr<std::vector<KeyValue>> entries = co_await ScanTable(Table::kJob);
  if (!entries.ok()) co_return entries.status();
  for (const auto& [key, value] : *entries) {
    TF_CO_ASSIGN_OR_RETURN(const uint64_t number, DecodeJobKey(key));
    TF_CO_ASSIGN_OR_RETURN(const ReclaimJob job, DecodeReclaimJob(value));
    if (job.whole_timeline()) departed_.emplace(job.timeline.id, job.timeline);
    accounting_.HoldPoints(job.timeline.id, job.points);
    jobs_.push_back({.number = number, .job = job, .in_store = true, .durable = job.in_effect});
    next_job_ = number + 1;
  }
  co_return absl::OkStatus();
}

}  // namespace twofold
