// What the pool tells of itself and its sets.
#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "replication/volume/pool_state.h"

namespace twofold {
namespace {

// A set that is not in-sync, and why.
struct Lacking {
  std::string set;
  std::string why;
};

std::vector<Lacking> FindLacking(const PoolState& pool) {
  std::vector<Lacking> lacking;
  for (const ReplicaSet::Dropped& dropped : pool.set.dropped()) {
    lacking.push_back({dropped.replica->set_name(), std::string(dropped.reason.message())});
  }
  for (const Replica* replica : pool.stale) {
    lacking.push_back({replica->set_name(), "it missed writes that were acknowledged"});
  }
  for (const AbsentSet& absent : pool.parts.attach.absent) {
    lacking.push_back({absent.set_name, absent.reason});
  }
  return lacking;
}

// "filling: volume db, 120 of 400 MiB, 35 MiB/s, 8 s left".
std::string ToText(const ResyncProgress& progress) {
  std::string text = ResyncPhaseName(progress.phase);
  if (!progress.what.empty()) absl::StrAppend(&text, ": ", progress.what);
  absl::StrAppend(&text, ", ", progress.bytes_done >> 20, " of ", progress.bytes_total >> 20,
                  " MiB, ", progress.bytes_per_second >> 20, " MiB/s");
  if (progress.seconds_left > 0) absl::StrAppend(&text, ", ", progress.seconds_left, " s left");
  return text;
}

}  // namespace

std::optional<DegradedInfo> PoolState::Degraded() const {
  if (!set.degraded()) return std::nullopt;
  DegradedInfo info;
  info.since = set.membership().degraded_since;
  std::vector<std::string> whys;
  for (const Lacking& lacking : FindLacking(*this)) {
    info.sets.push_back(lacking.set);
    whys.push_back(absl::StrCat("set ", lacking.set, ": ", lacking.why));
  }
  std::vector<std::string> whole;
  for (const ReplicaSet::Member* member : set.in_sync()) {
    whole.push_back(member->replica->set_name());
  }
  info.why = absl::StrJoin(whys, "; ");
  info.at_risk = absl::StrCat("what was written since then is on set ", absl::StrJoin(whole, ", "),
                              " alone, and lost if that fails before the other is back");
  const std::string lost = absl::StrJoin(info.sets, ", ");
  info.what_to_do =
      absl::StrCat("see to the disk of set ", lost, " and start the daemon again with it. Set ",
                   absl::StrJoin(whole, ", "), " must not be touched meanwhile");
  return info;
}

ReplicaInfo PoolState::Describe(const Replica& replica) const {
  const ReplicaStatus status = replica.status();
  ReplicaInfo item;
  item.set = replica.set_name();
  item.store = replica.store_id();
  item.place = replica.place();
  item.state = "in-sync";
  item.capacity_bytes = status.capacity_blocks * kBlockSize;
  item.used_bytes = status.used_blocks * kBlockSize;
  item.live_bytes = status.live_blocks * kBlockSize;
  item.free_segments = status.free_segments;
  item.segments = status.segments;
  item.incarnation = status.incarnation.value();
  item.bad_blocks_seen = status.bad_blocks_seen;
  item.damage = status.damage;
  item.scrub = scrub.Describe(replica);
  return item;
}

PoolInfo Pool::Info() const {
  const absl::Status health = state_->set.CheckHealth();
  PoolInfo info;
  info.pool_id = state_->set.membership().pool_id;
  info.generation = state_->set.membership().generation;
  info.membership_version = state_->set.membership().version;
  info.degraded = state_->Degraded();
  info.state = !health.ok()                ? std::string(health.message())
               : info.degraded.has_value() ? "degraded"
                                           : "healthy";
  info.witness = state_->parts.witness->name();
  info.buffer_pool_used_bytes = state_->buffers.used_bytes();
  info.buffer_pool_capacity_bytes = state_->buffers.capacity_bytes();
  for (const ReplicaSet::Member* member : state_->set.in_sync()) {
    ReplicaInfo& item = info.replicas.emplace_back(state_->Describe(*member->replica));
    if (!member->failed) continue;
    item.state = "failed";
    item.reason = std::string(member->reason.message());
  }
  for (const ReplicaSet::Dropped& dropped : state_->set.dropped()) {
    ReplicaInfo& item = info.replicas.emplace_back(state_->Describe(*dropped.replica));
    item.state = "dropped";
    item.reason = std::string(dropped.reason.message());
  }
  for (const Replica* replica : state_->stale) {
    ReplicaInfo& item = info.replicas.emplace_back(state_->Describe(*replica));
    item.state = "stale";
    item.reason = "it missed writes that were acknowledged";
    if (state_->resync == nullptr || state_->resync->progress().target_set != item.set) continue;
    const ResyncProgress& progress = state_->resync->progress();
    if (progress.phase != ResyncProgress::Phase::kFailed) item.state = "resyncing";
    item.reason = ToText(progress);
  }
  for (const AbsentSet& absent : state_->parts.attach.absent) {
    ReplicaInfo& item = info.replicas.emplace_back();
    item.set = absent.set_name;
    item.place = absent.place;
    item.state = "missing";
    item.reason = absent.reason;
  }
  std::sort(info.replicas.begin(), info.replicas.end(),
            [](const ReplicaInfo& x, const ReplicaInfo& y) {
              return std::tie(x.set, x.store) < std::tie(y.set, y.store);
            });
  return info;
}

}  // namespace twofold
