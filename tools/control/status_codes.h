// One place where an error becomes an HTTP status, a code in JSON, and the exit code of a command.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "tools/control/request.h"

namespace twofold::control {

// Exit codes of every command.
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

// `status` is not OK.
ApiError ErrorFromStatus(const absl::Status& status);

// The other way, on the client's side. A code that is not known becomes kUnknown; the text is kept.
absl::Status StatusFromError(absl::string_view code, absl::string_view message);

// "not_found"; "ok" for kOk. The `code` of JSON errors.
const char* ErrorCodeName(absl::StatusCode code);

// kInvalidArgument is wrong usage, every other error a failure.
int ExitCode(const absl::Status& status);

}  // namespace twofold::control
