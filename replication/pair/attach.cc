#include "replication/pair/attach.h"

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
  return {replica.set_name(), replica.store_id(), replica.pool_id(), replica.place()};
}

// Reads, checks, and takes the next generation: the point from which every older head is done for.
Task<absl::StatusOr<Membership>> TakeGeneration(Witness* witness,
                                                const std::vector<Replica*>* replicas) {
  absl::StatusOr<Membership> current = co_await witness->Read();
  if (absl::IsNotFound(current.status())) {
    co_return absl::NotFoundError(absl::StrCat("the witness (", witness->name(),
                                               ") holds no pool; `twofold init` makes one"));
  }
  TF_CO_RETURN_IF_ERROR(current);
  std::vector<Candidate> candidates;
  for (const Replica* replica : *replicas) candidates.push_back(ToCandidate(*replica));
  TF_CO_RETURN_IF_ERROR(CheckCandidates(*current, candidates, witness->name()));
  Membership next = NextForAttach(*current);
  absl::Status status =
      co_await witness->CompareAndSwap(current->generation, current->version, next);
  TF_CO_RETURN_IF_ERROR(Annotate(status, "taking a new generation"));
  co_return next;
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

}  // namespace

Task<absl::StatusOr<Attached>> AttachReplicas(Witness* witness, std::vector<Replica*> replicas) {
  absl::StatusOr<Membership> taken = co_await TakeGeneration(witness, &replicas);
  TF_CO_RETURN_IF_ERROR(taken);
  // A crash from here on costs a generation, which are plenty.
  absl::StatusOr<std::vector<SealReport>> reports =
      co_await SealAll(&replicas, &*taken, witness->name());
  TF_CO_RETURN_IF_ERROR(reports);
  absl::StatusOr<std::map<VolumeId, StreamEnd>> streams =
      co_await LevelReplicas(replicas, *std::move(reports));
  TF_CO_RETURN_IF_ERROR(streams);
  TF_CO_RETURN_IF_ERROR(CheckSameCatalogues(replicas));

  std::vector<Task<absl::Status>> records;
  for (Replica* replica : replicas) {
    records.push_back(replica->RecordMembership(taken->generation, taken->version, taken->in_sync));
  }
  const std::vector<absl::Status> results = co_await WhenAll(std::move(records));
  TF_CO_RETURN_IF_ERROR(FirstError(results));
  WarnOfClock(*streams);
  TF_LOG(INFO) << "pool " << taken->pool_id << " attached at generation " << taken->generation
               << ", membership version " << taken->version;
  co_return Attached{*std::move(taken), *std::move(streams)};
}

}  // namespace twofold
