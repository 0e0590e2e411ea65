// The chunks of all timelines of a tree are gone through together, in order. Of a chunk each
// timeline says, version by version, what its holders see of it (usage_plan.h), and what it does
// not say itself it has from its parent at the fork point. From that follow, block by block, the
// row of holders that show it.
//
// Where a timeline has no version of a chunk nothing is done for it: what its holders show is what
// its parent's fork point shows, so only the differences to that are counted, and put together at
// the end.
#include "storage/map/usage_count.h"

#include <algorithm>
#include <array>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/map/chunk.h"
#include "storage/map/key_codec.h"
#include "storage/map/lineage.h"
#include "storage/map/run_list.h"
#include "storage/map/usage_plan.h"
#include "storage/map/value_codec.h"

namespace twofold {
namespace {

constexpr size_t kNone = HeldTimeline::kNone;
constexpr uint64_t kNoChunk = ~uint64_t{0};
constexpr size_t kVersionsPerStep = 512;
constexpr size_t kBufferedVersions = 16'384;  // of all timelines together, about
constexpr size_t kMinPage = 8;

// What is shown of one block of a chunk.
struct Shown {
  bool known = false;  // else the parent is asked
  bool data = false;
  Position position;
};
using ShownChunk = std::array<Shown, kChunkBlocks>;

void Put(const Run& run, uint64_t chunk, ShownChunk* shown) {
  const uint64_t first = Distance(ChunkRange(chunk).first, run.range.first).value();
  for (uint64_t i = 0; i < run.range.count.value(); ++i) {
    Shown& block = shown->at(first + i);
    if (block.known && block.position >= run.position) continue;
    block = {true, run.kind == RunKind::kData, run.position};
  }
}

void PutBelow(const ShownChunk& below, ShownChunk* shown) {
  for (size_t i = 0; i < kChunkBlocks; ++i) {
    if (!shown->at(i).known) shown->at(i) = below.at(i);
  }
}

int64_t CountData(const ShownChunk& shown) {
  return std::count_if(shown.begin(), shown.end(), [](const Shown& block) { return block.data; });
}

struct Version {
  Epoch epoch;
  ShownChunk shown;
};

// What the holders [first, end) of a timeline see of a chunk.
struct Span {
  size_t first = 0;
  size_t end = 0;
  ShownChunk shown;
};

// What a checkpoint has of a chunk beside its versions: belongs into the version of its epoch and
// into all newer ones.
struct Extra {
  BlockRange range;  // of a tombstone
  Position position;
  Epoch epoch;
};

absl::Status ScanTable(const MetadataView& view, std::string from, const std::string& to,
                       const std::function<absl::Status(const KeyValue&)>& take) {
  for (;;) {
    TF_ASSIGN_OR_RETURN(const std::vector<KeyValue> page,
                        view.ScanBlocking(from, to, kVersionsPerStep));
    if (page.empty()) return absl::OkStatus();
    for (const KeyValue& entry : page) TF_RETURN_IF_ERROR(take(entry));
    from = page.back().first + '\0';
  }
}

// The versions of one timeline, chunk by chunk.
class VersionReader {
 public:
  VersionReader(const MetadataView* view, TimelineId timeline, size_t page)
      : view_(*view),
        page_(page),
        from_(TimelinePrefix(Table::kChunk, timeline)),
        to_(PrefixEnd(from_)) {}

  // The chunk of the next version; kNoChunk: there is none.
  absl::StatusOr<uint64_t> Next() {
    if (at_ == buffer_.size()) {
      if (ended_) return kNoChunk;
      TF_ASSIGN_OR_RETURN(buffer_, view_.ScanBlocking(from_, to_, page_));
      at_ = 0;
      ended_ = buffer_.size() < page_;
      if (buffer_.empty()) return kNoChunk;
      from_ = buffer_.back().first + '\0';
    }
    TF_ASSIGN_OR_RETURN(key_, DecodeChunkKey(buffer_[at_].first));
    return key_.chunk;
  }
  // Of the version that Next has found; moves on.
  Epoch epoch() const { return key_.epoch; }
  absl::StatusOr<RunList> Take() {
    TF_ASSIGN_OR_RETURN(RunList runs, RunList::Decode(key_.chunk, buffer_[at_].second));
    buffer_[at_++].second = std::string();
    return runs;
  }
  void Skip() { ++at_; }

 private:
  const MetadataView& view_;
  const size_t page_;
  std::string from_;
  const std::string to_;
  std::vector<KeyValue> buffer_;
  size_t at_ = 0;
  bool ended_ = false;
  ChunkKey key_;
};

// Counts one tree.
class TreeCounter {
 public:
  TreeCounter(const MetadataView* view, const Catalogue* catalogue, UsagePlan plan,
              const std::map<TimelineId, std::vector<Extra>>& tombstones,
              const std::map<TimelineId, std::set<uint64_t>>& partials, UsageCount* result)
      : view_(*view), catalogue_(*catalogue), plan_(std::move(plan)), result_(*result) {
    const size_t count = plan_.timelines.size();
    const size_t page = std::clamp(kBufferedVersions / count, kMinPage, kVersionsPerStep);
    for (const HeldTimeline& timeline : plan_.timelines) {
      One& one = timelines_.emplace_back(VersionReader(view, timeline.id, page));
      one.differences.resize(timeline.holders() + 1);
      if (const auto found = tombstones.find(timeline.id); found != tombstones.end()) {
        one.tombstones = found->second;
        trimmed_.push_back(timelines_.size() - 1);
      }
      if (const auto found = partials.find(timeline.id); found != partials.end()) {
        one.partials = found->second;
      }
    }
    FindClones();
  }

  // Counts chunks until about so many versions were read. True: that was all.
  absl::StatusOr<bool> Step(uint64_t versions) {
    if (!begun_) {
      begun_ = true;
      for (size_t i = 0; i < timelines_.size(); ++i) TF_RETURN_IF_ERROR(Advance(i));
    }
    const uint64_t until = result_.versions + versions;
    while (!queue_.empty() && result_.versions < until) {
      chunk_ = queue_.begin()->first;
      TF_RETURN_IF_ERROR(CountChunk());
    }
    if (!queue_.empty()) return false;
    Finish();
    return true;
  }

 private:
  struct One {
    explicit One(VersionReader reader_in) : reader(std::move(reader_in)) {}

    VersionReader reader;
    std::vector<Extra> tombstones;
    std::set<uint64_t> partials;
    // By holder: blocks that it shows more than the one before it; the first one more than the
    // parent's fork point, or than nothing where the timeline is flat.
    std::vector<int64_t> differences;
    // A clone's end: what is older was written to another volume.
    std::optional<Position> cloned_at;
    // Of the chunk that is being counted.
    std::vector<Version> versions;  // newest first
    std::vector<Span> spans;        // none: it shows what its parent does
  };

  // A clone shows what another volume's timelines own: how much, is counted at its end.
  void FindClones() {
    for (size_t i = 0; i < plan_.timelines.size(); ++i) {
      if (!plan_.timelines[i].has_end) continue;
      size_t top = i;
      for (size_t parent = plan_.timelines[i].parent; parent != kNone;
           parent = plan_.timelines[top].parent) {
        if (plan_.timelines[parent].volume != plan_.timelines[i].volume) break;
        top = parent;
      }
      if (plan_.timelines[top].parent == kNone) continue;
      timelines_[i].cloned_at = plan_.timelines[top].owned_from;
      clones_.push_back(i);
    }
  }

  // Queues the timeline by its next chunk.
  absl::Status Advance(size_t i) {
    if (plan_.timelines[i].folded) return absl::OkStatus();
    TF_ASSIGN_OR_RETURN(uint64_t next, timelines_[i].reader.Next());
    const std::set<uint64_t>& partials = timelines_[i].partials;
    if (!partials.empty()) next = std::min(next, *partials.begin());
    if (next != kNoChunk) queue_.emplace(next, i);
    return absl::OkStatus();
  }

  absl::Status CountChunk() {
    std::set<size_t> there;
    while (!queue_.empty() && queue_.begin()->first == chunk_) {
      const size_t i = queue_.begin()->second;
      queue_.erase(queue_.begin());
      TF_RETURN_IF_ERROR(ReadVersions(i));
      TF_RETURN_IF_ERROR(Advance(i));
      there.insert(i);
    }
    // Those that own what others have, and those where a trim is still to be done.
    for (const size_t i : std::vector<size_t>(there.begin(), there.end())) {
      there.insert(plan_.timelines[i].heir);
    }
    there.insert(clones_.begin(), clones_.end());
    for (const size_t i : trimmed_) {
      if (ApplyTombstones(i)) there.insert(i);
    }
    for (const size_t i : there) MakeSpans(i);
    for (const size_t i : there) {
      if (!plan_.timelines[i].passes_on) CountOwned(i);
    }
    for (const size_t i : there) {
      timelines_[i].versions.clear();
      timelines_[i].spans.clear();
    }
    return absl::OkStatus();
  }

  absl::Status ReadVersions(size_t i) {
    One& one = timelines_[i];
    const HeldTimeline& timeline = plan_.timelines[i];
    const bool partial = one.partials.erase(chunk_) > 0;
    Epoch newer = kLastPosition;
    for (;;) {
      TF_ASSIGN_OR_RETURN(const uint64_t next, one.reader.Next());
      if (next != chunk_) break;
      ++result_.versions;
      const Epoch epoch = one.reader.epoch();
      // One that nobody sees waits to be deleted.
      const bool seen = FirstHolderAfter(timeline, epoch) < FirstHolderAfter(timeline, newer);
      newer = epoch;
      if (!seen && !partial && one.tombstones.empty()) {
        one.reader.Skip();
        continue;
      }
      TF_ASSIGN_OR_RETURN(const RunList runs, one.reader.Take());
      Version& version = one.versions.emplace_back(Version{epoch, {}});
      for (const Run& run : runs.runs()) Put(run, chunk_, &version.shown);
    }
    return partial ? ReadPartial(i) : absl::OkStatus();
  }

  // Of holders in order, the first that sees a version of `epoch`.
  static size_t FirstHolderAfter(const HeldTimeline& timeline, Epoch epoch) {
    if (epoch == kLastPosition) return timeline.holders();
    const auto point = std::upper_bound(timeline.points.begin(), timeline.points.end(), epoch);
    return static_cast<size_t>(point - timeline.points.begin());
  }

  // What came to the chunk before its base was read (M10) goes into the version of its epoch and
  // those behind it.
  absl::Status ReadPartial(size_t i) {
    const TimelineId timeline = plan_.timelines[i].id;
    const std::string from =
        EncodePartialKey({.timeline = timeline, .chunk = chunk_, .epoch = kLastPosition});
    const std::string to =
        EncodePartialKey({.timeline = timeline, .chunk = chunk_ + 1, .epoch = kLastPosition});
    return ScanTable(view_, from, to, [&](const KeyValue& entry) -> absl::Status {
      TF_ASSIGN_OR_RETURN(const ChunkKey key, DecodePartialKey(entry.first));
      TF_ASSIGN_OR_RETURN(const RunList runs, RunList::Decode(key.chunk, entry.second));
      ++result_.versions;
      for (const Run& run : runs.runs()) PutFrom(key.epoch, run, &timelines_[i].versions);
      return absl::OkStatus();
    });
  }

  void PutFrom(Epoch epoch, const Run& run, std::vector<Version>* versions) const {
    auto place = versions->begin();
    for (; place != versions->end() && place->epoch > epoch; ++place) {
      Put(run, chunk_, &place->shown);
    }
    if (place == versions->end() || place->epoch != epoch) {
      Version made{epoch, {}};
      if (place != versions->end()) made.shown = place->shown;
      place = versions->insert(place, made);
    }
    Put(run, chunk_, &place->shown);
  }

  // A large trim that its chunks do not show yet (R38).
  bool ApplyTombstones(size_t i) {
    bool any = false;
    for (const Extra& tombstone : timelines_[i].tombstones) {
      if (!tombstone.range.Overlaps(ChunkRange(chunk_))) continue;
      any = true;
      const Run zero{.range = Intersection(tombstone.range, ChunkRange(chunk_)),
                     .kind = RunKind::kZero,
                     .position = tombstone.position,
                     .address = {},
                     .block_crcs = {}};
      PutFrom(tombstone.epoch, zero, &timelines_[i].versions);
    }
    return any;
  }

  // What the timeline's parent shows at the fork point; null: nothing.
  const ShownChunk* Below(size_t i) const {
    for (;;) {
      if (plan_.timelines[i].flat) return nullptr;
      const size_t parent = plan_.timelines[i].parent;
      if (parent == kNone) return nullptr;
      const size_t holder = plan_.timelines[i].parent_holder;
      for (const Span& span : timelines_[parent].spans) {
        if (span.first <= holder && holder < span.end) return &span.shown;
      }
      i = parent;
    }
  }

  void MakeSpans(size_t i) {
    const HeldTimeline& timeline = plan_.timelines[i];
    One& one = timelines_[i];
    static constexpr ShownChunk kNothing{};
    const ShownChunk* const found = Below(i);
    const ShownChunk below = found == nullptr ? kNothing : *found;
    const int64_t below_data = timeline.flat ? 0 : CountData(below);
    const auto add = [&](size_t first, size_t end, const ShownChunk& shown) {
      if (first >= end) return;
      Span& span = one.spans.emplace_back(Span{first, end, shown});
      PutBelow(below, &span.shown);
      const int64_t more = CountData(span.shown) - below_data;
      one.differences[first] += more;
      one.differences[end] -= more;
    };
    size_t first = 0;
    const ShownChunk* shown = &kNothing;
    for (auto version = one.versions.rbegin(); version != one.versions.rend(); ++version) {
      const size_t end = FirstHolderAfter(timeline, version->epoch);
      add(first, end, *shown);
      first = end;
      shown = &version->shown;
    }
    add(first, timeline.holders(), *shown);
  }

  // The blocks that the timeline owns, each with the row of its holders that show it.
  void CountOwned(size_t i) {
    const HeldTimeline& timeline = plan_.timelines[i];
    const std::vector<Span>& spans = timelines_[i].spans;
    for (size_t block = 0; block < kChunkBlocks; ++block) {
      Shown open;
      size_t since = 0;
      for (const Span& span : spans) {
        const Shown& shown = span.shown.at(block);
        if (open.data && (!shown.data || shown.position != open.position)) {
          CountBlock(timeline, block, open.position, since, span.first);
          open = {};
        }
        if (!open.data && shown.data && shown.position >= timeline.owned_from) {
          open = shown;
          since = span.first;
        }
      }
      if (open.data) CountBlock(timeline, block, open.position, since, timeline.holders());
    }
    if (timelines_[i].cloned_at.has_value()) CountForeign(i);
  }

  void CountBlock(const HeldTimeline& timeline, size_t block, Position position, size_t first,
                  size_t end) {
    ++held_[timeline.volume];
    if (end - first == 1 && timeline.goes_with[first] != SnapshotId()) {
      ++result_.snapshots[timeline.goes_with[first]].own_blocks;
    }
    for (const HeldTimeline::Fold& fold : timeline.folds) {
      if (fold.fork.holder < first || fold.fork.holder >= end) continue;
      if (!HeirShows(fold.fork.child, block, position)) {
        ++result_.snapshots[fold.snapshot].own_blocks;
      }
    }
  }

  // Whether any holder of who would take over from the child shows it: the first one, or none.
  bool HeirShows(size_t child, size_t block, Position position) const {
    const std::vector<Span>& spans = timelines_[plan_.timelines[child].heir].spans;
    if (spans.empty()) return true;  // It shows all that is below it.
    const Shown& shown = spans.front().shown.at(block);
    return shown.data && shown.position == position;
  }

  void CountForeign(size_t i) {
    for (const Shown& shown : timelines_[i].spans.back().shown) {
      if (shown.data && shown.position < *timelines_[i].cloned_at) {
        ++result_.volumes[plan_.timelines[i].volume].foreign_blocks;
      }
    }
  }

  // Puts the differences together, parents first.
  void Finish() {
    std::vector<std::vector<int64_t>> shown(plan_.timelines.size());
    for (size_t i = 0; i < plan_.timelines.size(); ++i) {
      const HeldTimeline& timeline = plan_.timelines[i];
      int64_t sum = 0;
      if (!timeline.flat && timeline.parent != kNone) {
        sum = shown[timeline.parent][timeline.parent_holder];
      }
      for (size_t holder = 0; holder < timeline.holders(); ++holder) {
        sum += timelines_[i].differences[holder];
        shown[i].push_back(sum);
      }
      if (timeline.has_end) {
        result_.volumes[timeline.volume].present_blocks = static_cast<uint64_t>(shown[i].back());
      }
    }
    FinishSnapshots(shown);
    for (const auto& [volume, held] : held_) {
      if (!catalogue_.volumes().contains(volume)) {
        result_.clones_blocks += held;
        continue;
      }
      VolumeUsage& usage = result_.volumes[volume];
      usage.history_blocks = held - (usage.present_blocks - usage.foreign_blocks);
    }
  }

  void FinishSnapshots(const std::vector<std::vector<int64_t>>& shown) {
    for (const auto& [id, snapshot] : catalogue_.snapshots()) {
      const HeldTimeline* const timeline = plan_.Find(snapshot.timeline);
      if (timeline == nullptr) continue;
      const auto point =
          std::lower_bound(timeline->points.begin(), timeline->points.end(), snapshot.position);
      const auto i = static_cast<size_t>(timeline - plan_.timelines.data());
      SnapshotUsage& usage = result_.snapshots[id];
      usage.shown_blocks =
          static_cast<uint64_t>(shown[i][static_cast<size_t>(point - timeline->points.begin())]);
      result_.volumes[snapshot.volume].snapshots_own_blocks += usage.own_blocks;
    }
  }

  const MetadataView& view_;
  const Catalogue& catalogue_;
  const UsagePlan plan_;
  UsageCount& result_;
  std::vector<One> timelines_;  // as in the plan
  std::vector<size_t> clones_;
  std::vector<size_t> trimmed_;  // have tombstones
  bool begun_ = false;
  std::set<std::pair<uint64_t, size_t>> queue_;  // the next chunk of each timeline
  uint64_t chunk_ = 0;
  std::map<VolumeId, uint64_t> held_;
};

}  // namespace

class UsageCounter::Impl {
 public:
  Impl(const MetadataView* view, const Catalogue* catalogue, std::optional<VolumeId> volume)
      : view_(*view), catalogue_(*catalogue), volume_(volume) {}

  absl::StatusOr<bool> Step() {
    if (!begun_) {
      begun_ = true;
      TF_RETURN_IF_ERROR(Begin());
      return false;
    }
    if (tree_ == nullptr) {
      if (next_ == plans_.size()) {
        FinishAll();
        return true;
      }
      tree_ = std::make_unique<TreeCounter>(&view_, &catalogue_, std::move(plans_[next_++]),
                                            tombstones_, partials_, &result_);
    }
    TF_ASSIGN_OR_RETURN(const bool done, tree_->Step(kVersionsPerStep));
    if (done) tree_.reset();
    return false;
  }

  UsageCount TakeResult() { return std::move(result_); }

 private:
  absl::Status Begin() {
    if (volume_.has_value() && !catalogue_.volumes().contains(*volume_)) {
      return absl::NotFoundError(absl::StrCat("there was no volume ", volume_->value(),
                                              " yet in the checkpoint that was counted"));
    }
    Lineages lineages;
    const auto scan = [this](Table table, const auto& take) {
      return ScanTable(view_, TablePrefix(table), PrefixEnd(TablePrefix(table)), take);
    };
    TF_RETURN_IF_ERROR(scan(Table::kLineage,
                            [&lineages](const KeyValue& entry) { return lineages.Load({entry}); }));
    TF_RETURN_IF_ERROR(scan(Table::kPartial, [this](const KeyValue& entry) -> absl::Status {
      TF_ASSIGN_OR_RETURN(const ChunkKey key, DecodePartialKey(entry.first));
      partials_[key.timeline].insert(key.chunk);
      return absl::OkStatus();
    }));
    TF_RETURN_IF_ERROR(scan(Table::kTombstone, [this](const KeyValue& entry) -> absl::Status {
      TF_ASSIGN_OR_RETURN(const TombstoneKey key, DecodeTombstoneKey(entry.first));
      TF_ASSIGN_OR_RETURN(const Tombstone tombstone, DecodeTombstone(entry.second));
      tombstones_[key.timeline].push_back({tombstone.range, key.position, tombstone.epoch});
      return absl::OkStatus();
    }));
    for (const auto& [id, volume] : catalogue_.volumes()) {
      if (!volume_.has_value()) result_.volumes[id];
    }
    if (volume_.has_value()) {
      plans_.push_back(PlanUsage(catalogue_, lineages, *volume_));
      return absl::OkStatus();
    }
    plans_ = PlanUsage(catalogue_, lineages);
    return scan(Table::kUsage, [this](const KeyValue& entry) -> absl::Status {
      TF_ASSIGN_OR_RETURN(const SegmentNumber segment, DecodeSegmentKey(entry.first));
      TF_ASSIGN_OR_RETURN(const SegmentUsage usage, DecodeUsage(segment, entry.second));
      result_.live_blocks += usage.live_blocks;
      return absl::OkStatus();
    });
  }

  void FinishAll() {
    if (volume_.has_value()) return;
    uint64_t held = result_.clones_blocks;
    for (const auto& [id, volume] : result_.volumes) held += volume.total_blocks();
    result_.to_give_back_blocks = result_.live_blocks - std::min(result_.live_blocks, held);
  }

  const MetadataView& view_;
  const Catalogue& catalogue_;
  const std::optional<VolumeId> volume_;
  UsageCount result_;
  bool begun_ = false;
  std::vector<UsagePlan> plans_;  // those before next_ are moved from
  size_t next_ = 0;
  std::unique_ptr<TreeCounter> tree_;
  std::map<TimelineId, std::vector<Extra>> tombstones_;
  std::map<TimelineId, std::set<uint64_t>> partials_;
};

UsageCounter::UsageCounter(const MetadataView* view, const Catalogue* catalogue,
                           std::optional<VolumeId> volume)
    : impl_(std::make_unique<Impl>(view, catalogue, volume)) {}
UsageCounter::~UsageCounter() = default;

absl::StatusOr<bool> UsageCounter::Step() { return impl_->Step(); }
UsageCount UsageCounter::TakeResult() { return impl_->TakeResult(); }

}  // namespace twofold
