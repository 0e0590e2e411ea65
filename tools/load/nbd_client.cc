#include "tools/load/nbd_client.h"

#include <libnbd.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"

namespace twofold::load {
namespace {

// What one question about allocation may cover: the protocol's lengths have 32 bits.
constexpr uint64_t kMaxStatusBytes = (uint64_t{1} << 32) - kBlockSize;

absl::Status LastError() {
  const char* text = nbd_get_error();
  return absl::UnavailableError(absl::StrCat("NBD: ", text == nullptr ? "unknown error" : text));
}

int CallDone(void* user, int* error) {
  (*static_cast<NbdClient::Done*>(user))(*error);
  return 1;  // nobody asks for the command again
}
void FreeDone(void* user) { delete static_cast<NbdClient::Done*>(user); }

nbd_completion_callback Completion(NbdClient::Done done) {
  return {
      .callback = CallDone, .user_data = new NbdClient::Done(std::move(done)), .free = FreeDone};
}

// What a walk over the allocation has seen.
struct Walk {
  uint64_t bytes = 0;
  bool data = false;
};

int SeeExtents(void* user, const char*, uint64_t, uint32_t* entries, size_t count, int*) {
  auto* walk = static_cast<Walk*>(user);
  for (size_t i = 0; i + 1 < count; i += 2) {
    walk->bytes += entries[i];
    walk->data |= (entries[i + 1] & LIBNBD_STATE_ZERO) == 0;
  }
  return 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NbdClient>> NbdClient::Connect(const std::string& uri) {
  nbd_handle* const handle = nbd_create();
  if (handle == nullptr) return LastError();
  std::unique_ptr<NbdClient> client(new NbdClient(handle));
  if (nbd_add_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0) return LastError();
  if (nbd_connect_uri(handle, uri.c_str()) != 0) return LastError();
  const int64_t size_bytes = nbd_get_size(handle);
  if (size_bytes < 0) return LastError();
  client->size_bytes_ = static_cast<uint64_t>(size_bytes);
  client->read_only_ = nbd_is_read_only(handle) != 0;
  return client;
}

NbdClient::~NbdClient() { nbd_close(handle_); }

absl::StatusOr<bool> NbdClient::HasData() {
  if (nbd_can_meta_context(handle_, LIBNBD_CONTEXT_BASE_ALLOCATION) != 1) {
    return absl::UnimplementedError("NBD: the server does not tell what is allocated");
  }
  Walk walk;
  while (walk.bytes < size_bytes_ && !walk.data) {
    const uint64_t before = walk.bytes;
    const nbd_extent_callback callback{.callback = SeeExtents, .user_data = &walk, .free = nullptr};
    const uint64_t length = std::min(size_bytes_ - before, kMaxStatusBytes);
    if (nbd_block_status(handle_, length, before, callback, 0) != 0) return LastError();
    if (walk.bytes == before) return absl::InternalError("NBD: an empty answer on allocation");
  }
  return walk.data;
}

absl::Status NbdClient::Read(absl::Span<std::byte> into, uint64_t offset, Done done) {
  const int64_t cookie =
      nbd_aio_pread(handle_, into.data(), into.size(), offset, Completion(std::move(done)), 0);
  return cookie < 0 ? LastError() : absl::OkStatus();
}

absl::Status NbdClient::Write(absl::Span<const std::byte> from, uint64_t offset, Done done) {
  const int64_t cookie =
      nbd_aio_pwrite(handle_, from.data(), from.size(), offset, Completion(std::move(done)), 0);
  return cookie < 0 ? LastError() : absl::OkStatus();
}

absl::Status NbdClient::Wait(int64_t timeout_ns) {
  const unsigned direction = nbd_aio_get_direction(handle_);
  pollfd descriptor{.fd = nbd_aio_get_fd(handle_), .events = 0, .revents = 0};
  if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0) descriptor.events |= POLLIN;
  if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0) descriptor.events |= POLLOUT;
  timeout_ns = std::max<int64_t>(timeout_ns, 0);
  const timespec timeout{.tv_sec = timeout_ns / 1'000'000'000,
                         .tv_nsec = timeout_ns % 1'000'000'000};
  const int ready = ppoll(&descriptor, 1, &timeout, nullptr);
  if (ready < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "waiting for the server");
  if (ready <= 0) return absl::OkStatus();
  // A hang-up or an error shows when it is read.
  int result = 0;
  if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0 && (descriptor.revents & POLLOUT) != 0) {
    result = nbd_aio_notify_write(handle_);
  } else {
    result = nbd_aio_notify_read(handle_);
  }
  if (result != 0) return LastError();
  if (nbd_aio_is_dead(handle_) != 0 || nbd_aio_is_closed(handle_) != 0) {
    return absl::UnavailableError("NBD: the server has closed the connection");
  }
  return absl::OkStatus();
}

}  // namespace twofold::load
