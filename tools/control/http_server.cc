#include "tools/control/http_server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <map>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/task_scope.h"

namespace twofold::control {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
// Unix and TCP alike.
using Stream = asio::generic::stream_protocol;
using Socket = Stream::socket;
using ErrorCode = boost::system::error_code;
using Response = http::response<http::string_body>;

constexpr char kServerName[] = "twofold/" TWOFOLD_VERSION;
constexpr char kContinue[] = "HTTP/1.1 100 Continue\r\n\r\n";
constexpr size_t kMaxDiscardedBytes = 4 * kMaxControlRequestBytes;
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

Response MakeResponse(Answer answer, unsigned version, bool keep_alive, bool head) {
  Response response;
  response.version(version);
  response.result(answer.http_status);
  response.set(http::field::server, kServerName);
  response.set(http::field::content_type, answer.content_type);
  if (!answer.allow.empty()) response.set(http::field::allow, answer.allow);
  response.keep_alive(keep_alive);
  response.content_length(answer.body.size());
  if (!head) response.body() = std::move(answer.body);
  return response;
}

ApiError FramingError(const ErrorCode& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return {431, "too_large",
            absl::StrCat("the request line and headers are longer than ", kMaxControlHeaderBytes,
                         " bytes"),
            ""};
  }
  if (error == http::error::body_limit) {
    return {413, "too_large",
            absl::StrCat("the body is longer than ", kMaxControlRequestBytes, " bytes"), ""};
  }
  if (error == http::error::partial_message) {
    return {400, "invalid_argument", "the connection ended inside the request", ""};
  }
  return {400, "invalid_argument", absl::StrCat("this is not HTTP/1.1: ", error.message()), ""};
}

// What a session needs of its server; all on the server's thread.
class SessionOwner {
 public:
  virtual ~SessionOwner() = default;
  virtual const HttpServer::Options& options() const = 0;
  virtual void Dispatch(uint64_t session, Request request) = 0;
  virtual void Ended(uint64_t session) = 0;
};

// One connection. Each step arms one timer and one operation; handlers keep the session alive.
//
//   idle -> header -> [continue] -> body -> running -> sending -> idle
//                  \-> refused ------------------------> sending -> discarding -> ended
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(uint64_t id, Socket socket, SessionOwner* owner)
      : id_(id),
        owner_(owner),
        socket_(std::move(socket)),
        timer_(socket_.get_executor()),
        buffer_(kMaxControlHeaderBytes + kMaxControlRequestBytes) {}

  void Start() { WaitForRequest(); }
  // The answer of the request that was dispatched.
  void Deliver(Answer answer) { Send(std::move(answer), parser_->keep_alive()); }
  // No further request is taken; one that runs gets its answer.
  void Stop() {
    stopping_ = true;
    if (!running_ && !sending_) End();
  }

 private:
  void WaitForRequest() {
    if (stopping_) return End();
    if (buffer_.size() > 0) return ReadHeader();  // The client has sent the next request already.
    Arm(owner_->options().idle_timeout_ms);
    socket_.async_read_some(buffer_.prepare(kMaxControlHeaderBytes),
                            [self = shared_from_this()](const ErrorCode& error, size_t bytes) {
                              if (error) return self->End();
                              self->buffer_.commit(bytes);
                              self->ReadHeader();
                            });
  }

  void ReadHeader() {
    parser_.emplace();
    parser_->header_limit(kMaxControlHeaderBytes);
    parser_->body_limit(kMaxControlRequestBytes);
    Arm(owner_->options().receive_timeout_ms);
    http::async_read_header(socket_, buffer_, *parser_,
                            [self = shared_from_this()](const ErrorCode& error, size_t) {
                              if (error) return self->RefuseFraming(error);
                              self->CheckHeader();
                            });
  }

  void CheckHeader() {
    const auto& header = parser_->get();
    if (header.version() >= 11 && header.find(http::field::host) == header.end()) {
      return Refuse({400, "invalid_argument", "an HTTP/1.1 request needs a Host header", ""});
    }
    const auto expect = header.find(http::field::expect);
    if (expect == header.end() || header.version() < 11) return ReadBody();
    if (!beast::iequals(expect->value(), "100-continue")) {
      return Refuse({417, "invalid_argument", "only \"Expect: 100-continue\" is known", ""});
    }
    asio::async_write(socket_, asio::buffer(kContinue, sizeof(kContinue) - 1),
                      [self = shared_from_this()](const ErrorCode& error, size_t) {
                        if (error) return self->End();
                        self->ReadBody();
                      });
  }

  void ReadBody() {
    // The time may have run out just when the header was complete; no timer is armed then.
    if (timed_out_) return RefuseFraming(asio::error::operation_aborted);
    http::async_read(socket_, buffer_, *parser_,
                     [self = shared_from_this()](const ErrorCode& error, size_t) {
                       if (error) return self->RefuseFraming(error);
                       self->RunRequest();
                     });
  }

  void RunRequest() {
    Disarm();
    auto& message = parser_->get();
    std::variant<Request, ApiError> request =
        owner_->options().parse({.method = std::string(message.method_string()),
                                 .target = std::string(message.target()),
                                 .body = std::move(message.body())});
    if (const ApiError* error = std::get_if<ApiError>(&request)) {
      return Send(ErrorAnswer(*error), parser_->keep_alive());
    }
    running_ = true;
    owner_->Dispatch(id_, std::get<Request>(std::move(request)));
  }

  // The stream can't be followed any more: say why, and close.
  void RefuseFraming(const ErrorCode& error) {
    if (timed_out_) {
      return Refuse({408, "timeout", "the request did not arrive whole in time", ""});
    }
    if (error == http::error::end_of_stream || error == asio::error::operation_aborted ||
        error.category() == asio::error::get_system_category()) {
      return End();
    }
    Refuse(FramingError(error));
  }

  void Refuse(const ApiError& error) {
    refused_ = true;
    Send(ErrorAnswer(error), false);
  }

  void Send(Answer answer, bool keep_alive) {
    running_ = false;
    sending_ = true;
    const bool head = parser_->get().method() == http::verb::head;
    response_ = MakeResponse(std::move(answer), refused_ ? 11 : parser_->get().version(),
                             keep_alive && !stopping_, head);
    Arm(owner_->options().send_timeout_ms);
    http::async_write(socket_, response_,
                      [self = shared_from_this()](const ErrorCode& error, size_t) {
                        self->sending_ = false;
                        if (error) return self->End();
                        if (self->response_.keep_alive()) return self->WaitForRequest();
                        self->Discard();
                      });
  }

  // Reads what the client still sends, for a while: a close with unread input would break its
  // connection before it has seen the answer.
  void Discard() {
    ErrorCode ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
    if (stopping_ || ignored) return End();
    Arm(owner_->options().receive_timeout_ms);
    DiscardMore();
  }
  void DiscardMore() {
    buffer_.clear();
    socket_.async_read_some(buffer_.prepare(kMaxControlHeaderBytes),
                            [self = shared_from_this()](const ErrorCode& error, size_t bytes) {
                              self->discarded_bytes_ += bytes;
                              if (error || self->discarded_bytes_ > kMaxDiscardedBytes) {
                                return self->End();
                              }
                              self->DiscardMore();
                            });
  }

  void Arm(uint64_t timeout_ms) {
    timed_out_ = false;
    timer_.expires_after(std::chrono::milliseconds(timeout_ms));
    timer_.async_wait([self = shared_from_this(), armed = ++armed_](const ErrorCode& error) {
      if (error || armed != self->armed_) return;
      self->timed_out_ = true;
      ErrorCode ignored;
      self->socket_.cancel(ignored);
    });
  }
  void Disarm() {
    ++armed_;
    timer_.cancel();
  }

  void End() {
    if (ended_) return;
    ended_ = true;
    Disarm();
    ErrorCode ignored;
    socket_.close(ignored);
    owner_->Ended(id_);
  }

  const uint64_t id_;
  SessionOwner* const owner_;
  Socket socket_;
  asio::steady_timer timer_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  Response response_;
  uint64_t armed_ = 0;  // which arming of the timer counts
  size_t discarded_bytes_ = 0;
  bool timed_out_ = false;
  bool running_ = false;
  bool sending_ = false;
  bool refused_ = false;
  bool stopping_ = false;
  bool ended_ = false;
};

}  // namespace

class HttpServer::Impl final : public SessionOwner {
 public:
  Impl(Executor& executor, Options options)
      : executor_(executor), options_(std::move(options)), acceptor_(io_), pause_(io_) {}
  ~Impl() override { TF_CHECK(!thread_.joinable()); }

  absl::Status Start(UniqueFd listener) {
    int family = 0;
    socklen_t length = sizeof(family);
    TF_CHECK(getsockopt(listener.get(), SOL_SOCKET, SO_DOMAIN, &family, &length) == 0);
    ErrorCode error;
    acceptor_.assign(Stream(family, 0), listener.get(), error);
    if (error) return absl::InternalError(absl::StrCat(options_.name, ": ", error.message()));
    listener.Release();  // The acceptor closes it.
    Accept();
    thread_ = std::thread([this] {
      io_.run();
      executor_.Post([this] { ended_.Set(); });
    });
    return absl::OkStatus();
  }

  Task<void> Stop() {
    asio::post(io_, [this] {
      BeginStop();
      // Whatever was dispatched before is posted before this.
      executor_.Post([this] { quiet_.Set(); });
    });
    co_await quiet_.Wait();
    co_await running_.Join();
    // The answers are on their way to the thread, which ends when the last session has.
    asio::post(io_, [this] { work_.reset(); });
    co_await ended_.Wait();
    thread_.join();
  }

  // ---- On the server's thread ----

  const Options& options() const override { return options_; }

  void Dispatch(uint64_t session, Request request) override {
    executor_.Post([this, session, request = std::move(request)] {
      running_.Spawn(RunRequest(session, request));
    });
  }

  void Ended(uint64_t session) override { sessions_.erase(session); }

 private:
  void Accept() {
    acceptor_.async_accept([this](const ErrorCode& error, Socket socket) {
      if (stopping_) return;
      if (error) {
        // Of one attempt, or a lack of descriptors: wait a little and go on.
        TF_LOG(WARNING) << options_.name << ": accepting a connection failed: " << error.message();
        pause_.expires_after(kAcceptPause);
        pause_.async_wait([this](const ErrorCode& cancelled) {
          if (!cancelled) Accept();
        });
        return;
      }
      Welcome(std::move(socket));
      Accept();
    });
  }

  void Welcome(Socket socket) {
    if (sessions_.size() >= options_.max_connections) {
      std::ostringstream text;
      text << MakeResponse(
          ErrorAnswer({503, "too_many_connections",
                       absl::StrCat(options_.name, " serves at most ", options_.max_connections,
                                    " connections at a time; try again"),
                       ""}),
          11, false, false);
      ErrorCode ignored;
      socket.non_blocking(true, ignored);
      socket.send(asio::buffer(text.str()), 0, ignored);
      return;
    }
    const uint64_t id = next_session_++;
    auto session = std::make_shared<Session>(id, std::move(socket), this);
    sessions_.emplace(id, session);
    session->Start();
  }

  void BeginStop() {
    stopping_ = true;
    ErrorCode ignored;
    acceptor_.close(ignored);
    pause_.cancel();
    const auto sessions = sessions_;
    for (const auto& [id, session] : sessions) session->Stop();
  }

  void Deliver(uint64_t id, Answer answer) {
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return;
    const std::shared_ptr<Session> session = found->second;
    session->Deliver(std::move(answer));
  }

  // ---- On the executor ----

  Task<void> RunRequest(uint64_t session, Request request) {
    Answer answer = co_await options_.handler(std::move(request));
    asio::post(io_, [this, session, answer = std::move(answer)]() mutable {
      Deliver(session, std::move(answer));
    });
  }

  Executor& executor_;
  const Options options_;

  asio::io_context io_{1};
  // Keeps the thread while a request runs whose session waits for nothing else.
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  asio::basic_socket_acceptor<Stream> acceptor_;
  asio::steady_timer pause_;
  std::map<uint64_t, std::shared_ptr<Session>> sessions_;
  uint64_t next_session_ = 1;
  bool stopping_ = false;
  std::thread thread_;

  TaskScope running_;
  Event quiet_;
  Event ended_;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(Executor& executor, UniqueFd listener,
                                                              Options options) {
  auto impl = std::make_unique<Impl>(executor, std::move(options));
  TF_RETURN_IF_ERROR(impl->Start(std::move(listener)));
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

Task<void> HttpServer::Stop() { return impl_->Stop(); }

}  // namespace twofold::control
