#include "tools/control/usage_json.h"

#include <boost/json.hpp>
#include <string>
#include <utility>

#include "storage/base/status_macros.h"
#include "tools/control/info_json.h"
#include "tools/control/json_fields.h"

namespace twofold::control {
namespace json = boost::json;

namespace {

json::object Head(const UsageInfo& usage) {
  return {
      {"set", usage.set}, {"as_of", FormatTime(usage.as_of)}, {"counted_in_ms", usage.duration_ms}};
}

absl::Status HeadFromJson(JsonFields& fields, UsageInfo* usage) {
  usage->set = fields.String("set");
  usage->duration_ms = fields.Uint64("counted_in_ms");
  const std::string as_of = fields.String("as_of");
  TF_RETURN_IF_ERROR(fields.status());
  TF_ASSIGN_OR_RETURN(usage->as_of, ParseTime(as_of));
  return absl::OkStatus();
}

void AddVolume(const VolumeUsageInfo& volume, json::object* object) {
  (*object)["position"] = FormatPosition(volume.position);
  (*object)["present_bytes"] = volume.present_bytes;
  (*object)["history_bytes"] = volume.history_bytes;
  (*object)["snapshots_own_bytes"] = volume.snapshots_own_bytes;
  (*object)["total_bytes"] = volume.total_bytes();
}

absl::Status TakeVolume(JsonFields& fields, VolumeUsageInfo* volume) {
  volume->present_bytes = fields.Uint64("present_bytes");
  volume->history_bytes = fields.Uint64("history_bytes");
  volume->snapshots_own_bytes = fields.Uint64("snapshots_own_bytes");
  const std::string position = fields.String("position");
  TF_RETURN_IF_ERROR(fields.status());
  TF_ASSIGN_OR_RETURN(volume->position, ParsePosition(position));
  return absl::OkStatus();
}

}  // namespace

json::object VolumeUsageToJson(const UsageInfo& usage) {
  json::object object = Head(usage);
  for (const VolumeUsageInfo& volume : usage.volumes) {
    AddVolume(volume, &object);
    json::array snapshots;
    for (const SnapshotUsageInfo& snapshot : volume.snapshots) {
      snapshots.push_back(json::object{{"snapshot", snapshot.name},
                                       {"id", snapshot.id.value()},
                                       {"shown_bytes", snapshot.shown_bytes},
                                       {"own_bytes", snapshot.own_bytes}});
    }
    object["snapshots"] = std::move(snapshots);
  }
  return object;
}

json::object PoolUsageToJson(const UsageInfo& usage) {
  json::object object = Head(usage);
  const UsageInfo::Sum sum = usage.sum.value_or(UsageInfo::Sum());
  object["live_bytes"] = sum.live_bytes;
  object["present_bytes"] = sum.present_bytes;
  object["history_bytes"] = sum.history_bytes;
  object["to_give_back_bytes"] = sum.to_give_back_bytes;
  json::array volumes;
  for (const VolumeUsageInfo& volume : usage.volumes) {
    json::object& item = volumes.emplace_back(json::object{{"name", volume.name}}).get_object();
    AddVolume(volume, &item);
  }
  object["volumes"] = std::move(volumes);
  return object;
}

absl::Status VolumeUsageFromJson(const json::value& value, absl::string_view volume,
                                 UsageInfo* usage) {
  JsonFields fields(value);
  TF_RETURN_IF_ERROR(HeadFromJson(fields, usage));
  VolumeUsageInfo& info = usage->volumes.emplace_back();
  info.name = std::string(volume);
  TF_RETURN_IF_ERROR(TakeVolume(fields, &info));
  const json::array* const snapshots = fields.Array("snapshots");
  TF_RETURN_IF_ERROR(fields.status());
  for (const json::value& item : *snapshots) {
    JsonFields one(item);
    info.snapshots.push_back({.name = one.String("snapshot"),
                              .id = SnapshotId(one.Uint64("id")),
                              .shown_bytes = one.Uint64("shown_bytes"),
                              .own_bytes = one.Uint64("own_bytes")});
    TF_RETURN_IF_ERROR(one.status());
  }
  return absl::OkStatus();
}

absl::Status PoolUsageFromJson(const json::value& value, UsageInfo* usage) {
  JsonFields fields(value);
  TF_RETURN_IF_ERROR(HeadFromJson(fields, usage));
  usage->sum = UsageInfo::Sum();
  UsageInfo::Sum& sum = *usage->sum;
  sum.live_bytes = fields.Uint64("live_bytes");
  sum.present_bytes = fields.Uint64("present_bytes");
  sum.history_bytes = fields.Uint64("history_bytes");
  sum.to_give_back_bytes = fields.Uint64("to_give_back_bytes");
  const json::array* const volumes = fields.Array("volumes");
  TF_RETURN_IF_ERROR(fields.status());
  for (const json::value& item : *volumes) {
    JsonFields one(item);
    VolumeUsageInfo& volume = usage->volumes.emplace_back();
    volume.name = one.String("name");
    TF_RETURN_IF_ERROR(TakeVolume(one, &volume));
  }
  return absl::OkStatus();
}

}  // namespace twofold::control
