#include "tools/control/status_codes.h"

#include <array>

namespace twofold::control {
namespace {

struct Row {
  absl::StatusCode code;
  const char* name;
  unsigned http_status;
};

// 409: the request is right, but not in the present state. 507: "insufficient storage" (RFC 4918).
constexpr std::array<Row, 17> kRows = {{
    {absl::StatusCode::kOk, "ok", 200},
    {absl::StatusCode::kInvalidArgument, "invalid_argument", 400},
    {absl::StatusCode::kOutOfRange, "out_of_range", 400},
    {absl::StatusCode::kUnauthenticated, "unauthenticated", 401},
    {absl::StatusCode::kPermissionDenied, "permission_denied", 403},
    {absl::StatusCode::kNotFound, "not_found", 404},
    {absl::StatusCode::kAlreadyExists, "already_exists", 409},
    {absl::StatusCode::kFailedPrecondition, "failed_precondition", 409},
    {absl::StatusCode::kAborted, "aborted", 409},
    {absl::StatusCode::kUnknown, "unknown", 500},
    {absl::StatusCode::kInternal, "internal", 500},
    {absl::StatusCode::kDataLoss, "data_loss", 500},
    {absl::StatusCode::kUnimplemented, "unimplemented", 501},
    {absl::StatusCode::kUnavailable, "unavailable", 503},
    {absl::StatusCode::kCancelled, "cancelled", 503},
    {absl::StatusCode::kDeadlineExceeded, "deadline_exceeded", 504},
    {absl::StatusCode::kResourceExhausted, "resource_exhausted", 507},
}};

const Row& Find(absl::StatusCode code) {
  for (const Row& row : kRows) {
    if (row.code == code) return row;
  }
  return kRows[9];  // kUnknown
}

// What only HTTP knows, as the statuses that a client makes of it.
struct HttpOnly {
  const char* name;
  absl::StatusCode code;
};
constexpr std::array<HttpOnly, 4> kHttpOnly = {{
    {"method_not_allowed", absl::StatusCode::kUnimplemented},
    {"too_large", absl::StatusCode::kInvalidArgument},
    {"timeout", absl::StatusCode::kDeadlineExceeded},
    {"too_many_connections", absl::StatusCode::kUnavailable},
}};

}  // namespace

ApiError ErrorFromStatus(const absl::Status& status) {
  const Row& row = Find(status.code());
  return {.http_status = row.http_status,
          .code = row.name,
          .message = std::string(status.message()),
          .allow = ""};
}

absl::Status StatusFromError(absl::string_view code, absl::string_view message) {
  for (const Row& row : kRows) {
    if (row.code != absl::StatusCode::kOk && code == row.name) {
      return absl::Status(row.code, message);
    }
  }
  for (const HttpOnly& row : kHttpOnly) {
    if (code == row.name) return absl::Status(row.code, message);
  }
  return absl::UnknownError(message);
}

const char* ErrorCodeName(absl::StatusCode code) { return Find(code).name; }

int ExitCode(const absl::Status& status) {
  if (status.ok()) return kExitDone;
  return absl::IsInvalidArgument(status) ? kExitUsage : kExitFailed;
}

}  // namespace twofold::control
