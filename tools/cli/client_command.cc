#include "tools/cli/client_command.h"

#include <optional>
#include <variant>

#include "absl/strings/str_cat.h"
#include "tools/cli/present.h"
#include "tools/cli/progress.h"
#include "tools/control/client.h"
#include "tools/control/status_codes.h"

namespace twofold::cli {
namespace {

constexpr uint64_t kShowWaitingAfterMs = 1000;

// Writes an answer for people.
struct Presenter {
  std::ostream& out;
  const std::string& body;

  absl::Status operator()(const control::GetStatus&) const { return PresentStatus(out, body); }
  absl::Status operator()(const control::GetLatency&) const { return PresentLatency(out, body); }
  absl::Status operator()(const control::GetMetrics&) const {
    out << body;
    return absl::OkStatus();
  }
  absl::Status operator()(const control::ListVolumes&) const {
    return PresentVolumeList(out, body);
  }
  absl::Status operator()(const control::CreateVolume&) const {
    return PresentVolumeChange(out, "created", body);
  }
  absl::Status operator()(const control::ShowVolume&) const { return PresentVolume(out, body); }
  absl::Status operator()(const control::ResizeVolume&) const {
    return PresentVolumeChange(out, "resized", body);
  }
  absl::Status operator()(const control::DeleteVolume& request) const {
    return Deleted(request.name);
  }
  absl::Status operator()(const control::ListSnapshots&) const {
    return PresentSnapshotList(out, body);
  }
  absl::Status operator()(const control::CreateSnapshots&) const {
    return PresentSnapshotCreate(out, body);
  }
  absl::Status operator()(const control::DeleteSnapshot& request) const {
    return Deleted(request.name);
  }
  absl::Status operator()(const control::ListReplicas&) const { return PresentReplicas(out, body); }
  absl::Status operator()(const control::AttachReplica&) const { return PresentReplica(out, body); }
  absl::Status operator()(const control::DetachReplica&) const { return PresentReplica(out, body); }
  absl::Status operator()(const control::ReplaceReplica&) const {
    return PresentReplacement(out, body);
  }
  absl::Status operator()(const control::SetResyncRate&) const {
    return PresentResyncRate(out, body);
  }
  absl::Status operator()(const control::Rollback& request) const {
    return PresentRollback(out, request.snapshot, body);
  }

  // `twofold scrub` asks these itself (scrub.h).
  absl::Status operator()(const control::GetScrub&) const { return absl::OkStatus(); }
  absl::Status operator()(const control::StartScrub&) const { return absl::OkStatus(); }
  absl::Status operator()(const control::StopScrub&) const { return absl::OkStatus(); }

  absl::Status Deleted(const std::string& name) const {
    out << "deleted " << name << "\n";
    return absl::OkStatus();
  }
};

absl::StatusOr<std::string> CallWithProgress(const ClientCommand& command, Console& console) {
  Progress progress(console);
  control::CallOptions options{.socket_path = command.control_socket, .on_waiting = nullptr};
  options.on_waiting = [&progress](uint64_t elapsed_ms) {
    if (elapsed_ms < kShowWaitingAfterMs) return;
    progress.Show(absl::StrCat("waiting for the daemon, ", elapsed_ms / 1000, " s"));
  };
  return control::Call(command.request, std::move(options));
}

}  // namespace

int RunClientCommand(const ClientCommand& command, Console& console) {
  const absl::StatusOr<std::string> body = CallWithProgress(command, console);
  if (!body.ok()) return ReportError(console, body.status());
  if (console.json) {
    console.out << *body << (body->ends_with('\n') ? "" : "\n");
  } else {
    const absl::Status status = std::visit(Presenter{console.out, *body}, command.request);
    if (!status.ok()) return ReportError(console, status);
  }
  console.out.flush();
  return control::kExitDone;
}

}  // namespace twofold::cli
