#include "storage/store/cleaning_policy.h"

#include <algorithm>

#include "storage/base/limits.h"
#include "storage/log/segment_log.h"

namespace twofold {
namespace {

constexpr uint64_t kZeroRecordEntries = 2;  // a guess: they are counted by block, not by record
constexpr uint64_t kLeastGain = 32;         // a part of a segment
constexpr int64_t kSlowDownUnitNanos = 20'000;
constexpr int64_t kMaxSlowDownNanos = 10'000'000;

}  // namespace

uint64_t CleaningCost(uint32_t live_blocks, uint64_t zero_blocks) {
  const uint64_t entries = (live_blocks + kMaxMovedEntryBlocks - 1) / kMaxMovedEntryBlocks;
  return SegmentLog::WorstCaseBlocks(live_blocks,
                                     entries + (zero_blocks > 0 ? kZeroRecordEntries : 0));
}

std::optional<SegmentNumber> ChooseSegmentToClean(const SegmentTable& table,
                                                  const CleaningChoice& choice) {
  std::optional<SegmentNumber> best;
  double best_score = 0;
  for (const auto& [segment, info] : table.segments()) {
    if (segment >= choice.before) break;
    if (info.state != SegmentState::kSealed || table.IsPinned(segment)) continue;
    if (info.live_blocks == 0 && info.zero_blocks == 0) continue;  // The next checkpoint frees it.
    if (choice.left_alone != nullptr && choice.left_alone->contains(segment)) continue;
    const uint64_t cost = CleaningCost(info.live_blocks, info.zero_blocks);
    if (cost > choice.room_blocks ||
        cost + choice.usable_blocks / kLeastGain > choice.usable_blocks) {
      continue;
    }
    const auto age = static_cast<double>(choice.newest.value() - segment.value() + 1);
    const auto gain = static_cast<double>(choice.usable_blocks - cost);
    // It is read, and what lives is written.
    const double score = gain * age / static_cast<double>(choice.usable_blocks + cost);
    if (best.has_value() && score <= best_score) continue;
    best = segment;
    best_score = score;
  }
  return best;
}

uint64_t CleaningStartsAt(uint64_t segments) { return std::max<uint64_t>(2, segments / 32); }

int64_t SlowDownNanosPerBlock(uint64_t headroom_blocks, uint64_t starts_at_blocks) {
  if (headroom_blocks >= starts_at_blocks) return 0;
  const auto short_of = static_cast<double>(starts_at_blocks - headroom_blocks);
  const double nanos =
      static_cast<double>(kSlowDownUnitNanos) * short_of / static_cast<double>(headroom_blocks + 1);
  return static_cast<int64_t>(std::min(nanos, static_cast<double>(kMaxSlowDownNanos)));
}

}  // namespace twofold
