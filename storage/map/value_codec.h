// The small values of the metadata store: docs/formats/map.md. Chunks are in run_list.h, live
// bitmaps in live_bitmap.h. Each begins with its version; decoding gives kDataLoss for anything but
// one whole value.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/base/types.h"
#include "storage/log/segment_table.h"

namespace twofold {

// kUsage: what a segment holds, in absolute numbers (M9, M21). The segment stands in the key.
std::string EncodeUsage(const SegmentUsage& usage);
absl::StatusOr<SegmentUsage> DecodeUsage(SegmentNumber segment, absl::string_view bytes);

// kDead: how many blocks, from the key's block on, died together (M19); at least one, at most a
// chunk.
std::string EncodeDeadCount(BlockCount blocks);
absl::StatusOr<BlockCount> DecodeDeadCount(absl::string_view bytes);

// kTombstone: a range that is zero since the key's position, where the chunks don't say so yet
// (R38).
struct Tombstone {
  BlockRange range;       // not empty
  SegmentNumber segment;  // where its record stands
  Epoch epoch;            // that was current when it came: its zeros belong to the versions of it
  bool operator==(const Tombstone&) const = default;
};
std::string EncodeTombstone(const Tombstone& tombstone);
absl::StatusOr<Tombstone> DecodeTombstone(absl::string_view bytes);

}  // namespace twofold
