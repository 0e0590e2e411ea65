// When a store was last proven whole: docs/formats/checkpoint.md. Kept in the metadata store under
// MetaKey("proven"), and gone with it: a map that was rebuilt, and a store that was filled anew,
// have proven nothing yet. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/base/types.h"
#include "storage/log/entry.h"

namespace twofold {

inline constexpr char kProofName[] = "proven";

// A scrub read all that the store held when it began, and found it whole.
struct ProofRecord {
  std::string store_id;  // 32 hexadecimal digits
  WallNanos ended = 0;
  uint64_t duration_nanos = 0;
  uint64_t bytes = 0;          // read from the medium
  uint64_t healed_places = 0;  // found damaged by that pass, healed, and read again
  Incarnation incarnation;     // of the store, at the end of it
  bool operator==(const ProofRecord&) const = default;
};

std::string EncodeProof(const ProofRecord& record);
absl::StatusOr<ProofRecord> DecodeProof(absl::string_view bytes);  // kDataLoss

}  // namespace twofold
