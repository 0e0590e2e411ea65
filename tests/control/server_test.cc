// The control server under good and bad input, over a real Unix socket.
#include "tools/control/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "tests/control/control_daemon.h"

namespace twofold::control {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kGoodRequest[] = "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n";
constexpr char kGoodAnswer[] = "{\"target\":\"/v1/status\"}";

class ControlServer : public ::testing::Test {
 protected:
  Server::Options Options() {
    Server::Options options;
    options.socket_path = directory_ / "control.sock";
    return options;
  }
  void ExpectServing(const std::string& path) {
    EXPECT_THAT(Exchange(path, kGoodRequest), StartsWith("HTTP/1.1 200 OK\r\n"));
  }
  TempDir directory_;
};

TEST_F(ControlServer, AnswersARequest) {
  ControlDaemon daemon(Options());
  ASSERT_TRUE(daemon.status().ok()) << daemon.status();
  const std::string answer = Exchange(daemon.path(), kGoodRequest);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_TRUE(answer.ends_with(absl::StrCat("\r\n\r\n", kGoodAnswer))) << answer;
}

TEST_F(ControlServer, IsForItsOwnerOnly) {
  ControlDaemon daemon(Options());
  struct stat info{};
  ASSERT_EQ(stat(daemon.path().c_str(), &info), 0);
  EXPECT_TRUE(S_ISSOCK(info.st_mode));
  EXPECT_EQ(info.st_mode & 07777, 0600u);
}

TEST_F(ControlServer, RemovesItsSocketWhenItStops) {
  ControlDaemon daemon(Options());
  daemon.Stop();
  EXPECT_FALSE(std::filesystem::exists(daemon.path()));
}

TEST_F(ControlServer, ReplacesAStaleSocket) {
  close(*ListenUnix(Options().socket_path));
  ControlDaemon daemon(Options());
  ASSERT_TRUE(daemon.status().ok()) << daemon.status();
  ExpectServing(daemon.path());
}

TEST_F(ControlServer, LeavesALivingSocketAlone) {
  ControlDaemon first(Options());
  ASSERT_TRUE(first.status().ok());
  {
    ControlDaemon second(Options());
    EXPECT_TRUE(absl::IsAlreadyExists(second.status())) << second.status();
    EXPECT_THAT(std::string(second.status().message()), HasSubstr("another daemon listens"));
  }
  ExpectServing(first.path());
}

TEST_F(ControlServer, LeavesWhatIsNoSocketAlone) {
  std::filesystem::create_directory(Options().socket_path);
  ControlDaemon daemon(Options());
  EXPECT_TRUE(absl::IsAlreadyExists(daemon.status())) << daemon.status();
  EXPECT_TRUE(std::filesystem::is_directory(daemon.path()));
}

TEST_F(ControlServer, SaysThatItsDirectoryIsMissing) {
  Server::Options options = Options();
  options.socket_path = directory_ / "missing/control.sock";
  ControlDaemon daemon(options);
  EXPECT_TRUE(absl::IsNotFound(daemon.status())) << daemon.status();
  EXPECT_THAT(std::string(daemon.status().message()), HasSubstr("directory"));
}

TEST_F(ControlServer, KeepsAConnectionForSeveralRequests) {
  ControlDaemon daemon(Options());
  RawClient client(daemon.path());
  for (int i = 0; i < 3; ++i) {
    client.Send(kGoodRequest);
    EXPECT_TRUE(client.ReadUntil(kGoodAnswer));
  }
  // Three in one piece, the middle one refused.
  client.Send(absl::StrCat(kGoodRequest, "GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n",
                           "GET /v1/volumes HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(client.ReadUntil(kGoodAnswer));
  EXPECT_TRUE(client.ReadUntil("\"not_found\""));
  EXPECT_TRUE(client.ReadUntil("{\"target\":\"/v1/volumes\"}"));
}

TEST_F(ControlServer, ContinuesForAClientThatAsks) {
  ControlDaemon daemon(Options());
  RawClient client(daemon.path());
  client.Send(
      "POST /v1/rollback HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 24\r\n"
      "Connection: close\r\n\r\n");
  ASSERT_TRUE(client.ReadUntil("HTTP/1.1 100 Continue\r\n\r\n"));
  client.Send("{\"snapshot\":\"db@monday\"} ");
  EXPECT_THAT(client.ReadAll(), StartsWith("HTTP/1.1 200 OK"));
}

TEST_F(ControlServer, TakesAChunkedBody) {
  ControlDaemon daemon(Options());
  EXPECT_THAT(Exchange(daemon.path(),
                       "POST /v1/rollback HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                       "Connection: close\r\n\r\n"
                       "a\r\n{\"snapshot\r\n9\r\n\":\"db@a\"}\r\n0\r\n\r\n"),
              StartsWith("HTTP/1.1 200 OK"));
}

TEST_F(ControlServer, AnswersHeadWithoutABody) {
  ControlDaemon daemon(Options());
  const std::string answer = Exchange(daemon.path(), "HEAD /v1/status HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 405 Method Not Allowed\r\n"));
  EXPECT_THAT(answer, HasSubstr("Allow: GET\r\n"));
  EXPECT_TRUE(answer.ends_with("\r\n\r\n")) << answer;
}

struct BadMessage {
  const char* name;
  std::string bytes;
  const char* http_status;  // "" where the connection just ends
  const char* text;
};

std::string Post(const std::string& body) {
  return absl::StrCat("POST /v1/volumes HTTP/1.1\r\nHost: x\r\nContent-Length: ", body.size(),
                      "\r\n\r\n", body);
}

std::vector<BadMessage> BadMessages() {
  const std::string big(kMaxControlRequestBytes + 1, 'x');
  const std::string half(kMaxControlRequestBytes / 2 + 1, 'x');
  const std::string chunk = absl::StrCat(absl::Hex(half.size()), "\r\n", half, "\r\n");
  const std::string post = "POST /v1/volumes HTTP/1.1\r\nHost: x\r\n";
  return {
      {"Nothing", "", "", ""},
      {"AnotherProtocol", "NBDMAGICIHAVEOPT\r\n\r\n", "400", "not HTTP/1.1"},
      {"ZeroBytes", std::string(64, '\0'), "400", "not HTTP/1.1"},
      {"AnotherVersion", "GET /v1/status HTTP/3.0\r\nHost: x\r\n\r\n", "400", "not HTTP/1.1"},
      {"NoVersion", "GET /v1/status\r\n\r\n", "400", "not HTTP/1.1"},
      {"NoHost", "GET /v1/status HTTP/1.1\r\n\r\n", "400", "Host"},
      {"ForgedHeader", "GET /v1/status HTTP/1.1\r\nHo st: x\r\n\r\n", "400", "not HTTP/1.1"},
      {"EndInTheHeader", "GET /v1/status HTTP/1.1\r\nHost:", "400", "ended inside"},
      {"EndInTheBody", post + "Content-Length: 10\r\n\r\n{\"", "400", "ended inside"},
      {"LongTarget", "GET /v1/" + big + " HTTP/1.1\r\nHost: x\r\n\r\n", "431", "too_large"},
      {"LongHeader", "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: " + big + "\r\n\r\n", "431",
       "too_large"},
      {"LongBody", absl::StrCat(post, "Content-Length: ", big.size(), "\r\n\r\n", big), "413",
       "longer than 65536"},
      {"LongBodyAnnounced", post + "Content-Length: 18446744073709551615\r\n\r\n", "413",
       "too_large"},
      {"LongChunkedBody", post + "Transfer-Encoding: chunked\r\n\r\n" + chunk + chunk, "413",
       "too_large"},
      {"BadLength", post + "Content-Length: -1\r\n\r\n", "400", "not HTTP/1.1"},
      {"TwoLengths", post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400",
       "not HTTP/1.1"},
      {"BadChunk", post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "400", "not HTTP/1.1"},
      {"BadExpectation", post + "Expect: tea\r\nContent-Length: 2\r\n\r\n{}", "417", "Expect"},
      {"BadPath", "GET /v9/status HTTP/1.1\r\nHost: x\r\n\r\n", "404", "not_found"},
      {"BadMethod", "BREW /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", "405", "method_not_allowed"},
      {"BadJson", post + "Content-Length: 4\r\n\r\n{{{{", "400", "not JSON"},
      {"DeepJson", post + "Content-Length: 20\r\n\r\n[[[[[[[[[[[[[[[[[[[[", "400", "deeper than"},
      {"NotAnObject", Post("[]"), "400", "a JSON object"},
      {"WrongType", Post(R"({"name":7,"size_bytes":4096})"), "400", "name"},
      {"TextForANumber", Post(R"({"name":"v","size_bytes":"4096"})"), "400", "size_bytes"},
      {"AFraction", Post(R"({"name":"v","size_bytes":4096.5})"), "400", "size_bytes"},
      {"NegativeSize", Post(R"({"name":"v","size_bytes":-4096})"), "400", "size_bytes"},
      {"HugeNumber", Post(R"({"name":"v","size_bytes":1e30})"), "400", "size_bytes"},
      {"UnknownField", Post(R"({"name":"v","size_bytes":4096,"colour":"red"})"), "400", "colour"},
      {"BadUtf8", Post("{\"name\":\"\xff\xfe\",\"size_bytes\":4096}"), "400", ""},
      {"NulInAName", Post(R"({"name":"a\u0000b","size_bytes":4096})"), "400", "name"},
      {"TextBehindTheJson", Post(R"({"name":"v","size_bytes":4096} and more)"), "400",
       "goes on after"},
      {"NoBody", Post(""), "400", ""},
      {"UnknownQuery", "GET /v1/snapshots?owner=me HTTP/1.1\r\nHost: x\r\n\r\n", "400", "owner"},
      {"BadPercent", "GET /v1/volumes/%zz HTTP/1.1\r\nHost: x\r\n\r\n", "400", ""},
      {"NameWithASlash", "GET /v1/volumes/a%2fb HTTP/1.1\r\nHost: x\r\n\r\n", "400", "name"},
      {"BodyWithAGet", "GET /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "400",
       "body"},
      {"DeleteOfAll", "DELETE /v1/volumes HTTP/1.1\r\nHost: x\r\n\r\n", "405",
       "method_not_allowed"},
      {"MissingField", post + "Content-Length: 7\r\n\r\n{\"x\":1}", "400", "is missing"},
  };
}

class ControlServerBadInput : public ControlServer,
                              public ::testing::WithParamInterface<BadMessage> {};

// P8: a clear error, and the server goes on.
TEST_P(ControlServerBadInput, GetsAClearErrorAndTheServerGoesOn) {
  ControlDaemon daemon(Options());
  RawClient bystander(daemon.path());
  const std::string answer = Exchange(daemon.path(), GetParam().bytes);
  if (*GetParam().http_status == '\0') {
    EXPECT_EQ(answer, "");
  } else {
    EXPECT_THAT(answer, StartsWith(absl::StrCat("HTTP/1.1 ", GetParam().http_status, " ")));
    EXPECT_THAT(answer, HasSubstr("{\"error\":{\"code\":\""));
    EXPECT_THAT(answer, HasSubstr(GetParam().text));
  }
  ExpectServing(daemon.path());
  bystander.Send(kGoodRequest);
  EXPECT_TRUE(bystander.ReadUntil(kGoodAnswer));
}

INSTANTIATE_TEST_SUITE_P(Each, ControlServerBadInput, ::testing::ValuesIn(BadMessages()),
                         [](const auto& bad) { return std::string(bad.param.name); });

TEST_F(ControlServer, LetsASlowSenderGo) {
  Server::Options options = Options();
  options.receive_timeout_ms = 100;
  ControlDaemon daemon(options);
  RawClient client(daemon.path());
  client.Send("GET /v1/st");
  const std::string answer = client.ReadAll();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 408 "));
  EXPECT_THAT(answer, HasSubstr("\"timeout\""));
  ExpectServing(daemon.path());
}

TEST_F(ControlServer, LetsASilentClientGo) {
  Server::Options options = Options();
  options.idle_timeout_ms = 100;
  ControlDaemon daemon(options);
  RawClient client(daemon.path());
  EXPECT_EQ(client.ReadAll(), "");
  ExpectServing(daemon.path());
}

TEST_F(ControlServer, LetsAClientGoThatTakesNoAnswer) {
  Server::Options options = Options();
  options.send_timeout_ms = 100;
  options.receive_timeout_ms = 100;
  options.max_connections = 1;
  ControlDaemon daemon(options);
  RawClient client(daemon.path());
  // Far more answers than the socket's buffers hold, and none is read. Sending ends when the server
  // has let go.
  std::string requests;
  for (int i = 0; i < 50'000; ++i) requests += kGoodRequest;
  client.Send(requests);
  for (int attempt = 0; attempt < 200; ++attempt) {
    if (Exchange(daemon.path(), kGoodRequest).starts_with("HTTP/1.1 200")) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  ADD_FAILURE() << "the connection was never let go";
}

TEST_F(ControlServer, BoundsItsConnections) {
  Server::Options options = Options();
  options.max_connections = 2;
  ControlDaemon daemon(options);
  RawClient first(daemon.path());
  RawClient second(daemon.path());
  first.Send(kGoodRequest);
  second.Send(kGoodRequest);
  EXPECT_TRUE(first.ReadUntil(kGoodAnswer));
  EXPECT_TRUE(second.ReadUntil(kGoodAnswer));
  const std::string answer = RawClient(daemon.path()).ReadAll();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(answer, HasSubstr("at most 2 connections"));
  first.Send(kGoodRequest);
  EXPECT_TRUE(first.ReadUntil(kGoodAnswer));
}

TEST_F(ControlServer, AnswersWhatRunsBeforeItStops) {
  ControlDaemon daemon(Options());
  RawClient idle(daemon.path());
  RawClient client(daemon.path());
  client.Send("GET /v1/volumes/slow HTTP/1.1\r\nHost: x\r\n\r\n");
  daemon.slow_started().wait();
  daemon.BeginStop();
  EXPECT_EQ(idle.ReadAll(), "");
  daemon.Release();
  EXPECT_THAT(client.ReadAll(), HasSubstr("{\"target\":\"/v1/volumes/slow\"}"));
}

TEST_F(ControlServer, FinishesARequestWhoseClientHasGone) {
  ControlDaemon daemon(Options());
  {
    RawClient client(daemon.path());
    client.Send("GET /v1/volumes/slow HTTP/1.1\r\nHost: x\r\n\r\n");
    daemon.slow_started().wait();
  }
  daemon.Release();
  ExpectServing(daemon.path());
}

}  // namespace
}  // namespace twofold::control
