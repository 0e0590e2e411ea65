#include "tools/control/client.h"

#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"
#include "tools/control/info_json.h"
#include "tools/control/unix_socket.h"

namespace twofold::control {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Socket = asio::local::stream_protocol::socket;
using ErrorCode = boost::system::error_code;

constexpr auto kTick = std::chrono::milliseconds(100);

// Runs what was started on `io` until `done` holds a result; an empty one when the time is over.
std::optional<ErrorCode> Await(asio::io_context& io, const std::optional<ErrorCode>& done,
                               const CallOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  while (!done) {
    io.restart();
    io.run_one_for(kTick);
    const auto elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(
                             std::chrono::steady_clock::now() - start)
                             .count();
    if (done) break;
    if (static_cast<uint64_t>(elapsed) >= options.timeout_ms) return std::nullopt;
    if (options.on_waiting) options.on_waiting(static_cast<uint64_t>(elapsed));
  }
  return done;
}

// What to add where a change may or may not have been made.
std::string OutcomeUnknown(const RequestMessage& message) {
  return message.method == "GET" ? ""
                                 : "; it is not known whether the request was carried out: look "
                                   "with `twofold status` and the list commands";
}

}  // namespace

absl::StatusOr<std::string> CallRaw(const RequestMessage& message, CallOptions options) {
  TF_ASSIGN_OR_RETURN(const int descriptor, ConnectUnix(options.socket_path));
  asio::io_context io(1);
  Socket socket(io, asio::local::stream_protocol(), descriptor);

  http::request<http::string_body> request;
  request.version(11);
  request.method_string(message.method);
  request.target(message.target);
  request.set(http::field::host, "twofold");
  request.set(http::field::connection, "close");
  if (!message.body.empty()) {
    request.set(http::field::content_type, "application/json");
    request.body() = message.body;
  }
  request.prepare_payload();

  // A server that refuses early may close its side while the request is still being written: what
  // it said counts, so the answer is read whatever came of the writing.
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kMaxControlAnswerBytes);
  std::optional<ErrorCode> done;
  http::async_write(socket, request, [&](const ErrorCode&, size_t) {
    http::async_read(socket, buffer, parser, [&](const ErrorCode& error, size_t) { done = error; });
  });
  const std::optional<ErrorCode> result = Await(io, done, options);
  if (!result) {
    // Ends the operations while what they refer to is still there.
    ErrorCode ignored;
    socket.close(ignored);
    while (!done) {
      io.restart();
      io.run_one();
    }
    return absl::DeadlineExceededError(absl::StrCat("the daemon did not answer within ",
                                                    options.timeout_ms / 1000, " s",
                                                    OutcomeUnknown(message)));
  }
  if (*result) {
    return absl::UnavailableError(
        absl::StrCat("the daemon ended the connection without an answer (", result->message(), ")",
                     OutcomeUnknown(message)));
  }
  auto& response = parser.get();
  if (response.result_int() >= 300) {
    return DecodeError(response.result_int(), response.body());
  }
  return std::move(response.body());
}

absl::StatusOr<std::string> Call(const Request& request, CallOptions options) {
  return CallRaw(EncodeRequest(request), std::move(options));
}

}  // namespace twofold::control
