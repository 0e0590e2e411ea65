#include "replication/volume/away_sets.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "replication/volume/pool_resync.h"
#include "replication/volume/pool_state.h"
#include "storage/base/check.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

// Who has been in-sync for that long does not flap.
constexpr int64_t kCalmNanos = 600 * kNanosPerSecond;

bool Contains(const std::vector<std::string>& ids, const std::string& id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// What another try can't change.
bool NeedsPerson(const absl::Status& status) {
  return absl::IsFailedPrecondition(status) || absl::IsUnimplemented(status) ||
         absl::IsDataLoss(status) || absl::IsAborted(status);
}

}  // namespace

AwaySets::AwaySets(PoolState* pool, SetDirectories directories)
    : pool_(pool), directories_(std::move(directories)) {}

void AwaySets::AddStale(Replica* replica) {
  const Away away = std::make_shared<AwaySet>();
  away->set = replica->set_name();
  away->replica = replica;
  away->known = pool_->Describe(*replica);
  away->since = pool_->set.membership().degraded_since;
  away->reason = "it missed writes that were acknowledged";
  sets_.push_back(away);
}

void AwaySets::AddAbsent(const AbsentSet& absent) {
  const Away away = std::make_shared<AwaySet>();
  away->set = absent.set_name;
  away->known.set = absent.set_name;
  away->known.place = absent.place;
  // What was not there when the daemon looked comes back by itself as it was then.
  away->since =
      absent.gone ? Executor::Current().WallNow() : pool_->set.membership().degraded_since;
  away->reason = absent.reason;
  away->gone = absent.gone;
  // One that is damaged can be opened as of before the damage, now that the witness does not count
  // it any more: all that it has lost is on the set that is whole (R21).
  away->person = !absent.gone && !absent.damaged;
  sets_.push_back(away);
}

AwaySets::Away AwaySets::Find(const std::string& set) const {
  for (const Away& away : sets_) {
    if (away->set == set) return away;
  }
  return nullptr;
}

bool AwaySets::resyncing() const {
  return std::any_of(sets_.begin(), sets_.end(),
                     [](const Away& away) { return away->busy && away->resync != nullptr; });
}

ReplicaSet::Member* AwaySets::FindInSync(const std::string& set) const {
  for (ReplicaSet::Member* member : pool_->set.in_sync()) {
    if (!member->failed && member->replica->set_name() == set) return member;
  }
  return nullptr;
}

absl::Status AwaySets::IsInSync(const std::string& set) const {
  return absl::FailedPreconditionError(absl::StrCat(
      "set ", set, " is in-sync, there is nothing to replace. To have it on other disks take it ",
      "out first: `twofold replica detach ", set,
      "`; until the new ones are filled there is one copy less"));
}

absl::Status AwaySets::UnknownSet(const std::string& set) const {
  std::vector<std::string> names;
  for (const ReplicaSet::Member* member : pool_->set.in_sync()) {
    names.push_back(member->replica->set_name());
  }
  for (const Away& away : sets_) names.push_back(away->set);
  return absl::NotFoundError(
      absl::StrCat("the pool has no set ", set, "; its sets are ", absl::StrJoin(names, " and ")));
}

// ---- In the background --------------------------------------------------------------------------

AwaySets::Away AwaySets::NextDue() const {
  const MonoNanos now = Executor::Current().Now();
  for (const Away& away : sets_) {
    if (away->waits() && away->due <= now) return away;
  }
  return nullptr;
}

void AwaySets::Kick() {
  if (working_ || pool_->stopped) return;
  if (pool_->set.dropped().empty() && NextDue() == nullptr) return;
  working_ = true;
  pool_->watch.Spawn(Work());
}

Task<void> AwaySets::Look() {
  const std::vector<Away> sets = sets_;  // of this moment: others come and go meanwhile
  for (const Away& away : sets) {
    if (away->busy && away->replica != nullptr && away->resync != nullptr) {
      // What no write would notice.
      ++away->users;
      const absl::Status unused = co_await away->replica->CheckPresence();
      --away->users;
      changed_.WakeAll();
      continue;
    }
    if (!away->gone || away->held || away->busy || directories_.is_back == nullptr) continue;
    const bool back = co_await directories_.is_back(away->set, away->since);
    if (!back || away->held) continue;
    TF_LOG(INFO) << "set " << away->set << ": its files are there again";
    away->gone = false;
  }
  Kick();
}

void AwaySets::Stop() {
  for (const Away& away : sets_) {
    if (away->resync != nullptr) away->resync->Cancel();
  }
  changed_.WakeAll();
}

Task<void> AwaySets::Work() {
  while (!pool_->stopped) {
    co_await TakeInDropped();
    const Away next = NextDue();
    if (next == nullptr) break;
    co_await Try(next);
  }
  working_ = false;
}

// Whatever comes of it later, its files are let go of now.
Task<void> AwaySets::TakeInDropped() {
  while (!pool_->set.dropped().empty()) {
    const ReplicaSet::Dropped dropped = pool_->set.dropped().front();
    const Away away = std::make_shared<AwaySet>();
    away->set = dropped.replica->set_name();
    away->replica = dropped.replica;
    away->busy = true;
    away->closing = true;
    away->since = dropped.since;
    away->reason = std::string(dropped.reason.message());
    away->closed_state = "dropped";
    sets_.push_back(away);
    // It may have met an error where its files were gone before anybody looked.
    const absl::Status unused = co_await dropped.replica->CheckPresence();
    away->gone = dropped.replica->status().gone;
    // The log of one whose map is damaged is whole as far as anybody knows.
    away->person = !away->gone && !dropped.replica->status().map_damaged;
    const auto asked = asked_.find(away->set);
    if (asked != asked_.end()) {
      away->closed_state = "detached";
      away->reason = asked->second;
      away->gone = false;
      away->person = true;
      asked_.erase(asked);
    }
    Record& record = records_[away->set];
    const MonoNanos now = Executor::Current().Now();
    if (record.joined == 0 || now - record.joined > kCalmNanos) {
      record.backoff.Reset();
    } else {
      PutOff(away.get());
    }
    dropped.replica->CancelRepairs();
    co_await pool_->set.Forget(dropped.replica);
    co_await Close(away);
    away->closing = false;
    away->busy = false;
    changed_.WakeAll();
  }
}

// Also of one that is just being tried: whoever calls sees to it that nobody is busy with it.
Task<void> AwaySets::Close(Away away) {
  while (away->users > 0) co_await changed_.Wait();
  if (away->replica == nullptr) co_return;
  away->known = pool_->Describe(*away->replica);
  Replica* const replica = std::exchange(away->replica, nullptr);
  away->resync.reset();
  co_await replica->Stop();
  std::erase_if(pool_->parts.replicas,
                [replica](const std::unique_ptr<Replica>& item) { return item.get() == replica; });
  changed_.WakeAll();
}

Task<void> AwaySets::Try(Away away) {
  away->busy = true;
  away->resync.reset();
  absl::Status status = co_await BringBack(away);
  if (status.ok()) {
    away->joined = true;
    std::erase(sets_, away);
    records_[away->set].joined = Executor::Current().Now();
  } else {
    // As it is it can't go on: the next try opens it anew.
    const bool failed = away->replica != nullptr && !away->replica->health().ok();
    if (failed && !pool_->stopped) {
      away->gone = away->replica->status().gone;
      co_await Close(away);
    }
    NoteFailure(away.get(), status);
  }
  away->busy = false;
  changed_.WakeAll();
}

void AwaySets::NoteFailure(AwaySet* away, const absl::Status& status) {
  if (pool_->stopped || away->held) return;
  ++away->tries;
  away->reason = std::string(status.message());
  away->gone = away->gone || (away->replica == nullptr && absl::IsNotFound(status));
  if (away->gone) {
    TF_LOG(WARNING) << "set " << away->set << " is not there: " << status.message();
    away->since = Executor::Current().WallNow();
    return;
  }
  away->person = NeedsPerson(status);
  if (away->person) {
    TF_LOG(ERROR) << "set " << away->set << " does not come back by itself: " << status.message();
    return;
  }
  const int64_t delay = PutOff(away);
  TF_LOG(WARNING) << "set " << away->set << " was not brought level, the next try is in "
                  << delay / kNanosPerSecond << " s: " << status.message();
}

// Longer each time.
int64_t AwaySets::PutOff(AwaySet* away) {
  const int64_t delay = records_[away->set].backoff.NextDelayNanos();
  away->due = Executor::Current().Now() + delay;
  away->next_try = Executor::Current().WallNow() + delay;
  return delay;
}

Task<absl::Status> AwaySets::BringBack(Away away) {
  TF_CO_RETURN_IF_ERROR(pool_->set.CheckHealth());
  if (away->replica == nullptr) {
    absl::Status status = co_await Open(away);
    TF_CO_RETURN_IF_ERROR(status);
  }
  TF_CO_RETURN_IF_ERROR(away->replica->health());
  co_return co_await BringLevelFromWhole(away);
}

void AwaySets::Adopt(AwaySet* away, std::unique_ptr<Replica> replica) {
  away->replica = replica.get();
  pool_->parts.replicas.push_back(std::move(replica));
  away->known = pool_->Describe(*away->replica);
}

Task<absl::Status> AwaySets::Open(Away away) {
  if (directories_.open == nullptr) {
    co_return absl::FailedPreconditionError("start the daemon again with it");
  }
  absl::StatusOr<std::unique_ptr<Replica>> opened = co_await directories_.open(away->set);
  TF_CO_RETURN_IF_ERROR(opened);
  const absl::Status belongs = CheckIdentity(*away, **opened);
  if (!belongs.ok() || pool_->stopped) {
    co_await (*opened)->Stop();
    co_return belongs.ok() ? absl::UnavailableError("the pool is being stopped") : belongs;
  }
  Adopt(away.get(), *std::move(opened));
  TF_LOG(INFO) << "set " << away->set << " is there again: " << away->known.place
               << ", incarnation " << away->known.incarnation;
  co_return absl::OkStatus();
}

// Other files may stand where the set was.
absl::Status AwaySets::CheckIdentity(const AwaySet& away, const Replica& opened) const {
  const Membership& membership = pool_->set.membership();
  const std::string what =
      absl::StrCat("set ", away.set, " (", opened.place(), ", store ", opened.store_id(), ")");
  if (opened.pool_id() != membership.pool_id) {
    return absl::FailedPreconditionError(absl::StrCat(what, " belongs to pool ", opened.pool_id(),
                                                      "; this is pool ", membership.pool_id,
                                                      ". Put the set's own directory back"));
  }
  if (!Contains(membership.configured, opened.store_id())) {
    return absl::FailedPreconditionError(absl::StrCat(
        what, " is not a member of the pool: it was replaced. Its directory was left as it is"));
  }
  if (Contains(membership.in_sync, opened.store_id())) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, " is a copy of a store that is in use: a copy is no second replica"));
  }
  // Both are given out by this head alone, unless another one was at it.
  if (opened.recorded().sealed > membership.generation ||
      opened.recorded().membership_version > pool_->set.last_version()) {
    return absl::FailedPreconditionError(absl::StrCat(
        what, " was opened by another head since it was lost: it has generation ",
        opened.recorded().sealed.value(), ", membership version ",
        opened.recorded().membership_version, ", here are ", membership.generation.value(), " and ",
        pool_->set.last_version(), ". Its history may have parted; give an empty directory with ",
        "`twofold replica replace ", away.set, " DIR`"));
  }
  return absl::OkStatus();
}

// As BringLevel wants it: sealed at the pool's generation, from a set that is whole.
Task<absl::Status> AwaySets::BringLevelFromWhole(Away away) {
  // Held on to, so that it is not destroyed under the resync.
  const ReplicaSet::InFlight members(&pool_->set);
  Replica* source = nullptr;
  for (size_t i = 0; i < members.size() && source == nullptr; ++i) {
    if (!members[i]->failed) source = members[i]->replica;
  }
  if (source == nullptr) co_return absl::UnavailableError("no set is whole");
  Replica* const target = away->replica;
  const Generation generation = pool_->set.generation();
  absl::StatusOr<SealReport> sealed = co_await target->Seal(generation);
  TF_CO_RETURN_IF_ERROR(sealed);
  if (pool_->stopped || away->held) co_return absl::UnavailableError("the resync was ended");
  ResyncOptions options;
  options.rate_bytes_per_second = rate_;
  ReplicaSet* const set = &pool_->set;
  options.client_requests = [set] { return set->begun(); };
  options.on_fits = [this] { changed_.WakeAll(); };
  away->resync = std::make_unique<Resync>(source, target, generation, std::move(options));
  changed_.WakeAll();
  TF_LOG(INFO) << "set " << target->set_name() << " is brought level from set "
               << source->set_name();
  // A function object of its own: the coroutine that it starts keeps nothing of the lambda.
  const std::function<Task<absl::Status>()> admit = [set, target] { return set->Admit(target); };
  co_return co_await BringLevel(pool_, away->resync.get(), source, target, admit);
}

// ---- What a person asks for ---------------------------------------------------------------------

// What was dropped is among the sets that are away.
Task<void> AwaySets::SettleDropped() {
  Kick();  // It may be done at once.
  while (!pool_->set.dropped().empty() && !pool_->stopped) {
    co_await changed_.Wait();
    Kick();
  }
}

// Nobody is busy with it when this returns, or will be before it is let go (`held`).
Task<void> AwaySets::Quiet(Away away) {
  away->held = true;
  if (away->resync != nullptr) away->resync->Cancel();
  while (away->busy) co_await changed_.Wait();
}

Task<absl::Status> AwaySets::Attach(std::string set) {
  const AsyncMutex::Guard lock = co_await commands_.Lock();
  co_await SettleDropped();
  const Away away = Find(set);
  if (away == nullptr) co_return FindInSync(set) == nullptr ? UnknownSet(set) : absl::OkStatus();
  records_[set].backoff.Reset();
  away->person = false;
  away->gone = false;
  away->due = 0;
  away->next_try = 0;
  away->tries = 0;
  Kick();
  // Until it is being brought level, which may take long and is seen in the status.
  while (!away->joined && away->tries == 0 &&
         (away->resync == nullptr || !away->busy || !away->resync->fits())) {
    if (pool_->stopped) co_return absl::UnavailableError("the daemon is stopping");
    co_await changed_.Wait();
    Kick();
  }
  if (away->joined || away->tries == 0) co_return absl::OkStatus();
  co_return absl::FailedPreconditionError(away->reason);
}

Task<absl::Status> AwaySets::Detach(std::string set) {
  const AsyncMutex::Guard lock = co_await commands_.Lock();
  co_await SettleDropped();
  const std::string words = absl::StrCat(
      "it was taken out by an operator; `twofold replica attach ", set, "` brings it back");
  const Away away = Find(set);
  if (away != nullptr) co_await Quiet(away);
  if (away != nullptr && !away->joined) {
    co_await Close(away);
    away->closed_state = "detached";
    away->reason = words;
    away->gone = false;
    away->person = true;
    away->held = false;
    co_return absl::OkStatus();
  }
  if (FindInSync(set) == nullptr) co_return UnknownSet(set);
  if (pool_->set.in_sync().size() == 1) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("set ", set,
                     " is the only one that has every acknowledged write: it can't be taken out. "
                     "Bring the other one back first"));
  }
  asked_[set] = words;
  co_return co_await TakeOut(set);
}

Task<absl::Status> AwaySets::TakeOut(std::string set) {
  {
    const ReplicaSet::InFlight keep(&pool_->set);
    ReplicaSet::Members leaving;
    leaving.push_back(FindInSync(set));
    pool_->set.Fail(leaving.front(), absl::UnavailableError("it is taken out by an operator"));
    const bool out = co_await pool_->set.WaitUntilOut(std::move(leaving));
    if (!out) co_return pool_->set.health();
  }
  co_await SettleDropped();
  co_return absl::OkStatus();
}

absl::StatusOr<std::string> AwaySets::FindLost(const AwaySet& away) const {
  const Membership& membership = pool_->set.membership();
  if (Contains(membership.configured, away.known.store)) return away.known.store;
  // It was never seen: whoever is not known otherwise.
  std::vector<std::string> lost = membership.configured;
  for (const std::string& id : membership.in_sync) std::erase(lost, id);
  for (const Away& other : sets_) std::erase(lost, other->known.store);
  if (lost.size() == 1) return lost.front();
  return absl::FailedPreconditionError(
      lost.empty() ? std::string("no store of the pool is missing, there is nothing to replace")
                   : absl::StrCat("stores ", absl::StrJoin(lost, ", "),
                                  " are all missing; bring all but one of them back first"));
}

Task<absl::Status> AwaySets::Replace(std::string set, std::vector<std::string> directories) {
  if (directories_.make == nullptr) {
    co_return absl::UnimplementedError("start the daemon again with --replace");
  }
  if (Find(set) == nullptr && FindInSync(set) == nullptr && pool_->set.dropped().empty()) {
    co_return UnknownSet(set);
  }
  if (FindInSync(set) != nullptr) co_return IsInSync(set);
  absl::StatusOr<std::unique_ptr<Replica>> made = co_await directories_.make(set, directories);
  TF_CO_RETURN_IF_ERROR(made);
  absl::Status status = co_await PutInPlace(*std::move(made));
  if (status.ok() && directories_.moved != nullptr) directories_.moved(set, directories);
  co_return status;
}

Task<absl::Status> AwaySets::PutInPlace(std::unique_ptr<Replica> newcomer) {
  const AsyncMutex::Guard lock = co_await commands_.Lock();
  co_await SettleDropped();
  const Away away = Find(newcomer->set_name());
  if (away != nullptr) co_await Quiet(away);
  absl::Status status;
  if (away == nullptr || away->joined) {
    status = IsInSync(newcomer->set_name());
  } else {
    const absl::StatusOr<std::string> lost = FindLost(*away);
    status = lost.status();
    if (status.ok()) status = co_await pool_->set.Replace(*lost, newcomer->store_id());
  }
  if (!status.ok()) {
    if (away != nullptr) away->held = false;
    co_await newcomer->Stop();
    Kick();
    co_return status;
  }
  // From here on what it was is no member of the pool; its directories are left as they are.
  co_await Close(away);
  Adopt(away.get(), std::move(newcomer));
  away->closed_state = "missing";
  away->reason = "it is new and is filled";
  away->person = false;
  away->gone = false;
  away->due = 0;
  away->next_try = 0;
  away->tries = 0;
  away->held = false;
  Kick();
  co_return status;
}

void AwaySets::SetRate(uint64_t bytes_per_second) {
  rate_ = bytes_per_second;
  for (const Away& away : sets_) {
    if (away->resync != nullptr) away->resync->SetRate(bytes_per_second);
  }
}

}  // namespace twofold
