// Packed runs, live bitmaps and the small values of the metadata store: whatever the bytes,
// decoding gives an error or something that can be used and encodes to the same bytes; merging
// never takes damage for nothing.

#include <cstddef>
#include <cstdint>
#include <string>

#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/map/key_codec.h"
#include "storage/map/live_bitmap.h"
#include "storage/map/merge.h"
#include "storage/map/run_list.h"
#include "storage/map/value_codec.h"

namespace twofold {
namespace {

constexpr uint64_t kChunk = 5;

void TryRunList(absl::string_view bytes) {
  const absl::StatusOr<RunList> list = RunList::Decode(kChunk, bytes);
  const std::string key = EncodeChunkKey({TimelineId(1), kChunk, kFirstPosition});
  const absl::StatusOr<std::string> merged = MergeFull(key, bytes, {bytes});
  TF_CHECK_EQ(list.ok(), merged.ok());
  if (!list.ok()) {
    TF_CHECK(list.status().code() == absl::StatusCode::kDataLoss);
    return;
  }
  TF_CHECK_EQ(list->Encode(kChunk), bytes);
  TF_CHECK_EQ(*merged, bytes);
  TF_CHECK(list->runs().size() <= kChunkBlocks);
  const BlockRange chunk{BlockIndex(kChunk * kChunkBlocks), BlockCount(kChunkBlocks)};
  TF_CHECK(list->Within(chunk) == list->runs());
  RunList again;
  for (auto run = list->runs().rbegin(); run != list->runs().rend(); ++run) again.Insert(*run);
  TF_CHECK(again == *list);
}

void TryLive(absl::string_view bytes) {
  const absl::StatusOr<LiveBitmap> bitmap = LiveBitmap::Decode(bytes);
  if (bitmap.ok()) {
    TF_CHECK_EQ(bitmap->Encode(), bytes);
  }
  const absl::StatusOr<LiveDelta> delta = LiveDelta::Decode(bytes);
  if (delta.ok()) {
    TF_CHECK_EQ(delta->Encode(), bytes);
    TF_CHECK(delta->Then(*delta) == *delta);
    LiveBitmap applied;
    delta->ApplyTo(applied);
    TF_CHECK_OK(LiveBitmap::Decode(applied.Encode()));
  }
  TF_CHECK(!bitmap.ok() || !delta.ok());
}

void TryValues(absl::string_view bytes) {
  const absl::StatusOr<SegmentUsage> usage = DecodeUsage(SegmentNumber(1), bytes);
  if (usage.ok()) {
    TF_CHECK_EQ(EncodeUsage(*usage), bytes);
  }
  const absl::StatusOr<BlockCount> count = DecodeDeadCount(bytes);
  if (count.ok()) {
    TF_CHECK_EQ(EncodeDeadCount(*count), bytes);
  }
  const absl::StatusOr<Tombstone> tombstone = DecodeTombstone(bytes);
  if (tombstone.ok()) {
    TF_CHECK_EQ(EncodeTombstone(*tombstone), bytes);
  }
}

}  // namespace
}  // namespace twofold

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  twofold::TryRunList(bytes);
  twofold::TryLive(bytes);
  twofold::TryValues(bytes);
  return 0;
}
