#include "tools/cli/scrub.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/runtime/poller.h"
#include "tools/cli/present.h"
#include "tools/cli/progress.h"
#include "tools/control/client.h"
#include "tools/control/scrub_json.h"
#include "tools/control/status_codes.h"

namespace twofold::cli {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(250);
constexpr size_t kFindingsShown = 20;  // --json has all

std::string Ago(uint64_t seconds) {
  constexpr std::pair<uint64_t, const char*> kUnits[] = {
      {86400, "day"}, {3600, "hour"}, {60, "minute"}};
  for (const auto& [unit, name] : kUnits) {
    const uint64_t count = seconds / unit;
    if (count > 0) return absl::StrCat(count, " ", name, count == 1 ? "" : "s", " ago");
  }
  return "just now";
}

std::string PlacesText(uint64_t count) {
  return absl::StrCat(count, count == 1 ? " place" : " places");
}

// Those that the command is about.
bool Concerns(const ScrubCommand& command, const ScrubInfo& scrub) {
  const std::optional<std::string>& set = command.request.set;
  return !command.request.compare && (!set.has_value() || *set == scrub.set);
}

bool Running(const ScrubCommand& command, const ScrubStatus& status) {
  if (command.request.compare) return status.compare.state == "running";
  return std::any_of(status.sets.begin(), status.sets.end(), [&command](const ScrubInfo& scrub) {
    return Concerns(command, scrub) && scrub.state == "running";
  });
}

// Whether nothing is wrong, as far as is known now.
bool Whole(const ScrubCommand& command, const ScrubStatus& status) {
  if (command.request.compare) {
    return status.compare.state == "equal" || status.compare.state == "running";
  }
  return std::all_of(status.sets.begin(), status.sets.end(), [&command](const ScrubInfo& scrub) {
    // A set that is not in-sync was not asked for, unless by its name.
    const bool passed_over = scrub.state == "never" && !command.request.set.has_value();
    return !Concerns(command, scrub) || scrub.state == "whole" || scrub.state == "running" ||
           passed_over;
  });
}

void ShowProgress(const ScrubCommand& command, const ScrubStatus& status, Progress* progress) {
  if (command.request.compare) {
    const CompareInfo& compare = status.compare;
    progress->Show(absl::StrCat("comparing ", compare.what, ", point ", compare.points_done + 1,
                                " of ", compare.points_total, ", ", compare.different_blocks,
                                " blocks differ"));
    return;
  }
  std::string text;
  for (const ScrubInfo& scrub : status.sets) {
    if (!Concerns(command, scrub) || scrub.state != "running") continue;
    absl::StrAppend(&text, text.empty() ? "" : "; ", "set ", scrub.set, ": ",
                    ScrubProgressText(scrub));
  }
  progress->Show(text);
}

void Present(const ScrubCommand& command, const ScrubStatus& status, std::ostream& out) {
  if (command.request.compare) return PresentComparison(out, status.compare);
  for (const ScrubInfo& scrub : status.sets) {
    if (Concerns(command, scrub) && scrub.state != "never") PresentScrub(out, scrub);
  }
}

absl::StatusOr<std::string> Ask(const ScrubCommand& command, const control::Request& request) {
  return control::Call(request, {.socket_path = command.control_socket, .on_waiting = nullptr});
}

control::Request FirstRequest(const ScrubCommand& command) {
  if (command.mode == ScrubCommand::Mode::kStop) {
    return control::StopScrub{.set = command.request.set};
  }
  return command.request;
}

absl::StatusOr<std::string> WaitForEnd(const ScrubCommand& command, Console& console,
                                       std::string body) {
  Progress progress(console);
  for (;;) {
    TF_ASSIGN_OR_RETURN(const ScrubStatus status, control::DecodeScrubs(body));
    if (!Running(command, status)) return body;
    ShowProgress(command, status, &progress);
    std::this_thread::sleep_for(kPollInterval);
    TF_ASSIGN_OR_RETURN(body, Ask(command, control::GetScrub{}));
  }
}

absl::StatusOr<std::string> Run(const ScrubCommand& command, Console& console) {
  TF_ASSIGN_OR_RETURN(std::string body, Ask(command, FirstRequest(command)));
  if (command.mode == ScrubCommand::Mode::kBackground) return body;
  // A pass that was told to stop ends in a moment.
  return WaitForEnd(command, console, std::move(body));
}

}  // namespace

std::string ScrubProgressText(const ScrubInfo& scrub) {
  std::string text = absl::StrCat(Printable(scrub.what), ", ", FormatSizeRounded(scrub.bytes_done),
                                  " of ", FormatSizeRounded(scrub.bytes_total), ", ",
                                  FormatSizeRounded(scrub.bytes_per_second), "/s");
  if (scrub.seconds_left > 0) absl::StrAppend(&text, ", ", scrub.seconds_left, " s left");
  if (scrub.damaged_places > 0) {
    absl::StrAppend(&text, ", ", PlacesText(scrub.damaged_places), " DAMAGED");
  }
  return text;
}

std::string ProvenText(const ScrubInfo& scrub) {
  if (!scrub.proof.has_value()) return "never";
  return absl::StrCat(PresentTime(scrub.proof->ended), " (", Ago(scrub.proof_age_seconds), ")");
}

void PresentScrub(std::ostream& out, const ScrubInfo& scrub) {
  out << "set " << scrub.set << ": ";
  if (scrub.state == "running") {
    out << "scrub under way: " << ScrubProgressText(scrub) << "\n";
    return;
  }
  if (scrub.state == "stopped" || scrub.state == "failed") {
    out << "scrub " << scrub.state << ": " << Printable(scrub.what) << "\n";
    return;
  }
  const int64_t seconds = (scrub.ended - scrub.started) / kNanosPerSecond;
  out << (scrub.damaged_places > 0 ? absl::StrCat("DAMAGED in ", PlacesText(scrub.damaged_places))
                                   : std::string("proven whole"))
      << ", " << FormatSizeRounded(scrub.bytes_done) << " read in " << seconds << " s";
  if (scrub.healed_places > 0)
    out << ", " << PlacesText(scrub.healed_places) << " healed meanwhile";
  out << "\n";
  const size_t shown = std::min(scrub.findings.size(), kFindingsShown);
  for (size_t i = 0; i < shown; ++i) out << "  " << Printable(scrub.findings[i].what) << "\n";
  if (shown < scrub.damaged_places) {
    out << "  and " << scrub.damaged_places - shown << " more\n";
  }
}

void PresentComparison(std::ostream& out, const CompareInfo& compare) {
  if (compare.state == "running") {
    out << "the comparison is under way: " << Printable(compare.what) << "\n";
    return;
  }
  if (compare.state != "equal" && compare.state != "different") {
    out << "comparison " << compare.state << ": " << Printable(compare.what) << "\n";
    return;
  }
  out << "sets " << compare.first << " and " << compare.second << " are "
      << (compare.state == "equal" ? "equal" : "DIFFERENT") << ": " << compare.blocks
      << " blocks compared at " << compare.points_done << " points\n";
  const size_t shown = std::min(compare.differences.size(), kFindingsShown);
  for (size_t i = 0; i < shown; ++i) {
    const Difference& difference = compare.differences[i];
    if (difference.volume.empty()) {
      out << "  the lists of volumes and snapshots: set " << compare.first << " has "
          << difference.first << ", set " << compare.second << " has " << difference.second << "\n";
      continue;
    }
    out << "  " << Printable(difference.volume)
        << (difference.snapshot.empty() ? "" : "@" + Printable(difference.snapshot)) << ", block "
        << difference.range.first.value();
    if (difference.range.count.value() > 1) out << "+" << difference.range.count.value();
    out << ": set " << compare.first << " has " << difference.first << ", set " << compare.second
        << " has " << difference.second << "\n";
  }
  if (shown < compare.differences.size()) {
    out << "  and " << compare.differences.size() - shown << " more\n";
  }
}

int RunScrub(const ScrubCommand& command, Console& console) {
  const absl::StatusOr<std::string> body = Run(command, console);
  if (!body.ok()) return ReportError(console, body.status());
  const absl::StatusOr<ScrubStatus> status = control::DecodeScrubs(*body);
  if (!status.ok()) return ReportError(console, status.status());
  if (console.json) {
    console.out << *body << "\n";
  } else if (command.mode == ScrubCommand::Mode::kStop) {
    console.out << "no scrub is under way any more\n";
  } else {
    Present(command, *status, console.out);
  }
  console.out.flush();
  const bool done = command.mode == ScrubCommand::Mode::kStop || Whole(command, *status);
  return done ? control::kExitDone : control::kExitFailed;
}

}  // namespace twofold::cli
