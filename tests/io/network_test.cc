// Endpoints, and what only real sockets have.
#include "storage/io/network.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/io/uring_network.h"
#include "storage/io/uring_poller.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/offload.h"
#include "storage/runtime/sync.h"
#include "tests/io/temp_dir.h"

namespace twofold {
namespace {

using ::testing::HasSubstr;
using ConnectionOr = absl::StatusOr<std::unique_ptr<Connection>>;

TEST(Endpoint, ParsesWhatItPrints) {
  for (const char* text : {"127.0.0.1:10809", "localhost:0", "[::1]:65535", "unix:/run/x.sock",
                           "unix:relative", "storage-1.example.org:80"}) {
    const absl::StatusOr<Endpoint> endpoint = Endpoint::Parse(text);
    ASSERT_EQ(endpoint.status(), absl::OkStatus()) << text;
    EXPECT_EQ(endpoint->ToString(), text);
  }
  EXPECT_EQ(Endpoint::Parse("[::1]:1")->host_or_path, "::1");
  EXPECT_EQ(Endpoint::Parse("unix:a:1")->host_or_path, "a:1");
}

TEST(Endpoint, SaysWhatIsWrong) {
  struct Case {
    std::string text;
    std::string reason;
  };
  const std::string long_path = absl::StrCat("unix:", std::string(108, 'x'));
  const std::string long_host = absl::StrCat(std::string(300, 'x'), ":1");
  const std::vector<Case> cases = {
      {"", "the port is missing"},
      {"localhost", "the port is missing"},
      {"localhost:", "the port \"\" is not a number"},
      {"localhost:nbd", "the port \"nbd\" is not a number"},
      {"localhost:-1", "the port \"-1\" is not a number"},
      {"localhost:+1", "the port \"+1\" is not a number"},
      {"localhost:65536", "from 0 to 65535"},
      {"localhost:99999999999999999999", "from 0 to 65535"},
      {":10809", "the host is missing"},
      {"[]:10809", "the host is missing"},
      {"[::1:10809", "a bracket is not closed"},
      {"::1:10809", "stands in brackets"},
      {"unix:", "the path is missing"},
      {long_path, "has 108 bytes, a Unix socket's has at most 107"},
      {long_host, "that is no host name"},
  };
  for (const auto& [text, reason] : cases) {
    const absl::Status status = Endpoint::Parse(text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(reason));
  }
  EXPECT_EQ(Endpoint::Parse(long_path.substr(0, long_path.size() - 1)).status(), absl::OkStatus());
}

class UringNetworkTest : public ::testing::Test {
 protected:
  ~UringNetworkTest() override { offload_.Stop(); }

  Endpoint UnixEndpoint() { return Endpoint::Parse("unix:" + (dir_ / "socket")).value(); }

  TempDir dir_;
  std::unique_ptr<UringPoller> poller_ = UringPoller::Create().value();
  Executor executor_{*poller_};
  Offload offload_{1};
  UringNetwork network_{*poller_, offload_};
};

// A socket file that nobody listens on, as a killed process leaves it.
void LeaveStaleSocket(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  close(fd);
}

TEST_F(UringNetworkTest, ReplacesAStaleSocketFileAndRemovesItsOwn) {
  LeaveStaleSocket(dir_ / "socket");
  {
    const auto listener = network_.Listen(UnixEndpoint());
    EXPECT_EQ(listener.status(), absl::OkStatus());
  }
  EXPECT_FALSE(std::filesystem::exists(dir_ / "socket"));
}

TEST_F(UringNetworkTest, LeavesTheSocketFileOfAnotherInPlace) {
  {
    const auto listener = network_.Listen(UnixEndpoint());
    ASSERT_EQ(listener.status(), absl::OkStatus());
    std::filesystem::remove(dir_ / "socket");
    LeaveStaleSocket(dir_ / "socket");
  }
  EXPECT_TRUE(std::filesystem::exists(dir_ / "socket"));
}

TEST_F(UringNetworkTest, DoesNotReplaceAFileThatIsNoSocket) {
  std::ofstream(dir_ / "socket") << "precious";
  const absl::Status status = network_.Listen(UnixEndpoint()).status();
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("no socket"));
  EXPECT_TRUE(std::filesystem::is_regular_file(dir_ / "socket"));
}

TEST_F(UringNetworkTest, GivesASocketFileItsModeWhateverTheUmask) {
  for (const mode_t mask : {mode_t{0}, mode_t{077}}) {
    for (const uint32_t mode : {0600u, 0660u, 0666u}) {
      const mode_t before = umask(mask);
      Endpoint endpoint = UnixEndpoint();
      endpoint.unix_mode = mode;
      const auto listener = network_.Listen(endpoint);
      umask(before);
      ASSERT_EQ(listener.status(), absl::OkStatus());
      struct stat info;
      ASSERT_EQ(stat((dir_ / "socket").c_str(), &info), 0);
      EXPECT_EQ(info.st_mode & 0777, mode);
    }
  }
}

TEST_F(UringNetworkTest, ReportsAFolderThatIsNotThere) {
  const absl::Status status =
      network_.Listen(Endpoint::Parse("unix:" + (dir_ / "no/socket")).value()).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
}

Task<absl::Status> ConnectByName(Network* network, std::string host, uint16_t port) {
  const Endpoint endpoint{Endpoint::Kind::kTcp, std::move(host), port};
  const ConnectionOr connection = co_await network->Connect(endpoint);
  co_return connection.status();
}

TEST_F(UringNetworkTest, LooksUpHostNames) {
  const auto listener = network_.Listen(Endpoint::Parse("127.0.0.1:0").value()).value();
  EXPECT_EQ(executor_.Run(ConnectByName(&network_, "localhost", listener->endpoint().port)),
            absl::OkStatus());
  const absl::Status unknown = executor_.Run(ConnectByName(&network_, "no such host", 1));
  EXPECT_TRUE(absl::IsUnavailable(unknown)) << unknown;
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("no such host"));
}

Task<absl::Status> AcceptStatus(Listener* listener) {
  const ConnectionOr connection = co_await listener->Accept();
  co_return connection.status();
}

// All descriptors are in use, with a client at the door.
TEST_F(UringNetworkTest, WaitsWhenDescriptorsRunOutInsteadOfSpinning) {
  const auto listener = network_.Listen(Endpoint::Parse("127.0.0.1:0").value()).value();
  ASSERT_EQ(executor_.Run(ConnectByName(&network_, "127.0.0.1", listener->endpoint().port)),
            absl::OkStatus());
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = dup(0);
  close(next);
  const rlimit tight{static_cast<rlim_t>(next), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  const MonoNanos start = poller_->Now();
  const absl::Status status = executor_.Run(AcceptStatus(listener.get()));
  const MonoNanos taken = poller_->Now() - start;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("LimitNOFILE"));
  EXPECT_GE(taken, 50 * kNanosPerMilli);
  // Who waited at the door comes in when there is room again.
  EXPECT_EQ(executor_.Run(AcceptStatus(listener.get())), absl::OkStatus());
}

}  // namespace
}  // namespace twofold
