#include "replication/pair/membership.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"

namespace twofold {
namespace {

using Ids = std::vector<std::string>;

bool Contains(const Ids& ids, const std::string& id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

std::string Describe(const Candidate& candidate) {
  return absl::StrCat("set ", candidate.set_name, " (", candidate.place, ", store ",
                      candidate.store_id, ")");
}

std::string DescribeAll(const std::vector<AbsentSet>& absent) {
  std::string text;
  for (const AbsentSet& set : absent) {
    absl::StrAppend(&text, text.empty() ? "" : "; ", "set ", set.set_name, " (", set.place,
                    "): ", set.reason);
  }
  return text;
}

std::string ToText(WallNanos time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%SZ", absl::FromUnixNanos(time), absl::UTCTimeZone());
}

std::set<std::string> IdsOf(const std::vector<Candidate>& candidates) {
  std::set<std::string> ids;
  for (const Candidate& candidate : candidates) ids.insert(candidate.store_id);
  return ids;
}

// Each belongs here, once, and no head that the witness does not know of was at it.
absl::Status CheckIdentities(const Membership& current, const std::vector<Candidate>& candidates,
                             const std::string& witness_name) {
  std::set<std::string> present;
  std::set<std::string> sets;
  for (const Candidate& candidate : candidates) {
    if (candidate.pool_id != current.pool_id) {
      return absl::FailedPreconditionError(
          absl::StrCat(Describe(candidate), " belongs to pool ", candidate.pool_id,
                       ", the witness (", witness_name, ") to pool ", current.pool_id,
                       "; give directories and witness of one pool"));
    }
    if (!Contains(current.configured, candidate.store_id)) {
      return absl::FailedPreconditionError(absl::StrCat(
          Describe(candidate), " is not a member of the pool by the witness (", witness_name,
          "), which has ", absl::StrJoin(current.configured, " and "),
          ". If it was replaced, give the directories of the new one; nothing was changed"));
    }
    if (!present.insert(candidate.store_id).second) {
      return absl::FailedPreconditionError(
          absl::StrCat(Describe(candidate),
                       " is there twice: a copy of a store's directory is not "
                       "a second replica; give each store once"));
    }
    sets.insert(candidate.set_name);
    // A generation is in the witness before any replica hears of it.
    if (candidate.recorded.sealed > current.generation) {
      return absl::FailedPreconditionError(absl::StrCat(
          Describe(candidate), " was sealed at generation ", candidate.recorded.sealed.value(),
          ", the witness (", witness_name, ") knows only ", current.generation.value(),
          ": it is a copy from the past and can't say which store is whole. Put back "
          "the newest witness directory; if it is lost, see --new-witness"));
    }
  }
  if (candidates.size() > 1 && sets.size() == 1) {
    return absl::FailedPreconditionError(
        "all stores are in one set: a pool keeps its data on two; give both with --set");
  }
  return absl::OkStatus();
}

// Who has every acknowledged write: those that the witness lists, less those that a later record
// takes away. Where a later record names somebody new who is not here the witness may be a copy
// from the past, and he may have gone on alone since: then nobody here counts.
Ids EffectiveInSync(const Membership& current, const std::vector<Candidate>& candidates) {
  const std::set<std::string> present = IdsOf(candidates);
  Ids in_sync = current.in_sync;
  for (const Candidate& candidate : candidates) {
    if (candidate.recorded.membership_version <= current.version) continue;
    const Ids& recorded = candidate.recorded.in_sync;
    std::erase_if(in_sync, [&recorded](const std::string& id) { return !Contains(recorded, id); });
    for (const std::string& id : recorded) {
      if (!Contains(current.in_sync, id) && !present.contains(id)) return {};
    }
  }
  return in_sync;
}

std::string HowFarItGot(const Candidate& candidate) {
  if (candidate.last_stamp == 0) return "It has no entry at all";
  return absl::StrCat("Its newest entry is of ", ToText(candidate.last_stamp));
}

absl::Status OnlyStale(const Membership& current, const std::vector<Candidate>& candidates,
                       const std::vector<AbsentSet>& absent, const std::string& witness_name) {
  const Candidate& candidate = candidates.front();
  Ids whole = current.in_sync;
  std::erase(whole, candidate.store_id);
  return absl::FailedPreconditionError(absl::StrCat(
      Describe(candidate), " is stale and does not serve: by the witness (", witness_name, ") ",
      current.degraded_since == 0 ? std::string("writes may have been acknowledged without it")
                                  : absl::StrCat("writes have been acknowledged without it since ",
                                                 ToText(current.degraded_since)),
      ". ", HowFarItGot(candidate), "; how many it lacks only store ",
      absl::StrJoin(whole, " or store "), " can tell, which is missing",
      absent.empty() ? "" : absl::StrCat(" [", DescribeAll(absent), "]"),
      ". Bring that back (mount its disk, or give its directory with --set) and start again. Only "
      "if it is lost for good: `twofold serve --force-stale ",
      candidate.set_name,
      "` opens the pool as that set knows it and gives up all that came later. Nothing was "
      "changed"));
}

// Takes a stale candidate by a person's word.
absl::Status Force(const std::string& force_stale, const std::vector<Candidate>& candidates,
                   AttachPlan* plan) {
  if (!plan->use.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "--force-stale ", force_stale, " is not needed: ", Describe(candidates[plan->use.front()]),
        " is there and has every acknowledged write; start without it. Nothing was changed"));
  }
  for (const size_t index : plan->stale) {
    if (candidates[index].set_name != force_stale) continue;
    if (candidates[index].resyncing) {
      return absl::FailedPreconditionError(absl::StrCat(
          Describe(candidates[index]),
          " was being brought level when that was cut short: it is neither what it was nor what it "
          "was to become, and can't be opened alone. Nothing was changed"));
    }
    plan->use = {index};
    std::erase(plan->stale, index);
    plan->forced = true;
    return absl::OkStatus();
  }
  return absl::NotFoundError(absl::StrCat("--force-stale ", force_stale,
                                          ": that set is not there, so it can't be opened"));
}

}  // namespace

bool IsId(const std::string& text) {
  return text.size() == 32 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

absl::StatusOr<Membership> FirstMembership(std::string pool_id,
                                           std::vector<std::string> store_ids) {
  if (!IsId(pool_id)) {
    return absl::InvalidArgumentError(
        absl::StrCat("pool id \"", pool_id, "\" is not 32 hexadecimal digits"));
  }
  std::sort(store_ids.begin(), store_ids.end());
  for (size_t i = 0; i < store_ids.size(); ++i) {
    if (!IsId(store_ids[i])) {
      return absl::InvalidArgumentError(
          absl::StrCat("store id \"", store_ids[i], "\" is not 32 hexadecimal digits"));
    }
    if (i > 0 && store_ids[i] == store_ids[i - 1]) {
      return absl::InvalidArgumentError(absl::StrCat("store ", store_ids[i], " is named twice"));
    }
  }
  if (store_ids.size() < 2 || store_ids.size() > kMaxReplicas) {
    return absl::InvalidArgumentError(
        absl::StrCat("a pool has 2 to ", kMaxReplicas, " stores, not ", store_ids.size()));
  }
  Membership first;
  first.pool_id = std::move(pool_id);
  first.version = 1;
  first.in_sync = store_ids;
  first.configured = std::move(store_ids);
  return first;
}

absl::StatusOr<AttachPlan> PlanAttach(const Membership& current,
                                      const std::vector<Candidate>& candidates,
                                      const std::vector<AbsentSet>& absent,
                                      const std::string& witness_name,
                                      const std::string& force_stale) {
  TF_RETURN_IF_ERROR(CheckIdentities(current, candidates, witness_name));
  if (candidates.empty()) {
    return absl::UnavailableError(
        absl::StrCat("no set of the pool is there: ", DescribeAll(absent),
                     ". Bring a disk back, or give its directory with --set; nothing was changed"));
  }
  AttachPlan plan;
  plan.taken = current;
  plan.taken.generation = current.generation.Next();
  const Ids in_sync = EffectiveInSync(current, candidates);
  for (size_t i = 0; i < candidates.size(); ++i) {
    const bool whole = Contains(in_sync, candidates[i].store_id) && !candidates[i].resyncing;
    (whole ? plan.use : plan.stale).push_back(i);
    plan.taken.version = std::max(plan.taken.version, candidates[i].recorded.membership_version);
  }
  ++plan.taken.version;
  if (!force_stale.empty()) {
    TF_RETURN_IF_ERROR(Force(force_stale, candidates, &plan));
  } else if (plan.use.empty()) {
    return OnlyStale(current, candidates, absent, witness_name);
  }
  return plan;
}

absl::StatusOr<Membership> MembershipWithoutWitness(const std::vector<Candidate>& candidates) {
  Membership membership;
  Ids needed;
  for (const Candidate& candidate : candidates) {
    const AttachState& recorded = candidate.recorded;
    membership.generation = std::max(membership.generation, recorded.sealed);
    if (recorded.membership_version < membership.version) continue;
    membership.pool_id = candidate.pool_id;
    membership.version = recorded.membership_version;
    membership.in_sync = recorded.in_sync;
    membership.configured = recorded.configured;
    needed = recorded.configured;
    needed.insert(needed.end(), recorded.in_sync.begin(), recorded.in_sync.end());
  }
  if (membership.version == 0) {
    return absl::FailedPreconditionError(
        "no set has a record of who is in-sync: this pool never served anything. Make it anew "
        "with `twofold init`, in empty directories");
  }
  const std::set<std::string> present = IdsOf(candidates);
  std::set<std::string> missing;
  for (const std::string& id : needed) {
    if (!present.contains(id)) missing.insert(id);
  }
  if (!missing.empty()) {
    return absl::UnavailableError(absl::StrCat(
        "without the witness every set must be there, or one that is away could have gone on "
        "alone: missing is store ",
        absl::StrJoin(missing, ", store "),
        ". Bring it back, or put back the witness's directory; "
        "nothing was changed"));
  }
  return membership;
}

std::string WhatForceLoses(const Membership& current, const Candidate& candidate) {
  Ids whole = current.in_sync;
  std::erase(whole, candidate.store_id);
  return absl::StrCat(
      Describe(candidate), " lacks writes that were acknowledged",
      current.degraded_since == 0 ? "" : absl::StrCat(" since ", ToText(current.degraded_since)),
      ".\n", HowFarItGot(candidate),
      ".\nEverything later is given up: writes, trims, volumes, snapshots, rollbacks. Should "
      "store ",
      absl::StrJoin(whole, " or store "),
      " come back, it is refused: what only it has stays in its directory, and an empty one has to "
      "be filled from this set (`twofold replica replace`).");
}

absl::Status CheckReport(const Membership& taken, const Candidate& candidate,
                         const SealReport& report, const std::string& witness_name) {
  if (report.membership_version < taken.version) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      Describe(candidate), " has recorded membership version ", report.membership_version,
      ", the witness (", witness_name, ") had only ", taken.version - 1,
      ": another head is at work, or the witness is a copy from the past. Put back the newest "
      "witness directory and start again"));
}

Membership WithInSync(const Membership& current, std::vector<std::string> in_sync, uint64_t version,
                      WallNanos now) {
  TF_CHECK_GT(version, current.version);
  Membership next = current;
  next.version = version;
  std::sort(in_sync.begin(), in_sync.end());
  next.in_sync = std::move(in_sync);
  if (next.in_sync == next.configured) {
    next.degraded_since = 0;
  } else if (current.degraded_since == 0) {
    next.degraded_since = now;
  }
  return next;
}

Membership WithReplacement(const Membership& current, const std::string& old_store_id,
                           const std::string& store_id, uint64_t version) {
  TF_CHECK_GT(version, current.version);
  TF_CHECK(!Contains(current.in_sync, old_store_id));
  Membership next = current;
  next.version = version;
  std::erase(next.configured, old_store_id);
  next.configured.push_back(store_id);
  std::sort(next.configured.begin(), next.configured.end());
  return next;
}

}  // namespace twofold
