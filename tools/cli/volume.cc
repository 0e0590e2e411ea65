#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "tools/cli/console.h"
#include "tools/cli/present.h"
#include "tools/cli/table.h"
#include "tools/control/info_json.h"

namespace twofold::cli {

std::string PresentTime(int64_t wall_nanos) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%SZ", absl::FromUnixNanos(wall_nanos),
                          absl::UTCTimeZone());
}

namespace {

std::vector<std::pair<std::string, std::string>> UsageFields(const control::UsageAnswer& answer) {
  if (!answer.failed.empty()) {
    return {{"usage", absl::StrCat("not counted: ", Printable(answer.failed))}};
  }
  if (!answer.usage.has_value() || answer.usage->volumes.empty()) return {};
  const VolumeUsageInfo& volume = answer.usage->volumes.front();
  return {{"present", FormatSizeRounded(volume.present_bytes)},
          {"history",
           absl::StrCat(FormatSizeRounded(volume.history_bytes), ", of it ",
                        FormatSizeRounded(volume.snapshots_own_bytes), " of one snapshot each")},
          {"used in all", FormatSizeRounded(volume.total_bytes())},
          {"counted", CountedText(*answer.usage)}};
}

void PrintSnapshotUsage(std::ostream& out, const control::UsageAnswer& answer) {
  if (!answer.usage.has_value() || answer.usage->volumes.empty()) return;
  const VolumeUsageInfo& volume = answer.usage->volumes.front();
  if (volume.snapshots.empty()) return;
  Table table({{"SNAPSHOT"}, {"SHOWS", Align::kRight}, {"OWN", Align::kRight}});
  for (const SnapshotUsageInfo& snapshot : volume.snapshots) {
    table.Add({snapshot.name, FormatSizeRounded(snapshot.shown_bytes),
               FormatSizeRounded(snapshot.own_bytes)});
  }
  out << "\n";
  table.Print(out);
}

}  // namespace

std::string CountedText(const UsageInfo& usage) {
  return absl::StrCat("on set ", usage.set, " as of ", PresentTime(usage.as_of), ", in ",
                      usage.duration_ms, " ms");
}

absl::Status PresentVolumeList(std::ostream& out, const std::string& body) {
  TF_ASSIGN_OR_RETURN(const std::vector<control::VolumeAnswer> volumes,
                      control::DecodeVolumes(body));
  if (volumes.empty()) {
    out << "no volumes; make one with `twofold volume create NAME SIZE`\n";
    return absl::OkStatus();
  }
  Table table({{"NAME"},
               {"SIZE", Align::kRight},
               {"SNAPSHOTS", Align::kRight},
               {"CLIENTS", Align::kRight},
               {"ACK"},
               {"STATE"}});
  for (const control::VolumeAnswer& volume : volumes) {
    table.Add({volume.info.name, FormatSize(volume.info.size_bytes),
               absl::StrCat(volume.info.snapshots), absl::StrCat(volume.info.mounts),
               AckModeName(volume.info.ack), Printable(volume.info.state)});
  }
  table.Print(out);
  return absl::OkStatus();
}

absl::Status PresentVolume(std::ostream& out, const std::string& body) {
  TF_ASSIGN_OR_RETURN(const control::VolumeAnswer volume, control::DecodeVolume(body));
  const VolumeInfo& info = volume.info;
  std::vector<std::pair<std::string, std::string>> fields = {
      {"name", info.name},
      {"state", Printable(info.state)},
      {"size", absl::StrCat(FormatSize(info.size_bytes), " (", info.size_bytes, " bytes)")},
      {"snapshots", absl::StrCat(info.snapshots)},
      {"clients", absl::StrCat(info.mounts)},
      {"ack", AckModeName(info.ack)},
      {"on set loss", OnSetLossName(info.on_set_loss)},
      {"created", PresentTime(info.created)},
      {"id", absl::StrCat(info.id.value())},
      {"timeline", absl::StrCat(info.timeline.value())},
      {"position", absl::StrCat(info.position.generation.value(), ".", info.position.seq.value())},
      {"NBD", absl::StrJoin(volume.uris, "\n")}};
  for (auto& field : UsageFields(volume.usage)) fields.push_back(std::move(field));
  PrintFields(out, fields);
  PrintSnapshotUsage(out, volume.usage);
  return absl::OkStatus();
}

absl::Status PresentVolumeChange(std::ostream& out, const std::string& verb,
                                 const std::string& body) {
  TF_ASSIGN_OR_RETURN(const control::VolumeAnswer volume, control::DecodeVolume(body));
  out << verb << " " << volume.info.name << ", " << FormatSize(volume.info.size_bytes)
      << ", ack=" << AckModeName(volume.info.ack) << "\n";
  for (const std::string& uri : volume.uris) out << uri << "\n";
  return absl::OkStatus();
}

}  // namespace twofold::cli
