#include "storage/log/segment_table.h"

#include <algorithm>
#include <utility>

#include "storage/base/check.h"
#include "storage/base/limits.h"

namespace twofold {
namespace {

constexpr uint32_t kMaxSegmentBlocks = kMaxSegmentBytes / kBlockSize;

}  // namespace

void SegmentTable::Add(SegmentNumber segment, SegmentState state) {
  TF_CHECK(segment != SegmentNumber());
  segments_[segment].state = state;
}

void SegmentTable::LoadUsage(const SegmentUsage& usage) {
  Info& info = segments_[usage.segment];
  TF_CHECK_EQ(info.live_blocks, 0) << "in segment " << usage.segment;
  info.live_blocks = usage.live_blocks;
  info.zero_blocks = usage.zero_blocks;
  live_blocks_ += usage.live_blocks;
}

void SegmentTable::Seal(SegmentNumber segment) { Find(segment).state = SegmentState::kSealed; }

void SegmentTable::MarkLive(LogAddress first, uint32_t count) {
  TF_CHECK(count > 0 && first.block <= kMaxSegmentBlocks - count);
  Info& info = Find(first.segment);
  info.live_blocks += count;
  info.changed = true;
  live_blocks_ += count;
  Note(info, {.first = first, .count = count, .live = true});
}

void SegmentTable::MarkDead(LogAddress first, uint32_t count) {
  TF_CHECK(count > 0 && first.block <= kMaxSegmentBlocks - count);
  Info& info = Find(first.segment);
  TF_CHECK_GE(info.live_blocks, count) << "live in segment " << first.segment;
  info.live_blocks -= count;
  info.changed = true;
  live_blocks_ -= count;
  Note(info, {.first = first, .count = count, .live = false});
}

void SegmentTable::Note(Info& info, const LiveChange& change) {
  if (on_change_ && change.first.segment == followed_) on_change_(change);
  if (!info.changes.empty()) {
    LiveChange& last = info.changes.back();
    if (last.live == change.live && last.first.block + last.count == change.first.block) {
      last.count += change.count;
      return;
    }
  }
  info.changes.push_back(change);
}

const std::vector<LiveChange>& SegmentTable::ChangesOf(SegmentNumber segment) const {
  static const std::vector<LiveChange> kNone;
  const auto found = segments_.find(segment);
  return found == segments_.end() ? kNone : found->second.changes;
}

void SegmentTable::Follow(SegmentNumber segment, std::function<void(const LiveChange&)> on_change) {
  TF_CHECK(!on_change_) << "segment " << followed_ << " is followed";
  followed_ = segment;
  on_change_ = std::move(on_change);
}

void SegmentTable::AddZeroBlocks(SegmentNumber segment, uint64_t blocks) {
  Info& info = Find(segment);
  info.zero_blocks += blocks;
  info.changed = true;
}

void SegmentTable::DropZeroBlocks(SegmentNumber segment, uint64_t blocks) {
  Info& info = Find(segment);
  TF_CHECK_GE(info.zero_blocks, blocks) << "zero because of segment " << segment;
  info.zero_blocks -= blocks;
  info.changed = true;
}

void SegmentTable::Pin(SegmentNumber segment) { ++Find(segment).pins; }

void SegmentTable::Unpin(SegmentNumber segment) {
  Info& info = Find(segment);
  TF_CHECK(info.pins > 0) << "of segment " << segment;
  --info.pins;
}

SegmentTable::Frozen SegmentTable::Freeze(SegmentNumber replay_from, SegmentNumber keep_from) {
  Frozen frozen;
  const SegmentNumber end = std::min(replay_from, keep_from);
  for (auto& [segment, info] : segments_) {
    if (info.changed) {
      frozen.usages.push_back(
          {.segment = segment, .live_blocks = info.live_blocks, .zero_blocks = info.zero_blocks});
      info.changed = false;
    }
    if (!info.changes.empty()) frozen.changes.push_back(std::exchange(info.changes, {}));
    // Replay begins behind it, and the checkpoint says that nothing in it is needed (M14, R17).
    if (segment < end && info.state == SegmentState::kSealed && info.live_blocks == 0 &&
        info.zero_blocks == 0) {
      frozen.dead.push_back(segment);
    }
  }
  return frozen;
}

std::vector<SegmentNumber> SegmentTable::Release(const Frozen& frozen) {
  std::vector<SegmentNumber> released;
  for (const SegmentNumber segment : frozen.dead) {
    const auto found = segments_.find(segment);
    if (found == segments_.end()) continue;  // Released before.
    TF_CHECK(found->second.live_blocks == 0 && found->second.zero_blocks == 0)
        << "segment " << segment << " came back to life";
    if (IsPinned(segment)) continue;
    segments_.erase(found);
    released.push_back(segment);
  }
  return released;
}

bool SegmentTable::IsPinned(SegmentNumber segment) const {
  if (pinned_from_ != SegmentNumber() && segment >= pinned_from_) return true;
  const auto found = segments_.find(segment);
  return found != segments_.end() && found->second.pins > 0;
}

SegmentTable::Info& SegmentTable::Find(SegmentNumber segment) {
  const auto found = segments_.find(segment);
  TF_CHECK(found != segments_.end()) << "segment " << segment;
  return found->second;
}

}  // namespace twofold
