#include "replication/pair/membership.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/base/limits.h"

namespace twofold {
namespace {

bool Contains(const std::vector<std::string>& ids, const std::string& id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

std::string Describe(const Candidate& candidate) {
  return absl::StrCat("set ", candidate.set_name, " (", candidate.place, ", store ",
                      candidate.store_id, ")");
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

absl::Status CheckCandidates(const Membership& current, const std::vector<Candidate>& candidates,
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
      return absl::FailedPreconditionError(
          absl::StrCat(Describe(candidate), " is not a member of the pool by the witness (",
                       witness_name, "); give the directories that the pool was made with"));
    }
    if (!Contains(current.in_sync, candidate.store_id)) {
      return absl::FailedPreconditionError(absl::StrCat(
          Describe(candidate), " is stale: by the witness (", witness_name,
          ") it missed writes that were acknowledged. This release can't bring it level again; "
          "nothing was changed"));
    }
    if (!present.insert(candidate.store_id).second) {
      return absl::FailedPreconditionError(
          absl::StrCat(Describe(candidate),
                       " is there twice: a copy of a store's directory is not "
                       "a second replica; give each store once"));
    }
    sets.insert(candidate.set_name);
  }

  // R22: every one that is configured, and so every one that is in-sync.
  std::vector<std::string> missing;
  for (const std::string& id : current.configured) {
    if (!present.contains(id)) missing.push_back(id);
  }
  for (const std::string& id : current.in_sync) {
    if (!present.contains(id) && !Contains(missing, id)) missing.push_back(id);
  }
  if (!missing.empty()) {
    std::vector<std::string> there;
    for (const Candidate& candidate : candidates) there.push_back(Describe(candidate));
    return absl::UnavailableError(absl::StrCat(
        "the pool does not open without all its stores: missing is store ",
        absl::StrJoin(missing, ", store "),
        "; present: ", there.empty() ? std::string("none") : absl::StrJoin(there, ", "),
        ". Bring the missing disk back, or give its directory with --set, and start again. "
        "Nothing was changed"));
  }
  if (sets.size() < 2) {
    return absl::FailedPreconditionError(
        "all stores are in one set: a pool keeps its data on two; give both with --set");
  }
  return absl::OkStatus();
}

Membership NextForAttach(const Membership& current) {
  Membership next = current;
  next.generation = current.generation.Next();
  next.version = current.version + 1;
  return next;
}

absl::Status CheckReport(const Membership& taken, const Candidate& candidate,
                         const SealReport& report, const std::string& witness_name) {
  if (report.membership_version < taken.version) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      Describe(candidate), " has recorded membership version ", report.membership_version,
      ", the witness (", witness_name, ") had only ", taken.version - 1,
      ": the witness is a copy from the past and can't say which store is whole. "
      "Put back the newest witness directory and start again"));
}

}  // namespace twofold
