// The bodies of what a resync logs at its target: docs/formats/log.md, "Resync".
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "storage/base/types.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/entry.h"
#include "storage/map/catalogue.h"
#include "storage/map/extent.h"
#include "storage/map/resync_plan.h"

namespace twofold {

// kVoid: the stream goes on behind `common`; it had gone on to `end`.
struct VoidBody {
  Position common;
  Position end;
  bool operator==(const VoidBody&) const = default;
};
std::string EncodeVoid(const VoidBody& body);
absl::StatusOr<VoidBody> DecodeVoid(absl::string_view bytes);

// kFillZeros: ranges that are zero since a position. Decoded runs have no address.
inline constexpr size_t kMaxFillZeros = 96;  // they fit an entry's body, whatever their numbers
std::string EncodeFillZeros(const std::vector<Run>& zeros);
absl::StatusOr<std::vector<Run>> DecodeFillZeros(absl::string_view bytes);

// The entries that fill `runs` into `timeline`, with their parts of `payload`, which holds the
// blocks of data one after the other. kInvalidArgument: sizes don't fit; kDataLoss: a block fails
// its checksum (P7).
struct Filling {
  LogEntry entry;
  absl::Span<const std::byte> payload;
};
absl::StatusOr<std::vector<Filling>> MakeFillings(const TimelineRecord& timeline,
                                                  const std::vector<Run>& runs,
                                                  absl::Span<const std::byte> payload);

// The same for the data of `runs` whose bytes nobody has: blocks that are bad from the beginning
// (lost_block.h) stand in `*payload`. kInvalidArgument: a run is none of data, or too large.
absl::StatusOr<std::vector<Filling>> MakeLostFillings(const TimelineRecord& timeline,
                                                      const std::vector<Run>& runs,
                                                      AlignedBytes* payload);

// kResyncSpan.
std::string EncodeResyncSpan(const ResyncSpan& span);
absl::StatusOr<ResyncSpan> DecodeResyncSpan(absl::string_view bytes);

}  // namespace twofold
