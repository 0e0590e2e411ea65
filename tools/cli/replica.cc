#include <algorithm>

#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "tools/cli/console.h"
#include "tools/cli/present.h"
#include "tools/cli/table.h"
#include "tools/control/info_json.h"

namespace twofold::cli {
namespace {

// Of one volume its own; of several they say little side by side, and the time of the newest entry
// says more.
std::string Position(const ReplicaInfo& replica) {
  if (replica.positions.size() != 1) {
    return replica.positions.empty() ? "-" : absl::StrCat(replica.positions.size(), " volumes");
  }
  const twofold::Position position = replica.positions.front().second;
  return absl::StrCat(position.generation.value(), ".", position.seq.value());
}

std::string TimeOrDash(WallNanos time) { return time == 0 ? "-" : PresentTime(time); }

std::string Rate(uint64_t bytes_per_second) {
  if (bytes_per_second == 0) return "as fast as clients leave room for";
  return absl::StrCat("at most ", FormatSizeRounded(bytes_per_second), "/s");
}

}  // namespace

std::string PresentResync(const ReplicaInfo& replica) {
  if (!replica.resync.has_value()) return "";
  const ResyncInfo& resync = *replica.resync;
  if (replica.state == "in-sync" && resync.ended != 0) {
    std::string text = absl::StrCat("brought level at ", PresentTime(resync.ended), ", ",
                                    FormatSizeRounded(resync.bytes_done), " sent in ",
                                    (resync.ended - resync.started) / kNanosPerSecond, " s");
    if (resync.lost_blocks > 0) {
      absl::StrAppend(&text, "; ", resync.lost_blocks, " blocks are lost: no set had them");
    }
    return text;
  }
  if (replica.state != "resyncing") return "";
  std::string text = resync.phase;
  if (!resync.what.empty()) absl::StrAppend(&text, ": ", resync.what);
  absl::StrAppend(&text, ", ", FormatSizeRounded(resync.bytes_done), " of ",
                  FormatSizeRounded(resync.bytes_total), ", ",
                  FormatSizeRounded(resync.bytes_per_second), "/s");
  if (resync.seconds_left > 0) absl::StrAppend(&text, ", ", resync.seconds_left, " s left");
  return text;
}

absl::Status PresentReplicas(std::ostream& out, const std::string& body) {
  TF_ASSIGN_OR_RETURN(const PoolInfo pool, control::DecodeReplicas(body));
  Table table({{"SET"},
               {"STATE"},
               {"POSITION", Align::kRight},
               {"NEWEST ENTRY"},
               {"INCARNATION", Align::kRight},
               {"SINCE"},
               {"PLACE"}});
  for (const ReplicaInfo& replica : pool.replicas) {
    table.Add({replica.set, Printable(replica.state), Position(replica), TimeOrDash(replica.newest),
               absl::StrCat(replica.incarnation), TimeOrDash(replica.since),
               Printable(replica.place)});
  }
  table.Print(out);
  for (const ReplicaInfo& replica : pool.replicas) {
    const std::string progress = PresentResync(replica);
    if (!progress.empty()) out << "\nset " << replica.set << ": " << Printable(progress) << "\n";
    if (replica.reason.empty()) continue;
    out << "\nset " << replica.set << ": " << Printable(replica.reason) << "\n";
    if (replica.next_try != 0) out << "tried again at " << PresentTime(replica.next_try) << "\n";
  }
  out << "\nresync: " << Rate(pool.resync_bytes_per_second) << "\n";
  return absl::OkStatus();
}

absl::Status PresentReplica(std::ostream& out, const std::string& body) {
  TF_ASSIGN_OR_RETURN(const ReplicaInfo replica, control::DecodeReplica(body));
  out << "set " << replica.set << " is " << Printable(replica.state);
  const std::string progress = PresentResync(replica);
  if (!progress.empty()) out << ": " << Printable(progress);
  out << "\n";
  return absl::OkStatus();
}

absl::Status PresentReplacement(std::ostream& out, const std::string& body) {
  TF_ASSIGN_OR_RETURN(const ReplicaInfo replica, control::DecodeReplica(body));
  out << "set " << replica.set << " is in " << Printable(replica.place)
      << " from now on, and is filled; `twofold replica list` shows how far it is\n"
      << "start the daemon with --set " << replica.set << "=" << Printable(replica.place)
      << " from now on, or put that into its configuration\n";
  return absl::OkStatus();
}

absl::Status PresentResyncRate(std::ostream& out, const std::string& body) {
  TF_ASSIGN_OR_RETURN(const PoolInfo pool, control::DecodeReplicas(body));
  out << "resync: " << Rate(pool.resync_bytes_per_second) << "\n";
  return absl::OkStatus();
}

}  // namespace twofold::cli
