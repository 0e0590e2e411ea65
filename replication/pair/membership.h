// Which replicas count: who may attach, and what is written about it (R20-R23). Pure.
//
// A membership that takes somebody away is durable in three steps, always in this order (R21):
//
//   recorded on every replica that it names -> swapped into the witness -> acted upon
//
// One that adds somebody is in the witness first, and then recorded (ReplicaSet::Admit).
//
// A crash after the first step leaves replicas with a later version than the witness. Until the
// witness has it nothing is acknowledged by it, so what such a record takes away may be taken away
// (that costs a resync at most), and what it adds does not count.
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
  AttachState recorded;      // by earlier heads
  WallNanos last_stamp = 0;  // of the newest entry that it knows to be committed; 0: none
  bool resyncing = false;    // a resync was begun and not ended: no state of its own (R4)
};

// A set that should be there and could not be opened.
struct AbsentSet {
  std::string set_name;
  std::string place;
  std::string reason;
  bool gone = false;     // there is nothing at its place; else it is there, and something is wrong
  bool damaged = false;  // as far as it could be read; what it lost may be got back
};

// The first membership of a pool: generation 0, version 1, all stores in-sync. kInvalidArgument
// unless the ids are 32 lower-case hexadecimal digits, none twice, 2 to kMaxReplicas of them.
absl::StatusOr<Membership> FirstMembership(std::string pool_id, std::vector<std::string> store_ids);

struct AttachPlan {
  Membership taken;           // for the witness, before anything else: the next generation, version
  std::vector<size_t> use;    // candidates that have every acknowledged write
  std::vector<size_t> stale;  // candidates that lack some: never read, never alone (P6)
  bool forced = false;        // `use` is a stale one, by a person's word
};

// Who of `candidates` may be attached under `current` (P6). `force_stale` names a set to be taken
// as it is, or is empty; it counts only while no candidate is in-sync. kUnavailable: nobody is
// there; kFailedPrecondition: only stale ones are, or one is foreign or there twice, or the witness
// is a copy from the past (R25). The text names it and says what to do.
absl::StatusOr<AttachPlan> PlanAttach(const Membership& current,
                                      const std::vector<Candidate>& candidates,
                                      const std::vector<AbsentSet>& absent,
                                      const std::string& witness_name,
                                      const std::string& force_stale);

// The membership to go on with when the witness is lost: the highest that any candidate has
// recorded (R22). kUnavailable unless every replica is there that it names, in-sync or configured:
// one that is missing could have gone on without the others.
absl::StatusOr<Membership> MembershipWithoutWitness(const std::vector<Candidate>& candidates);

// What a person must agree to before a stale replica is taken.
std::string WhatForceLoses(const Membership& current, const Candidate& candidate);

// Whether what a sealed replica reports fits `taken`, which the witness holds. kFailedPrecondition
// where the replica has recorded a later version meanwhile: another head is at work.
absl::Status CheckReport(const Membership& taken, const Candidate& candidate,
                         const SealReport& report, const std::string& witness_name);

// `current` with exactly these in-sync, under a version of its own. `now` is when it became
// degraded, if it was not before.
Membership WithInSync(const Membership& current, std::vector<std::string> in_sync, uint64_t version,
                      WallNanos now);

// `current` with `store_id` for good in the place of `old_store_id`, which must not be in-sync; the
// new one is not in-sync yet (R22).
Membership WithReplacement(const Membership& current, const std::string& old_store_id,
                           const std::string& store_id, uint64_t version);

// 32 lower-case hexadecimal digits.
bool IsId(const std::string& text);

}  // namespace twofold
