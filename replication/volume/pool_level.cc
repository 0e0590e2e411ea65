// Bringing stale sets level: one at a time, in the background, for as long as there are any.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "replication/volume/pool_resync.h"
#include "replication/volume/pool_state.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"

namespace twofold {
namespace {

// As BringLevel wants it: sealed at the pool's generation, from a set that is whole.
Task<absl::Status> BringOneLevel(PoolState* pool, Replica* target) {
  TF_CO_RETURN_IF_ERROR(pool->set.CheckHealth());
  TF_CO_RETURN_IF_ERROR(target->health());
  // Held on to, so that it is not destroyed under the resync.
  const ReplicaSet::InFlight members(&pool->set);
  Replica* source = nullptr;
  for (size_t i = 0; i < members.size() && source == nullptr; ++i) {
    if (!members[i]->failed) source = members[i]->replica;
  }
  if (source == nullptr) co_return absl::UnavailableError("no set is whole");
  const Generation generation = pool->set.generation();
  absl::StatusOr<SealReport> sealed = co_await target->Seal(generation);
  TF_CO_RETURN_IF_ERROR(sealed);
  pool->resync = std::make_unique<Resync>(source, target, generation, ResyncOptions());
  TF_LOG(INFO) << "set " << target->set_name() << " is brought level from set "
               << source->set_name();
  // A function object of its own: the coroutine that it starts keeps nothing of the lambda.
  ReplicaSet* const set = &pool->set;
  const std::function<Task<absl::Status>()> admit = [set, target] { return set->Admit(target); };
  co_return co_await BringLevel(pool, pool->resync.get(), source, target, admit);
}

// Of the configured stores the one that is lost.
absl::StatusOr<std::string> FindLost(const PoolState& pool) {
  std::vector<std::string> lost = pool.set.membership().configured;
  for (const auto& replica : pool.parts.replicas) std::erase(lost, replica->store_id());
  for (const std::string& id : pool.set.membership().in_sync) std::erase(lost, id);
  if (lost.size() == 1) return lost.front();
  return absl::FailedPreconditionError(
      lost.empty() ? std::string("no store of the pool is missing, there is nothing to replace")
                   : absl::StrCat("stores ", absl::StrJoin(lost, ", "),
                                  " are all missing; bring all but one of them back first"));
}

Task<absl::Status> PutInPlaceOfLost(PoolState* pool, const Replica* newcomer) {
  TF_CO_ASSIGN_OR_RETURN(const std::string lost, FindLost(*pool));
  co_return co_await pool->set.Replace(lost, newcomer->store_id());
}

}  // namespace

Task<absl::Status> Pool::ReplaceSet(std::unique_ptr<Replica> newcomer) {
  const AsyncMutex::Guard lock = co_await state_->admin.Lock();
  absl::Status status = co_await PutInPlaceOfLost(state_.get(), newcomer.get());
  if (!status.ok()) {
    co_await newcomer->Stop();
    co_return status;
  }
  std::erase_if(state_->parts.attach.absent, [&newcomer](const AbsentSet& absent) {
    return absent.set_name == newcomer->set_name();
  });
  const bool levelling = !state_->stale.empty();
  state_->stale.push_back(newcomer.get());
  state_->parts.replicas.push_back(std::move(newcomer));
  if (!levelling) state_->watch.Spawn(state_->KeepLevel());
  co_return absl::OkStatus();
}

Task<void> PoolState::KeepLevel() {
  ResyncBackoff backoff;
  while (!stale.empty() && !stopped) {
    Replica* const target = stale.front();
    absl::Status status = co_await BringOneLevel(this, target);
    if (status.ok()) {
      std::erase(stale, target);
      backoff.Reset();
      continue;
    }
    if (stopped) co_return;
    TF_LOG(WARNING) << "set " << target->set_name() << " was not brought level: " << status;
    // Its own failure, or a history that parted, does not go away by itself.
    if (!target->health().ok() || absl::IsFailedPrecondition(status) ||
        absl::IsUnimplemented(status)) {
      co_return;
    }
    const bool go_on = co_await stopping.SleepFor(backoff.NextDelayNanos());
    if (!go_on) co_return;
  }
}

}  // namespace twofold
