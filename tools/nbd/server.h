// The NBD server: listens, admits clients up to a bound, and lets them go again.
//
// Clients beyond the bound are told so in the handshake (NBD_REP_ERR_POLICY with a text), and
// closed at once when too many of them wait for that. Belongs to one executor, as the volumes do.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/limits.h"
#include "storage/io/network.h"
#include "storage/runtime/cancel.h"
#include "storage/runtime/task.h"
#include "storage/runtime/task_scope.h"
#include "tools/nbd/counters.h"
#include "tools/nbd/payload_budget.h"
#include "tools/nbd/session.h"

namespace twofold::nbd {

struct ServerOptions {
  size_t max_connections = kMaxNbdConnections;
};

class Server {
 public:
  // `network` and what `exports` calls outlive the server. Admits fewer clients than the options
  // say where there is too little payload memory to guarantee all of them their share;
  // kInvalidArgument when there is too little for a single one and the largest request.
  static absl::StatusOr<std::unique_ptr<Server>> Create(Network& network, ExportSource exports,
                                                        ServerOptions options = {});
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  // After Stop, or without a successful Start.
  ~Server();

  // Listens on all of them, or fails and listens on none. Once.
  absl::Status Start(const std::vector<Endpoint>& endpoints);
  // With the ports that were really bound.
  const std::vector<Endpoint>& endpoints() const { return endpoints_; }

  // Accepts nothing more, lets requests in flight end (replies get kNbdDrainTimeoutMs), answers
  // further ones with NBD_ESHUTDOWN, and closes all connections. Returns when no call into a mount
  // is left: where volumes may hold requests back for ever, revoke their mounts meanwhile.
  Task<void> Stop();

  const Counters& counters() const { return counters_; }
  const ServerLatency& latency() const { return latency_; }
  size_t connections() const { return sessions_.size() - refused_; }
  size_t max_connections() const { return max_connections_; }
  std::vector<SessionInfo> Sessions() const;

 private:
  Server(Network& network, ExportSource exports, size_t max_connections,
         size_t shared_payload_bytes);

  Task<void> Accept(Listener* listener);
  void Admit(std::unique_ptr<Connection> connection);
  Task<void> Serve(std::list<Session>::iterator session, bool refused);
  // Looks for stuck clients until watch_end_.
  Task<void> Watch();

  Network& network_;
  const size_t max_connections_;
  Counters counters_;
  ServerLatency latency_;
  PayloadBudget budget_;
  SessionEnvironment environment_;

  std::vector<std::unique_ptr<Listener>> listeners_;
  std::vector<Endpoint> endpoints_;
  std::list<Session> sessions_;
  size_t refused_ = 0;  // of sessions_: those that are only told to come back later

  bool stopping_ = false;
  MonoNanos drain_deadline_ = kNever;
  CancelSource accept_pause_;
  CancelSource watch_end_;
  TaskScope acceptors_;
  TaskScope serving_;
  TaskScope watcher_;
};

}  // namespace twofold::nbd
