#include "tools/control/server.h"

#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "tools/control/unix_socket.h"

namespace twofold::control {

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Executor& executor, Options options) {
  TF_ASSIGN_OR_RETURN(const int listener, ListenUnix(options.socket_path));
  UniqueFd fd(listener);
  struct stat info{};
  TF_CHECK(stat(options.socket_path.c_str(), &info) == 0);
  File file{std::move(options.socket_path), info.st_dev, info.st_ino};
  TF_ASSIGN_OR_RETURN(std::unique_ptr<HttpServer> http,
                      HttpServer::Start(executor, std::move(fd),
                                        {.name = "the control socket",
                                         .parse = ParseRequest,
                                         .handler = std::move(options.handler),
                                         .max_connections = options.max_connections,
                                         .receive_timeout_ms = options.receive_timeout_ms,
                                         .idle_timeout_ms = options.idle_timeout_ms,
                                         .send_timeout_ms = options.send_timeout_ms}));
  return std::unique_ptr<Server>(new Server(std::move(http), std::move(file)));
}

Server::Server(std::unique_ptr<HttpServer> http, File file)
    : http_(std::move(http)), file_(std::move(file)) {}

Task<void> Server::Stop() {
  co_await http_->Stop();
  struct stat now{};
  if (stat(file_.path.c_str(), &now) == 0 && now.st_ino == file_.inode &&
      now.st_dev == file_.device) {
    unlink(file_.path.c_str());
  }
}

}  // namespace twofold::control
