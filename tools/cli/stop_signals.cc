#include "tools/cli/stop_signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

#include "storage/base/check.h"
#include "storage/base/log.h"
#include "tools/control/status_codes.h"

namespace twofold::cli {
namespace {

// Sent to ourselves to end a read of the descriptor.
constexpr int kWakeSignal = SIGUSR2;

}  // namespace

StopSignals::StopSignals() {
  sigemptyset(&signals_);
  for (const int signal : {SIGTERM, SIGINT, kWakeSignal}) sigaddset(&signals_, signal);
  TF_CHECK(pthread_sigmask(SIG_BLOCK, &signals_, nullptr) == 0);
  signal(SIGPIPE, SIG_IGN);
}

StopSignals::~StopSignals() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status StopSignals::Start(UringPoller& poller) {
  descriptor_ = signalfd(-1, &signals_, SFD_CLOEXEC);
  if (descriptor_ < 0) return absl::ErrnoToStatus(errno, "signalfd");
  scope_.Spawn(Watch(&poller));
  return absl::OkStatus();
}

Task<void> StopSignals::Watch(UringPoller* poller) {
  while (!stopping_) {
    signalfd_siginfo info;
    const int32_t result =
        co_await UringOp(*poller, [descriptor = descriptor_, &info](io_uring_sqe* sqe) {
          io_uring_prep_read(sqe, descriptor, &info, sizeof(info), 0);
        });
    if (result == -EAGAIN || result == -EINTR) continue;
    TF_CHECK(result == static_cast<int32_t>(sizeof(info)));
    if (info.ssi_signo == static_cast<uint32_t>(kWakeSignal)) continue;
    if (requested_.is_set()) {
      TF_LOG(WARNING) << "a second signal: leaving at once; the next start recovers from the logs";
      _exit(control::kExitFailed);
    }
    TF_LOG(INFO) << "signal " << info.ssi_signo << ": stopping; a second one leaves at once";
    requested_.Set();
  }
}

Task<void> StopSignals::Stop() {
  stopping_ = true;
  kill(getpid(), kWakeSignal);
  co_await scope_.Join();
}

}  // namespace twofold::cli
