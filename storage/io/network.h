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

  // True when the peer has hung up or reset, as far as is known without reading (R9). Cheap.
  virtual bool PeerHungUp() = 0;

  // Ends both directions: pending and later calls return. Idempotent, does not suspend.
  virtual void Shutdown() = 0;

  // For messages, e.g. "127.0.0.1:50312" or "unix".
  virtual const std::string& peer() const = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
  // kCancelled after Shutdown; other errors are of one connection attempt, or of a lack of
  // descriptors: the caller waits a little and goes on.
  virtual Task<absl::StatusOr<std::unique_ptr<Connection>>> Accept() = 0;
  virtual void Shutdown() = 0;
  // With the port that was really bound.
  virtual const Endpoint& endpoint() const = 0;
};

class Network {
 public:
  virtual ~Network() = default;
  // A stale Unix socket that nobody listens on is replaced; one that somebody does is
  // kAlreadyExists.
  virtual absl::StatusOr<std::unique_ptr<Listener>> Listen(const Endpoint& endpoint) = 0;
  virtual Task<absl::StatusOr<std::unique_ptr<Connection>>> Connect(Endpoint endpoint) = 0;
};

}  // namespace twofold
