#include "tools/control/info_json.h"

#include <boost/json.hpp>
#include <functional>
#include <map>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "storage/base/status_macros.h"
#include "tools/control/damage_json.h"
#include "tools/control/json_fields.h"
#include "tools/control/latency_json.h"
#include "tools/control/percent.h"
#include "tools/control/scrub_json.h"
#include "tools/control/status_codes.h"
#include "tools/control/usage_json.h"

namespace twofold::control {
namespace json = boost::json;

namespace {

json::array Uris(const DaemonInfo& daemon, const std::string& export_name) {
  json::array uris;
  for (const std::string& endpoint : daemon.nbd) {
    uris.emplace_back(NbdUri(endpoint, export_name));
  }
  return uris;
}

json::object ToJson(const VolumeInfo& volume, const DaemonInfo& daemon) {
  return {{"name", volume.name},
          {"id", volume.id.value()},
          {"size_bytes", volume.size_bytes},
          {"ack", AckModeName(volume.ack)},
          {"on_set_loss", OnSetLossName(volume.on_set_loss)},
          {"timeline", volume.timeline.value()},
          {"created", FormatTime(volume.created)},
          {"position", FormatPosition(volume.position)},
          {"clients", volume.mounts},
          {"snapshots", volume.snapshots},
          {"state", volume.state},
          {"uris", Uris(daemon, volume.name)}};
}

json::object ToJson(const SnapshotInfo& snapshot, const DaemonInfo& daemon) {
  const std::string name = absl::StrCat(snapshot.volume, "@", snapshot.name);
  json::object object = {{"name", name},
                         {"volume", snapshot.volume},
                         {"snapshot", snapshot.name},
                         {"id", snapshot.id.value()},
                         {"timeline", snapshot.timeline.value()},
                         {"position", FormatPosition(snapshot.position)},
                         {"created", FormatTime(snapshot.created)},
                         {"size_bytes", snapshot.size_bytes},
                         {"before_rollback", snapshot.before_rollback},
                         {"uris", Uris(daemon, name)}};
  // 0 is "alone": left out, so that equal numbers always mean one instant.
  if (snapshot.group.value() != 0) object["group"] = snapshot.group.value();
  return object;
}

// Of a volume where it was asked for, of a status always; null with the reason where there is none.
void AddUsage(const UsageAnswer& usage, json::object (*to_json)(const UsageInfo&),
              json::object* object) {
  if (usage.usage.has_value()) {
    (*object)["usage"] = to_json(*usage.usage);
  } else {
    (*object)["usage"] = nullptr;
  }
  if (!usage.failed.empty()) (*object)["usage_failed"] = usage.failed;
}

json::value ToJson(const std::optional<ResyncInfo>& resync) {
  if (!resync.has_value()) return nullptr;
  return {{"phase", resync->phase},
          {"what", resync->what},
          {"started", FormatTime(resync->started)},
          {"bytes_done", resync->bytes_done},
          {"bytes_total", resync->bytes_total},
          {"bytes_per_second", resync->bytes_per_second},
          {"seconds_left", resync->seconds_left},
          {"lost_blocks", resync->lost_blocks},
          {"ended", FormatTime(resync->ended)}};
}

json::object ToJson(const ReplicaInfo& replica) {
  json::object positions;
  for (const auto& [volume, position] : replica.positions) {
    positions[volume] = FormatPosition(position);
  }
  return {{"set", replica.set},
          {"since", FormatTime(replica.since)},
          {"positions", std::move(positions)},
          {"newest", FormatTime(replica.newest)},
          {"resync", ToJson(replica.resync)},
          {"next_try", FormatTime(replica.next_try)},
          {"store", replica.store},
          {"place", replica.place},
          {"state", replica.state},
          {"reason", replica.reason},
          {"capacity_bytes", replica.capacity_bytes},
          {"used_bytes", replica.used_bytes},
          {"live_bytes", replica.live_bytes},
          {"to_clean_bytes", replica.to_clean_bytes()},
          {"free_bytes", replica.free_bytes()},
          {"reserve_bytes", replica.reserve_bytes},
          {"segments", replica.segments},
          {"free_segments", replica.free_segments},
          {"incarnation", replica.incarnation},
          {"bad_blocks_seen", replica.bad_blocks_seen},
          {"damage", DamageToJson(replica.damage)},
          {"scrub", ScrubToJson(replica.scrub)}};
}

json::value ToJson(const std::optional<DegradedInfo>& degraded) {
  if (!degraded.has_value()) return nullptr;
  return {{"since", FormatTime(degraded->since)},
          {"sets", json::array(degraded->sets.begin(), degraded->sets.end())},
          {"why", degraded->why},
          {"at_risk", degraded->at_risk},
          {"what_to_do", degraded->what_to_do}};
}

template <typename Info, typename... Daemon>
json::array ToJson(const std::vector<Info>& infos, const Daemon&... daemon) {
  json::array array;
  for (const Info& info : infos) array.push_back(ToJson(info, daemon...));
  return array;
}

json::object ToJson(const DaemonInfo& daemon) {
  return {{"version", daemon.version},
          {"pid", daemon.pid},
          {"started", FormatTime(daemon.started)},
          {"nbd", json::array(daemon.nbd.begin(), daemon.nbd.end())},
          {"metrics", daemon.metrics}};
}

// ---- Decoding ----

// Where there is one.
absl::Status UsageFromJson(const json::value& value,
                           const std::function<absl::Status(const json::value&, UsageInfo*)>& read,
                           UsageAnswer* answer) {
  const json::object* const object = value.if_object();
  const json::value* const usage = object == nullptr ? nullptr : object->if_contains("usage");
  if (usage != nullptr && !usage->is_null()) {
    TF_RETURN_IF_ERROR(read(*usage, &answer->usage.emplace()));
  }
  JsonFields fields(value);
  answer->failed = fields.OptionalString("usage_failed").value_or("");
  return fields.status();
}

absl::Status FromJson(const json::value& value, VolumeAnswer& answer) {
  VolumeInfo& volume = answer.info;
  JsonFields fields(value);
  volume.name = fields.String("name");
  volume.id = VolumeId(fields.Uint64("id"));
  volume.size_bytes = fields.Uint64("size_bytes");
  const std::string ack = fields.String("ack");
  const std::string on_set_loss = fields.String("on_set_loss");
  volume.timeline = TimelineId(fields.Uint64("timeline"));
  const std::string created = fields.String("created");
  const std::string position = fields.String("position");
  volume.mounts = fields.Uint64("clients");
  volume.snapshots = fields.Uint64("snapshots");
  volume.state = fields.String("state");
  answer.uris = fields.Strings("uris");
  TF_RETURN_IF_ERROR(fields.status());
  TF_ASSIGN_OR_RETURN(volume.ack, ParseAckMode(ack));
  TF_ASSIGN_OR_RETURN(volume.on_set_loss, ParseOnSetLoss(on_set_loss));
  TF_ASSIGN_OR_RETURN(volume.created, ParseTime(created));
  TF_ASSIGN_OR_RETURN(volume.position, ParsePosition(position));
  const auto read = [&volume](const json::value& usage, UsageInfo* info) {
    return VolumeUsageFromJson(usage, volume.name, info);
  };
  return UsageFromJson(value, read, &answer.usage);
}

absl::Status FromJson(const json::value& value, SnapshotAnswer& answer) {
  SnapshotInfo& snapshot = answer.info;
  JsonFields fields(value);
  snapshot.volume = fields.String("volume");
  snapshot.name = fields.String("snapshot");
  snapshot.id = SnapshotId(fields.Uint64("id"));
  snapshot.timeline = TimelineId(fields.Uint64("timeline"));
  const std::string position = fields.String("position");
  const std::string created = fields.String("created");
  snapshot.size_bytes = fields.Uint64("size_bytes");
  snapshot.before_rollback = fields.Bool("before_rollback");
  snapshot.group = GroupId(fields.OptionalUint64("group").value_or(0));
  answer.uris = fields.Strings("uris");
  answer.shown_bytes = fields.OptionalUint64("shown_bytes");
  answer.own_bytes = fields.OptionalUint64("own_bytes");
  TF_RETURN_IF_ERROR(fields.status());
  TF_ASSIGN_OR_RETURN(snapshot.position, ParsePosition(position));
  TF_ASSIGN_OR_RETURN(snapshot.created, ParseTime(created));
  return absl::OkStatus();
}

absl::Status FromJson(const json::value& value, ResyncInfo& resync) {
  JsonFields fields(value);
  resync.phase = fields.String("phase");
  resync.what = fields.String("what");
  const std::string started = fields.String("started");
  resync.bytes_done = fields.Uint64("bytes_done");
  resync.bytes_total = fields.Uint64("bytes_total");
  resync.bytes_per_second = fields.Uint64("bytes_per_second");
  resync.seconds_left = fields.Uint64("seconds_left");
  resync.lost_blocks = fields.Uint64("lost_blocks");
  const std::string ended = fields.String("ended");
  TF_RETURN_IF_ERROR(fields.status());
  TF_ASSIGN_OR_RETURN(resync.started, ParseTime(started));
  TF_ASSIGN_OR_RETURN(resync.ended, ParseTime(ended));
  return absl::OkStatus();
}

absl::Status FromJson(const json::value& value, ReplicaInfo& replica) {
  JsonFields fields(value);
  const std::string since = fields.String("since");
  const std::string newest = fields.String("newest");
  const std::string next_try = fields.String("next_try");
  const json::value* positions = fields.Value("positions");
  const json::value* resync = fields.Value("resync");
  replica.set = fields.String("set");
  replica.store = fields.String("store");
  replica.place = fields.String("place");
  replica.state = fields.String("state");
  replica.reason = fields.String("reason");
  replica.capacity_bytes = fields.Uint64("capacity_bytes");
  replica.used_bytes = fields.Uint64("used_bytes");
  replica.live_bytes = fields.Uint64("live_bytes");
  replica.reserve_bytes = fields.Uint64("reserve_bytes");
  replica.segments = fields.Uint64("segments");
  replica.free_segments = fields.Uint64("free_segments");
  replica.incarnation = fields.Uint64("incarnation");
  replica.bad_blocks_seen = fields.Uint64("bad_blocks_seen");
  const json::value* damage = fields.Value("damage");
  const json::value* scrub = fields.Value("scrub");
  TF_RETURN_IF_ERROR(fields.status());
  TF_ASSIGN_OR_RETURN(replica.since, ParseTime(since));
  TF_ASSIGN_OR_RETURN(replica.newest, ParseTime(newest));
  TF_ASSIGN_OR_RETURN(replica.next_try, ParseTime(next_try));
  if (!positions->is_object()) return absl::InvalidArgumentError("\"positions\" is no object");
  for (const auto& [volume, position] : positions->get_object()) {
    if (!position.is_string()) return absl::InvalidArgumentError("a position is no string");
    TF_ASSIGN_OR_RETURN(const Position parsed, ParsePosition(std::string(position.get_string())));
    replica.positions.emplace_back(volume, parsed);
  }
  if (!resync->is_null()) TF_RETURN_IF_ERROR(FromJson(*resync, replica.resync.emplace()));
  TF_RETURN_IF_ERROR(DamageFromJson(*damage, &replica.damage));
  return ScrubFromJson(*scrub, &replica.scrub);
}

template <typename Info>
absl::Status FromJson(const json::array* array, std::vector<Info>& infos) {
  for (const json::value& value : *array) TF_RETURN_IF_ERROR(FromJson(value, infos.emplace_back()));
  return absl::OkStatus();
}

absl::Status FromJson(const json::value& value, DaemonInfo& daemon) {
  JsonFields fields(value);
  daemon.version = fields.String("version");
  daemon.pid = fields.Uint64("pid");
  const std::string started = fields.String("started");
  daemon.nbd = fields.Strings("nbd");
  daemon.metrics = fields.OptionalString("metrics").value_or("");
  TF_RETURN_IF_ERROR(fields.status());
  TF_ASSIGN_OR_RETURN(daemon.started, ParseTime(started));
  return absl::OkStatus();
}

absl::Status FromJson(const json::value& value, DegradedInfo& degraded) {
  JsonFields fields(value);
  const std::string since = fields.String("since");
  degraded.sets = fields.Strings("sets");
  degraded.why = fields.String("why");
  degraded.at_risk = fields.String("at_risk");
  degraded.what_to_do = fields.String("what_to_do");
  TF_RETURN_IF_ERROR(fields.status());
  TF_ASSIGN_OR_RETURN(degraded.since, ParseTime(since));
  return absl::OkStatus();
}

absl::Status FromJson(const json::value& value, StatusAnswer& status) {
  PoolInfo& pool = status.pool;
  JsonFields fields(value);
  pool.pool_id = fields.String("pool");
  pool.state = fields.String("state");
  pool.generation = Generation(fields.Uint64("generation"));
  pool.membership_version = fields.Uint64("membership_version");
  pool.witness = fields.String("witness");
  pool.buffer_pool_used_bytes = fields.Uint64("buffers_used_bytes");
  pool.buffer_pool_capacity_bytes = fields.Uint64("buffers_capacity_bytes");
  pool.resync_bytes_per_second = fields.Uint64("resync_bytes_per_second");
  const json::array* replicas = fields.Array("replicas");
  const json::value* daemon = fields.Value("daemon");
  const json::value* degraded = fields.Value("degraded");
  TF_RETURN_IF_ERROR(fields.status());
  if (!degraded->is_null()) {
    pool.degraded.emplace();
    TF_RETURN_IF_ERROR(FromJson(*degraded, *pool.degraded));
  }
  TF_RETURN_IF_ERROR(FromJson(replicas, pool.replicas));
  TF_RETURN_IF_ERROR(FromJson(*daemon, status.daemon));
  return UsageFromJson(value, PoolUsageFromJson, &status.usage);
}

// Parses `text` and decodes it with `decode`; whatever fails is the answer's fault, not the
// caller's.
template <typename Info, typename Decode>
absl::StatusOr<Info> DecodeAnswer(absl::string_view text, Decode decode) {
  Info info;
  const absl::StatusOr<json::value> value = ParseJson(text);
  const absl::Status status = value.ok() ? decode(*value, info) : value.status();
  if (!status.ok()) {
    return absl::DataLossError(absl::StrCat(
        "the daemon's answer was not understood (is it another version?): ", status.message()));
  }
  return info;
}

template <typename Info>
absl::StatusOr<std::vector<Info>> DecodeList(absl::string_view text, const char* name) {
  return DecodeAnswer<std::vector<Info>>(
      text, [name](const json::value& value, std::vector<Info>& infos) -> absl::Status {
        JsonFields fields(value);
        const json::array* array = fields.Array(name);
        TF_RETURN_IF_ERROR(fields.status());
        return FromJson(array, infos);
      });
}

}  // namespace

std::string NbdUri(const std::string& endpoint, const std::string& export_name) {
  if (absl::StartsWith(endpoint, "unix:")) {
    return absl::StrCat("nbd+unix:///", export_name,
                        "?socket=", PercentEncode(endpoint.substr(5), "/"));
  }
  return absl::StrCat("nbd://", endpoint, "/", export_name);
}

std::string EncodeVolume(const VolumeInfo& volume, const DaemonInfo& daemon,
                         const UsageAnswer& usage) {
  json::object object = ToJson(volume, daemon);
  if (!usage.empty()) AddUsage(usage, VolumeUsageToJson, &object);
  return json::serialize(object);
}

std::string EncodeVolumes(const std::vector<VolumeInfo>& volumes, const DaemonInfo& daemon) {
  return json::serialize(json::object{{"volumes", ToJson(volumes, daemon)}});
}

std::string EncodeSnapshots(const std::vector<SnapshotInfo>& snapshots, const DaemonInfo& daemon,
                            const UsageInfo& usage) {
  std::map<SnapshotId, SnapshotUsageInfo> counted;
  for (const VolumeUsageInfo& volume : usage.volumes) {
    for (const SnapshotUsageInfo& snapshot : volume.snapshots) counted[snapshot.id] = snapshot;
  }
  json::array array;
  for (const SnapshotInfo& snapshot : snapshots) {
    json::object object = ToJson(snapshot, daemon);
    const auto found = counted.find(snapshot.id);
    if (found != counted.end()) {
      object["shown_bytes"] = found->second.shown_bytes;
      object["own_bytes"] = found->second.own_bytes;
    }
    array.push_back(std::move(object));
  }
  return json::serialize(json::object{{"snapshots", std::move(array)}});
}

std::string EncodeRollback(const std::string& snapshot, const SnapshotInfo& kept_as,
                           const DaemonInfo& daemon) {
  return json::serialize(
      json::object{{"rolled_back_to", snapshot}, {"kept_as", ToJson(kept_as, daemon)}});
}

std::string EncodeStatus(const PoolInfo& pool, const DaemonInfo& daemon,
                         const std::vector<StageLatency>& latencies, const UsageAnswer& usage) {
  json::object object = {{"pool", pool.pool_id},
                         {"state", pool.state},
                         {"degraded", ToJson(pool.degraded)},
                         {"generation", pool.generation.value()},
                         {"membership_version", pool.membership_version},
                         {"witness", pool.witness},
                         {"buffers_used_bytes", pool.buffer_pool_used_bytes},
                         {"buffers_capacity_bytes", pool.buffer_pool_capacity_bytes},
                         {"resync_bytes_per_second", pool.resync_bytes_per_second},
                         {"replicas", ToJson(pool.replicas)},
                         {"latency", LatencyToJson(latencies, /*buckets=*/false)},
                         {"daemon", ToJson(daemon)}};
  AddUsage(usage, PoolUsageToJson, &object);
  return json::serialize(object);
}

std::string EncodeReplica(const ReplicaInfo& replica) { return json::serialize(ToJson(replica)); }

std::string EncodeReplicas(const PoolInfo& pool) {
  return json::serialize(json::object{{"resync_bytes_per_second", pool.resync_bytes_per_second},
                                      {"replicas", ToJson(pool.replicas)}});
}

std::string EncodeDeleted(const std::string& name) {
  return json::serialize(json::object{{"deleted", name}});
}

std::string EncodeError(const ApiError& error) {
  return json::serialize(
      json::object{{"error", json::object{{"code", error.code}, {"message", error.message}}}});
}

absl::StatusOr<VolumeAnswer> DecodeVolume(absl::string_view text) {
  return DecodeAnswer<VolumeAnswer>(
      text, [](const json::value& value, VolumeAnswer& volume) { return FromJson(value, volume); });
}

absl::StatusOr<std::vector<VolumeAnswer>> DecodeVolumes(absl::string_view text) {
  return DecodeList<VolumeAnswer>(text, "volumes");
}

absl::StatusOr<std::vector<SnapshotAnswer>> DecodeSnapshots(absl::string_view text) {
  return DecodeList<SnapshotAnswer>(text, "snapshots");
}

absl::StatusOr<SnapshotAnswer> DecodeRollback(absl::string_view text) {
  return DecodeAnswer<SnapshotAnswer>(
      text, [](const json::value& value, SnapshotAnswer& snapshot) -> absl::Status {
        JsonFields fields(value);
        const json::value* kept = fields.Value("kept_as");
        TF_RETURN_IF_ERROR(fields.status());
        return FromJson(*kept, snapshot);
      });
}

absl::StatusOr<ReplicaInfo> DecodeReplica(absl::string_view text) {
  return DecodeAnswer<ReplicaInfo>(text, [](const json::value& value, ReplicaInfo& replica) {
    return FromJson(value, replica);
  });
}

absl::StatusOr<PoolInfo> DecodeReplicas(absl::string_view text) {
  return DecodeAnswer<PoolInfo>(text, [](const json::value& value, PoolInfo& pool) -> absl::Status {
    JsonFields fields(value);
    pool.resync_bytes_per_second = fields.Uint64("resync_bytes_per_second");
    const json::array* replicas = fields.Array("replicas");
    TF_RETURN_IF_ERROR(fields.status());
    return FromJson(replicas, pool.replicas);
  });
}

absl::StatusOr<StatusAnswer> DecodeStatus(absl::string_view text) {
  return DecodeAnswer<StatusAnswer>(
      text, [](const json::value& value, StatusAnswer& status) { return FromJson(value, status); });
}

absl::Status DecodeError(unsigned http_status, absl::string_view text) {
  const absl::StatusOr<json::value> value = ParseJson(text);
  const json::object* object = value.ok() ? value->if_object() : nullptr;
  const json::value* error = object == nullptr ? nullptr : object->if_contains("error");
  if (error != nullptr) {
    JsonFields fields(*error);
    const std::string code = fields.String("code");
    const std::string message = fields.String("message");
    if (fields.status().ok()) return StatusFromError(code, message);
  }
  return absl::UnknownError(absl::StrCat("the daemon answered with HTTP status ", http_status,
                                         " and no error text; is it a Twofold daemon?"));
}

std::string FormatPosition(const Position& position) {
  return absl::StrCat(position.generation.value(), ".", position.seq.value());
}

absl::StatusOr<Position> ParsePosition(const std::string& text) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits('.', 1));
  uint64_t generation = 0;
  uint64_t seq = 0;
  if (!absl::SimpleAtoi(parts.first, &generation) || !absl::SimpleAtoi(parts.second, &seq)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", absl::Utf8SafeCHexEscape(text), "\" is no position"));
  }
  return Position{Generation(generation), Seq(seq)};
}

std::string FormatTime(WallNanos time) {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E*SZ", absl::FromUnixNanos(time), absl::UTCTimeZone());
}

absl::StatusOr<WallNanos> ParseTime(const std::string& text) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", absl::Utf8SafeCHexEscape(text), "\" is no time: ", error));
  }
  return absl::ToUnixNanos(time);
}

}  // namespace twofold::control
