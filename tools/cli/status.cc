#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "tools/cli/console.h"
#include "tools/cli/present.h"
#include "tools/cli/scrub.h"
#include "tools/cli/table.h"
#include "tools/control/info_json.h"

namespace twofold::cli {
namespace {

std::string Share(uint64_t part, uint64_t whole) {
  if (whole == 0) return "-";
  return absl::StrFormat("%.1f %%", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

constexpr size_t kPlacesShown = 10;  // of each set; --json has all that are remembered

// What is bad now first, then what was healed; nothing for a set that is whole.
void PrintDamage(std::ostream& out, const ReplicaInfo& replica) {
  const DamageReport& damage = replica.damage;
  if (damage.found == 0) return;
  out << "\nset " << replica.set << (damage.bad() > 0 ? ": DAMAGED, " : ": ") << damage.found
      << " damaged places found since the daemon started, " << damage.healed << " healed\n";
  Table table({{"SEEN"}, {"STATE"}, {"PLACE"}, {"WHAT"}});
  size_t shown = 0;
  for (const bool healed : {false, true}) {
    for (auto place = damage.places.rbegin(); place != damage.places.rend(); ++place) {
      if ((place->healed != 0) != healed || ++shown > kPlacesShown) continue;
      std::string what = place->what;
      if (!place->why_not.empty()) absl::StrAppend(&what, "; not healed: ", place->why_not);
      table.Add({PresentTime(place->seen),
                 healed ? absl::StrCat("healed ", PresentTime(place->healed)) : "bad",
                 Printable(place->where), Printable(what)});
    }
  }
  table.Print(out);
}

// When each set that is here was last proven whole, and how far a scrub of it is.
void PrintScrubs(std::ostream& out, const std::vector<ReplicaInfo>& replicas) {
  Table table({{"SET"}, {"PROVEN WHOLE"}, {"SCRUB"}});
  for (const ReplicaInfo& replica : replicas) {
    if (replica.state == "missing") continue;
    const ScrubInfo& scrub = replica.scrub;
    std::string now = "-";
    if (scrub.state == "running") now = absl::StrCat("under way: ", ScrubProgressText(scrub));
    if (scrub.state == "damaged") {
      now = absl::StrCat(PresentTime(scrub.ended), ": ", scrub.damaged_places, " DAMAGED places");
    }
    if (scrub.state == "stopped" || scrub.state == "failed") {
      now = absl::StrCat(scrub.state, ": ", Printable(scrub.what));
    }
    table.Add({replica.set, ProvenText(scrub), now});
  }
  if (table.empty()) return;
  out << "\n";
  table.Print(out);
}

constexpr size_t kVolumesShown = 10;  // those that use most; --json has all

// What the live data of a set is used by, as it was counted last.
void PrintUsage(std::ostream& out, const control::UsageAnswer& answer) {
  if (!answer.failed.empty()) {
    out << "\nusage: not counted: " << Printable(answer.failed) << "\n";
    return;
  }
  if (!answer.usage.has_value()) {
    out << "\nusage: not counted since the daemon started; `twofold status --usage` does\n";
    return;
  }
  const UsageInfo& usage = *answer.usage;
  const UsageInfo::Sum sum = usage.sum.value_or(UsageInfo::Sum());
  out << "\nusage, counted " << CountedText(usage) << "\n";
  Table table({{"VOLUME"},
               {"PRESENT", Align::kRight},
               {"HISTORY", Align::kRight},
               {"IN ALL", Align::kRight}});
  std::vector<VolumeUsageInfo> volumes = usage.volumes;
  std::sort(volumes.begin(), volumes.end(), [](const auto& x, const auto& y) {
    return std::pair(y.total_bytes(), x.name) < std::pair(x.total_bytes(), y.name);
  });
  for (size_t i = 0; i < std::min(volumes.size(), kVolumesShown); ++i) {
    table.Add({volumes[i].name, FormatSizeRounded(volumes[i].present_bytes),
               FormatSizeRounded(volumes[i].history_bytes),
               FormatSizeRounded(volumes[i].total_bytes())});
  }
  table.Add({absl::StrCat("all ", volumes.size()), FormatSizeRounded(sum.present_bytes),
             FormatSizeRounded(sum.history_bytes),
             FormatSizeRounded(sum.present_bytes + sum.history_bytes)});
  table.Add({"deleted, to be given back", "", "", FormatSizeRounded(sum.to_give_back_bytes)});
  table.Add({"live", "", "", FormatSizeRounded(sum.live_bytes)});
  table.Print(out);
}

}  // namespace

absl::Status PresentStatus(std::ostream& out, const std::string& body) {
  TF_ASSIGN_OR_RETURN(const control::StatusAnswer status, control::DecodeStatus(body));
  const PoolInfo& pool = status.pool;
  if (pool.degraded.has_value()) {
    const DegradedInfo& degraded = *pool.degraded;
    out << "DEGRADED since " << PresentTime(degraded.since) << ": set "
        << absl::StrJoin(degraded.sets, ", ") << " does not have every write\n";
    PrintFields(out, {{"why", Printable(degraded.why)},
                      {"at risk", Printable(degraded.at_risk)},
                      {"what to do", Printable(degraded.what_to_do)}});
    out << "\n";
  }
  PrintFields(
      out,
      {{"pool", pool.pool_id},
       {"state", Printable(pool.state)},
       {"generation",
        absl::StrCat(pool.generation.value(), ", membership version ", pool.membership_version)},
       {"witness", Printable(pool.witness)},
       {"buffers", absl::StrCat(FormatSizeRounded(pool.buffer_pool_used_bytes), " of ",
                                FormatSizeRounded(pool.buffer_pool_capacity_bytes), " in use")},
       {"daemon", absl::StrCat("twofold ", status.daemon.version, ", process ", status.daemon.pid,
                               ", since ", PresentTime(status.daemon.started))},
       {"NBD", absl::StrJoin(status.daemon.nbd, "\n")}});
  out << "\n";
  Table table({{"SET"},
               {"STATE"},
               {"CAPACITY", Align::kRight},
               {"USE", Align::kRight},
               {"LIVE", Align::kRight},
               {"TO CLEAN", Align::kRight},
               {"FREE", Align::kRight},
               {"RESERVE", Align::kRight},
               {"FREE SEGMENTS", Align::kRight},
               {"BAD BLOCKS", Align::kRight},
               {"PLACE"}});
  for (const ReplicaInfo& replica : pool.replicas) {
    table.Add({replica.set, Printable(replica.state), FormatSizeRounded(replica.capacity_bytes),
               Share(replica.used_bytes, replica.capacity_bytes),
               FormatSizeRounded(replica.live_bytes), FormatSizeRounded(replica.to_clean_bytes()),
               FormatSizeRounded(replica.free_bytes()), FormatSizeRounded(replica.reserve_bytes),
               absl::StrCat(replica.free_segments, " of ", replica.segments),
               absl::StrCat(replica.bad_blocks_seen), Printable(replica.place)});
  }
  table.Print(out);
  PrintUsage(out, status.usage);
  for (const ReplicaInfo& replica : pool.replicas) {
    const std::string progress = PresentResync(replica);
    if (!progress.empty()) out << "\nset " << replica.set << ": " << Printable(progress) << "\n";
    if (replica.reason.empty()) continue;
    out << "\nset " << replica.set << ": " << Printable(replica.reason) << "\n";
    if (replica.next_try != 0) out << "tried again at " << PresentTime(replica.next_try) << "\n";
  }
  for (const ReplicaInfo& replica : pool.replicas) PrintDamage(out, replica);
  PrintScrubs(out, pool.replicas);
  return absl::OkStatus();
}

}  // namespace twofold::cli
