// A request of the transmission phase: parsed, and judged completely before any of it runs.
// Pure; the receive loop in session.cc acts on the verdict.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/limits.h"
#include "tools/nbd/protocol.h"

namespace twofold::nbd {

struct Request {
  Command command{};  // may be a number that has no name
  uint16_t flags = 0;
  uint64_t cookie = 0;
  uint64_t offset = 0;
  uint32_t length = 0;   // bytes
  int64_t received = 0;  // MonoNanos; the session fills it in

  bool has(uint16_t flag) const { return (flags & flag) != 0; }
};

// "READ", "WRITE", ... or "command 9".
std::string CommandName(Command command);

// kInvalidArgument for a wrong magic number: the stream is out of step and can only be ended.
absl::StatusOr<Request> ParseRequest(const RequestHeader& header);

// How many bytes follow the header, also when the request is refused: they must be drained then.
inline uint64_t PayloadBytes(const Request& request) {
  return request.command == Command::kWrite ? request.length : 0;
}
// A refused write with a longer payload than this ends the connection.
inline constexpr uint64_t kMaxDrainBytes = uint64_t{2} * kMaxNbdRequestBytes;

// What a session's requests are judged by.
struct RequestRules {
  uint64_t size_bytes = 0;  // of the export, now
  bool read_only = false;
  bool structured_replies = false;
  bool base_allocation = false;
};

// An error reply: `error` is never Error::kNone, except where it means that there is none.
struct Refusal {
  Error error = Error::kNone;
  std::string text;
};

// Error::kNone if the request may run: its command and flags are known and fit each other and what
// was negotiated, its range lies within the export, and its length is neither zero nor over the
// maximum where there is one. kDisconnect is always fine.
Refusal JudgeRequest(const Request& request, const RequestRules& rules);

// The one place where our errors become the protocol's. `shutting_down`: the mount was revoked or
// the server stops, so that the client should leave rather than try again.
Error ErrorFor(const absl::Status& status, Command command, bool shutting_down);
Refusal RefusalFor(const absl::Status& status, Command command, bool shutting_down);

}  // namespace twofold::nbd
