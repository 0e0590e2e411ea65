// SHARED CONTRACT. The seam to the network: byte streams over TCP and Unix sockets.
//
// Two implementations: UringNetwork and sim::SimNetwork (tests/sim: pipes with delays, cuts and
// half-closes from a seed).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/runtime/task.h"

namespace twofold {

// "unix:PATH" or "HOST:PORT" (IPv6 hosts in brackets; port 0 takes any free one).
struct Endpoint {
  enum class Kind { kUnix, kTcp } kind = Kind::kTcp;
  std::string host_or_path;
  uint16_t port = 0;
  // Who may connect to a Unix socket (chmod(2)); Listen sees to it before anybody can.
  uint32_t unix_mode = 0600;

  // kInvalidArgument with the reason.
  static absl::StatusOr<Endpoint> Parse(const std::string& text);
  std::string ToString() const;
};

// One stream. At most one Read and one Write may be under way at a time. Destroy it only when
// neither is.
class Connection {
 public:
  virtual ~Connection() = default;

  // Reads at least one and at most `into.size()` bytes; 0 means that the peer has closed its side.
  // kUnavailable when the connection broke.
  virtual Task<absl::StatusOr<size_t>> Read(absl::Span<std::byte> into) = 0;

  // Writes all pieces (at most kMaxIoPieces), or fails; the pieces may be changed by the call.
  virtual Task<absl::Status> Write(absl::Span<iovec> pieces) = 0;

  // True when the peer has closed its side or reset, as far as is known without reading (R9): also
  // where data that it sent before is still unread. Cheap; looks at most once a turn of the
  // executor.
  virtual bool PeerHungUp() = 0;

  // Ends both directions: pending and later calls return kCancelled, if they have not ended yet.
  // Idempotent, does not suspend.
  virtual void Shutdown() = 0;

  // For messages, e.g. "127.0.0.1:50312" or "unix".
  virtual const std::string& peer() const = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
  // kCancelled after Shutdown. kResourceExhausted for lack of descriptors or memory, after a little
  // wait: the caller just goes on. One at a time.
  virtual Task<absl::StatusOr<std::unique_ptr<Connection>>> Accept() = 0;
  virtual void Shutdown() = 0;
  // With the port that was really bound.
  virtual const Endpoint& endpoint() const = 0;
};

class Network {
 public:
  virtual ~Network() = default;
  // A stale Unix socket that nobody listens on is replaced; an address that somebody listens on is
  // kAlreadyExists. Looks up a host's name, if it is one, and so may block: for start-up.
  virtual absl::StatusOr<std::unique_ptr<Listener>> Listen(const Endpoint& endpoint) = 0;
  // kUnavailable when nobody answers there.
  virtual Task<absl::StatusOr<std::unique_ptr<Connection>>> Connect(Endpoint endpoint) = 0;
};

}  // namespace twofold
