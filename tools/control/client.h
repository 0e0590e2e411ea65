// The client's side of the control socket: one blocking call, for the command line.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/limits.h"
#include "tools/control/request.h"

namespace twofold::control {

struct CallOptions {
  std::string socket_path;
  uint64_t timeout_ms = kControlAnswerTimeoutMs;
  // Called about ten times a second while the answer is awaited, with the milliseconds since the
  // start.
  std::function<void(uint64_t elapsed_ms)> on_waiting;
};

// The body of the answer to `request`. Errors are the daemon's own, as its pool gave them; or of
// the connection: kNotFound, kUnavailable, kPermissionDenied as ConnectUnix says; kDeadlineExceeded
// and kUnavailable where no answer came: then it is not known whether the request was carried out,
// and the text says so.
absl::StatusOr<std::string> Call(const Request& request, CallOptions options);

// As Call, for messages that EncodeRequest does not make.
absl::StatusOr<std::string> CallRaw(const RequestMessage& message, CallOptions options);

}  // namespace twofold::control
