// How `twofold latency` looks, and the stages of `twofold bench latency`.
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "storage/base/status_macros.h"
#include "tools/cli/console.h"
#include "tools/cli/present.h"
#include "tools/cli/table.h"
#include "tools/control/latency_json.h"

namespace twofold::cli {
namespace {

// Microseconds, as wide as is useful.
std::string Micros(int64_t nanos) {
  const double micros = static_cast<double>(nanos) / 1000;
  return micros < 100 ? absl::StrFormat("%.1f", micros) : absl::StrFormat("%.0f", micros);
}

}  // namespace

bool PrintLatencies(std::ostream& out, const std::vector<StageLatency>& stages) {
  Table table({{"STAGE"},
               {"SET"},
               {"COUNT", Align::kRight},
               {"MEAN", Align::kRight},
               {"P50", Align::kRight},
               {"P90", Align::kRight},
               {"P99", Align::kRight},
               {"P99.9", Align::kRight},
               {"MAX", Align::kRight}});
  for (const StageLatency& stage : stages) {
    const LatencyHistogram& histogram = stage.histogram;
    if (histogram.count() == 0) continue;
    table.Add({Printable(stage.stage), stage.set.empty() ? "-" : Printable(stage.set),
               absl::StrCat(histogram.count()), Micros(histogram.mean()),
               Micros(histogram.Percentile(50)), Micros(histogram.Percentile(90)),
               Micros(histogram.Percentile(99)), Micros(histogram.Percentile(99.9)),
               Micros(histogram.max())});
  }
  if (table.empty()) return false;
  table.Print(out);
  return true;
}

absl::Status PresentLatency(std::ostream& out, const std::string& body) {
  TF_ASSIGN_OR_RETURN(const std::vector<StageLatency> stages, control::DecodeLatency(body));
  std::ostringstream table;
  if (PrintLatencies(table, stages)) {
    out << "microseconds, since the daemon started\n" << table.str();
  } else {
    out << "no requests since the daemon started\n";
  }
  return absl::OkStatus();
}

}  // namespace twofold::cli
