#include "storage/store/cleaning_policy.h"

#include <algorithm>

#include "storage/base/limits.h"
#include "storage/log/segment_log.h"

namespace twofold {
namespace {

constexpr uint64_t kZeroRecordEntries = 2;  // a guess: they are counted by block, not by record
constexpr uint64_t kLeastGain = 32;         // a part of a segment
constexpr double kMaxPauseShare = 4;        // of the time that a move took
constexpr int64_t kSlowDownUnitNanos = 20'000;
constexpr int64_t kMaxSlowDownNanos = 10'000'000;

}  // namespace

uint64_t CleaningCost(uint64_t live_blocks, uint64_t zero_blocks) {
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

uint64_t CleaningStartsAt(uint64_t segments, uint64_t usable_blocks) {
  return std::max<uint64_t>(1, segments / 64) * usable_blocks;
}

uint64_t CleaningStopsAt(uint64_t starts_at_blocks) { return 2 * starts_at_blocks; }

uint64_t SlowingStartsAt(uint64_t starts_at_blocks) { return starts_at_blocks / 2; }

bool CheckpointPays(uint64_t headroom_blocks, uint64_t gain_blocks, uint64_t starts_at_blocks,
                    uint64_t segment_blocks) {
  if (gain_blocks == 0) return false;
  if (headroom_blocks + gain_blocks >= CleaningStopsAt(starts_at_blocks)) return true;
  const uint64_t slowing_at = SlowingStartsAt(starts_at_blocks);
  if (headroom_blocks >= slowing_at) return false;
  return gain_blocks >= segment_blocks / 4 + segment_blocks * 3 / 4 * headroom_blocks / slowing_at;
}

MonoNanos CleanerPauseNanos(MonoNanos busy, uint64_t headroom_blocks, uint64_t starts_at_blocks) {
  const uint64_t none_at = SlowingStartsAt(starts_at_blocks);
  if (headroom_blocks <= none_at) return 0;
  const double share = static_cast<double>(headroom_blocks - none_at) /
                       static_cast<double>(starts_at_blocks - none_at);
  return static_cast<MonoNanos>(static_cast<double>(busy) * std::min(share, kMaxPauseShare));
}

int64_t SlowDownNanosPerBlock(uint64_t headroom_blocks, uint64_t slowing_starts_at_blocks) {
  if (headroom_blocks >= slowing_starts_at_blocks) return 0;
  // What is lacking to what there is: the cleaner's pace can differ by the hundredfold.
  const double lack = static_cast<double>(slowing_starts_at_blocks - headroom_blocks) /
                      static_cast<double>(headroom_blocks + 1);
  const double nanos = static_cast<double>(kSlowDownUnitNanos) * lack * (1 + lack) / 2;
  return static_cast<int64_t>(std::min(nanos, static_cast<double>(kMaxSlowDownNanos)));
}

}  // namespace twofold
