// The witness file's content, docs/formats/witness.md. Pure.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "replication/pair/witness.h"

namespace twofold {

inline constexpr size_t kMaxWitnessFileBytes = 4096;

std::string EncodeWitness(const Membership& membership);

// kDataLoss, with what is wrong, for anything that EncodeWitness does not make. A later version of
// the format is kFailedPrecondition.
absl::StatusOr<Membership> DecodeWitness(absl::string_view bytes);

}  // namespace twofold
