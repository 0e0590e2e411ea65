// Which replicas count: who must be there to attach, and what is written about it (R20-R22). Pure.
//
// In this release a pool is attached with every configured replica or not at all: none is ever
// dropped, so all of them are in-sync. The formats carry what going on without one needs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "replication/pair/witness.h"
#include "replication/replica.h"
#include "storage/base/types.h"

namespace twofold {

// What is known of a replica before it is sealed.
struct Candidate {
  std::string set_name;
  std::string store_id;
  std::string pool_id;
  std::string place;
};

// The first membership of a pool: generation 0, version 1, all stores in-sync. kInvalidArgument
// unless the ids are 32 lower-case hexadecimal digits, none twice, 2 to kMaxReplicas of them.
absl::StatusOr<Membership> FirstMembership(std::string pool_id, std::vector<std::string> store_ids);

// Whether these replicas may be attached under `current` (P6). kUnavailable: one is missing;
// kFailedPrecondition: one is stale, foreign or there twice. The text names it and says what to do.
absl::Status CheckCandidates(const Membership& current, const std::vector<Candidate>& candidates,
                             const std::string& witness_name);

// What attaching writes to the witness before anything else: the next generation and version.
Membership NextForAttach(const Membership& current);

// Whether what a sealed replica reports fits `taken`, which the witness holds. kFailedPrecondition
// where the replica has recorded a later version: the witness is a copy from the past (R21, R25).
absl::Status CheckReport(const Membership& taken, const Candidate& candidate,
                         const SealReport& report, const std::string& witness_name);

// 32 lower-case hexadecimal digits.
bool IsId(const std::string& text);

}  // namespace twofold
