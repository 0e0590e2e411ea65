// How the set changes while it runs: a replica that fails is dropped, or the set goes offline; one
// that was brought level joins.
#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/pair/membership.h"
#include "replication/pair/replica_set.h"
#include "storage/base/check.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

// How long a witness that does not answer is asked again before the set goes offline: clients'
// requests are held meanwhile, and most of them give up after half a minute or more.
constexpr int kWitnessTries = 6;
constexpr int64_t kFirstRetryNanos = 100'000'000;  // doubled with each
constexpr int64_t kLookAgainNanos = 10'000'000;

std::string Describe(const Replica& replica) {
  return absl::StrCat("set ", replica.set_name(), " (", replica.place(), ")");
}

absl::Status Fenced(const Replica& replica, const absl::Status& reason) {
  return absl::AbortedError(absl::StrCat(
      Describe(replica), " is sealed by another head, this one has ended: ", reason.message()));
}

// The last one never leaves (R6): it has what nobody else has.
absl::Status LastOneFailed(const Replica& replica, const absl::Status& reason) {
  return absl::UnavailableError(absl::StrCat(
      Describe(replica),
      " failed, and no other set is in-sync: writes are refused, and nothing that was acknowledged "
      "is given up: ",
      reason.message(), ". See to its disk, then restart the daemon"));
}

absl::Status WitnessSilent(const Replica& replica, const Witness& witness,
                           const absl::Status& reason) {
  return absl::UnavailableError(
      absl::StrCat(Describe(replica), " failed, and the witness (", witness.name(),
                   ") can't record that the other set goes on alone: writes are refused. ",
                   reason.message(), ". See to the witness, then restart the daemon"));
}

}  // namespace

void ReplicaSet::GoOffline(absl::Status why) {
  if (!health_.ok()) return;
  health_ = std::move(why);
  TF_LOG(ERROR) << "OFFLINE: " << health_.message();
  changed_.WakeAll();
}

void ReplicaSet::Fail(Member* member, const absl::Status& reason) {
  if (member->failed) return;
  member->failed = true;
  member->reason = reason;
  TF_LOG(ERROR) << Describe(*member->replica) << " failed: " << reason.message();
  if (absl::IsAborted(reason)) {
    GoOffline(Fenced(*member->replica, reason));
  } else if (stopping_) {
    GoOffline(LastOneFailed(*member->replica, reason));
  } else if (health_.ok() && !dropping_) {
    dropping_ = true;
    scope_.Spawn(DropFailed());
  }
}

Task<bool> ReplicaSet::WaitUntilOut(Members failed) {
  while (true) {
    bool all_out = true;
    for (const Member* member : failed) all_out = all_out && member->out;
    if (all_out) co_return true;
    if (!health_.ok()) co_return false;
    co_await changed_.Wait();
  }
}

// R21, in its order. Another one may fail in the middle: then it starts again without that one,
// under a version of its own.
Task<void> ReplicaSet::DropFailed() {
  const AsyncMutex::Guard lock = co_await change_.Lock();
  while (health_.ok()) {
    Members failed;
    Members remaining;
    std::vector<std::string> ids;
    for (Member* member : in_sync_) {
      if (member->failed) {
        failed.push_back(member);
        continue;
      }
      remaining.push_back(member);
      ids.push_back(member->replica->store_id());
    }
    if (failed.empty()) break;
    if (remaining.empty()) {
      GoOffline(LastOneFailed(*failed.front()->replica, failed.front()->reason));
      break;
    }
    Membership next =
        WithInSync(membership_, std::move(ids), ++last_version_, Executor::Current().WallNow());
    absl::Status status = co_await RecordOnAll(remaining, next);
    if (!status.ok()) continue;
    status = co_await SwapWitness(next);
    if (absl::IsAborted(status)) {
      GoOffline(status);
    } else if (!status.ok()) {
      GoOffline(WitnessSilent(*failed.front()->replica, *witness_, status));
    } else {
      TakeOut(std::move(next), failed);
    }
  }
  dropping_ = false;
  changed_.WakeAll();
}

// The proof of life: a replica that can't do this fails too.
Task<absl::Status> ReplicaSet::RecordOnAll(Members members, Membership next) {
  std::vector<Task<absl::Status>> records;
  for (Member* member : members) {
    ++member->users;
    records.push_back(member->replica->RecordMembership(next));
  }
  const std::vector<absl::Status> results = co_await WhenAll(std::move(records));
  for (size_t i = 0; i < results.size(); ++i) {
    --members[i]->users;
    if (!results[i].ok()) Fail(members[i], results[i]);
  }
  co_return FirstError(results);
}

// Whatever the swap answers, what counts is what the witness holds (R25). kUnavailable: it holds
// what it held; kUnknown: nobody can say; kAborted: another head was there.
Task<absl::Status> ReplicaSet::SwapWitness(Membership next) {
  int64_t delay = kFirstRetryNanos;
  for (int tries_left = kWitnessTries;; delay *= 2) {
    absl::Status status =
        co_await witness_->CompareAndSwap(membership_.generation, membership_.version, next);
    if (status.ok()) co_return status;
    TF_LOG(WARNING) << "recording membership version " << next.version << ": " << status;
    absl::StatusOr<Membership> stored = co_await witness_->Read();
    if (stored.ok() && *stored == next) co_return absl::OkStatus();
    if (stored.ok() && *stored != membership_) {
      co_return absl::AbortedError(absl::StrCat(
          "the witness (", witness_->name(), ") holds generation ", stored->generation.value(),
          ", version ", stored->version, ", which is not of this head: another one took over"));
    }
    if (--tries_left == 0 || stop_.cancelled()) {
      co_return stored.ok() ? absl::UnavailableError(status.message())
                            : absl::UnknownError(status.message());
    }
    co_await stop_.SleepFor(delay);
  }
}

// From here on nothing waits for them any more.
void ReplicaSet::TakeOut(Membership next, const Members& failed) {
  membership_ = std::move(next);
  for (Member* member : failed) {
    member->out = true;
    in_sync_.erase(std::find(in_sync_.begin(), in_sync_.end(), member));
    dropped_.push_back({member->replica, member->reason, Executor::Current().WallNow()});
    TF_LOG(ERROR) << "DEGRADED: the pool goes on without " << Describe(*member->replica)
                  << ", membership version " << membership_.version
                  << ". What is written from now on has one copy less until that set is back";
  }
  changed_.WakeAll();
}

// The witness first: nothing is to be taken away from anybody, and by then everybody has
// everything. Wherever a crash comes, whoever is listed may go on alone. Were the record to come
// first, a crash before the witness has it would leave a set that names a partner which no witness
// knows: without that partner it would be taken for one that a witness from the past belongs to
// (EffectiveInSync), and refused, though it is the only one that has everything.
//   Before the swap: the witness lists M, all of which have what was acknowledged.
//   After it: M and the joiner, which has, durably, all that was ever given a Seq. From the turn in
//     which the answer comes the joiner is a member, so whatever comes is acknowledged with it.
//   The answer is lost: nothing is acknowledged any more, with it or without.
// The records that follow make a witness from before noticeable (R25). Who can't write his is
// dropped, the joiner too.
Task<absl::Status> ReplicaSet::Admit(Replica* replica) {
  const AsyncMutex::Guard lock = co_await change_.Lock();
  TF_CO_RETURN_IF_ERROR(CheckHealth());
  if (dropping_) co_return absl::UnavailableError("another set failed at this moment");
  TF_CO_RETURN_IF_ERROR(replica->health());
  std::vector<std::string> ids = membership_.in_sync;
  ids.push_back(replica->store_id());
  const Membership next =
      WithInSync(membership_, std::move(ids), ++last_version_, Executor::Current().WallNow());
  const absl::Status status = co_await SwapWitness(next);
  if (absl::IsAborted(status) || absl::IsUnknown(status)) {
    // It may count, or not: neither can be acted upon.
    GoOffline(WitnessSilent(*replica, *witness_, status));
  }
  TF_CO_RETURN_IF_ERROR(Annotate(status, absl::StrCat(Describe(*replica), " could not join")));
  membership_ = next;
  ++epoch_;
  auto member = std::make_unique<Member>();
  member->replica = replica;
  member->since = epoch_;
  member->joined = Executor::Current().WallNow();
  member->slot = FreeSlot();
  in_sync_.push_back(member.get());
  members_.push_back(std::move(member));
  TF_LOG(INFO) << Describe(*replica) << " is in-sync, membership version " << membership_.version;
  changed_.WakeAll();
  // Nobody gets a Seq before this returns. Those that fail are dropped in their turn.
  const absl::Status recorded = co_await RecordOnAll(in_sync_, next);
  if (!recorded.ok()) TF_LOG(WARNING) << "recording who is in-sync: " << recorded;
  co_return absl::OkStatus();
}

Task<absl::Status> ReplicaSet::Replace(std::string old_store_id, std::string store_id) {
  const AsyncMutex::Guard lock = co_await change_.Lock();
  TF_CO_RETURN_IF_ERROR(CheckHealth());
  if (dropping_) co_return absl::UnavailableError("another set failed at this moment; try again");
  const Membership next = WithReplacement(membership_, old_store_id, store_id, ++last_version_);
  absl::Status status = co_await RecordOnAll(in_sync_, next);
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await SwapWitness(next);
  if (absl::IsAborted(status) || absl::IsUnknown(status)) GoOffline(status);
  TF_CO_RETURN_IF_ERROR(status);
  membership_ = next;
  TF_LOG(WARNING) << "store " << store_id << " takes the place of store " << old_store_id
                  << " for good, membership version " << membership_.version;
  changed_.WakeAll();
  co_return absl::OkStatus();
}

Task<void> ReplicaSet::Forget(const Replica* dropped) {
  for (const auto& member : members_) {
    if (member->replica != dropped) continue;
    TF_CHECK(member->out);
    // What it was asked for fails soon, since it has failed.
    while (member->users > 0) co_await SleepFor(kLookAgainNanos);
    break;
  }
  std::erase_if(members_, [dropped](const std::unique_ptr<Member>& member) {
    return member->replica == dropped;
  });
  std::erase_if(dropped_, [dropped](const Dropped& item) { return item.replica == dropped; });
}

uint32_t ReplicaSet::FreeSlot() const {
  uint32_t taken = 0;
  for (const auto& member : members_) taken |= uint32_t{1} << member->slot;
  return static_cast<uint32_t>(std::countr_one(taken));
}

}  // namespace twofold
