// HTTP/1.1 for a few clients, on a thread of its own: what the control socket (server.h) and the
// metrics port (metrics_server.h) have in common.
//
// The thread reads, validates and answers; what a request asks for runs on the executor. Bad input
// gets a 4xx answer with a JSON error, and the server goes on (P8). Bounded: max_connections, one
// request at a time on each, kMaxControlHeaderBytes and kMaxControlRequestBytes, and a timeout for
// every wait on a client. A request whose client has gone runs to its end; its answer is dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "storage/base/limits.h"
#include "storage/io/posix_files.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task.h"
#include "tools/control/answer.h"
#include "tools/control/request.h"

namespace twofold::control {

class HttpServer {
 public:
  using Parser = std::function<std::variant<Request, ApiError>(const RequestMessage&)>;
  using Handler = std::function<Task<Answer>(Request)>;

  struct Options {
    std::string name;  // for messages: "the control socket"
    Parser parse;      // what the server takes, and nothing else; called on its thread
    Handler handler;   // called and awaited on the executor
    size_t max_connections = kMaxControlConnections;
    uint64_t receive_timeout_ms = kControlReceiveTimeoutMs;
    uint64_t idle_timeout_ms = kControlIdleTimeoutMs;
    uint64_t send_timeout_ms = kControlSendTimeoutMs;
  };

  // Takes connections from `listener`, a socket that listens, and starts the thread. `executor`
  // outlives the server.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(Executor& executor, UniqueFd listener,
                                                           Options options);
  // Stop() has run.
  ~HttpServer();

  // Takes no more requests, lets those under way end and answers them, joins the thread and closes
  // the socket. On the executor, once.
  Task<void> Stop();

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace twofold::control
