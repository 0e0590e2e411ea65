#include "storage/map/chunk_history.h"

#include <algorithm>

#include "storage/base/check.h"
#include "storage/map/chunk.h"
#include "storage/map/key_codec.h"
#include "storage/map/value_codec.h"

namespace twofold {

TimelineWindows::TimelineWindows(const Catalogue& catalogue, const TimelineRecord& timeline)
    : id(timeline.id), opened(timeline.opened), points(catalogue.RetainedPoints(timeline.id)) {
  const auto volume = catalogue.volumes().find(timeline.volume);
  const bool current =
      volume != catalogue.volumes().end() && volume->second.current_timeline == timeline.id;
  // One that nothing needs stays whole until a delete takes it (M20).
  has_end = current || points.empty();
}

size_t TimelineWindows::WindowOf(Position position) const {
  return static_cast<size_t>(std::upper_bound(points.begin(), points.end(), position) -
                             points.begin());
}

void ChunkHistory::Add(const Run& run) {
  const size_t window = windows_.WindowOf(run.position);
  if (!windows_.IsSeen(window)) return;
  if (run.kind == RunKind::kData) {
    has_data_ = true;
  } else if (!has_data_ && !below_) {
    return;  // Zeros over nothing (M7).
  }
  if (window != window_) CloseWindow();
  TF_CHECK(window >= window_) << "run " << run.position << " of timeline " << windows_.id;
  window_ = window;
  runs_.Insert(run, &displaced_);
  changed_ = true;
  for (const Run& old : displaced_) {
    // Of this window no point saw it: it was never counted.
    if (windows_.WindowOf(old.position) < window) AddDead(old);
  }
  displaced_.clear();
}

void ChunkHistory::AddDead(const Run& run) {
  const DeadKey key{.timeline = windows_.id,
                    .death = windows_.EpochOf(window_),
                    .birth = windows_.EpochOf(windows_.WindowOf(run.position)),
                    .chunk = chunk_,
                    .block = run.range.first,
                    .position = run.position};
  out_.batch.push_back({.kind = MetadataWrite::Kind::kPut,
                        .key = EncodeDeadKey(key),
                        .value = EncodeDeadCount(run.range.count)});
}

void ChunkHistory::CloseWindow() {
  if (!changed_) return;
  changed_ = false;
  const ChunkKey key{.timeline = windows_.id, .chunk = chunk_, .epoch = windows_.EpochOf(window_)};
  out_.batch.push_back({.kind = MetadataWrite::Kind::kPut,
                        .key = EncodeChunkKey(key),
                        .value = runs_.Encode(chunk_)});
  out_.batch.push_back(
      {.kind = MetadataWrite::Kind::kPut, .key = EncodeVersionKey(key), .value = {}});
  ++out_.versions;
  for (const Run& run : runs_.runs()) {
    // Older ones were counted with the window that they were born in.
    if (windows_.WindowOf(run.position) != window_) continue;
    SegmentUsage& usage = out_.usages[run.address.segment];
    const auto count = static_cast<uint32_t>(run.range.count.value());
    if (run.kind == RunKind::kData) {
      usage.live_blocks += count;
      out_.changes.push_back({.first = run.address, .count = count, .live = true});
    } else {
      usage.zero_blocks += count;
    }
  }
}

}  // namespace twofold
