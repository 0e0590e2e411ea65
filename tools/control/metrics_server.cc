#include "tools/control/metrics_server.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"
#include "storage/io/sockets.h"

namespace twofold::control {

std::variant<Request, ApiError> ParseMetricsRequest(const RequestMessage& message) {
  if (message.target != "/metrics" && message.target != "/v1/metrics") {
    return ApiError{404, "not_found", "only /metrics is here; commands go to the control socket",
                    ""};
  }
  if (message.method != "GET") {
    return ApiError{405, "method_not_allowed", "/metrics takes GET", "GET"};
  }
  if (!message.body.empty()) {
    return ApiError{400, "invalid_argument", "GET /metrics takes no body", ""};
  }
  return GetMetrics{};
}

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(Executor& executor,
                                                                    Options options) {
  TF_ASSIGN_OR_RETURN(ListeningSocket listening, ListenOn(options.endpoint));
  std::unique_ptr<MetricsServer> server(new MetricsServer(executor, std::move(options)));
  server->endpoint_ = listening.endpoint;
  MetricsServer* const self = server.get();
  TF_ASSIGN_OR_RETURN(
      server->http_,
      HttpServer::Start(
          executor, std::move(listening.fd),
          {.name = absl::StrCat("metrics on ", listening.endpoint.ToString()),
           .parse = ParseMetricsRequest,
           .handler = [self](Request request) { return self->Serve(std::move(request)); },
           .max_connections = self->options_.max_connections,
           .receive_timeout_ms = self->options_.receive_timeout_ms,
           .idle_timeout_ms = self->options_.idle_timeout_ms,
           .send_timeout_ms = self->options_.send_timeout_ms}));
  return server;
}

MetricsServer::MetricsServer(Executor& executor, Options options)
    : executor_(executor), options_(std::move(options)) {}

Task<Answer> MetricsServer::Serve(Request request) {
  const int64_t now = executor_.Now();
  const auto max_age = static_cast<int64_t>(options_.max_age_ms) * kNanosPerMilli;
  if (!made_at_.has_value() || now - *made_at_ >= max_age) {
    Answer answer = co_await options_.handler(std::move(request));
    if (answer.http_status != 200) co_return answer;
    last_ = std::move(answer);
    made_at_ = now;
  }
  co_return last_;
}

Task<void> MetricsServer::Stop() { co_await http_->Stop(); }

}  // namespace twofold::control
