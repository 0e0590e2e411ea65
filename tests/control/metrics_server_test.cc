// The metrics over TCP: what they answer, and that nothing else can be asked for there.
#include "tools/control/metrics_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <future>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/sync.h"
#include "tests/control/control_daemon.h"
#include "tests/runtime/test_poller.h"

namespace twofold::control {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kScrape[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

int ConnectTcp(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  TF_CHECK(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  return fd;
}

MetricsServer::Options Local() {
  MetricsServer::Options options;
  options.endpoint = *Endpoint::Parse("127.0.0.1:0");
  options.max_age_ms = 0;
  return options;
}

// An executor with a metrics server on a thread of its own; each answer is "answer N\n".
class MetricsDaemon {
 public:
  explicit MetricsDaemon(MetricsServer::Options options) {
    options.handler = [this](Request request) { return Handle(this, std::move(request)); };
    std::promise<absl::StatusOr<Endpoint>> started;
    std::future<absl::StatusOr<Endpoint>> endpoint = started.get_future();
    thread_ = std::thread([this, &started, options = std::move(options)]() mutable {
      executor_.Run(Main(this, std::move(options), &started));
    });
    endpoint_ = endpoint.get();
  }
  ~MetricsDaemon() {
    executor_.Post([this] { stop_.Set(); });
    thread_.join();
  }

  const absl::StatusOr<Endpoint>& endpoint() const { return endpoint_; }
  RawClient Connect() const { return RawClient(ConnectTcp(endpoint_->port)); }
  std::string Ask(const std::string& bytes) const {
    RawClient client(ConnectTcp(endpoint_->port));
    client.Send(bytes);
    client.CloseSending();
    return client.ReadAll();
  }

 private:
  static Task<void> Main(MetricsDaemon* self, MetricsServer::Options options,
                         std::promise<absl::StatusOr<Endpoint>>* started) {
    auto server = MetricsServer::Start(self->executor_, std::move(options));
    if (!server.ok()) {
      started->set_value(server.status());
      co_return;
    }
    started->set_value((*server)->endpoint());
    co_await self->stop_.Wait();
    co_await (*server)->Stop();
  }

  static Task<Answer> Handle(MetricsDaemon* self, Request request) {
    TF_CHECK(std::holds_alternative<GetMetrics>(request));
    co_return Answer{.http_status = 200,
                     .body = absl::StrCat("answer ", ++self->answers_, "\n"),
                     .allow = "",
                     .content_type = "text/plain"};
  }

  TestPoller poller_;
  Executor executor_{poller_};
  Event stop_;
  int answers_ = 0;
  absl::StatusOr<Endpoint> endpoint_;
  std::thread thread_;
};

TEST(MetricsServer, AnswersAScrape) {
  const MetricsDaemon daemon(Local());
  ASSERT_TRUE(daemon.endpoint().ok()) << daemon.endpoint().status();
  EXPECT_NE(daemon.endpoint()->port, 0);
  const std::string answer = daemon.Ask(kScrape);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/plain\r\n"));
  EXPECT_TRUE(answer.ends_with("\r\n\r\nanswer 1\n")) << answer;
  EXPECT_THAT(daemon.Ask("GET /v1/metrics HTTP/1.0\r\n\r\n"), HasSubstr("answer 2\n"));
}

TEST(MetricsServer, KeepsAConnectionForSeveralScrapes) {
  const MetricsDaemon daemon(Local());
  RawClient client = daemon.Connect();
  for (int i = 1; i <= 3; ++i) {
    client.Send(kScrape);
    EXPECT_TRUE(client.ReadUntil(absl::StrCat("answer ", i, "\n")));
  }
}

// Whoever can connect can't change anything, nor see more than numbers.
TEST(MetricsServer, TakesNoCommand) {
  const MetricsDaemon daemon(Local());
  const std::vector<std::pair<std::string, const char*>> requests = {
      {"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
      {"GET /v1/volumes HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
      {"DELETE /v1/volumes/db?force=true HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
      {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
      {"GET /metrics/../v1/status HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
      {"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "405"},
      {"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
      {"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "400"},
      {"GET /metrics HTTP/1.1\r\n\r\n", "400"},
      {"NBDMAGIC\r\n\r\n", "400"},
  };
  for (const auto& [request, http_status] : requests) {
    SCOPED_TRACE(request);
    const std::string answer = daemon.Ask(request);
    EXPECT_THAT(answer, StartsWith(absl::StrCat("HTTP/1.1 ", http_status, " ")));
    EXPECT_THAT(answer, Not(HasSubstr("answer")));
  }
  EXPECT_THAT(daemon.Ask(kScrape), HasSubstr("answer 1\n"));
}

TEST(MetricsServer, GivesTheSameAnswerForAWhile) {
  MetricsServer::Options options = Local();
  options.max_age_ms = 1'000'000;
  const MetricsDaemon daemon(options);
  for (int i = 0; i < 3; ++i) EXPECT_THAT(daemon.Ask(kScrape), HasSubstr("answer 1\n"));
}

TEST(MetricsServer, BoundsItsConnections) {
  MetricsServer::Options options = Local();
  options.max_connections = 1;
  const MetricsDaemon daemon(options);
  RawClient first = daemon.Connect();
  first.Send(kScrape);
  EXPECT_TRUE(first.ReadUntil("answer 1\n"));
  EXPECT_THAT(daemon.Connect().ReadAll(), HasSubstr("at most 1 connections"));
  first.Send(kScrape);
  EXPECT_TRUE(first.ReadUntil("answer 2\n"));
}

TEST(MetricsServer, LetsASlowSenderGo) {
  MetricsServer::Options options = Local();
  options.receive_timeout_ms = 100;
  const MetricsDaemon daemon(options);
  RawClient client = daemon.Connect();
  client.Send("GET /met");
  EXPECT_THAT(client.ReadAll(), StartsWith("HTTP/1.1 408 "));
}

TEST(MetricsServer, SaysThatItsAddressIsTaken) {
  const MetricsDaemon first(Local());
  MetricsServer::Options options = Local();
  options.endpoint.port = first.endpoint()->port;
  const MetricsDaemon second(options);
  EXPECT_TRUE(absl::IsAlreadyExists(second.endpoint().status())) << second.endpoint().status();
}

}  // namespace
}  // namespace twofold::control
