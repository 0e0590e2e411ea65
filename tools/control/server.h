// The control server: HTTP/1.1 over a Unix socket, on a thread of its own (docs/control-api.md).
//
// The thread reads, validates and answers; what a request asks for runs on the executor. Bad input
// gets a 4xx answer with a JSON error, and the server goes on (P8). Bounded:
// kMaxControlConnections, one request at a time on each, kMaxControlHeaderBytes and
// kMaxControlRequestBytes, and a timeout for every wait on a client. A request whose client has
// gone runs to its end; its answer is dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/limits.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task.h"
#include "tools/control/answer.h"
#include "tools/control/request.h"

namespace twofold::control {

class Server {
 public:
  using Handler = std::function<Task<Answer>(Request)>;

  struct Options {
    std::string socket_path;
    Handler handler;  // called and awaited on the executor
    size_t max_connections = kMaxControlConnections;
    uint64_t receive_timeout_ms = kControlReceiveTimeoutMs;
    uint64_t idle_timeout_ms = kControlIdleTimeoutMs;
    uint64_t send_timeout_ms = kControlSendTimeoutMs;
  };

  // Listens (mode 0600) and starts the thread. A stale socket is replaced; kAlreadyExists when a
  // living daemon listens on it, or something that is no socket has its name. `executor` outlives
  // the server.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Executor& executor, Options options);
  // Stop() has run.
  ~Server();

  // Takes no more requests, lets those under way end and answers them, joins the thread and removes
  // the socket. On the executor, once.
  Task<void> Stop();

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace twofold::control
