#include "tools/control/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "tests/control/control_daemon.h"

namespace twofold::control {
namespace {

using ::testing::HasSubstr;

class ControlClient : public ::testing::Test {
 protected:
  Server::Options Options() {
    Server::Options options;
    options.socket_path = directory_ / "control.sock";
    return options;
  }
  static CallOptions At(const std::string& path) {
    CallOptions options;
    options.socket_path = path;
    return options;
  }
  TempDir directory_;
};

TEST_F(ControlClient, BringsTheAnswer) {
  ControlDaemon daemon(Options());
  const auto body = Call(ShowVolume{"db"}, At(daemon.path()));
  ASSERT_TRUE(body.ok()) << body.status();
  EXPECT_EQ(*body, "{\"target\":\"/v1/volumes/db\"}");
}

TEST_F(ControlClient, BringsTheServersError) {
  ControlDaemon daemon(Options());
  const auto body = CallRaw({"GET", "/v1/volumes/a%20b", ""}, At(daemon.path()));
  EXPECT_TRUE(absl::IsInvalidArgument(body.status())) << body.status();
  EXPECT_THAT(std::string(body.status().message()), HasSubstr("is no name"));
}

TEST_F(ControlClient, BringsTheErrorOfARequestThatWasTooLarge) {
  ControlDaemon daemon(Options());
  const auto body = CallRaw({"POST", "/v1/volumes", std::string(4 << 20, 'x')}, At(daemon.path()));
  EXPECT_TRUE(absl::IsInvalidArgument(body.status())) << body.status();
  EXPECT_THAT(std::string(body.status().message()), HasSubstr("longer than"));
}

TEST_F(ControlClient, WaitsOnlySoLong) {
  ControlDaemon daemon(Options());
  int ticks = 0;
  CallOptions options = At(daemon.path());
  options.timeout_ms = 500;
  options.on_waiting = [&ticks](uint64_t) { ++ticks; };
  const auto body = Call(ShowVolume{"slow"}, options);
  EXPECT_TRUE(absl::IsDeadlineExceeded(body.status())) << body.status();
  EXPECT_GE(ticks, 1);
}

TEST_F(ControlClient, SaysWhatToDoWhereThereIsNoDaemon) {
  const auto absent = Call(GetStatus{}, At(directory_ / "none"));
  EXPECT_TRUE(absl::IsNotFound(absent.status()));
  EXPECT_THAT(std::string(absent.status().message()), HasSubstr("twofold serve"));

  close(*ListenUnix(directory_ / "stale"));
  const auto stale = Call(GetStatus{}, At(directory_ / "stale"));
  EXPECT_TRUE(absl::IsUnavailable(stale.status()));
  EXPECT_THAT(std::string(stale.status().message()), HasSubstr("Start it again"));
}

TEST_F(ControlClient, SaysThatAnOutcomeIsUnknown) {
  // A daemon that takes a part of the request and dies.
  const int listener = *ListenUnix(directory_ / "dying");
  std::thread daemon([listener] {
    pollfd ready{.fd = listener, .events = POLLIN, .revents = 0};
    poll(&ready, 1, 20'000);
    const int connection = accept(listener, nullptr, nullptr);
    char byte;
    EXPECT_EQ(read(connection, &byte, 1), 1);
    close(connection);
  });
  const auto body = Call(DeleteVolume{"db", false}, At(directory_ / "dying"));
  daemon.join();
  close(listener);
  EXPECT_TRUE(absl::IsUnavailable(body.status())) << body.status();
  EXPECT_THAT(std::string(body.status().message()), HasSubstr("not known whether"));
}

TEST(UnixSocket, ChecksPaths) {
  EXPECT_EQ(*ParseSocketPath("/run/x"), "/run/x");
  EXPECT_EQ(*ParseSocketPath("unix:/run/x"), "/run/x");
  EXPECT_TRUE(absl::IsInvalidArgument(ParseSocketPath("").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ParseSocketPath("unix:").status()));
  EXPECT_THAT(std::string(ParseSocketPath(std::string(108, 'x')).status().message()),
              HasSubstr("longer than 107 bytes"));
}

}  // namespace
}  // namespace twofold::control
