// What a store with one volume must show: the entries that were sent to it, and a plain model that
// repeats them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

#include "absl/types/span.h"
#include "storage/base/types.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/entry.h"
#include "storage/map/catalogue_codec.h"

namespace twofold {

constexpr VolumeId kVolume{1};
constexpr TimelineId kFirstTimeline{1};
constexpr uint64_t kBlocks = 96;  // three chunks: many overwrites, some splits

using Content = std::vector<uint64_t>;  // a value per block; 0: zeros

inline void Fill(absl::Span<std::byte> block, uint64_t value) {
  for (size_t i = 0; i < block.size(); i += sizeof(value)) {
    std::memcpy(block.data() + i, &value, sizeof(value));
  }
}

// An entry as it was sent, with what the model needs to repeat it.
struct Sent {
  LogEntry entry;
  uint64_t first_value = 0;  // kWrite: block i holds first_value + i
  AlignedBytes payload;
  // Answered, but not made durable: a loss of power may take it (R33).
  bool written = false;
  bool acknowledged = false;  // must be there from then on
};

// What the volume shows after a prefix of the entries.
struct Model {
  Content head = Content(kBlocks, 0);
  TimelineId timeline = kFirstTimeline;
  struct Snapshot {
    Content content;
    TimelineId timeline;
    Position position;
  };
  std::map<uint64_t, Snapshot> snapshots;  // by id
  uint64_t next_snapshot = 1;
  uint64_t next_timeline = 2;

  void Apply(const Sent& sent) {
    const LogEntry& entry = sent.entry;
    const uint64_t first = entry.range.first.value();
    switch (entry.kind) {
      case EntryKind::kWrite:
        for (uint64_t i = 0; i < entry.range.count.value(); ++i) {
          head[first + i] = sent.first_value + i;
        }
        break;
      case EntryKind::kZero:
        std::fill_n(head.begin() + static_cast<ptrdiff_t>(first), entry.range.count.value(), 0);
        break;
      case EntryKind::kSnapshot:
        snapshots[next_snapshot++] = {head, timeline, entry.position};
        break;
      case EntryKind::kSnapshotDelete:
        snapshots.erase(DecodeSnapshotDelete(entry.body)->id.value());
        break;
      case EntryKind::kTimelineStart: {
        const auto body = *DecodeTimelineStart(entry.body);
        for (const auto& [id, snapshot] : snapshots) {
          if (snapshot.position == body.fork) head = snapshot.content;
        }
        timeline = body.id;
        next_timeline = body.id.value() + 1;
        break;
      }
      default:
        break;
    }
  }
};

}  // namespace twofold
