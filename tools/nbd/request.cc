#include "tools/nbd/request.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace twofold::nbd {
namespace {

// FUA is valid with every command, also where there is nothing to make durable.
uint16_t AllowedFlags(Command command) {
  switch (command) {
    case Command::kRead:
      return kFlagFua | kFlagDf;
    case Command::kWriteZeroes:
      return kFlagFua | kFlagNoHole | kFlagFastZero;
    case Command::kBlockStatus:
      return kFlagFua | kFlagReqOne;
    default:
      return kFlagFua;
  }
}

bool Known(Command command) { return static_cast<size_t>(command) < kCommands; }

bool Changes(Command command) {
  return command == Command::kWrite || command == Command::kTrim ||
         command == Command::kWriteZeroes;
}

Refusal Invalid(const Request& request, absl::string_view why) {
  return {Error::kInvalid, absl::StrCat(CommandName(request.command), ": ", why)};
}

// A write past the end is "no space", anything else a wrong argument.
Error OutOfRangeError(Command command) {
  return command == Command::kWrite || command == Command::kWriteZeroes ? Error::kNoSpace
                                                                        : Error::kInvalid;
}

// Zeroing is faster than writing only where whole blocks need not be stored.
bool IsFastZero(const Request& request) {
  if (request.has(kFlagNoHole)) return false;
  const uint64_t first_whole = (request.offset + kBlockSize - 1) / kBlockSize;
  return first_whole < (request.offset + request.length) / kBlockSize;
}

Refusal JudgeFlags(const Request& request, const RequestRules& rules) {
  const int unknown = request.flags & ~AllowedFlags(request.command);
  if (unknown != 0) {
    return Invalid(request, absl::StrCat("flags 0x", absl::Hex(unknown), " do not go with it"));
  }
  if (request.has(kFlagDf) && !rules.structured_replies) {
    return Invalid(request, "DF needs structured replies");
  }
  if (request.command == Command::kBlockStatus && !rules.base_allocation) {
    return Invalid(request, "no metadata context was negotiated for this export");
  }
  return {};
}

Refusal JudgeRange(const Request& request, const RequestRules& rules) {
  if (request.length == 0) return Invalid(request, "the length is zero");
  const bool has_data = request.command == Command::kRead || request.command == Command::kWrite;
  if (has_data && request.length > kMaxNbdRequestBytes) {
    return Invalid(request, absl::StrCat("length ", request.length, " is over the maximum of ",
                                         kMaxNbdRequestBytes, " bytes"));
  }
  if (request.offset > rules.size_bytes || request.length > rules.size_bytes - request.offset) {
    return {OutOfRangeError(request.command),
            absl::StrCat(CommandName(request.command), ": ", request.length, " bytes at offset ",
                         request.offset, " pass the export's end at ", rules.size_bytes)};
  }
  return {};
}

}  // namespace

std::string CommandName(Command command) {
  switch (command) {
    case Command::kRead:
      return "READ";
    case Command::kWrite:
      return "WRITE";
    case Command::kDisconnect:
      return "DISC";
    case Command::kFlush:
      return "FLUSH";
    case Command::kTrim:
      return "TRIM";
    case Command::kCache:
      return "CACHE";
    case Command::kWriteZeroes:
      return "WRITE_ZEROES";
    case Command::kBlockStatus:
      return "BLOCK_STATUS";
  }
  return absl::StrCat("command ", static_cast<uint16_t>(command));
}

absl::StatusOr<Request> ParseRequest(const RequestHeader& header) {
  if (header.magic != kRequestMagic) {
    return absl::InvalidArgumentError(
        absl::StrCat("a request with magic number 0x", absl::Hex(uint32_t{header.magic})));
  }
  return Request{static_cast<Command>(uint16_t{header.command}), header.flags, header.cookie,
                 header.offset, header.length};
}

Refusal JudgeRequest(const Request& request, const RequestRules& rules) {
  if (!Known(request.command)) return Invalid(request, "not known here");
  if (request.command == Command::kDisconnect) return {};
  if (rules.read_only && Changes(request.command)) {
    return {Error::kPermission,
            absl::StrCat(CommandName(request.command), ": the export is read-only")};
  }
  Refusal refusal = JudgeFlags(request, rules);
  if (refusal.error != Error::kNone) return refusal;
  if (request.command == Command::kFlush) {
    if (request.offset == 0 && request.length == 0) return {};
    return Invalid(request, "offset and length must be zero");
  }
  refusal = JudgeRange(request, rules);
  if (refusal.error != Error::kNone) return refusal;
  if (request.has(kFlagFastZero) && !IsFastZero(request)) {
    return {Error::kNotSupported, "WRITE_ZEROES: no faster than writing"};
  }
  return {};
}

Error ErrorFor(const absl::Status& status, Command command, bool shutting_down) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return Error::kNone;
    case absl::StatusCode::kPermissionDenied:
      return Error::kPermission;
    case absl::StatusCode::kInvalidArgument:
      return Error::kInvalid;
    case absl::StatusCode::kOutOfRange:
      return OutOfRangeError(command);
    case absl::StatusCode::kResourceExhausted:
      return Error::kNoSpace;
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:
      return shutting_down ? Error::kShuttingDown : Error::kIo;
    default:
      return Error::kIo;
  }
}

Refusal RefusalFor(const absl::Status& status, Command command, bool shutting_down) {
  return {ErrorFor(status, command, shutting_down), std::string(status.message())};
}

}  // namespace twofold::nbd
