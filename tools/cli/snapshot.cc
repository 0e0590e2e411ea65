#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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

// One that came after the count has none.
std::string SizeOrNone(const std::optional<uint64_t>& bytes) {
  return bytes.has_value() ? FormatSizeRounded(*bytes) : "-";
}

std::string FullName(const SnapshotInfo& info) { return absl::StrCat(info.volume, "@", info.name); }

}  // namespace

absl::Status PresentSnapshotList(std::ostream& out, const std::string& body) {
  TF_ASSIGN_OR_RETURN(const std::vector<control::SnapshotAnswer> snapshots,
                      control::DecodeSnapshots(body));
  if (snapshots.empty()) {
    out << "no snapshots; make one with `twofold snapshot create VOL@SNAP`\n";
    return absl::OkStatus();
  }
  const bool counted = std::any_of(snapshots.begin(), snapshots.end(), [](const auto& snapshot) {
    return snapshot.own_bytes.has_value();
  });
  std::vector<Table::Column> columns = {{"NAME"}, {"SIZE", Align::kRight}};
  if (counted) {
    columns.push_back({"SHOWS", Align::kRight});
    columns.push_back({"OWN", Align::kRight});
  }
  columns.insert(columns.end(), {{"CREATED"}, {"GROUP", Align::kRight}, {"NOTE"}});
  Table table(std::move(columns));
  for (const control::SnapshotAnswer& snapshot : snapshots) {
    const SnapshotInfo& info = snapshot.info;
    std::vector<std::string> cells = {FullName(info), FormatSize(info.size_bytes)};
    if (counted) {
      cells.push_back(SizeOrNone(snapshot.shown_bytes));
      cells.push_back(SizeOrNone(snapshot.own_bytes));
    }
    cells.push_back(PresentTime(info.created));
    cells.push_back(info.group.value() == 0 ? "-" : absl::StrCat(info.group.value()));
    cells.emplace_back(info.before_rollback ? "kept by a rollback" : "");
    table.Add(std::move(cells));
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
