#include "tools/control/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "storage/base/status_macros.h"

namespace twofold::control {
namespace {

constexpr int kBacklog = 64;

absl::StatusOr<sockaddr_un> Address(const std::string& path) {
  sockaddr_un address{};
  if (path.empty()) return absl::InvalidArgumentError("the path of the control socket is empty");
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("the path of the control socket is longer than ",
                                                   sizeof(address.sun_path) - 1, " bytes: ", path));
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

int ConnectErrno(int socket, const sockaddr_un& address) {
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  return connect(socket, generic, sizeof(address)) == 0 ? 0 : errno;
}

// Removes a socket that nobody listens on; OK when there is nothing at `path`.
absl::Status RemoveStale(const std::string& path, const sockaddr_un& address) {
  struct stat info{};
  if (lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return absl::ErrnoToStatus(errno, absl::StrCat("control socket ", path));
  }
  if (!S_ISSOCK(info.st_mode)) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, " is there and is no socket; remove it, or choose another --control"));
  }
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return absl::ErrnoToStatus(errno, "socket");
  const absl::Cleanup close_probe = [probe] { close(probe); };
  const int error = ConnectErrno(probe, address);
  // EAGAIN: it listens, and its queue is full.
  if (error == 0 || error == EAGAIN || error == EINPROGRESS) {
    return absl::AlreadyExistsError(
        absl::StrCat("another daemon listens on the control socket ", path,
                     "; stop it, or give this one a socket of its own with --control"));
  }
  if (error != ECONNREFUSED) {
    return absl::ErrnoToStatus(error, absl::StrCat("control socket ", path));
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return absl::ErrnoToStatus(errno, absl::StrCat("removing the stale control socket ", path));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ParseSocketPath(absl::string_view text) {
  const std::string path(absl::StripPrefix(text, "unix:"));
  TF_RETURN_IF_ERROR(Address(path));
  return path;
}

absl::StatusOr<int> ListenUnix(const std::string& path) {
  TF_ASSIGN_OR_RETURN(const sockaddr_un address, Address(path));
  TF_RETURN_IF_ERROR(RemoveStale(path, address));
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener < 0) return absl::ErrnoToStatus(errno, "socket");
  absl::Cleanup close_listener = [listener] { close(listener); };
  // The mode of the file is settled before the first connection can come: nobody can connect before
  // listen().
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == ENOENT) {
      return absl::NotFoundError(absl::StrCat("the directory of the control socket ", path,
                                              " is not there; make it, or choose another with "
                                              "--control"));
    }
    return absl::ErrnoToStatus(errno, absl::StrCat("binding the control socket ", path));
  }
  if (chmod(path.c_str(), 0600) != 0 || listen(listener, kBacklog) != 0) {
    const int error = errno;
    unlink(path.c_str());
    return absl::ErrnoToStatus(error, absl::StrCat("control socket ", path));
  }
  std::move(close_listener).Cancel();
  return listener;
}

absl::StatusOr<int> ConnectUnix(const std::string& path) {
  TF_ASSIGN_OR_RETURN(const sockaddr_un address, Address(path));
  const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (client < 0) return absl::ErrnoToStatus(errno, "socket");
  const int error = ConnectErrno(client, address);
  if (error == 0) return client;
  close(client);
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(
          absl::StrCat("no daemon: there is no control socket ", path,
                       "; start one with `twofold serve`, or name its socket with --control or "
                       "$TWOFOLD_CONTROL"));
    case ECONNREFUSED:
      return absl::UnavailableError(
          absl::StrCat("no daemon listens on the control socket ", path,
                       "; it has ended without removing it. Start it again with `twofold serve`"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(
          absl::StrCat("no permission for the control socket ", path,
                       "; run this as the daemon's user, or as root"));
    default:
      return absl::ErrnoToStatus(error, absl::StrCat("control socket ", path));
  }
}

}  // namespace twofold::control
