#include "tools/cli/serve.h"

#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/io/uring_network.h"
#include "storage/io/uring_poller.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/offload.h"
#include "tools/cli/daemon.h"
#include "tools/cli/serve_options.h"
#include "tools/cli/stop_signals.h"
#include "tools/control/status_codes.h"

namespace twofold::cli {
namespace {

namespace json = boost::json;

// Tells systemd, where it is listening; nothing hangs on its answer.
void Notify(const std::string& state) { sd_notify(0, state.c_str()); }

void AnnounceReady(const Daemon& daemon, const std::string& control_socket, Console& console) {
  const std::string pool_id = daemon.pool().Info().pool_id;
  const std::vector<std::string>& nbd = daemon.info().nbd;
  const std::string& metrics = daemon.info().metrics;
  if (console.json) {
    console.out << json::serialize(json::object{{"event", "ready"},
                                                {"pool", pool_id},
                                                {"pid", daemon.info().pid},
                                                {"nbd", json::array(nbd.begin(), nbd.end())},
                                                {"control", control_socket},
                                                {"metrics", daemon.info().metrics}})
                << std::endl;
  } else {
    console.out << "ready: pool " << pool_id << ", NBD on " << absl::StrJoin(nbd, " and ")
                << ", control socket " << control_socket
                << (metrics.empty() ? ""
                                    : absl::StrCat(", metrics on http://", metrics, "/metrics"))
                << std::endl;
  }
  Notify(absl::StrCat("READY=1\nSTATUS=Serving pool ", pool_id, " on ", absl::StrJoin(nbd, ", ")));
}

Task<absl::Status> ServeUntilStopped(Daemon* daemon, StopSignals* signals,
                                     std::string control_socket, Console* console) {
  absl::Status status = co_await daemon->OpenPool();
  TF_CO_RETURN_IF_ERROR(status);
  if (signals->requested().is_set()) co_return absl::OkStatus();
  TF_CO_RETURN_IF_ERROR(daemon->StartServers());
  AnnounceReady(*daemon, control_socket, *console);
  co_await signals->requested().Wait();
  co_return absl::OkStatus();
}

Task<absl::Status> Serve(Daemon* daemon, StopSignals* signals, UringPoller* poller,
                         std::string control_socket, Console* console) {
  TF_CO_RETURN_IF_ERROR(signals->Start(*poller));
  Notify("STATUS=Opening the pool");
  absl::Status status = co_await ServeUntilStopped(daemon, signals, control_socket, console);
  Notify("STOPPING=1\nSTATUS=Stopping");
  co_await daemon->Close();
  co_await signals->Stop();
  co_return status;
}

absl::StatusOr<ServeSettings> Settings(const ServeCommand& serve) {
  ServeOptions options = serve.options;
  if (!serve.config.empty()) {
    TF_ASSIGN_OR_RETURN(ServeOptions config, LoadServeConfig(serve.config));
    options = Merge(std::move(options), std::move(config));
  }
  return ResolveServeOptions(options);
}

// What --force-stale gives up is shown before anything is done.
absl::Status ConfirmLoss(const std::string& what_is_lost, bool yes, Console* console) {
  console->err << Printable(what_is_lost) << std::endl;
  if (yes) return absl::OkStatus();
  if (isatty(STDIN_FILENO) == 1) {
    console->err << "Type \"yes\" to give that up: " << std::flush;
    std::string answer;
    std::getline(std::cin, answer);
    if (answer == "yes") return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      "--force-stale was not confirmed; nothing was changed. Where nobody can be asked, say --yes");
}

absl::Status Run(const ServeCommand& serve, Console& console) {
  TF_ASSIGN_OR_RETURN(const ServeSettings settings, Settings(serve));
  SetLogLevel(settings.log_level);
  umask(0077);  // The volumes' data is nobody else's business.
  StopSignals signals;
  TF_LOG(INFO) << "twofold " TWOFOLD_VERSION << ", open files up to " << RaiseFileLimit();
  if (settings.new_witness) {
    std::error_code error;
    std::filesystem::create_directories(settings.witness, error);
    if (error) {
      return absl::ErrnoToStatus(error.value(), absl::StrCat("making ", settings.witness));
    }
  }
  const std::string warning = SharedDeviceWarning(settings.sets);
  if (!warning.empty()) TF_LOG(WARNING) << warning;

  TF_ASSIGN_OR_RETURN(const std::unique_ptr<UringPoller> poller, UringPoller::Create());
  Executor executor(*poller);
  Offload offload(kOffloadThreads);
  absl::Status status;
  {
    UringNetwork network(*poller, offload);
    Daemon daemon({.poller = poller.get(),
                   .offload = &offload,
                   .network = &network,
                   .confirm =
                       [yes = settings.yes, &console](const std::string& what_is_lost) {
                         return ConfirmLoss(what_is_lost, yes, &console);
                       }},
                  settings);
    status = executor.Run(Serve(&daemon, &signals, poller.get(), settings.control, &console));
  }
  offload.Stop();
  if (status.ok()) TF_LOG(INFO) << "stopped cleanly";
  return status;
}

}  // namespace

int RunServe(const ServeCommand& serve, Console& console) {
  const absl::Status status = Run(serve, console);
  return status.ok() ? control::kExitDone : ReportError(console, status);
}

}  // namespace twofold::cli
