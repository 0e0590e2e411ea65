// Checkpoints (M9): what a batch holds of the map, and reading it back.
//
// A batch is one consistent cut. A crash before it is committed leaves the checkpoint before, one
// after it this one; both are whole, and replay begins exactly at the cut.
#include <algorithm>
#include <iterator>
#include <utility>

#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/map/extent_map_impl.h"
#include "storage/map/key_codec.h"
#include "storage/map/live_bitmap.h"
#include "storage/map/value_codec.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

constexpr size_t kScanLimit = 1024;
constexpr uint8_t kMaxMerges =
    8;  // then the version is written whole: reads have less to put together

MetadataWrite Put(std::string key, std::string value) {
  return {.kind = MetadataWrite::Kind::kPut, .key = std::move(key), .value = std::move(value)};
}

MetadataWrite Delete(std::string key) {
  return {.kind = MetadataWrite::Kind::kDelete, .key = std::move(key), .value = {}};
}

}  // namespace

// ---- Freeze -------------------------------------------------------------------------------------

Task<absl::Status> ExtentMap::Impl::PrepareFreeze() {
  fetch_status_ = absl::OkStatus();
  trim_status_ = absl::OkStatus();
  StartBackground();
  // Those that are partial now; later ones are kept as they are (FreezePartial).
  std::vector<ChunkId> partial;
  for (const auto& [place, chunk] : cache_.undurable()) {
    if (!chunk->complete) partial.push_back(chunk->id);
  }
  for (size_t next = 0; next < partial.size();) {
    std::vector<Task<absl::Status>> reads;
    std::vector<std::shared_ptr<Reading>> held(kMaxBaseReads);
    for (; next < partial.size() && reads.size() < kMaxBaseReads; ++next) {
      reads.push_back(ReadAndHold(partial[next], &held[reads.size()]));
    }
    const std::vector<absl::Status> statuses = co_await WhenAll(std::move(reads));
    const absl::Status status = FirstError(statuses);
    if (!status.ok()) co_return status;
  }
  co_return absl::OkStatus();
}

ExtentMap::Frozen ExtentMap::Impl::Freeze(SegmentNumber replay_from, SegmentNumber keep_from) {
  Frozen frozen;
  MetadataBatch& batch = frozen.batch;
  batch.reserve(deleted_.size() + cache_.undurable().size() * 2);
  FreezeRewrites(&batch);
  for (std::string& key : deleted_) batch.push_back(Delete(std::move(key)));
  deleted_.clear();
  for (const std::string& key : stored_partials_) batch.push_back(Delete(key));
  stored_partials_.clear();

  for (const auto& [place, chunk] : cache_.undurable()) {
    if (chunk->complete) {
      FreezeChunk(*chunk, &batch);
    } else {
      FreezePartial(*chunk, &batch);
    }
  }
  freezing_ = true;
  FreezeLineages(&batch);
  FreezeJobs(&batch);
  accounting_.Freeze(&batch);
  tombstones_.Freeze(&batch);
  forwarding_.Freeze(&batch);

  frozen.segments = table_.Freeze(replay_from, keep_from);
  for (const SegmentUsage& usage : frozen.segments.usages) {
    batch.push_back(Put(EncodeSegmentKey(Table::kUsage, usage.segment), EncodeUsage(usage)));
  }
  return frozen;
}

Task<void> ExtentMap::CompleteFrozen(Frozen* frozen) {
  for (std::vector<LiveChange>& changes : frozen->segments.changes) {
    frozen->batch.push_back({.kind = MetadataWrite::Kind::kMerge,
                             .key = EncodeSegmentKey(Table::kLive, changes.front().first.segment),
                             .value = LiveDelta(changes).Encode()});
    changes = {};
    co_await Yield();
  }
}

void ExtentMap::Impl::FreezeChunk(Chunk& chunk, MetadataBatch* batch) {
  for (ChunkVersion& version : chunk.versions) {
    if (!version.dirty) continue;
    // References are made new whenever a version is written (M16).
    if (forwarding_.Resolve(&version.runs)) version.rewrite = true;
    const ChunkKey key{
        .timeline = chunk.id.timeline, .chunk = chunk.id.chunk, .epoch = version.epoch};
    size_t newer = 0;
    Position last = version.saved_up_to;
    for (const Run& run : version.runs.runs()) {
      last = std::max(last, run.position);
      if (run.position > version.saved_up_to) ++newer;
    }
    // An operand costs every reader a merge until it is compacted: not for half of the chunk.
    const bool whole = !version.in_store || version.rewrite || version.merges >= kMaxMerges ||
                       newer * 2 > version.runs.runs().size();
    if (whole) {
      batch->push_back(Put(EncodeChunkKey(key), version.runs.Encode(chunk.id.chunk)));
    } else {
      batch->push_back({.kind = MetadataWrite::Kind::kMerge,
                        .key = EncodeChunkKey(key),
                        .value = version.runs.EncodeNewer(chunk.id.chunk, version.saved_up_to)});
    }
    if (!version.in_store) batch->push_back(Put(EncodeVersionKey(key), std::string()));
    version.merges = whole ? 0 : version.merges + 1;
    version.saved_up_to = last;
    version.in_store = true;
    version.rewrite = false;
    version.dirty = false;
    version.frozen = true;
  }
}

// A chunk whose base has not been read: what came to it is kept as it is. Its displacement is not
// accounted for yet, and goes with the checkpoint that holds it complete.
void ExtentMap::Impl::FreezePartial(const Chunk& chunk, MetadataBatch* batch) {
  for (const ChunkVersion& version : chunk.versions) {
    std::string key = EncodePartialKey(
        {.timeline = chunk.id.timeline, .chunk = chunk.id.chunk, .epoch = version.epoch});
    RunList runs = version.runs;
    forwarding_.Resolve(&runs);
    batch->push_back(Put(key, runs.Encode(chunk.id.chunk)));
    stored_partials_.insert(std::move(key));
  }
}

void ExtentMap::Impl::FreezeDone() {
  ++checkpoints_done_;
  std::vector<Chunk*> frozen;
  for (const auto& [place, chunk] : cache_.undurable()) {
    if (chunk->complete) frozen.push_back(chunk);
  }
  for (Chunk* chunk : frozen) {
    for (ChunkVersion& version : chunk->versions) version.frozen = false;
    // Older versions that are durable leave memory, as long as those that stay are the chunk's
    // last.
    while (chunk->versions.size() > 1 && !chunk->versions.front().dirty) {
      chunk->versions.erase(chunk->versions.begin());
    }
    cache_.Changed(*chunk);
  }
  freezing_ = false;
  FreezeLineagesDone();
  FreezeJobsDone();
  cache_.Evict();
  StartBackground();
  changed_.WakeAll();
}

// ---- Load ---------------------------------------------------------------------------------------

Task<absl::StatusOr<std::vector<KeyValue>>> ExtentMap::Impl::ScanTable(Table table) {
  std::vector<KeyValue> all;
  std::string from = TablePrefix(table);
  const std::string to = PrefixEnd(from);
  for (;;) {
    absl::StatusOr<std::vector<KeyValue>> page = co_await metadata_.Scan(from, to, kScanLimit);
    if (!page.ok()) co_return Annotate(page.status(), "reading the map's checkpoint");
    if (page->empty()) co_return all;
    from = page->back().first + '\0';
    std::move(page->begin(), page->end(), std::back_inserter(all));
  }
}

Task<absl::Status> ExtentMap::Impl::Load() {
  for (const auto& [volume, stream] : catalogue_.streams()) loaded_up_to_[volume] = stream.applied;
  absl::StatusOr<std::vector<KeyValue>> usages = co_await ScanTable(Table::kUsage);
  if (!usages.ok()) co_return usages.status();
  for (const auto& [key, value] : *usages) {
    TF_CO_ASSIGN_OR_RETURN(const SegmentNumber segment, DecodeSegmentKey(key));
    TF_CO_ASSIGN_OR_RETURN(const SegmentUsage usage, DecodeUsage(segment, value));
    table_.LoadUsage(usage);
  }
  absl::StatusOr<std::vector<KeyValue>> forwarding = co_await ScanTable(Table::kForwarding);
  if (!forwarding.ok()) co_return forwarding.status();
  TF_CO_RETURN_IF_ERROR(forwarding_.Load(*forwarding));
  forwarding_.CollapseAll();
  absl::StatusOr<std::vector<KeyValue>> tombstones = co_await ScanTable(Table::kTombstone);
  if (!tombstones.ok()) co_return tombstones.status();
  TF_CO_RETURN_IF_ERROR(tombstones_.Load(*tombstones));
  absl::StatusOr<std::vector<KeyValue>> lineages = co_await ScanTable(Table::kLineage);
  if (!lineages.ok()) co_return lineages.status();
  TF_CO_RETURN_IF_ERROR(lineages_.Load(*lineages));
  const absl::Status jobs = co_await LoadJobs();
  if (!jobs.ok()) co_return jobs;
  co_return co_await LoadPartials();
}

Task<absl::Status> ExtentMap::Impl::LoadPartials() {
  absl::StatusOr<std::vector<KeyValue>> entries = co_await ScanTable(Table::kPartial);
  if (!entries.ok()) co_return entries.status();
  for (const auto& [key_bytes, value] : *entries) {
    TF_CO_ASSIGN_OR_RETURN(const ChunkKey key, DecodePartialKey(key_bytes));
    TF_CO_ASSIGN_OR_RETURN(RunList runs, RunList::Decode(key.chunk, value));
    if (FindTimeline(key.timeline) == nullptr) {
      co_return absl::DataLossError(absl::StrCat("map: chunk ", key.chunk, " of timeline ",
                                                 key.timeline.value(),
                                                 ", which the catalogue does not have; rebuild "
                                                 "the map from the log"));
    }
    accounting_.NoteEpoch(Timeline(key.timeline));
    const ChunkId id{key.timeline, key.chunk};
    Chunk* chunk = cache_.Find(id);
    if (chunk == nullptr) {
      chunk = &cache_.Create(id);
      BecomePartial(*chunk);
    }
    // What was in the partial chunk is counted as born in that checkpoint. Its zeros stay: whether
    // they matter would have to be known of all of them.
    chunk->has_data = true;
    // The newest comes first in the table, the oldest in memory.
    chunk->versions.insert(chunk->versions.begin(),
                           {.epoch = key.epoch, .runs = std::move(runs), .dirty = true});
    cache_.Changed(*chunk);
    stored_partials_.insert(key_bytes);
  }
  StartBackground();
  co_return absl::OkStatus();
}

}  // namespace twofold
