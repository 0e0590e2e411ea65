#include "storage/io/network.h"

#include <sys/un.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace twofold {
namespace {

constexpr absl::string_view kUnixPrefix = "unix:";
constexpr size_t kMaxUnixPathBytes = sizeof(sockaddr_un::sun_path) - 1;
constexpr size_t kMaxHostBytes = 253;

absl::Status Bad(absl::string_view text, absl::string_view reason) {
  return absl::InvalidArgumentError(
      absl::StrCat("address \"", text, "\": ", reason, "; write HOST:PORT or unix:PATH"));
}

}  // namespace

absl::StatusOr<Endpoint> Endpoint::Parse(const std::string& text) {
  Endpoint endpoint;
  if (absl::StartsWith(text, kUnixPrefix)) {
    endpoint.kind = Kind::kUnix;
    endpoint.host_or_path = text.substr(kUnixPrefix.size());
    if (endpoint.host_or_path.empty()) return Bad(text, "the path is missing");
    if (endpoint.host_or_path.find('\0') != std::string::npos) {
      return Bad("unix:...", "the path has a zero byte");
    }
    if (endpoint.host_or_path.size() > kMaxUnixPathBytes) {
      return Bad(text, absl::StrCat("the path has ", endpoint.host_or_path.size(),
                                    " bytes, a Unix socket's has at most ", kMaxUnixPathBytes));
    }
    return endpoint;
  }

  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return Bad(text, "the port is missing");
  std::string host = text.substr(0, colon);
  const std::string port = text.substr(colon + 1);
  if (absl::StartsWith(host, "[")) {
    if (!absl::EndsWith(host, "]")) return Bad(text, "a bracket is not closed");
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string::npos) {
    return Bad(text, "an IPv6 address stands in brackets, as in [::1]:10809");
  }
  if (host.empty()) {
    return Bad(text, "the host is missing (127.0.0.1 is this machine, 0.0.0.0 every interface)");
  }
  if (host.size() > kMaxHostBytes || host.find('\0') != std::string::npos) {
    return Bad(text.substr(0, kMaxHostBytes), "that is no host name");
  }
  uint32_t number = 0;
  const bool digits = !port.empty() && port.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || !absl::SimpleAtoi(port, &number) || number > 65535) {
    return Bad(text, absl::StrCat("the port \"", port, "\" is not a number from 0 to 65535"));
  }
  endpoint.host_or_path = std::move(host);
  endpoint.port = static_cast<uint16_t>(number);
  return endpoint;
}

std::string Endpoint::ToString() const {
  if (kind == Kind::kUnix) return absl::StrCat(kUnixPrefix, host_or_path);
  if (host_or_path.find(':') != std::string::npos) {
    return absl::StrCat("[", host_or_path, "]:", port);
  }
  return absl::StrCat(host_or_path, ":", port);
}

}  // namespace twofold
