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
  PrintFields(
      out,
      {{"name", info.name},
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
       {"NBD", absl::StrJoin(volume.uris, "\n")}});
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
