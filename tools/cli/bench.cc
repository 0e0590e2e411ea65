#include "tools/cli/bench.h"

#include <boost/json.hpp>
#include <cstring>
#include <fstream>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "storage/base/stage_latency.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "tools/cli/present.h"
#include "tools/cli/progress.h"
#include "tools/control/client.h"
#include "tools/control/info_json.h"
#include "tools/control/latency_json.h"
#include "tools/control/status_codes.h"
#include "tools/load/latency_plot.h"
#include "tools/load/load.h"
#include "tools/load/nbd_client.h"
#include "tools/load/stages.h"

namespace twofold::cli {
namespace {

namespace json = boost::json;

constexpr double kNanosPerSecond = 1e9;

struct BenchResult {
  VolumeInfo volume;
  load::LoadResult load;
  std::vector<StageLatency> stages;  // what the client saw, then the daemon's

  double seconds() const { return static_cast<double>(load.elapsed_ns) / kNanosPerSecond; }
  uint64_t answered() const {
    return load.reads.count() + load.writes.count() - load.unsent + load.errors;
  }
  double per_second() const { return static_cast<double>(answered()) / seconds(); }
};

absl::StatusOr<std::string> Ask(const BenchLatencyCommand& command,
                                const control::Request& request) {
  return control::Call(request, {.socket_path = command.control_socket, .on_waiting = nullptr});
}

absl::StatusOr<std::vector<StageLatency>> AskLatency(const BenchLatencyCommand& command) {
  TF_ASSIGN_OR_RETURN(const std::string body, Ask(command, control::GetLatency{}));
  return control::DecodeLatency(body);
}

// Writing destroys what is there: the volume has to be empty and unused, or --force was given.
absl::Status CheckMayWrite(const BenchLatencyCommand& command, const VolumeInfo& volume,
                           load::NbdClient* client) {
  if (command.read_percent == 100 || command.force) return absl::OkStatus();
  constexpr char kWhatToDo[] =
      "; this writes all over it. Take an empty volume, read only (--read-share 100), or say "
      "--force";
  if (volume.mounts > 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("volume ", volume.name, " has ", volume.mounts, " clients", kWhatToDo));
  }
  TF_ASSIGN_OR_RETURN(const bool data, client->HasData());
  if (!data) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("volume ", volume.name, " has data", kWhatToDo));
}

load::LoadOptions LoadOf(const BenchLatencyCommand& command, Progress* progress) {
  load::LoadOptions options;
  options.request_bytes = command.request_bytes;
  options.depth = command.depth;
  options.read_percent = command.read_percent;
  options.per_second = command.per_second;
  options.duration_ns = static_cast<int64_t>(command.seconds) * 1'000'000'000;
  options.on_progress = [progress, total = command.seconds](int64_t elapsed_ns) {
    progress->Show(absl::StrFormat("%.0f of %d s", static_cast<double>(elapsed_ns) / 1e9, total));
  };
  return options;
}

absl::StatusOr<BenchResult> Measure(const BenchLatencyCommand& command, Console& console) {
  BenchResult result;
  TF_ASSIGN_OR_RETURN(const std::string body, Ask(command, control::ShowVolume{command.volume}));
  TF_ASSIGN_OR_RETURN(control::VolumeAnswer answer, control::DecodeVolume(body));
  result.volume = std::move(answer.info);
  if (answer.uris.empty()) {
    return absl::FailedPreconditionError("the daemon does not listen for NBD clients");
  }
  if (result.volume.size_bytes < command.request_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("volume ", command.volume, " has only ",
                                                   FormatSize(result.volume.size_bytes)));
  }
  TF_ASSIGN_OR_RETURN(const std::unique_ptr<load::NbdClient> client,
                      load::NbdClient::Connect(answer.uris.front()));
  TF_RETURN_IF_ERROR(CheckMayWrite(command, result.volume, client.get()));

  TF_ASSIGN_OR_RETURN(const std::vector<StageLatency> before, AskLatency(command));
  {
    Progress progress(console);
    TF_ASSIGN_OR_RETURN(result.load, RunLoad(client.get(), LoadOf(command, &progress)));
  }
  TF_ASSIGN_OR_RETURN(std::vector<StageLatency> after, AskLatency(command));
  TF_ASSIGN_OR_RETURN(std::vector<StageLatency> between,
                      load::StagesBetween(before, std::move(after)));
  result.stages.push_back({load::kClientWrite, "", result.load.writes});
  result.stages.push_back({load::kClientRead, "", result.load.reads});
  for (StageLatency& stage : between) result.stages.push_back(std::move(stage));
  return result;
}

std::string PaceText(const BenchLatencyCommand& command) {
  if (command.per_second == 0) return absl::StrCat("depth ", command.depth);
  return absl::StrFormat("%g requests/s due, depth up to %d", command.per_second, command.depth);
}

std::string Headline(const BenchLatencyCommand& command, const BenchResult& result) {
  return absl::StrFormat("%s: %s requests, %d %% reads, %s; %.1f s, %.0f requests/s",
                         command.volume, FormatSize(command.request_bytes), command.read_percent,
                         PaceText(command), result.seconds(), result.per_second());
}

void Present(const BenchLatencyCommand& command, const BenchResult& result, std::ostream& out) {
  out << Headline(command, result) << "\nmicroseconds\n";
  PrintLatencies(out, result.stages);
  if (result.load.unsent > 0) {
    out << "the rate was not reached: " << result.load.unsent
        << " requests were due and not sent; they count with how long they had waited\n";
  }
}

std::string EncodeBench(const BenchLatencyCommand& command, const BenchResult& result) {
  return json::serialize(
      json::object{{"volume", command.volume},
                   {"size_bytes", result.volume.size_bytes},
                   {"request_bytes", command.request_bytes},
                   {"depth", command.depth},
                   {"read_percent", command.read_percent},
                   {"rate", command.per_second},
                   {"seconds", result.seconds()},
                   {"requests", result.answered()},
                   {"requests_per_second", result.per_second()},
                   {"unsent", result.load.unsent},
                   {"errors", result.load.errors},
                   {"stages", control::LatencyToJson(result.stages, /*buckets=*/true)}});
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (file) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path, " can't be written"));
}

absl::Status Run(const BenchLatencyCommand& command, Console& console) {
  TF_ASSIGN_OR_RETURN(const BenchResult result, Measure(command, console));
  if (console.json) {
    console.out << EncodeBench(command, result) << "\n";
  } else {
    Present(command, result, console.out);
  }
  console.out.flush();
  if (!command.svg.empty()) {
    TF_RETURN_IF_ERROR(
        WriteFile(command.svg, load::LatencyPlot(Headline(command, result), result.stages)));
  }
  if (result.load.errors == 0) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat(result.load.errors,
                   " requests failed, the first one: ", std::strerror(result.load.first_error)));
}

}  // namespace

int RunBenchLatency(const BenchLatencyCommand& command, Console& console) {
  const absl::Status status = Run(command, console);
  return status.ok() ? control::kExitDone : ReportError(console, status);
}

}  // namespace twofold::cli
