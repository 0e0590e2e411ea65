#include "storage/io/uring_network.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/io/errno_status.h"
#include "storage/io/sockets.h"
#include "storage/runtime/cancel.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

constexpr int kMaxTransientErrors =
    1000;  // EINTR and EAGAIN in a row: the kernel has no room for us
constexpr int64_t kExhaustedWaitNanos = 100 * kNanosPerMilli;

bool IsTransient(int32_t result) { return result == -EINTR || result == -EAGAIN; }

// Errors of a connection attempt that ended before it was accepted; the next one may be fine.
bool IsOfOneAttempt(int32_t result) {
  switch (-result) {
    case ECONNABORTED:
    case ECONNRESET:
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ETIMEDOUT:
      return true;
    default:
      return false;
  }
}

// A flag that is up as long as its coroutine runs.
class Busy {
 public:
  explicit Busy(bool& flag) : flag_(flag) {
    TF_CHECK(!flag_) << "two calls of one direction at a time";
    flag_ = true;
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;
  ~Busy() { flag_ = false; }

 private:
  bool& flag_;
};

// Drops the first `sent` bytes of the pieces, and pieces that are empty.
absl::Span<iovec> Advance(absl::Span<iovec> pieces, size_t sent) {
  while (!pieces.empty()) {
    iovec& first = pieces.front();
    if (sent < first.iov_len) {
      first.iov_base = static_cast<std::byte*>(first.iov_base) + sent;
      first.iov_len -= sent;
      break;
    }
    sent -= first.iov_len;
    pieces.remove_prefix(1);
  }
  return pieces;
}

class UringConnection final : public Connection {
 public:
  UringConnection(UringPoller& poller, UniqueFd fd, std::string peer)
      : poller_(poller), fd_(std::move(fd)), peer_(std::move(peer)) {}
  ~UringConnection() override { TF_CHECK(!reading_ && !writing_) << peer_; }

  Task<absl::StatusOr<size_t>> Read(absl::Span<std::byte> into) override {
    TF_CHECK(!into.empty());
    const Busy busy(reading_);
    int transient_errors = 0;
    while (!shut_down_) {
      const int32_t result = co_await UringOp(poller_, [&](io_uring_sqe* sqe) {
        io_uring_prep_recv(sqe, fd_.get(), into.data(), into.size(), 0);
      });
      if (shut_down_) break;
      if (result >= 0) co_return static_cast<size_t>(result);
      if (!IsTransient(result) || ++transient_errors > kMaxTransientErrors) {
        co_return Broken(-result, "receiving from");
      }
      co_await Yield();
    }
    co_return ShutDownStatus();
  }

  Task<absl::Status> Write(absl::Span<iovec> pieces) override {
    TF_CHECK_LE(pieces.size(), kMaxIoPieces);
    const Busy busy(writing_);
    int transient_errors = 0;
    pieces = Advance(pieces, 0);
    while (!pieces.empty()) {
      if (shut_down_) co_return ShutDownStatus();
      msghdr message{};
      message.msg_iov = pieces.data();
      message.msg_iovlen = pieces.size();
      const auto prepare = [&](io_uring_sqe* sqe) {
        // MSG_WAITALL lets the kernel go on after a short send by itself.
        io_uring_prep_sendmsg(sqe, fd_.get(), &message, MSG_NOSIGNAL | MSG_WAITALL);
      };
      // The peer goes to work on it while the rest of the turn runs here.
      const int32_t result = co_await UringOp(poller_, prepare, Submission::kAtOnce);
      if (result >= 0) {
        transient_errors = 0;
        pieces = Advance(pieces, static_cast<size_t>(result));
        continue;
      }
      if (shut_down_) co_return ShutDownStatus();
      if (!IsTransient(result) || ++transient_errors > kMaxTransientErrors) {
        co_return Broken(-result, "sending to");
      }
      co_await Yield();
    }
    co_return absl::OkStatus();
  }

  bool PeerHungUp() override {
    // Within a turn nothing that a peer did later can have been seen on another connection, so one
    // look a turn keeps the order that R9 is about.
    const uint64_t turn = Executor::Current().turn();
    if (hung_up_ || looked_at_turn_ == turn) return hung_up_;
    looked_at_turn_ = turn;
    pollfd state{fd_.get(), POLLRDHUP, 0};
    hung_up_ = poll(&state, 1, 0) == 1;
    return hung_up_;
  }

  void Shutdown() override {
    if (std::exchange(shut_down_, true)) return;
    // Fails only where the peer is gone already; then nothing waits any more.
    [[maybe_unused]] const int result = shutdown(fd_.get(), SHUT_RDWR);
  }

  const std::string& peer() const override { return peer_; }

 private:
  absl::Status Broken(int error, absl::string_view what) const {
    return absl::UnavailableError(ErrnoStatus(error, absl::StrCat(what, " ", peer_)).message());
  }
  absl::Status ShutDownStatus() const {
    return absl::CancelledError(absl::StrCat("the connection to ", peer_, " was shut down"));
  }

  UringPoller& poller_;
  const UniqueFd fd_;
  const std::string peer_;
  bool reading_ = false;
  bool writing_ = false;
  bool shut_down_ = false;
  bool hung_up_ = false;
  uint64_t looked_at_turn_ = 0;
};

class UringListener final : public Listener {
 public:
  UringListener(UringPoller& poller, ListeningSocket socket)
      : poller_(poller), fd_(std::move(socket.fd)), endpoint_(std::move(socket.endpoint)) {
    if (endpoint_.kind == Endpoint::Kind::kUnix) {
      has_file_ = lstat(endpoint_.host_or_path.c_str(), &file_) == 0;
    }
  }

  ~UringListener() override {
    TF_CHECK(!accepting_) << endpoint_.ToString();
    struct stat now;
    // Only the file that is ours: another process may have taken the place.
    if (has_file_ && lstat(endpoint_.host_or_path.c_str(), &now) == 0 &&
        now.st_dev == file_.st_dev && now.st_ino == file_.st_ino) {
      unlink(endpoint_.host_or_path.c_str());
    }
  }

  Task<absl::StatusOr<std::unique_ptr<Connection>>> Accept() override {
    const Busy busy(accepting_);
    while (!cancel_.cancelled()) {
      SocketAddress peer;
      peer.length = sizeof(peer.storage);
      const int32_t result = co_await UringOp(poller_, [&](io_uring_sqe* sqe) {
        io_uring_prep_accept(sqe, fd_.get(), peer.get(), &peer.length, SOCK_CLOEXEC);
      });
      UniqueFd fd(result);
      if (cancel_.cancelled()) break;
      if (fd.valid()) {
        TuneConnection(fd.get(), peer);
        co_return absl::make_unique<UringConnection>(poller_, std::move(fd), AddressText(peer));
      }
      if (IsOfOneAttempt(result)) continue;
      // Whoever wants in waits in the kernel's queue, so the next accept would fail as fast.
      co_await cancel_.SleepFor(kExhaustedWaitNanos);
      if (IsTransient(result)) continue;
      if (cancel_.cancelled()) break;
      co_return ErrnoStatus(-result, absl::StrCat("accepting on ", endpoint_.ToString()));
    }
    co_return absl::CancelledError(absl::StrCat("no longer listening on ", endpoint_.ToString()));
  }

  void Shutdown() override {
    if (cancel_.cancelled()) return;
    cancel_.Cancel();
    // Wakes an accept that waits.
    [[maybe_unused]] const int result = shutdown(fd_.get(), SHUT_RDWR);
  }

  const Endpoint& endpoint() const override { return endpoint_; }

 private:
  UringPoller& poller_;
  const UniqueFd fd_;
  const Endpoint endpoint_;
  CancelSource cancel_;
  bool accepting_ = false;
  bool has_file_ = false;
  struct stat file_{};
};

Task<absl::StatusOr<std::unique_ptr<Connection>>> ConnectTo(UringPoller* poller,
                                                            SocketAddress address,
                                                            std::string name) {
  absl::StatusOr<UniqueFd> fd = MakeSocket(address);
  TF_CO_RETURN_IF_ERROR(fd);
  TuneConnection(fd->get(), address);
  int32_t result;
  int transient_errors = 0;
  do {
    result = co_await UringOp(*poller, [&](io_uring_sqe* sqe) {
      io_uring_prep_connect(sqe, fd->get(), address.get(), address.length);
    });
    // A Unix socket's queue is full: it is asked again.
    if (result == -EAGAIN) co_await SleepFor(kNanosPerMilli);
  } while (IsTransient(result) && ++transient_errors <= kMaxTransientErrors);
  if (result < 0) {
    co_return absl::UnavailableError(
        ErrnoStatus(-result, absl::StrCat("connecting to ", name)).message());
  }
  co_return absl::make_unique<UringConnection>(*poller, *std::move(fd), std::move(name));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Listener>> UringNetwork::Listen(const Endpoint& endpoint) {
  TF_ASSIGN_OR_RETURN(ListeningSocket socket, ListenOn(endpoint));
  return absl::make_unique<UringListener>(poller_, std::move(socket));
}

Task<absl::StatusOr<std::unique_ptr<Connection>>> UringNetwork::Connect(Endpoint endpoint) {
  absl::StatusOr<std::vector<SocketAddress>> addresses = Resolve(endpoint, /*numeric_only=*/true);
  if (absl::IsNotFound(addresses.status())) {
    auto resolve = [endpoint] { return Resolve(endpoint, /*numeric_only=*/false); };
    addresses = co_await offload_.Run(resolve);
  }
  TF_CO_RETURN_IF_ERROR(addresses);
  absl::Status error = absl::UnavailableError(
      absl::StrCat("connecting to ", endpoint.ToString(), ": the host has no address"));
  for (const SocketAddress& address : *addresses) {
    absl::StatusOr<std::unique_ptr<Connection>> connection =
        co_await ConnectTo(&poller_, address, endpoint.ToString());
    if (connection.ok()) co_return connection;
    error = connection.status();
  }
  co_return error;
}

}  // namespace twofold
