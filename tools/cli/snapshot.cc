#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "tools/cli/console.h"
#include "tools/cli/present.h"
#include "tools/cli/table.h"
#include "tools/control/info_json.h"

namespace twofold::cli {
namespace {

std::string FullName(const SnapshotInfo& info) { return absl::StrCat(info.volume, "@", info.name); }

}  // namespace

absl::Status PresentSnapshotList(std::ostream& out, const std::string& body) {
  TF_ASSIGN_OR_RETURN(const std::vector<control::SnapshotAnswer> snapshots,
                      control::DecodeSnapshots(body));
  if (snapshots.empty()) {
    out << "no snapshots; make one with `twofold snapshot create VOL@SNAP`\n";
    return absl::OkStatus();
  }
  Table table({{"NAME"}, {"SIZE", Align::kRight}, {"CREATED"}, {"GROUP", Align::kRight}, {"NOTE"}});
  for (const control::SnapshotAnswer& snapshot : snapshots) {
    const SnapshotInfo& info = snapshot.info;
    table.Add({FullName(info), FormatSize(info.size_bytes), PresentTime(info.created),
               info.group.value() == 0 ? "-" : absl::StrCat(info.group.value()),
               info.before_rollback ? "kept by a rollback" : ""});
  }
  table.Print(out);
  return absl::OkStatus();
}

absl::Status PresentSnapshotCreate(std::ostream& out, const std::string& body) {
  TF_ASSIGN_OR_RETURN(const std::vector<control::SnapshotAnswer> snapshots,
                      control::DecodeSnapshots(body));
  for (const control::SnapshotAnswer& snapshot : snapshots) {
    out << "created " << FullName(snapshot.info) << "\n";
    for (const std::string& uri : snapshot.uris) out << uri << "\n";
  }
  return absl::OkStatus();
}

absl::Status PresentRollback(std::ostream& out, const std::string& snapshot,
                             const std::string& body) {
  TF_ASSIGN_OR_RETURN(const control::SnapshotAnswer kept, control::DecodeRollback(body));
  out << "rolled " << kept.info.volume << " back to " << snapshot << "\n"
      << "what it held before is kept as " << FullName(kept.info)
      << "; undo with `twofold rollback " << FullName(kept.info) << "`\n";
  return absl::OkStatus();
}

}  // namespace twofold::cli
