// The control server: the control API (docs/control-api.md) over a Unix socket. Bounds and threads
// are those of http_server.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/limits.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task.h"
#include "tools/control/http_server.h"

namespace twofold::control {

class Server {
 public:
  struct Options {
    std::string socket_path;
    HttpServer::Handler handler;  // called and awaited on the executor
    size_t max_connections = kMaxControlConnections;
    uint64_t receive_timeout_ms = kControlReceiveTimeoutMs;
    uint64_t idle_timeout_ms = kControlIdleTimeoutMs;
    uint64_t send_timeout_ms = kControlSendTimeoutMs;
  };

  // Listens (mode 0600) and starts the thread. A stale socket is replaced; kAlreadyExists when a
  // living daemon listens on it, or something that is no socket has its name. `executor` outlives
  // the server.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Executor& executor, Options options);

  // As HttpServer::Stop, and removes the socket. On the executor, once.
  Task<void> Stop();

 private:
  // What tells the socket's file from another one in its place.
  struct File {
    std::string path;
    uint64_t device = 0;
    uint64_t inode = 0;
  };
  Server(std::unique_ptr<HttpServer> http, File file);

  std::unique_ptr<HttpServer> http_;
  const File file_;
};

}  // namespace twofold::control
