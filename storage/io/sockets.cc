#include "storage/io/sockets.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/io/errno_status.h"

namespace twofold {
namespace {

// A peer that is silent for so long is asked whether it lives, and given up some time later.
constexpr int kKeepIdleSeconds = 60;
constexpr int kKeepIntervalSeconds = 10;
constexpr int kKeepProbes = 6;
// Attempts to connect before giving up: 1 + 2 + 4 + 8 seconds.
constexpr int kConnectRetries = 3;

void SetOption(int fd, int level, int name, int value) {
  // All of them are refinements: where one is refused the connection works without.
  [[maybe_unused]] const int result = setsockopt(fd, level, name, &value, sizeof(value));
}

SocketAddress UnixAddress(const std::string& path) {
  SocketAddress address;
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  TF_CHECK_LT(path.size(), sizeof(name.sun_path));
  std::memcpy(name.sun_path, path.data(), path.size());
  std::memcpy(&address.storage, &name, sizeof(name));
  address.length = sizeof(name);
  return address;
}

bool IsTcp(const SocketAddress& address) { return address.storage.ss_family != AF_UNIX; }

// Whether somebody listens on the socket file. When in doubt yes.
bool SomebodyListens(const SocketAddress& address) {
  const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return !probe.valid() || connect(probe.get(), address.get(), address.length) == 0 ||
         errno != ECONNREFUSED;
}

absl::Status InUse(const Endpoint& endpoint) {
  return absl::AlreadyExistsError(
      absl::StrCat("listening on ", endpoint.ToString(),
                   ": another process listens there; stop it, or choose another address"));
}

absl::Status BindUnix(int fd, const SocketAddress& address, const Endpoint& endpoint) {
  const std::string& path = endpoint.host_or_path;
  const std::string what = absl::StrCat("listening on ", endpoint.ToString());
  // The file gets the socket's mode, less the umask, in the moment that it appears; what the umask
  // took away is added after.
  const auto mode = static_cast<mode_t>(endpoint.unix_mode);
  if (fchmod(fd, mode) != 0) return ErrnoStatus(errno, what);
  if (bind(fd, address.get(), address.length) != 0) {
    if (errno != EADDRINUSE) return ErrnoStatus(errno, what);
    struct stat info;
    if (lstat(path.c_str(), &info) == 0) {
      if (!S_ISSOCK(info.st_mode)) {
        return absl::AlreadyExistsError(
            absl::StrCat(what, ": there is a file of that name, which is no socket"));
      }
      if (SomebodyListens(address)) return InUse(endpoint);
      if (unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(errno, what);
    }
    if (bind(fd, address.get(), address.length) != 0) return ErrnoStatus(errno, what);
  }
  if (chmod(path.c_str(), mode) != 0) return ErrnoStatus(errno, what);
  return absl::OkStatus();
}

absl::StatusOr<ListeningSocket> ListenOnAddress(const Endpoint& endpoint,
                                                const SocketAddress& address) {
  const std::string what = absl::StrCat("listening on ", endpoint.ToString());
  ListeningSocket result;
  result.endpoint = endpoint;
  TF_ASSIGN_OR_RETURN(result.fd, MakeSocket(address));
  const int fd = result.fd.get();
  if (endpoint.kind == Endpoint::Kind::kUnix) {
    TF_RETURN_IF_ERROR(BindUnix(fd, address, endpoint));
  } else {
    // A restarted server does not wait for the connections of the one before to be forgotten.
    SetOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, address.get(), address.length) != 0) {
      return errno == EADDRINUSE ? InUse(endpoint) : ErrnoStatus(errno, what);
    }
  }
  if (listen(fd, SOMAXCONN) != 0) {
    return errno == EADDRINUSE ? InUse(endpoint) : ErrnoStatus(errno, what);
  }
  if (endpoint.kind == Endpoint::Kind::kTcp) {
    SocketAddress bound;
    bound.length = sizeof(bound.storage);
    if (getsockname(fd, bound.get(), &bound.length) != 0) return ErrnoStatus(errno, what);
    const bool six = bound.storage.ss_family == AF_INET6;
    result.endpoint.port =
        ntohs(six ? reinterpret_cast<const sockaddr_in6*>(&bound.storage)->sin6_port
                  : reinterpret_cast<const sockaddr_in*>(&bound.storage)->sin_port);
  }
  return result;
}

}  // namespace

absl::StatusOr<std::vector<SocketAddress>> Resolve(const Endpoint& endpoint, bool numeric_only) {
  if (endpoint.kind == Endpoint::Kind::kUnix) {
    return std::vector<SocketAddress>{UnixAddress(endpoint.host_or_path)};
  }
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (numeric_only ? AI_NUMERICHOST : 0);
  addrinfo* list = nullptr;
  const int error = getaddrinfo(endpoint.host_or_path.c_str(), absl::StrCat(endpoint.port).c_str(),
                                &hints, &list);
  if (error != 0) {
    const std::string text =
        absl::StrCat("looking up host ", endpoint.host_or_path, ": ", gai_strerror(error));
    return numeric_only ? absl::NotFoundError(text) : absl::UnavailableError(text);
  }
  std::vector<SocketAddress> addresses;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    SocketAddress address;
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.length = entry->ai_addrlen;
    addresses.push_back(address);
  }
  freeaddrinfo(list);
  return addresses;
}

std::string AddressText(const SocketAddress& address) {
  if (!IsTcp(address)) return "unix";
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (getnameinfo(address.get(), address.length, host, sizeof(host), port, sizeof(port),
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "unknown";
  }
  const bool six = address.storage.ss_family == AF_INET6;
  return six ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

absl::StatusOr<UniqueFd> MakeSocket(const SocketAddress& address) {
  // Blocking: io_uring gives up on a socket that is not, instead of waiting for it.
  UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "making a socket");
  return fd;
}

void TuneConnection(int fd, const SocketAddress& address) {
  if (!IsTcp(address)) return;
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(fd, IPPROTO_TCP, TCP_SYNCNT, kConnectRetries);
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepIdleSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepIntervalSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepProbes);
}

absl::StatusOr<ListeningSocket> ListenOn(const Endpoint& endpoint) {
  TF_ASSIGN_OR_RETURN(const std::vector<SocketAddress> addresses,
                      Resolve(endpoint, /*numeric_only=*/false));
  absl::Status error = absl::UnavailableError(
      absl::StrCat("listening on ", endpoint.ToString(), ": the host has no address"));
  for (const SocketAddress& address : addresses) {
    absl::StatusOr<ListeningSocket> result = ListenOnAddress(endpoint, address);
    if (result.ok()) return result;
    error = result.status();
  }
  return error;
}

}  // namespace twofold
