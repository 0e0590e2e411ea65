#include "tools/load/stages.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace twofold::load {
namespace {

bool CanSubtract(const LatencyHistogram& from, const LatencyHistogram& earlier) {
  if (from.sum() < earlier.sum()) return false;
  for (size_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
    if (from.bucket(i) < earlier.bucket(i)) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<std::vector<StageLatency>> StagesBetween(const std::vector<StageLatency>& before,
                                                        std::vector<StageLatency> after) {
  for (StageLatency& stage : after) {
    const auto earlier =
        std::find_if(before.begin(), before.end(), [&stage](const StageLatency& candidate) {
          return candidate.stage == stage.stage && candidate.set == stage.set;
        });
    if (earlier == before.end()) continue;
    if (!CanSubtract(stage.histogram, earlier->histogram)) {
      return absl::AbortedError(absl::StrCat(
          "stage ", stage.stage, stage.set.empty() ? "" : absl::StrCat(" of set ", stage.set),
          " began anew meanwhile: the daemon was restarted, or the set came back"));
    }
    stage.histogram.Subtract(earlier->histogram);
  }
  return after;
}

}  // namespace twofold::load
