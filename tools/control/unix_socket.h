// Names of Unix sockets, and who listens on them.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace twofold::control {

inline constexpr char kDefaultControlSocket[] = "/run/twofold/control.sock";

// The path from "PATH" or "unix:PATH". kInvalidArgument when it is empty or longer than a socket's
// name can be.
absl::StatusOr<std::string> ParseSocketPath(absl::string_view text);

// A listening, non-blocking socket of mode 0600 at `path`. A stale socket there is replaced.
// kAlreadyExists when somebody listens on it or it is no socket; kNotFound when its directory is
// missing.
absl::StatusOr<int> ListenUnix(const std::string& path);

// A connected, blocking socket. kNotFound: no such socket; kUnavailable: nobody listens on it;
// kPermissionDenied. The text says what to do.
absl::StatusOr<int> ConnectUnix(const std::string& path);

}  // namespace twofold::control
