// Calls on sockets that do not wait for a peer: addresses, options, binding. For uring_network.cc
// and for servers outside of the data path.
#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/io/network.h"
#include "storage/io/posix_files.h"

namespace twofold {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

// The addresses of an endpoint. `numeric_only`: kNotFound for a host name, which otherwise is
// looked up, and that may block for long. kUnavailable when the name is not known.
absl::StatusOr<std::vector<SocketAddress>> Resolve(const Endpoint& endpoint, bool numeric_only);

// "127.0.0.1:50312", "[::1]:50312" or "unix".
std::string AddressText(const SocketAddress& address);

// A stream socket for the family of `address`.
absl::StatusOr<UniqueFd> MakeSocket(const SocketAddress& address);

// Options of every connection: no delay, and probes that find a peer that is gone for good. For
// TCP.
void TuneConnection(int fd, const SocketAddress& address);

// A socket that listens, and the endpoint with its port. A socket file that nobody listens on is
// replaced; kAlreadyExists where somebody does.
struct ListeningSocket {
  UniqueFd fd;
  Endpoint endpoint;
};
absl::StatusOr<ListeningSocket> ListenOn(const Endpoint& endpoint);

}  // namespace twofold
