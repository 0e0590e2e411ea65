#include "tools/nbd/server.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/runtime/executor.h"

namespace twofold::nbd {
namespace {

constexpr int64_t kWatchPeriod = kNanosPerSecond;
constexpr int64_t kAcceptPause = 100 * kNanosPerMilli;  // after an error

// The largest request, not aligned, as the buffer pool counts it.
constexpr size_t kLargestCharge = 2 * kMaxNbdRequestBytes;

constexpr size_t GuaranteedBytes(size_t connections) {
  return (connections + kMaxNbdRefusedConnections) * kNbdGuaranteedBytes;
}
static_assert(GuaranteedBytes(kMaxNbdConnections) + kLargestCharge <= kDefaultBufferPoolBytes);

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Create(Network& network, ExportSource exports,
                                                       ServerOptions options) {
  const size_t needed_bytes = GuaranteedBytes(1) + kLargestCharge;
  if (exports.payload_bytes < needed_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a buffer pool of ", FormatSize(exports.payload_bytes),
                     " is too small to serve NBD: give it at least ", FormatSize(needed_bytes)));
  }
  const size_t possible = 1 + (exports.payload_bytes - needed_bytes) / kNbdGuaranteedBytes;
  const size_t max_connections = std::min(options.max_connections, possible);
  if (max_connections < options.max_connections) {
    TF_LOG(WARNING) << "nbd: a buffer pool of " << FormatSize(exports.payload_bytes)
                    << " is enough for " << max_connections << " clients, not "
                    << options.max_connections;
  }
  const size_t shared_bytes = exports.payload_bytes - GuaranteedBytes(max_connections);
  return std::unique_ptr<Server>(
      new Server(network, std::move(exports), max_connections, shared_bytes));
}

Server::Server(Network& network, ExportSource exports, size_t max_connections,
               size_t shared_payload_bytes)
    : network_(network),
      max_connections_(max_connections),
      budget_(kNbdGuaranteedBytes, shared_payload_bytes, shared_payload_bytes / kNbdShareOfPool),
      environment_{std::move(exports), budget_, counters_, latency_} {}

Server::~Server() { TF_CHECK(sessions_.empty() && (listeners_.empty() || stopping_)); }

absl::Status Server::Start(const std::vector<Endpoint>& endpoints) {
  TF_CHECK(listeners_.empty() && !stopping_);
  std::vector<std::unique_ptr<Listener>> listeners;
  for (const Endpoint& endpoint : endpoints) {
    absl::StatusOr<std::unique_ptr<Listener>> listener = network_.Listen(endpoint);
    if (!listener.ok()) {
      return Annotate(listener.status(), absl::StrCat("NBD on ", endpoint.ToString()));
    }
    listeners.push_back(*std::move(listener));
  }
  listeners_ = std::move(listeners);
  for (const std::unique_ptr<Listener>& listener : listeners_) {
    endpoints_.push_back(listener->endpoint());
    acceptors_.Spawn(Accept(listener.get()));
  }
  watcher_.Spawn(Watch());
  return absl::OkStatus();
}

Task<void> Server::Accept(Listener* listener) {
  bool failed_before = false;
  while (!stopping_) {
    absl::StatusOr<std::unique_ptr<Connection>> connection = co_await listener->Accept();
    if (connection.ok()) {
      failed_before = false;
      if (!stopping_) Admit(*std::move(connection));
      continue;
    }
    if (absl::IsCancelled(connection.status())) break;
    ++counters_.accept_errors;
    if (!failed_before) {
      TF_LOG(WARNING) << "nbd: accepting on " << listener->endpoint().ToString() << ": "
                      << connection.status().message() << "; trying on";
    }
    failed_before = true;
    co_await accept_pause_.SleepFor(kAcceptPause);
  }
}

void Server::Admit(std::unique_ptr<Connection> connection) {
  std::optional<std::string> refusal;
  if (connections() >= max_connections_) {
    ++counters_.refused_connections;
    if (refused_ >= kMaxNbdRefusedConnections) return;
    refusal = absl::StrCat("the server has ", max_connections_,
                           " connections, as many as it takes; try again later");
    ++refused_;
  } else {
    ++counters_.connections;
  }
  const bool refused = refusal.has_value();
  sessions_.emplace_back(std::move(connection), environment_, std::move(refusal));
  serving_.Spawn(Serve(std::prev(sessions_.end()), refused));
}

Task<void> Server::Serve(std::list<Session>::iterator session, bool refused) {
  co_await session->Run();
  sessions_.erase(session);
  if (refused) --refused_;
}

Task<void> Server::Watch() {
  while (!watch_end_.cancelled()) {
    co_await watch_end_.SleepFor(kWatchPeriod);
    const MonoNanos now = Executor::Current().Now();
    for (Session& session : sessions_) {
      session.CheckTimeouts(now);
      if (now >= drain_deadline_) session.Abort();
    }
  }
}

Task<void> Server::Stop() {
  TF_CHECK(!stopping_);
  stopping_ = true;
  accept_pause_.Cancel();
  for (const std::unique_ptr<Listener>& listener : listeners_) listener->Shutdown();
  co_await acceptors_.Join();
  for (Session& session : sessions_) session.Stop();
  drain_deadline_ =
      Executor::Current().Now() + static_cast<int64_t>(kNbdDrainTimeoutMs) * kNanosPerMilli;
  co_await serving_.Join();
  watch_end_.Cancel();
  co_await watcher_.Join();
  listeners_.clear();
}

std::vector<SessionInfo> Server::Sessions() const {
  std::vector<SessionInfo> infos;
  for (const Session& session : sessions_) infos.push_back(session.info());
  return infos;
}

}  // namespace twofold::nbd
