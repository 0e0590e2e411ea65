// The metrics over HTTP on TCP, for Prometheus (`serve --metrics`). It answers GET of /metrics (and
// of /v1/metrics, as on the control socket) and nothing else: no command can come in here, whoever
// connects. Bounds and threads are those of http_server.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <variant>

#include "absl/status/statusor.h"
#include "storage/base/limits.h"
#include "storage/io/network.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task.h"
#include "tools/control/http_server.h"
#include "tools/control/request.h"

namespace twofold::control {

inline constexpr size_t kMaxMetricsConnections = 8;  // a further one is told so and closed
inline constexpr uint64_t kMetricsMaxAgeMs = 1000;   // an answer is given again for so long

// A GetMetrics, or why not.
std::variant<Request, ApiError> ParseMetricsRequest(const RequestMessage& message);

class MetricsServer {
 public:
  struct Options {
    Endpoint endpoint;            // TCP
    HttpServer::Handler handler;  // of GetMetrics; called and awaited on the executor
    size_t max_connections = kMaxMetricsConnections;
    uint64_t max_age_ms = kMetricsMaxAgeMs;
    uint64_t receive_timeout_ms = kControlReceiveTimeoutMs;
    uint64_t idle_timeout_ms = kControlIdleTimeoutMs;
    uint64_t send_timeout_ms = kControlSendTimeoutMs;
  };

  // Listens and starts the thread. kAlreadyExists when somebody else listens there. `executor`
  // outlives the server.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(Executor& executor, Options options);

  // With the port that was really bound.
  const Endpoint& endpoint() const { return endpoint_; }

  // As HttpServer::Stop. On the executor, once.
  Task<void> Stop();

 private:
  MetricsServer(Executor& executor, Options options);
  // The last answer again while it is not older than max_age_ms, so that however many ask, and
  // however often, it costs the executor one answer in that time.
  Task<Answer> Serve(Request request);

  Executor& executor_;
  const Options options_;
  Endpoint endpoint_;
  std::unique_ptr<HttpServer> http_;
  Answer last_;
  std::optional<int64_t> made_at_;  // the executor's time
};

}  // namespace twofold::control
