#include "storage/map/map_rebuilder.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <utility>

#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/map/chunk.h"
#include "storage/map/key_codec.h"
#include "storage/map/live_bitmap.h"
#include "storage/map/value_codec.h"

namespace twofold {
namespace {

constexpr size_t kBatchWrites = 32'768;  // a few MiB: what is in memory at a time
constexpr size_t kPage = 1024;

MetadataWrite Put(std::string key, std::string value) {
  return {.kind = MetadataWrite::Kind::kPut, .key = std::move(key), .value = std::move(value)};
}

MetadataWrite DeleteTable(Table table) {
  return {.kind = MetadataWrite::Kind::kDeleteRange,
          .key = TablePrefix(table),
          .value = PrefixEnd(TablePrefix(table))};
}

std::string Behind(absl::string_view key) { return std::string(key) + '\0'; }

// Where two runs meet in the order of insertion (M2, R18).
bool Before(const Run& a, const Run& b) {
  if (a.position != b.position) return a.position < b.position;
  return a.address < b.address;
}

// The keys of a table with a prefix, page by page.
class Cursor {
 public:
  Cursor(MetadataStore* metadata, std::string prefix)
      : metadata_(*metadata), from_(prefix), end_(PrefixEnd(std::move(prefix))) {}

  // Null at the end.
  Task<absl::StatusOr<const KeyValue*>> Peek() {
    if (next_ == page_.size() && !ended_) {
      absl::StatusOr<std::vector<KeyValue>> page = co_await metadata_.Scan(from_, end_, kPage);
      TF_CO_RETURN_IF_ERROR(page);
      page_ = *std::move(page);
      next_ = 0;
      ended_ = page_.empty();
      if (!ended_) from_ = Behind(page_.back().first);
    }
    co_return ended_ ? nullptr : &page_[next_];
  }
  bool PeekNow(const KeyValue** entry) const {
    if (next_ == page_.size() && !ended_) return false;
    *entry = ended_ ? nullptr : &page_[next_];
    return true;
  }
  void Advance() { ++next_; }

 private:
  MetadataStore& metadata_;
  std::string from_;
  const std::string end_;
  std::vector<KeyValue> page_;
  size_t next_ = 0;
  bool ended_ = false;
};

// The zeros of a timeline that reach into the chunk that is being made: chunks come ascending.
class ZeroSweep {
 public:
  ZeroSweep(MetadataStore* metadata, TimelineId timeline)
      : cursor_(metadata, TimelinePrefix(Table::kSortZero, timeline)) {}

  Task<absl::Status> MoveTo(uint64_t chunk) {
    const BlockRange range = ChunkRange(chunk);
    std::erase_if(active_, [&range](const Run& zero) { return zero.range.end() <= range.first; });
    for (;;) {
      const KeyValue* entry = nullptr;
      if (!cursor_.PeekNow(&entry)) {
        absl::StatusOr<const KeyValue*> read = co_await cursor_.Peek();
        TF_CO_RETURN_IF_ERROR(read);
        entry = *read;
      }
      if (entry == nullptr) break;
      TF_CO_ASSIGN_OR_RETURN(const SortZeroKey key, DecodeSortZeroKey(entry->first));
      if (key.first >= range.end()) break;
      TF_CO_ASSIGN_OR_RETURN(const Tombstone zero, DecodeTombstone(entry->second));
      cursor_.Advance();
      if (zero.range.end() <= range.first) continue;
      active_.push_back({.range = zero.range,
                         .kind = RunKind::kZero,
                         .position = key.position,
                         .address = {.segment = key.segment, .block = 0},
                         .block_crcs = {}});
    }
    co_return absl::OkStatus();
  }

  // Those of the chunk, in the order of insertion.
  std::vector<Run> In(uint64_t chunk) const {
    std::vector<Run> zeros;
    for (const Run& zero : active_) zeros.push_back(Cut(zero, ChunkRange(chunk)));
    std::sort(zeros.begin(), zeros.end(), Before);
    return zeros;
  }

 private:
  Cursor cursor_;
  std::vector<Run> active_;
};

// A chunk's runs and its zeros, merged in the order of insertion.
class ChunkInput {
 public:
  ChunkInput(const TimelineWindows& windows, uint64_t chunk, bool below, std::vector<Run> zeros,
             RebuiltMap* out)
      : history_(windows, chunk, below, out), zeros_(std::move(zeros)) {}

  void Add(const Run& run) {
    while (next_zero_ < zeros_.size() && Before(zeros_[next_zero_], run)) {
      history_.Add(zeros_[next_zero_++]);
    }
    history_.Add(run);
  }
  void Finish() {
    while (next_zero_ < zeros_.size()) history_.Add(zeros_[next_zero_++]);
    history_.Finish();
  }

 private:
  ChunkHistory history_;
  const std::vector<Run> zeros_;
  size_t next_zero_ = 0;
};

}  // namespace

Task<absl::Status> MapRebuilder::Begin() {
  MetadataBatch clear;
  for (const Table table :
       {Table::kMeta, Table::kChunk, Table::kVersion, Table::kDead, Table::kLive, Table::kUsage,
        Table::kTombstone, Table::kPartial, Table::kForwarding, Table::kJob, Table::kLineage,
        Table::kSortRun, Table::kSortZero}) {
    clear.push_back(DeleteTable(table));
  }
  co_return co_await metadata_.Commit(std::move(clear));
}

void MapRebuilder::Add(TimelineId timeline, const Run& run) {
  if (run.range.empty()) return;
  if (run.kind == RunKind::kZero) {
    const SortZeroKey key{.timeline = timeline,
                          .first = run.range.first,
                          .position = run.position,
                          .segment = run.address.segment};
    sorting_.push_back(Put(EncodeSortZeroKey(key),
                           EncodeTombstone({run.range, run.address.segment, kFirstPosition})));
    return;
  }
  const uint64_t last = ChunkOf(run.range.end() - BlockIndex(1));
  for (uint64_t chunk = ChunkOf(run.range.first); chunk <= last; ++chunk) {
    RunList one;
    one.Insert(Cut(run, ChunkRange(chunk)));
    const SortRunKey key{.timeline = timeline,
                         .chunk = chunk,
                         .position = run.position,
                         .place = one.runs().front().address};
    sorting_.push_back(Put(EncodeSortRunKey(key), one.Encode(chunk)));
  }
}

Task<absl::Status> MapRebuilder::Spill(bool all) {
  if (sorting_.empty() || (!all && sorting_.size() < kBatchWrites)) co_return absl::OkStatus();
  co_return co_await metadata_.Commit(std::exchange(sorting_, {}));
}

Task<absl::Status> MapRebuilder::Build(std::function<void(uint64_t, uint64_t)> progress) {
  absl::Status status = co_await Spill(/*all=*/true);
  TF_CO_RETURN_IF_ERROR(status);
  // Parents first (M4): a parent's id is lower than its children's.
  uint64_t done = 0;
  for (const auto& [id, timeline] : catalogue_.timelines()) {
    if (timeline.parent != TimelineId()) {
      status = co_await TouchInherited(&timeline);
      TF_CO_RETURN_IF_ERROR(status);
    }
    status = co_await BuildTimeline(&timeline);
    TF_CO_RETURN_IF_ERROR(status);
    if (progress) progress(++done, catalogue_.timelines().size());
  }
  co_return absl::OkStatus();
}

// Zeros over what an ancestor has must be said, also where the timeline has nothing else (M7).
Task<absl::Status> MapRebuilder::TouchInherited(const TimelineRecord* timeline) {
  Cursor zeros(&metadata_, TimelinePrefix(Table::kSortZero, timeline->id));
  for (;;) {
    absl::StatusOr<const KeyValue*> entry = co_await zeros.Peek();
    TF_CO_RETURN_IF_ERROR(entry);
    if (*entry == nullptr) break;
    TF_CO_ASSIGN_OR_RETURN(const Tombstone zero, DecodeTombstone((*entry)->second));
    zeros.Advance();
    for (TimelineId layer = timeline->parent; layer != TimelineId();
         layer = catalogue_.timelines().at(layer).parent) {
      absl::Status status = co_await TouchLayer(timeline->id, layer, zero.range);
      TF_CO_RETURN_IF_ERROR(status);
    }
  }
  co_return co_await Spill(/*all=*/true);
}

Task<absl::Status> MapRebuilder::TouchLayer(TimelineId timeline, TimelineId layer,
                                            BlockRange zeros) {
  const uint64_t end = ChunkOf(zeros.end() - BlockIndex(1)) + 1;
  for (uint64_t chunk = ChunkOf(zeros.first); chunk < end;) {
    absl::StatusOr<std::optional<KeyValue>> found =
        co_await metadata_.Seek(ChunkPrefix(layer, chunk), TimelinePrefix(Table::kChunk, layer));
    TF_CO_RETURN_IF_ERROR(found);
    if (!found->has_value()) break;
    TF_CO_ASSIGN_OR_RETURN(const ChunkKey key, DecodeChunkKey((*found)->first));
    if (key.chunk >= end) break;
    sorting_.push_back(Put(
        EncodeSortRunKey(
            {.timeline = timeline, .chunk = key.chunk, .position = kFirstPosition, .place = {}}),
        {}));
    absl::Status status = co_await Spill(/*all=*/false);
    TF_CO_RETURN_IF_ERROR(status);
    chunk = key.chunk + 1;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> MapRebuilder::BuildTimeline(const TimelineRecord* timeline) {
  const TimelineWindows windows(catalogue_, *timeline);
  Cursor runs(&metadata_, TimelinePrefix(Table::kSortRun, timeline->id));
  ZeroSweep zeros(&metadata_, timeline->id);
  std::unique_ptr<ChunkInput> input;
  std::optional<uint64_t> chunk;
  for (;;) {
    const KeyValue* entry = nullptr;
    if (!runs.PeekNow(&entry)) {
      absl::StatusOr<const KeyValue*> read = co_await runs.Peek();
      TF_CO_RETURN_IF_ERROR(read);
      entry = *read;
    }
    if (entry == nullptr) break;
    TF_CO_ASSIGN_OR_RETURN(const SortRunKey key, DecodeSortRunKey(entry->first));
    const bool inherited = entry->second.empty();
    if (chunk != key.chunk) {
      if (input != nullptr) input->Finish();
      absl::Status status = co_await WriteBuilt(/*all=*/false);
      TF_CO_RETURN_IF_ERROR(status);
      status = co_await zeros.MoveTo(key.chunk);
      TF_CO_RETURN_IF_ERROR(status);
      chunk = key.chunk;
      // The mark of an ancestor comes first: its position is.
      input =
          std::make_unique<ChunkInput>(windows, key.chunk, inherited, zeros.In(key.chunk), &built_);
    }
    if (!inherited) {
      TF_CO_ASSIGN_OR_RETURN(const RunList one, RunList::Decode(key.chunk, entry->second));
      for (const Run& run : one.runs()) input->Add(run);
    }
    runs.Advance();
  }
  if (input != nullptr) input->Finish();
  co_return co_await WriteBuilt(/*all=*/true);
}

Task<absl::Status> MapRebuilder::WriteBuilt(bool all) {
  if (!all && built_.batch.size() < kBatchWrites) co_return absl::OkStatus();
  for (auto& [segment, operand] : EncodeLiveChanges(std::exchange(built_.changes, {}))) {
    built_.batch.push_back({.kind = MetadataWrite::Kind::kMerge,
                            .key = EncodeSegmentKey(Table::kLive, segment),
                            .value = std::move(operand)});
  }
  if (built_.batch.empty()) co_return absl::OkStatus();
  co_return co_await metadata_.Commit(std::exchange(built_.batch, {}));
}

MetadataBatch MapRebuilder::TakeRest() {
  MetadataBatch rest;
  for (auto& [segment, usage] : built_.usages) {
    usage.segment = segment;
    rest.push_back(Put(EncodeSegmentKey(Table::kUsage, segment), EncodeUsage(usage)));
  }
  rest.push_back(DeleteTable(Table::kSortRun));
  rest.push_back(DeleteTable(Table::kSortZero));
  return rest;
}

}  // namespace twofold
