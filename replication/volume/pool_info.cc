// What the pool tells of itself and its sets.
#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "replication/volume/pool_state.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

// What a person can do about a set that is away.
std::string WhatToDo(const AwaySet& away) {
  const std::string& set = away.set;
  if (away.resync != nullptr && away.busy) {
    return absl::StrCat("set ", set, " is brought level by itself");
  }
  if (away.gone) {
    return absl::StrCat("mount the disk of set ", set, " again: it comes back by itself. If it is ",
                        "lost for good give a new one: `twofold replica replace ", set, " DIR`");
  }
  if (away.person) {
    return absl::StrCat("see to the disk of set ", set, ", then `twofold replica attach ", set,
                        "`; or give a new one: `twofold replica replace ", set, " DIR`");
  }
  return absl::StrCat("set ", set, " is tried again by itself; at once with ",
                      "`twofold replica attach ", set, "`");
}

std::optional<ResyncInfo> Describe(const Resync* resync) {
  if (resync == nullptr) return std::nullopt;
  const ResyncProgress& progress = resync->progress();
  ResyncInfo info;
  info.phase = ResyncPhaseName(progress.phase);
  info.what = progress.what;
  info.started = progress.started;
  info.bytes_done = progress.bytes_done;
  info.bytes_total = progress.bytes_total;
  info.bytes_per_second = progress.bytes_per_second;
  info.seconds_left = progress.seconds_left;
  info.lost_blocks = progress.lost_blocks;
  return info;
}

}  // namespace

std::optional<DegradedInfo> PoolState::Degraded() const {
  if (!set.degraded()) return std::nullopt;
  DegradedInfo info;
  info.since = set.membership().degraded_since;
  std::vector<std::string> whole;
  std::vector<std::string> whys;
  std::vector<std::string> what_to_do;
  for (const ReplicaInfo& replica : Replicas()) {
    if (replica.state == "in-sync") {
      whole.push_back(replica.set);
      continue;
    }
    info.sets.push_back(replica.set);
    whys.push_back(absl::StrCat("set ", replica.set, ": ", replica.reason));
  }
  for (const auto& item : away.sets()) what_to_do.push_back(WhatToDo(*item));
  const std::string names = absl::StrJoin(whole, ", ");
  what_to_do.push_back(absl::StrCat("set ", names, " must not be touched meanwhile"));
  info.why = absl::StrJoin(whys, "; ");
  info.at_risk = absl::StrCat("what was written since then is on set ", names,
                              " alone, and lost if that fails before the other is back");
  info.what_to_do = absl::StrJoin(what_to_do, ". ");
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
  item.reserve_bytes = status.reserve_blocks * kBlockSize;
  item.free_segments = status.free_segments;
  item.segments = status.segments;
  item.log_written_bytes = status.log_written_bytes;
  item.map_written_bytes = status.map_written_bytes;
  item.moved_bytes = status.moved_blocks * kBlockSize;
  item.checkpoint_running = status.checkpoint_running;
  item.clean_running = status.clean_running;
  item.reclaim_jobs = status.reclaim_jobs;
  item.incarnation = status.incarnation.value();
  item.bad_blocks_seen = status.bad_blocks_seen;
  item.damage = status.damage;
  item.scrub = scrub.Describe(replica);
  const Catalogue& has = replica.catalogue();
  for (const auto& [id, stream] : has.streams()) {
    item.newest = std::max(item.newest, stream.last_stamp);
    const auto volume = has.volumes().find(id);
    if (volume == has.volumes().end()) continue;
    item.positions.emplace_back(volume->second.name, stream.applied);
  }
  return item;
}

ReplicaInfo PoolState::Describe(const AwaySet& item) const {
  ReplicaInfo info = item.replica == nullptr ? item.known : Describe(*item.replica);
  info.since = item.since;
  info.reason = item.reason;
  info.resync = twofold::Describe(item.resync.get());
  if (item.replica == nullptr || item.closing) {
    info.state = item.closed_state;
  } else {
    info.state = item.busy && item.resync != nullptr ? "resyncing" : "stale";
  }
  if (item.waits()) info.next_try = item.next_try;
  return info;
}

void PoolState::NoteBroughtLevel(const std::string& set_name, const Resync& resync) {
  ResyncInfo info = *twofold::Describe(&resync);
  info.ended = Executor::Current().WallNow();
  brought_level[set_name] = std::move(info);
}

std::vector<ReplicaInfo> PoolState::Replicas() const {
  std::vector<ReplicaInfo> infos;
  for (const ReplicaSet::Member* member : set.in_sync()) {
    ReplicaInfo& item = infos.emplace_back(Describe(*member->replica));
    item.since = member->joined;
    const auto level = brought_level.find(item.set);
    if (level != brought_level.end()) item.resync = level->second;
    if (!member->failed) continue;
    item.state = "failed";
    item.reason = std::string(member->reason.message());
  }
  for (const auto& item : away.sets()) infos.push_back(Describe(*item));
  // Those that are just being closed are among `away` already.
  for (const ReplicaSet::Dropped& dropped : set.dropped()) {
    const bool listed =
        std::any_of(away.sets().begin(), away.sets().end(),
                    [&dropped](const auto& item) { return item->replica == dropped.replica; });
    if (listed) continue;
    ReplicaInfo& item = infos.emplace_back(Describe(*dropped.replica));
    item.state = "dropped";
    item.since = dropped.since;
    item.reason = std::string(dropped.reason.message());
  }
  std::sort(infos.begin(), infos.end(), [](const ReplicaInfo& x, const ReplicaInfo& y) {
    return std::tie(x.set, x.store) < std::tie(y.set, y.store);
  });
  return infos;
}

absl::StatusOr<ReplicaInfo> Pool::FindReplica(const std::string& set) const {
  for (ReplicaInfo& info : state_->Replicas()) {
    if (info.set == set) return std::move(info);
  }
  return absl::NotFoundError(absl::StrCat("the pool has no set ", set));
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
  info.resync_bytes_per_second = state_->away.rate_bytes_per_second();
  info.replicas = state_->Replicas();
  return info;
}

std::vector<StageLatency> Pool::Latencies() const {
  std::vector<StageLatency> all = {{"order", "", state_->writes.order},
                                   {"replicate", "", state_->writes.replicate},
                                   {"commit", "", state_->writes.commit}};
  for (const ReplicaSet::Member* member : state_->set.in_sync()) {
    for (StageLatency& stage : member->replica->latencies()) all.push_back(std::move(stage));
  }
  return all;
}

}  // namespace twofold
