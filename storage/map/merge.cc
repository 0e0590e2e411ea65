#include "storage/map/merge.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/map/key_codec.h"
#include "storage/map/live_bitmap.h"
#include "storage/map/run_list.h"

namespace twofold {
namespace {

using Values = absl::Span<const absl::string_view>;

bool IsOf(Table table, absl::string_view key) {
  return !key.empty() && key[0] == static_cast<char>(table);
}

absl::Status NoMerge(absl::string_view key) {
  return absl::DataLossError(absl::StrCat("map: a merge at key ",
                                          absl::BytesToHexString(key.substr(0, 80)),
                                          ", whose table has none; rebuild the map from the log"));
}

// The runs of all values together. As insertion is commutative, a base is a value like any other.
absl::StatusOr<std::string> MergeChunk(absl::string_view key, std::optional<absl::string_view> base,
                                       Values operands) {
  TF_ASSIGN_OR_RETURN(const ChunkKey chunk_key, DecodeChunkKey(key));
  RunList merged;
  if (base.has_value()) {
    TF_ASSIGN_OR_RETURN(merged, RunList::Decode(chunk_key.chunk, *base));
  }
  for (const absl::string_view operand : operands) {
    TF_ASSIGN_OR_RETURN(const RunList list, RunList::Decode(chunk_key.chunk, operand));
    for (const Run& run : list.runs()) merged.Insert(run);
  }
  return merged.Encode(chunk_key.chunk);
}

absl::StatusOr<LiveDelta> MergeDeltas(Values operands) {
  LiveDelta merged;
  for (const absl::string_view operand : operands) {
    TF_ASSIGN_OR_RETURN(const LiveDelta delta, LiveDelta::Decode(operand));
    merged = merged.Then(delta);
  }
  return merged;
}

absl::StatusOr<std::string> MergeLive(std::optional<absl::string_view> base, Values operands) {
  LiveBitmap bitmap;
  if (base.has_value()) {
    TF_ASSIGN_OR_RETURN(bitmap, LiveBitmap::Decode(*base));
  }
  for (const absl::string_view operand : operands) {
    TF_ASSIGN_OR_RETURN(const LiveDelta delta, LiveDelta::Decode(operand));
    delta.ApplyTo(bitmap);
  }
  return bitmap.Encode();
}

}  // namespace

bool HasMerge(absl::string_view key) { return IsOf(Table::kChunk, key) || IsOf(Table::kLive, key); }

absl::StatusOr<std::string> MergeFull(absl::string_view key, std::optional<absl::string_view> base,
                                      Values operands) {
  if (IsOf(Table::kChunk, key)) return MergeChunk(key, base, operands);
  if (IsOf(Table::kLive, key)) return MergeLive(base, operands);
  return NoMerge(key);
}

absl::StatusOr<std::string> MergeOperands(absl::string_view key, Values operands) {
  TF_CHECK(!operands.empty());
  if (IsOf(Table::kChunk, key)) return MergeChunk(key, std::nullopt, operands);
  if (IsOf(Table::kLive, key)) {
    TF_ASSIGN_OR_RETURN(const LiveDelta merged, MergeDeltas(operands));
    return merged.Encode();
  }
  return NoMerge(key);
}

}  // namespace twofold
