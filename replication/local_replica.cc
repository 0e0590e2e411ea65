#include "replication/local_replica.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"

namespace twofold {

Task<absl::StatusOr<SealReport>> LocalReplica::Seal(Generation generation) {
  absl::Status status = co_await store_->Seal(generation);
  TF_CO_RETURN_IF_ERROR(status);
  SealReport report;
  report.generation = generation;
  report.membership_version = store_->attach_state().membership_version;
  for (const auto& [volume, stream] : store_->streams().streams()) {
    SealReport::Stream end;
    end.volume = volume;
    end.end = stream.pending.empty() ? stream.committed : stream.pending.back().entry.position;
    end.committed = stream.committed;
    const auto applied = store_->catalogue().streams().find(volume);
    if (!stream.pending.empty()) {
      end.last_stamp = stream.pending.back().entry.stamp;
    } else if (applied != store_->catalogue().streams().end()) {
      end.last_stamp = applied->second.last_stamp;
    }
    report.streams.push_back(end);
  }
  co_return report;
}

Task<absl::Status> LocalReplica::RecordMembership(Membership membership) {
  AttachState state;
  state.sealed = membership.generation;
  state.membership_version = membership.version;
  state.in_sync = std::move(membership.in_sync);
  state.configured = std::move(membership.configured);
  return store_->RecordMembership(std::move(state));
}

Task<absl::StatusOr<std::vector<TailEntry>>> LocalReplica::ReadTail(VolumeId volume, Position after,
                                                                    size_t max_bytes) {
  // A segment may be given back between finding an entry in it and reading its payload: then it is
  // looked for again, and is found where it was moved, or known to have been recycled.
  constexpr int kTries = 3;
  absl::StatusOr<std::vector<TailEntry>> tail = absl::NotFoundError("");
  for (int tries = 0; tries < kTries && absl::IsNotFound(tail.status()); ++tries) {
    tail = co_await store_->ReadTail(volume, after, max_bytes);
  }
  if (!absl::IsNotFound(tail.status())) co_return tail;
  co_return absl::UnavailableError(tail.status().message());
}

Task<absl::StatusOr<ScrubReport>> LocalReplica::Scrub(ScrubOptions options) {
  if (scrub_ != nullptr) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("set ", set_name(), " is being scrubbed already"));
  }
  scrub_ = std::make_unique<StoreScrub>(store_.get(), options);
  absl::StatusOr<ScrubReport> report = co_await scrub_->Run();
  scrub_.reset();
  co_return report;
}

ReplicaStatus LocalReplica::status() const {
  const Store::Usage usage = store_->usage();
  ReplicaStatus status;
  status.failed = !store_->health().ok();
  status.gone = store_->files_gone();
  status.map_damaged = store_->map_damaged();
  status.reason = std::string(store_->health().message());
  status.capacity_blocks = usage.capacity_blocks;
  status.used_blocks = usage.used_blocks;
  status.live_blocks = usage.live_blocks;
  status.reserve_blocks = usage.reserve_blocks;
  status.segments = usage.segments;
  status.free_segments = usage.free_segments;
  const Store::Written written = store_->written();
  status.log_written_bytes = written.log_bytes;
  status.map_written_bytes = written.map_bytes;
  status.moved_blocks = store_->cleaning_counters().moved_blocks;
  const Store::Busy busy = store_->busy();
  status.checkpoint_running = busy.checkpoint;
  status.clean_running = busy.clean;
  status.reclaim_jobs = busy.reclaim_jobs;
  status.incarnation = store_->superblock().incarnation;
  status.superblock_version = store_->superblock().version;
  status.bad_blocks_seen = store_->bad_blocks_seen();
  status.damage = store_->damage_list().Report();
  status.proof = store_->proof();
  return status;
}

std::vector<StageLatency> LocalReplica::latencies() const {
  const SegmentLog::Latency& log = store_->log().latency();
  const Store::Latency& store = store_->latency();
  return {{"queue", set_name(), log.queue},
          {"log", set_name(), log.write},
          {"read", set_name(), store.read},
          {"apply", set_name(), store.apply},
          {"checkpoint_cut", set_name(), store.checkpoint_cut},
          {"checkpoint", set_name(), store.checkpoint},
          {"clean", set_name(), store.clean}};
}

}  // namespace twofold
