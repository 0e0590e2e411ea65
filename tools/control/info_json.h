// What the pool tells of itself, as JSON (docs/control-api.md): the answers of the API, and the
// output of the commands with --json. Names and meanings of fields stay; new ones may come, so
// decoders skip what they don't know. Sizes are bytes, times RFC 3339 in UTC, positions
// "generation.seq".
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "replication/volume/pool.h"
#include "tools/control/request.h"

namespace twofold::control {

// What the daemon tells besides its pool.
struct DaemonInfo {
  std::string version;
  uint64_t pid = 0;
  WallNanos started = 0;
  std::vector<std::string> nbd;  // endpoints, "127.0.0.1:10809" or "unix:PATH"
  std::string metrics;           // endpoint of serve --metrics, or empty
};

// Where an export is found: "nbd://127.0.0.1:10809/vol", "nbd+unix:///vol?socket=/run/nbd.sock"
// (the NBD project's doc/uri.md).
std::string NbdUri(const std::string& endpoint, const std::string& export_name);

// What is used by what, where it was asked for: the count, or why there is none.
struct UsageAnswer {
  std::optional<UsageInfo> usage;
  std::string failed;
  bool empty() const { return !usage.has_value() && failed.empty(); }
};

// Each volume and each snapshot comes with its NBD URIs.
std::string EncodeVolume(const VolumeInfo& volume, const DaemonInfo& daemon,
                         const UsageAnswer& usage = {});
// {"volumes": [...]}
std::string EncodeVolumes(const std::vector<VolumeInfo>& volumes, const DaemonInfo& daemon);
// {"snapshots": [...]}
// Those that are in `usage` with what they hold.
std::string EncodeSnapshots(const std::vector<SnapshotInfo>& snapshots, const DaemonInfo& daemon,
                            const UsageInfo& usage = {});
// {"rolled_back_to": "vol@snap", "kept_as": {snapshot}}
std::string EncodeRollback(const std::string& snapshot, const SnapshotInfo& kept_as,
                           const DaemonInfo& daemon);
std::string EncodeReplica(const ReplicaInfo& replica);
// {"resync_bytes_per_second": ..., "replicas": [...]}
std::string EncodeReplicas(const PoolInfo& pool);
std::string EncodeStatus(const PoolInfo& pool, const DaemonInfo& daemon,
                         const std::vector<StageLatency>& latencies, const UsageAnswer& usage = {});
std::string EncodeDeleted(const std::string& name);  // {"deleted": "name"}
std::string EncodeError(const ApiError& error);      // {"error": {"code": ..., "message": ...}}

// kDataLoss, with the field, where the text is not what the encoder makes.
struct VolumeAnswer {
  VolumeInfo info;
  std::vector<std::string> uris;
  UsageAnswer usage;
};
struct SnapshotAnswer {
  SnapshotInfo info;
  std::vector<std::string> uris;
  std::optional<uint64_t> shown_bytes;  // where they were counted
  std::optional<uint64_t> own_bytes;
};
struct StatusAnswer {
  PoolInfo pool;
  DaemonInfo daemon;
  UsageAnswer usage;  // the last one
};
absl::StatusOr<VolumeAnswer> DecodeVolume(absl::string_view text);
absl::StatusOr<std::vector<VolumeAnswer>> DecodeVolumes(absl::string_view text);
absl::StatusOr<std::vector<SnapshotAnswer>> DecodeSnapshots(absl::string_view text);
absl::StatusOr<SnapshotAnswer> DecodeRollback(absl::string_view text);  // kept_as
absl::StatusOr<ReplicaInfo> DecodeReplica(absl::string_view text);
// Of the pool the replicas and the rate alone.
absl::StatusOr<PoolInfo> DecodeReplicas(absl::string_view text);
absl::StatusOr<StatusAnswer> DecodeStatus(absl::string_view text);
// The error that an answer carries; kUnknown with the text where it carries none.
absl::Status DecodeError(unsigned http_status, absl::string_view text);

// "3.17", and back.
std::string FormatPosition(const Position& position);
absl::StatusOr<Position> ParsePosition(const std::string& text);

// "2026-11-22T10:42:07.5Z", and back.
std::string FormatTime(WallNanos time);
absl::StatusOr<WallNanos> ParseTime(const std::string& text);

}  // namespace twofold::control
