// Request headers, judged by rules that come from the input too. What may run must be within every
// bound that the code behind relies on; what may not has an error that the protocol knows, and its
// reply is well-formed.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "tools/nbd/reply.h"
#include "tools/nbd/request.h"

namespace {

using twofold::nbd::Command;
using twofold::nbd::Error;
using twofold::nbd::Refusal;
using twofold::nbd::Request;
using twofold::nbd::RequestHeader;
using twofold::nbd::RequestRules;

void CheckMayRun(const Request& request, const RequestRules& rules) {
  if (request.command == Command::kDisconnect) return;
  if (request.command == Command::kFlush) {
    TF_CHECK(request.offset == 0 && request.length == 0);
    return;
  }
  TF_CHECK_GT(request.length, 0u);
  TF_CHECK_LE(request.offset, rules.size_bytes);
  TF_CHECK_LE(request.length, rules.size_bytes - request.offset);
  if (request.command == Command::kRead || request.command == Command::kWrite) {
    TF_CHECK_LE(request.length, twofold::kMaxNbdRequestBytes);
  }
  if (request.command == Command::kWrite || request.command == Command::kTrim ||
      request.command == Command::kWriteZeroes) {
    TF_CHECK(!rules.read_only);
  }
  TF_CHECK(request.command != Command::kBlockStatus || rules.base_allocation);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  twofold::ByteReader reader(
      absl::Span<const std::byte>(reinterpret_cast<const std::byte*>(data), size));
  RequestRules rules;
  rules.size_bytes = reader.ReadU64Be();
  const uint8_t bits = reader.ReadU8();
  rules.read_only = (bits & 1) != 0;
  rules.structured_replies = (bits & 2) != 0;
  rules.base_allocation = (bits & 4) != 0;
  while (reader.remaining() >= sizeof(RequestHeader)) {
    RequestHeader header;
    std::memcpy(&header, reader.ReadBytes(sizeof(header)).data(), sizeof(header));
    const absl::StatusOr<Request> request = twofold::nbd::ParseRequest(header);
    if (!request.ok()) return 0;
    const Refusal refusal = twofold::nbd::JudgeRequest(*request, rules);
    if (refusal.error == Error::kNone) {
      CheckMayRun(*request, rules);
    } else {
      twofold::nbd::Reply reply;
      twofold::nbd::EncodeError(*request, refusal, rules.structured_replies, reply);
      TF_CHECK_EQ(reply.parts.size(), 1u);
      TF_CHECK_EQ(reply.parts[0].head_bytes, reply.head.size());
    }
    reader.Skip(twofold::nbd::PayloadBytes(*request));
  }
  return 0;
}
