#include "replication/pair/attach.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/pair/levelling.h"
#include "replication/pair/membership.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/sync.h"

namespace twofold {
namespace {

Candidate ToCandidate(const Replica& replica) {
  Candidate candidate{replica.set_name(), replica.store_id(), replica.pool_id(),
                      replica.place(),    replica.recorded(), /*last_stamp=*/0};
  candidate.resyncing = replica.resyncing();
  for (const auto& [volume, stream] : replica.catalogue().streams()) {
    candidate.last_stamp = std::max(candidate.last_stamp, stream.last_stamp);
  }
  return candidate;
}

std::vector<Replica*> Pick(const std::vector<Replica*>& replicas,
                           const std::vector<size_t>& indices) {
  std::vector<Replica*> picked;
  for (const size_t index : indices) picked.push_back(replicas[index]);
  return picked;
}

// The membership in force, and what the witness holds.
struct Current {
  Membership membership;
  Generation stored_generation;
  uint64_t stored_version = 0;
};

// A generation is in the witness before any replica hears of it.
bool IsFromThePast(const Membership& stored, const std::vector<Candidate>& candidates) {
  return std::any_of(candidates.begin(), candidates.end(), [&stored](const Candidate& candidate) {
    return candidate.pool_id == stored.pool_id && candidate.recorded.sealed > stored.generation;
  });
}

// What stands in the witness is damaged, or a copy from the past. What every set has recorded is
// newer than any acknowledgement (R21), so where all of them are there they can say it (R22, R25);
// else a person sees to it.
Task<absl::StatusOr<Current>> HealMembership(Witness* witness,
                                             const std::vector<Candidate>* candidates,
                                             absl::StatusOr<Membership> stored) {
  absl::StatusOr<Membership> known = MembershipWithoutWitness(*candidates);
  // What is wrong with it is said by whoever plans with it.
  if (!known.ok() && stored.ok()) co_return Current{*stored, stored->generation, stored->version};
  if (!known.ok()) {
    co_return Annotate(stored.status(),
                       absl::StrCat("the witness (", witness->name(), ") is DAMAGED, and ",
                                    known.status().message()));
  }
  TF_LOG(ERROR) << "the witness (" << witness->name() << ") is DAMAGED: "
                << (stored.ok() ? "it is a copy from the past" : stored.status().message())
                << "; it is made anew from what every set has recorded";
  if (stored.ok()) co_return Current{*std::move(known), stored->generation, stored->version};
  const absl::Status restored = co_await witness->Restore(*known);
  TF_CO_RETURN_IF_ERROR(restored);
  co_return Current{*known, known->generation, known->version};
}

// From the witness, or, where that was lost, from what the replicas know.
Task<absl::StatusOr<Current>> ReadMembership(Witness* witness,
                                             const std::vector<Candidate>* candidates,
                                             bool new_witness) {
  absl::StatusOr<Membership> stored = co_await witness->Read();
  const bool damaged = absl::IsDataLoss(stored.status());
  if (damaged || (stored.ok() && IsFromThePast(*stored, *candidates))) {
    co_return co_await HealMembership(witness, candidates, std::move(stored));
  }
  if (stored.ok()) co_return Current{*stored, stored->generation, stored->version};
  if (!absl::IsNotFound(stored.status())) co_return stored.status();
  if (new_witness) {
    stored = MembershipWithoutWitness(*candidates);
    TF_CO_RETURN_IF_ERROR(stored);
    co_return Current{*std::move(stored), Generation(0), 0};
  }
  co_return absl::NotFoundError(absl::StrCat(
      "the witness (", witness->name(),
      ") holds no pool; `twofold init` makes one. If the witness was lost, put its directory back, "
      "or let the sets speak for themselves with `twofold serve --new-witness`"));
}

struct Taken {
  AttachPlan plan;
  std::vector<Replica*> in_sync;
  std::vector<Replica*> stale;
};

// Reads, decides, and takes the next generation: the point from which every older head is done for.
Task<absl::StatusOr<Taken>> TakeGeneration(Witness* witness, const std::vector<Replica*>* replicas,
                                           const AttachOptions* options) {
  std::vector<Candidate> candidates;
  for (const Replica* replica : *replicas) candidates.push_back(ToCandidate(*replica));
  absl::StatusOr<Current> current =
      co_await ReadMembership(witness, &candidates, options->new_witness);
  TF_CO_RETURN_IF_ERROR(current);
  absl::StatusOr<AttachPlan> plan = PlanAttach(current->membership, candidates, options->absent,
                                               witness->name(), options->force_stale);
  TF_CO_RETURN_IF_ERROR(plan);
  if (plan->forced) {
    const Candidate& chosen = candidates[plan->use.front()];
    const std::string loses = WhatForceLoses(current->membership, chosen);
    TF_CO_RETURN_IF_ERROR(options->confirm(loses));
    TF_LOG(WARNING) << "taking a stale set by force. " << loses;
  }
  absl::Status status = co_await witness->CompareAndSwap(current->stored_generation,
                                                         current->stored_version, plan->taken);
  TF_CO_RETURN_IF_ERROR(Annotate(status, "taking a new generation"));
  Taken taken{*std::move(plan), {}, {}};
  taken.in_sync = Pick(*replicas, taken.plan.use);
  taken.stale = Pick(*replicas, taken.plan.stale);
  co_return taken;
}

Task<absl::Status> SealOne(Replica* replica, const Membership* taken, std::string witness_name,
                           SealReport* report) {
  absl::StatusOr<SealReport> sealed = co_await replica->Seal(taken->generation);
  if (absl::IsAborted(sealed.status())) {
    co_return absl::AbortedError(absl::StrCat(
        sealed.status().message(),
        ". Another head took over, or the witness is a copy from the past: put back the newest "
        "witness directory and start again"));
  }
  TF_CO_RETURN_IF_ERROR(sealed);
  TF_CO_RETURN_IF_ERROR(CheckReport(*taken, ToCandidate(*replica), *sealed, witness_name));
  *report = *std::move(sealed);
  co_return absl::OkStatus();
}

Task<absl::StatusOr<std::vector<SealReport>>> SealAll(const std::vector<Replica*>* replicas,
                                                      const Membership* taken,
                                                      std::string witness_name) {
  std::vector<SealReport> reports(replicas->size());
  std::vector<Task<absl::Status>> seals;
  for (size_t i = 0; i < replicas->size(); ++i) {
    seals.push_back(SealOne((*replicas)[i], taken, witness_name, &reports[i]));
  }
  const std::vector<absl::Status> results = co_await WhenAll(std::move(seals));
  TF_CO_RETURN_IF_ERROR(FirstError(results));
  co_return reports;
}

absl::Status CheckSameCatalogues(const std::vector<Replica*>& replicas) {
  const std::string first = replicas.front()->catalogue().Encode();
  for (const Replica* replica : replicas) {
    TF_RETURN_IF_ERROR(replica->health());
    if (replica->catalogue().Encode() == first) continue;
    return absl::DataLossError(absl::StrCat(
        "set ", replicas.front()->set_name(), " (", replicas.front()->place(), ") and set ",
        replica->set_name(), " (", replica->place(),
        ") are level, but their lists of volumes and snapshots differ: one of them is damaged. "
        "The pool was not opened; look at both with `twofold inspect --verify`"));
  }
  return absl::OkStatus();
}

// R35: stamps go on from the last one, whatever the clock says now.
void WarnOfClock(const std::map<VolumeId, StreamEnd>& streams) {
  const WallNanos now = Executor::Current().WallNow();
  for (const auto& [volume, end] : streams) {
    if (end.last_stamp - now <= 60 * kNanosPerSecond) continue;
    TF_LOG(WARNING) << "the clock is " << (end.last_stamp - now) / kNanosPerSecond
                    << " s behind the last entry of volume " << volume
                    << "; until it has caught up, time stamps advance by a nanosecond an entry";
    return;
  }
}

// What can't be brought level from the logs is stale: the others have every acknowledged write, and
// it is brought level from their maps (R32).
Task<absl::StatusOr<std::map<VolumeId, StreamEnd>>> LevelThoseThatCan(Taken* taken,
                                                                      std::string witness_name) {
  while (true) {
    // Each time: some may have got entries meanwhile.
    absl::StatusOr<std::vector<SealReport>> reports =
        co_await SealAll(&taken->in_sync, &taken->plan.taken, witness_name);
    TF_CO_RETURN_IF_ERROR(reports);
    std::vector<Replica*> unfit;
    absl::StatusOr<std::map<VolumeId, StreamEnd>> streams =
        co_await LevelReplicas(taken->in_sync, *std::move(reports), &unfit);
    if (streams.ok() || unfit.empty()) co_return streams;
    for (Replica* replica : unfit) {
      TF_LOG(ERROR) << "set " << replica->set_name() << " (" << replica->place()
                    << ") is DAMAGED: it can't be brought level from the log, and is filled from "
                    << "the other one's map: " << streams.status();
      std::erase(taken->in_sync, replica);
      taken->stale.push_back(replica);
    }
  }
}

// The membership that the pool opens with. Where it is not what was taken, this is R21's order: the
// replicas record it first, as a proof of life, then the witness has it. A crash before that leaves
// `taken` in force, by which nothing more was acknowledged.
Task<absl::StatusOr<Membership>> SettleMembership(Witness* witness, const Taken* taken) {
  std::vector<std::string> ids;
  for (const Replica* replica : taken->in_sync) ids.push_back(replica->store_id());
  const Membership& current = taken->plan.taken;
  Membership next =
      WithInSync(current, std::move(ids), current.version + 1, Executor::Current().WallNow());
  const bool changed =
      next.in_sync != current.in_sync || next.degraded_since != current.degraded_since;
  if (!changed) next = current;
  std::vector<Task<absl::Status>> records;
  for (Replica* replica : taken->in_sync) records.push_back(replica->RecordMembership(next));
  const std::vector<absl::Status> results = co_await WhenAll(std::move(records));
  TF_CO_RETURN_IF_ERROR(FirstError(results));
  if (changed) {
    absl::Status status =
        co_await witness->CompareAndSwap(current.generation, current.version, next);
    TF_CO_RETURN_IF_ERROR(Annotate(status, "recording which sets are in-sync"));
  }
  co_return next;
}

}  // namespace

Task<absl::StatusOr<Attached>> AttachReplicas(Witness* witness, std::vector<Replica*> replicas,
                                              AttachOptions options) {
  absl::StatusOr<Taken> taken = co_await TakeGeneration(witness, &replicas, &options);
  TF_CO_RETURN_IF_ERROR(taken);
  // A crash from here on costs a generation, which are plenty.
  absl::StatusOr<std::map<VolumeId, StreamEnd>> streams =
      co_await LevelThoseThatCan(&*taken, witness->name());
  TF_CO_RETURN_IF_ERROR(streams);
  TF_CO_RETURN_IF_ERROR(CheckSameCatalogues(taken->in_sync));
  absl::StatusOr<Membership> membership = co_await SettleMembership(witness, &*taken);
  TF_CO_RETURN_IF_ERROR(membership);
  WarnOfClock(*streams);
  TF_LOG(INFO) << "pool " << membership->pool_id << " attached at generation "
               << membership->generation << ", membership version " << membership->version;
  co_return Attached{*std::move(membership), *std::move(streams), std::move(taken->in_sync),
                     std::move(taken->stale)};
}

}  // namespace twofold
