#include "storage/map/recount.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/map/chunk.h"
#include "storage/map/forwarding.h"
#include "storage/map/key_codec.h"
#include "storage/map/lineage.h"
#include "storage/map/reclaim_plan.h"
#include "storage/map/run_list.h"
#include "storage/map/value_codec.h"

namespace twofold {
namespace {

constexpr size_t kPage = 512;

struct Version {
  Epoch epoch;
  RunList runs;
};

class Recounter {
 public:
  Recounter(MetadataStore* metadata, const Catalogue* catalogue)
      : metadata_(*metadata), catalogue_(*catalogue) {}

  Task<absl::Status> Count() {
    absl::Status status = co_await ForEach(Table::kJob, &Recounter::TakeJob);
    if (!status.ok()) co_return status;
    status = co_await ForEach(Table::kLineage, &Recounter::TakeLineage);
    if (!status.ok()) co_return status;
    status = co_await ForEach(Table::kForwarding, &Recounter::TakeForwarding);
    if (!status.ok()) co_return status;
    status = co_await ForEach(Table::kChunk, &Recounter::TakeVersion);
    if (!status.ok()) co_return status;
    status = FinishChunk();
    if (!status.ok()) co_return status;
    status = co_await ForEach(Table::kPartial, &Recounter::TakePartial);
    if (!status.ok()) co_return status;
    status = co_await ForEach(Table::kTombstone, &Recounter::TakeTombstone);
    if (!status.ok()) co_return status;
    co_return CheckInherited();
  }

  Task<absl::Status> Compare() {
    absl::Status status = co_await ForEach(Table::kLive, &Recounter::CompareBitmap);
    if (!status.ok()) co_return status;
    status = co_await ForEach(Table::kUsage, &Recounter::CompareUsage);
    if (!status.ok()) co_return status;
    co_return CompareMissing();
  }

  Recount TakeResult() { return std::move(result_); }

 private:
  using Take = absl::Status (Recounter::*)(const KeyValue&);

  Task<absl::Status> ForEach(Table table, Take take) {
    std::string from = TablePrefix(table);
    const std::string to = PrefixEnd(from);
    for (;;) {
      const absl::StatusOr<std::vector<KeyValue>> page = co_await metadata_.Scan(from, to, kPage);
      if (!page.ok()) co_return page.status();
      if (page->empty()) co_return absl::OkStatus();
      for (const KeyValue& entry : *page) TF_CO_RETURN_IF_ERROR((this->*take)(entry));
      from = page->back().first + '\0';
    }
  }

  absl::Status TakeJob(const KeyValue& entry) {
    TF_ASSIGN_OR_RETURN(const ReclaimJob job, DecodeReclaimJob(entry.second));
    ++result_.reclaim_jobs;
    Deleted& deleted = deleted_[job.timeline.id];
    deleted.timeline = job.timeline;
    if (job.kind == ReclaimJob::Kind::kPoint) {
      deleted.points.insert(job.point);
    } else {
      deleted.from = std::min(deleted.from, job.previous);
      deleted.tail = true;
    }
    return absl::OkStatus();
  }

  absl::Status TakeLineage(const KeyValue& entry) { return lineages_.Load({entry}); }

  absl::Status TakeForwarding(const KeyValue& entry) { return forwarding_.Load({entry}); }

  absl::Status TakeVersion(const KeyValue& entry) {
    TF_ASSIGN_OR_RETURN(const ChunkKey key, DecodeChunkKey(entry.first));
    TF_ASSIGN_OR_RETURN(RunList runs, RunList::Decode(key.chunk, entry.second));
    forwarding_.Resolve(&runs);
    if (key.timeline != timeline_ || key.chunk != chunk_) {
      TF_RETURN_IF_ERROR(FinishChunk());
      if (key.timeline != timeline_) EnterTimeline(key.timeline);
      timeline_ = key.timeline;
      chunk_ = key.chunk;
    }
    ++result_.versions;
    versions_.push_back({key.epoch, std::move(runs)});  // Newest first.
    return absl::OkStatus();
  }

  void EnterTimeline(TimelineId timeline) {
    points_ = catalogue_.RetainedPoints(timeline);
    const auto record = catalogue_.timelines().find(timeline);
    has_end_ = false;
    if (record != catalogue_.timelines().end()) {
      const auto volume = catalogue_.volumes().find(record->second.volume);
      // One that nothing needs stays whole until a delete takes it.
      has_end_ = points_.empty() || (volume != catalogue_.volumes().end() &&
                                     volume->second.current_timeline == timeline);
    }
  }

  bool IsNeeded(Epoch epoch, const Version* newer) const {
    if (newer == nullptr && has_end_) return true;
    const auto point = std::upper_bound(points_.begin(), points_.end(), epoch);
    return point != points_.end() && (newer == nullptr || *point <= newer->epoch);
  }

  bool IsAllowed(Epoch epoch) const {
    const auto deleted = deleted_.find(timeline_);
    if (deleted == deleted_.end()) return false;
    // Versions that a deleted point saw, and what it leaves behind, go step by step.
    return (deleted->second.tail && epoch >= deleted->second.from) ||
           !deleted->second.points.empty();
  }

  // The blocks of a chunk by identity: where each lies, and whether somebody needs it.
  using Blocks = absl::flat_hash_map<std::pair<BlockIndex, Position>, std::pair<LogAddress, bool>>;

  // All versions of a chunk are together: each block of each run counts once.
  absl::Status FinishChunk() {
    if (versions_.empty()) return absl::OkStatus();
    const Position owned_from = OwnedFrom();
    Blocks blocks;
    for (size_t i = 0; i < versions_.size(); ++i) {
      const bool needed = IsNeeded(versions_[i].epoch, i == 0 ? nullptr : &versions_[i - 1]);
      if (!needed && !IsAllowed(versions_[i].epoch)) {
        return absl::DataLossError(absl::StrCat(
            "timeline ", timeline_.value(), ", chunk ", chunk_, ": a version of epoch ",
            versions_[i].epoch.generation.value(), ".", versions_[i].epoch.seq.value(),
            " that nothing sees; rebuild the map from the log"));
      }
      for (const Run& run : versions_[i].runs.runs()) {
        if (run.position < owned_from) {
          if (needed) TakeInherited(run);
        } else {
          TF_RETURN_IF_ERROR(TakeRun(run, needed, &blocks));
        }
      }
    }
    versions_.clear();
    return absl::OkStatus();
  }

  Position OwnedFrom() const {
    const auto record = catalogue_.timelines().find(timeline_);
    if (record != catalogue_.timelines().end()) return lineages_.OwnedFrom(record->second, chunk_);
    const auto deleted = deleted_.find(timeline_);
    if (deleted != deleted_.end()) return lineages_.OwnedFrom(deleted->second.timeline, chunk_);
    return kFirstPosition;  // Nobody's: that shows when its versions are looked at.
  }

  void TakeInherited(const Run& run) {
    if (run.kind == RunKind::kZero) return;
    inherited_[run.address.segment].Set(run.address.block,
                                        static_cast<uint32_t>(run.range.count.value()), true);
  }

  // What a flat timeline has from its ancestors is held by them.
  absl::Status CheckInherited() const {
    for (const auto& [number, inherited] : inherited_) {
      const auto segment = result_.segments.find(number);
      absl::Status status;
      inherited.ForEachLive([&](uint32_t block) {
        if (segment != result_.segments.end() && segment->second.needed.Test(block)) return;
        status = Difference(number, block, "is inherited by a timeline, and its owner lacks it");
      });
      TF_RETURN_IF_ERROR(status);
    }
    return absl::OkStatus();
  }

  absl::Status TakeRun(const Run& run, bool needed, Blocks* blocks) {
    for (uint64_t i = 0; i < run.range.count.value(); ++i) {
      const BlockIndex block = run.range.first + BlockCount(i);
      LogAddress address = run.address;
      if (run.kind == RunKind::kData) address.block += static_cast<uint32_t>(i);
      const auto [known, first] =
          blocks->try_emplace({block, run.position}, std::pair(address, false));
      if (known->second.first != address) {
        return Difference(address.segment, address.block, "is one of two places of a block");
      }
      const bool newly_needed = needed && !known->second.second;
      known->second.second = known->second.second || needed;
      TF_RETURN_IF_ERROR(TakeBlock(run.kind, address, first, newly_needed));
    }
    return absl::OkStatus();
  }

  absl::Status TakeBlock(RunKind kind, const LogAddress& address, bool first, bool newly_needed) {
    Recount::Segment& segment = result_.segments[address.segment];
    if (kind == RunKind::kZero) {
      segment.zero_allowed += first ? 1 : 0;
      segment.zero_needed += newly_needed ? 1 : 0;
      return absl::OkStatus();
    }
    if (first && segment.allowed.Test(address.block)) {
      return Difference(address.segment, address.block, "holds two blocks of the map");
    }
    segment.allowed.Set(address.block, 1, true);
    if (newly_needed) segment.needed.Set(address.block, 1, true);
    return absl::OkStatus();
  }

  absl::Status TakePartial(const KeyValue& entry) {
    TF_ASSIGN_OR_RETURN(const ChunkKey key, DecodePartialKey(entry.first));
    TF_ASSIGN_OR_RETURN(RunList runs, RunList::Decode(key.chunk, entry.second));
    forwarding_.Resolve(&runs);
    Blocks blocks;
    for (const Run& run : runs.runs()) TF_RETURN_IF_ERROR(TakeRun(run, /*needed=*/true, &blocks));
    return absl::OkStatus();
  }

  absl::Status TakeTombstone(const KeyValue& entry) {
    TF_ASSIGN_OR_RETURN(const Tombstone tombstone, DecodeTombstone(entry.second));
    Recount::Segment& segment = result_.segments[forwarding_.ResolveZeros(tombstone.segment)];
    segment.zero_needed += tombstone.range.count.value();
    segment.zero_allowed += tombstone.range.count.value();
    return absl::OkStatus();
  }

  absl::Status CompareBitmap(const KeyValue& entry) {
    TF_ASSIGN_OR_RETURN(const SegmentNumber number, DecodeSegmentKey(entry.first));
    TF_ASSIGN_OR_RETURN(LiveBitmap live, LiveBitmap::Decode(entry.second));
    live_counts_[number] = live.CountLive();
    const Recount::Segment& segment = result_.segments[number];
    if (live == segment.needed || live == segment.allowed) return absl::OkStatus();
    for (uint32_t block = 0; block < kMaxSegmentBytes / kBlockSize; ++block) {
      if (segment.needed.Test(block) && !live.Test(block)) {
        return Difference(number, block, "is needed and not live");
      }
      if (live.Test(block) && !segment.allowed.Test(block)) {
        return Difference(number, block, "is live and not needed");
      }
    }
    return absl::OkStatus();
  }

  absl::Status CompareUsage(const KeyValue& entry) {
    TF_ASSIGN_OR_RETURN(const SegmentNumber number, DecodeSegmentKey(entry.first));
    TF_ASSIGN_OR_RETURN(const SegmentUsage usage, DecodeUsage(number, entry.second));
    const Recount::Segment& segment = result_.segments[number];
    if (usage.live_blocks != live_counts_[number]) {
      return absl::DataLossError(absl::StrCat("segment ", number.value(), ": ", usage.live_blocks,
                                              " blocks are counted as live, ", live_counts_[number],
                                              " are marked; rebuild the map from the log"));
    }
    if (usage.zero_blocks < segment.zero_needed || usage.zero_blocks > segment.zero_allowed) {
      return absl::DataLossError(absl::StrCat("segment ", number.value(), ": ", usage.zero_blocks,
                                              " blocks are counted as zero because of it, where ",
                                              segment.zero_needed, " to ", segment.zero_allowed,
                                              " are; rebuild the map from the log"));
    }
    seen_usages_.insert(number);
    return absl::OkStatus();
  }

  // Segments of which the accounting says nothing at all.
  absl::Status CompareMissing() const {
    for (const auto& [number, segment] : result_.segments) {
      if (segment.needed.CountLive() > 0 && !live_counts_.contains(number)) {
        return absl::DataLossError(absl::StrCat("segment ", number.value(),
                                                " has no bitmap of live blocks, and blocks in it "
                                                "are needed; rebuild the map from the log"));
      }
      if (segment.zero_needed > 0 && !seen_usages_.contains(number)) {
        return absl::DataLossError(absl::StrCat(
            "segment ", number.value(),
            " has no usage, and blocks are zero because of it; rebuild the map from the log"));
      }
    }
    return absl::OkStatus();
  }
  static absl::Status Difference(SegmentNumber segment, uint32_t block, absl::string_view what) {
    return absl::DataLossError(absl::StrCat("payload block ", block, " of segment ",
                                            segment.value(), " ", what,
                                            "; rebuild the map from the log"));
  }

  MetadataStore& metadata_;
  const Catalogue& catalogue_;
  Recount result_;

  struct Deleted {
    TimelineRecord timeline;
    std::set<Position> points;
    Position from = kLastPosition;
    bool tail = false;
  };
  std::map<TimelineId, Deleted> deleted_;  // and not yet reclaimed
  Forwarding forwarding_;
  Lineages lineages_;
  std::map<SegmentNumber, LiveBitmap> inherited_;

  TimelineId timeline_;
  uint64_t chunk_ = 0;
  std::vector<Version> versions_;
  std::vector<Position> points_;
  bool has_end_ = false;

  std::map<SegmentNumber, uint32_t> live_counts_;
  std::set<SegmentNumber> seen_usages_;
};

}  // namespace

Task<absl::StatusOr<Recount>> RecountBlocks(MetadataStore* metadata, const Catalogue* catalogue) {
  Recounter recounter(metadata, catalogue);
  const absl::Status status = co_await recounter.Count();
  if (!status.ok()) co_return status;
  co_return recounter.TakeResult();
}

Task<absl::StatusOr<Recount>> VerifyAccounting(MetadataStore* metadata,
                                               const Catalogue* catalogue) {
  Recounter recounter(metadata, catalogue);
  absl::Status status = co_await recounter.Count();
  if (!status.ok()) co_return status;
  status = co_await recounter.Compare();
  if (!status.ok()) co_return status;
  co_return recounter.TakeResult();
}

}  // namespace twofold
