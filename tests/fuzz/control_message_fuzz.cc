// Bytes as they come over the control socket: HTTP framing, then the request. Nothing may crash;
// what is taken comes back from its own wire form; what is refused has a 4xx status and a text.
#include <boost/asio/buffer.hpp>
#include <boost/beast/http.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>

#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "tools/control/info_json.h"
#include "tools/control/request.h"

namespace twofold::control {
namespace {

namespace http = boost::beast::http;

void CheckParse(const RequestMessage& message) {
  const std::variant<Request, ApiError> parsed = ParseRequest(message);
  if (const ApiError* error = std::get_if<ApiError>(&parsed)) {
    TF_CHECK(error->http_status >= 400 && error->http_status < 500);
    TF_CHECK(!error->message.empty());
    TF_CHECK(!DecodeError(error->http_status, EncodeError(*error)).ok());
    return;
  }
  const Request& request = std::get<Request>(parsed);
  const std::variant<Request, ApiError> again = ParseRequest(EncodeRequest(request));
  TF_CHECK(std::holds_alternative<Request>(again));
  TF_CHECK(std::get<Request>(again) == request);
}

void ParseStream(const uint8_t* data, size_t size) {
  http::request_parser<http::string_body> parser;
  parser.header_limit(kMaxControlHeaderBytes);
  parser.body_limit(kMaxControlRequestBytes);
  parser.eager(true);
  boost::beast::error_code error;
  parser.put(boost::asio::buffer(data, size), error);
  if (error || !parser.is_done()) return;
  const auto& message = parser.get();
  CheckParse({std::string(message.method_string()), std::string(message.target()), message.body()});
}

// The decoders of answers, too: a client must survive any server.
void DecodeAnswers(const std::string& text) {
  (void)DecodeVolumes(text);
  (void)DecodeSnapshots(text);
  (void)DecodeStatus(text);
  (void)DecodeRollback(text);
  (void)DecodeError(500, text);
}

}  // namespace
}  // namespace twofold::control

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  twofold::control::ParseStream(data, size);
  twofold::control::DecodeAnswers(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
