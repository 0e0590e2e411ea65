#include "tools/control/api.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/log.h"
#include "tools/control/latency_json.h"
#include "tools/control/metrics.h"
#include "tools/control/scrub_json.h"
#include "tools/control/status_codes.h"

namespace twofold::control {
namespace {

Answer Done(std::string body) {
  Answer answer;
  answer.body = std::move(body);
  return answer;
}
Answer Created(std::string body) {
  Answer answer = Done(std::move(body));
  answer.http_status = 201;
  return answer;
}
Answer Failed(const absl::Status& status) { return ErrorAnswer(ErrorFromStatus(status)); }

// In the order in which a write goes through them, then the rest.
std::vector<StageLatency> Latencies(const Pool& pool, const nbd::Server* nbd) {
  std::vector<StageLatency> all;
  if (nbd != nullptr) all.push_back({"receive", "", nbd->latency().receive});
  for (StageLatency& stage : pool.Latencies()) all.push_back(std::move(stage));
  if (nbd == nullptr) return all;
  all.push_back({"reply", "", nbd->latency().reply});
  for (const auto& [command, stage] :
       {std::pair(nbd::Command::kWrite, "nbd_write"), std::pair(nbd::Command::kRead, "nbd_read"),
        std::pair(nbd::Command::kFlush, "nbd_flush"), std::pair(nbd::Command::kTrim, "nbd_trim"),
        std::pair(nbd::Command::kWriteZeroes, "nbd_write_zeroes")}) {
    all.push_back({stage, "", nbd->latency().commands[static_cast<size_t>(command)]});
  }
  return all;
}

// What can't be counted leaves the rest of an answer as it is.
Task<UsageAnswer> CountUsage(Pool* pool, std::optional<std::string> volume) {
  UsageAnswer answer;
  absl::StatusOr<UsageInfo> usage = co_await pool->CountUsage(std::move(volume));
  if (usage.ok()) {
    answer.usage = *std::move(usage);
  } else {
    answer.failed = std::string(usage.status().message());
  }
  co_return answer;
}

Task<Answer> Run(Pool* pool, const nbd::Server* nbd, const DaemonInfo* daemon, GetStatus request) {
  UsageAnswer usage{.usage = pool->LastUsage(), .failed = ""};
  if (request.usage) {
    usage = co_await CountUsage(pool, std::nullopt);
  }
  co_return Done(EncodeStatus(pool->Info(), *daemon, Latencies(*pool, nbd), usage));
}

Task<Answer> Run(Pool* pool, const nbd::Server* nbd, const DaemonInfo*, GetLatency) {
  co_return Done(EncodeLatency(Latencies(*pool, nbd)));
}

Task<Answer> Run(Pool* pool, const nbd::Server* nbd, const DaemonInfo* daemon, GetMetrics) {
  Answer answer = Done(EncodeMetrics(pool->Info(), *daemon, nbd, Latencies(*pool, nbd)));
  answer.content_type = kMetricsContentType;
  co_return answer;
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo* daemon, ListVolumes) {
  co_return Done(EncodeVolumes(pool->Volumes(), *daemon));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo* daemon, ShowVolume request) {
  absl::StatusOr<VolumeInfo> volume = pool->FindVolume(request.name);
  if (!volume.ok() || !request.usage) {
    co_return volume.ok() ? Done(EncodeVolume(*volume, *daemon)) : Failed(volume.status());
  }
  const UsageAnswer usage = co_await CountUsage(pool, request.name);
  volume = pool->FindVolume(request.name);  // It may have been deleted meanwhile.
  if (!volume.ok()) co_return Failed(volume.status());
  co_return Done(EncodeVolume(*volume, *daemon, usage));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo* daemon, ListSnapshots request) {
  absl::StatusOr<std::vector<SnapshotInfo>> snapshots = pool->Snapshots(request.volume);
  if (!snapshots.ok()) co_return Failed(snapshots.status());
  if (!request.usage) co_return Done(EncodeSnapshots(*snapshots, *daemon));
  const absl::StatusOr<UsageInfo> usage = co_await pool->CountUsage(request.volume);
  if (!usage.ok()) co_return Failed(usage.status());
  snapshots = pool->Snapshots(request.volume);
  if (!snapshots.ok()) co_return Failed(snapshots.status());
  co_return Done(EncodeSnapshots(*snapshots, *daemon, *usage));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo* daemon, CreateVolume request) {
  const absl::StatusOr<VolumeInfo> volume = co_await pool->CreateVolume(
      request.name, request.size_bytes, request.ack, request.on_set_loss);
  if (!volume.ok()) co_return Failed(volume.status());
  co_return Created(EncodeVolume(*volume, *daemon));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo* daemon, ResizeVolume request) {
  const absl::StatusOr<VolumeInfo> volume =
      co_await pool->ResizeVolume(request.name, request.size_bytes, request.force);
  if (!volume.ok()) co_return Failed(volume.status());
  co_return Done(EncodeVolume(*volume, *daemon));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo*, DeleteVolume request) {
  const absl::Status status = co_await pool->DeleteVolume(request.name, request.force);
  if (!status.ok()) co_return Failed(status);
  co_return Done(EncodeDeleted(request.name));
}

// ParseRequest has checked the name.
SnapshotName Named(const std::string& text) {
  absl::StatusOr<SnapshotName> name = SnapshotName::Parse(text);
  TF_CHECK(name.ok());
  return *std::move(name);
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo* daemon,
                 CreateSnapshots request) {
  std::vector<SnapshotName> names;
  for (const std::string& text : request.names) names.push_back(Named(text));
  const absl::StatusOr<std::vector<SnapshotInfo>> snapshots =
      co_await pool->CreateSnapshots(std::move(names));
  if (!snapshots.ok()) co_return Failed(snapshots.status());
  co_return Created(EncodeSnapshots(*snapshots, *daemon));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo*, DeleteSnapshot request) {
  const absl::Status status = co_await pool->DeleteSnapshot(Named(request.name));
  if (!status.ok()) co_return Failed(status);
  co_return Done(EncodeDeleted(request.name));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo* daemon, Rollback request) {
  const absl::StatusOr<SnapshotInfo> kept =
      co_await pool->Rollback(Named(request.snapshot), request.force);
  if (!kept.ok()) co_return Failed(kept.status());
  co_return Done(EncodeRollback(request.snapshot, *kept, *daemon));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo*, GetScrub) {
  co_return Done(EncodeScrubs(pool->Scrubs()));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo*, StartScrub request) {
  const absl::Status status = request.compare
                                  ? pool->StartComparison()
                                  : pool->StartScrub(request.set, request.bytes_per_second);
  if (!status.ok()) co_return Failed(status);
  co_return Done(EncodeScrubs(pool->Scrubs()));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo*, StopScrub request) {
  const absl::Status status = pool->StopScrub(request.set);
  if (!status.ok()) co_return Failed(status);
  co_return Done(EncodeScrubs(pool->Scrubs()));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo*, ListReplicas) {
  co_return Done(EncodeReplicas(pool->Info()));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo*, AttachReplica request) {
  const absl::StatusOr<ReplicaInfo> replica = co_await pool->AttachSet(request.set);
  if (!replica.ok()) co_return Failed(replica.status());
  co_return Done(EncodeReplica(*replica));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo*, DetachReplica request) {
  const absl::StatusOr<ReplicaInfo> replica = co_await pool->DetachSet(request.set);
  if (!replica.ok()) co_return Failed(replica.status());
  co_return Done(EncodeReplica(*replica));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo*, ReplaceReplica request) {
  const absl::StatusOr<ReplicaInfo> replica =
      co_await pool->ReplaceSet(request.set, request.directories);
  if (!replica.ok()) co_return Failed(replica.status());
  co_return Done(EncodeReplica(*replica));
}

Task<Answer> Run(Pool* pool, const nbd::Server*, const DaemonInfo*, SetResyncRate request) {
  pool->SetResyncRate(request.bytes_per_second);
  co_return Done(EncodeReplicas(pool->Info()));
}

}  // namespace

Task<Answer> Execute(Pool* pool, const nbd::Server* nbd, const DaemonInfo* daemon,
                     Request request) {
  const RequestMessage message = EncodeRequest(request);
  Task<Answer> run =
      std::visit([=](auto concrete) { return Run(pool, nbd, daemon, std::move(concrete)); },
                 std::move(request));
  Answer answer = co_await std::move(run);
  if (message.method != "GET") {
    TF_LOG(INFO) << "control: " << message.method << " " << message.target << " " << message.body
                 << ": " << answer.http_status
                 << (answer.http_status < 300 ? "" : " " + answer.body);
  }
  co_return answer;
}

}  // namespace twofold::control
