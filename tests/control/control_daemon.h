// Helpers of the control server's tests: a server whose requests a function answers, and a client
// that sends any bytes.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <future>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/sync.h"
#include "tests/runtime/test_poller.h"
#include "tools/control/server.h"
#include "tools/control/unix_socket.h"

namespace twofold::control {

// A directory that goes with the test.
class TempDir {
 public:
  TempDir() {
    char path[] = "/tmp/twofold-control-XXXXXX";
    TF_CHECK(mkdtemp(path) != nullptr);
    path_ = path;
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// An executor with a control server, on a thread of its own. Showing the volume "slow" waits until
// Release; everything else is answered at once, with the request's target.
class ControlDaemon {
 public:
  explicit ControlDaemon(Server::Options options) : options_(std::move(options)) {
    options_.handler = [this](Request request) { return Handle(this, std::move(request)); };
    std::promise<absl::Status> started;
    std::future<absl::Status> status = started.get_future();
    thread_ = std::thread([this, &started] { executor_.Run(Main(this, &started)); });
    status_ = status.get();
  }
  ~ControlDaemon() { Stop(); }

  const absl::Status& status() const { return status_; }
  const std::string& path() const { return options_.socket_path; }
  std::future<void> slow_started() { return slow_started_.get_future(); }
  void Release() {
    executor_.Post([this] { release_.Set(); });
  }
  void BeginStop() {
    executor_.Post([this] { stop_.Set(); });
  }
  void Stop() {
    if (!thread_.joinable()) return;
    // Where the server did not start the executor runs nothing any more, which is fine.
    Release();
    BeginStop();
    thread_.join();
  }

 private:
  static Task<void> Main(ControlDaemon* self, std::promise<absl::Status>* started) {
    auto server = Server::Start(self->executor_, self->options_);
    started->set_value(server.status());
    if (!server.ok()) co_return;
    co_await self->stop_.Wait();
    co_await (*server)->Stop();
  }

  static Task<Answer> Handle(ControlDaemon* self, Request request) {
    const auto* show = std::get_if<ShowVolume>(&request);
    if (show != nullptr && show->name == "slow") {
      self->slow_started_.set_value();
      co_await self->release_.Wait();
    }
    co_return Answer{.http_status = 200,
                     .body = absl::StrCat("{\"target\":\"", EncodeRequest(request).target, "\"}"),
                     .allow = ""};
  }

  TestPoller poller_;
  Executor executor_{poller_};
  Event stop_;
  Event release_;
  std::promise<void> slow_started_;
  Server::Options options_;
  absl::Status status_;
  std::thread thread_;
};

class RawClient {
 public:
  explicit RawClient(const std::string& path) : RawClient(*ConnectUnix(path)) {}
  // Over a connected socket, which it closes.
  explicit RawClient(int socket) : socket_(socket) {}
  ~RawClient() { close(socket_); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  // Stops where the server takes no more: what it answers counts.
  void Send(const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t result = send(socket_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (result < 0) return;
      sent += static_cast<size_t>(result);
    }
  }
  void CloseSending() { shutdown(socket_, SHUT_WR); }

  // Everything until the server closes.
  std::string ReadAll() {
    while (ReadSome()) {
    }
    return std::move(received_);
  }
  // True once `text` has come; drops everything up to its end. False where the server closes
  // before.
  bool ReadUntil(const std::string& text) {
    do {
      const size_t at = received_.find(text);
      if (at != std::string::npos) {
        received_.erase(0, at + text.size());
        return true;
      }
    } while (ReadSome());
    return false;
  }

 private:
  bool ReadSome() {
    pollfd descriptor{.fd = socket_, .events = POLLIN, .revents = 0};
    if (poll(&descriptor, 1, 20'000) != 1) {
      ADD_FAILURE() << "nothing from the server for 20 s; so far: " << received_;
      return false;
    }
    char buffer[4096];
    const ssize_t result = recv(socket_, buffer, sizeof(buffer), 0);
    if (result <= 0) return false;
    received_.append(buffer, static_cast<size_t>(result));
    return true;
  }

  int socket_;
  std::string received_;
};

// Sends, ends sending, and gives what came back until the server closed.
inline std::string Exchange(const std::string& path, const std::string& bytes) {
  RawClient client(path);
  client.Send(bytes);
  client.CloseSending();
  return client.ReadAll();
}

}  // namespace twofold::control
