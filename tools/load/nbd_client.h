// One connection to an NBD server, with many requests in flight; over libnbd. The only file that
// includes it is nbd_client.cc.
//
// Single-threaded: answers are taken in Wait, which calls the requests' callbacks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

struct nbd_handle;

namespace twofold::load {

class NbdClient {
 public:
  // `error`: 0, or the errno value that the server gave.
  using Done = std::function<void(int error)>;

  // "nbd://HOST:PORT/EXPORT" or "nbd+unix:///EXPORT?socket=PATH". kUnavailable with libnbd's text.
  static absl::StatusOr<std::unique_ptr<NbdClient>> Connect(const std::string& uri);
  // What is in flight gets no callback any more, and the connection is cut.
  ~NbdClient();
  NbdClient(const NbdClient&) = delete;
  NbdClient& operator=(const NbdClient&) = delete;

  uint64_t size_bytes() const { return size_bytes_; }
  bool read_only() const { return read_only_; }

  // Whether any block of the export has data, as base:allocation tells. Blocks.
  // kUnimplemented: the server does not tell.
  absl::StatusOr<bool> HasData();

  // Send a request; the bytes stay until `done` was called. An error means that it was not sent.
  absl::Status Read(absl::Span<std::byte> into, uint64_t offset, Done done);
  absl::Status Write(absl::Span<const std::byte> from, uint64_t offset, Done done);

  // Sends and receives what can be; waits for that up to `timeout_ns`. kUnavailable when the
  // connection broke.
  absl::Status Wait(int64_t timeout_ns);

 private:
  explicit NbdClient(nbd_handle* handle) : handle_(handle) {}

  nbd_handle* const handle_;
  uint64_t size_bytes_ = 0;
  bool read_only_ = false;
};

}  // namespace twofold::load
