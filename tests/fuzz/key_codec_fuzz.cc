// Keys of the metadata store: whatever the bytes, decoding gives kDataLoss or a key that encodes to
// them.

#include <cstddef>
#include <cstdint>
#include <string>

#include "storage/base/check.h"
#include "storage/map/key_codec.h"

namespace twofold {
namespace {

template <typename Key>
int TryOne(const absl::StatusOr<Key>& key, std::string (*encode)(const Key&),
           absl::string_view bytes) {
  if (!key.ok()) {
    TF_CHECK(key.status().code() == absl::StatusCode::kDataLoss);
    return 0;
  }
  TF_CHECK_EQ(encode(*key), bytes);
  return 1;
}

void TryAll(absl::string_view bytes) {
  int decoded = TryOne(DecodeChunkKey(bytes), EncodeChunkKey, bytes) +
                TryOne(DecodeVersionKey(bytes), EncodeVersionKey, bytes) +
                TryOne(DecodeDeadKey(bytes), EncodeDeadKey, bytes) +
                TryOne(DecodeTombstoneKey(bytes), EncodeTombstoneKey, bytes);
  const absl::StatusOr<uint64_t> job = DecodeJobKey(bytes);
  if (job.ok()) {
    TF_CHECK_EQ(EncodeJobKey(*job), bytes);
    ++decoded;
  }
  const absl::StatusOr<SegmentNumber> segment = DecodeSegmentKey(bytes);
  if (segment.ok()) {
    TF_CHECK_EQ(EncodeSegmentKey(static_cast<Table>(bytes[0]), *segment), bytes);
    ++decoded;
  }
  TF_CHECK_LE(decoded, 1) << "of two tables at once";
}

}  // namespace
}  // namespace twofold

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  twofold::TryAll(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
