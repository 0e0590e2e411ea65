#include "tools/nbd/session.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "storage/base/log.h"
#include "storage/runtime/executor.h"
#include "tools/nbd/text.h"

namespace twofold::nbd {
namespace {

// A payload is received in place while more than this of it is missing; less comes through input_,
// together with the requests behind it.
constexpr size_t kReceiveInPlaceBytes = size_t{32} << 10;

// Where byte `offset` of the volume stands in a buffer of whole blocks.
size_t SkipOf(uint64_t offset) { return static_cast<size_t>(offset % kBlockSize); }

size_t ChargeOf(uint64_t offset, uint64_t length_bytes) {
  const uint64_t blocks = (SkipOf(offset) + length_bytes + kBlockSize - 1) / kBlockSize;
  return PayloadBudget::ChargeFor(static_cast<size_t>(blocks) * kBlockSize);
}

// As much of a range as lies before the next multiple of `piece_bytes`: whole blocks of it need no
// more than that.
uint32_t FirstPiece(uint64_t offset, uint32_t length, size_t piece_bytes) {
  return static_cast<uint32_t>(std::min<uint64_t>(length, piece_bytes - offset % piece_bytes));
}

}  // namespace

Session::Session(std::unique_ptr<Connection> connection, SessionEnvironment& environment,
                 std::optional<std::string> refusal)
    : environment_(environment),
      connection_(std::move(connection)),
      handshake_(Directory()),
      share_(environment.budget),
      replies_(*connection_, environment.counters),
      connected_mono_(Executor::Current().Now()),
      connected_wall_(Executor::Current().WallNow()) {
  if (refusal.has_value()) handshake_->RefuseOptions(OptionReply::kErrPolicy, *refusal);
}

SessionInfo Session::info() const {
  SessionInfo info;
  info.peer = connection_->peer();
  info.connected = connected_wall_;
  if (transmitting_) {
    info.export_name = mount_->name();
    info.read_only = mount_->read_only();
    info.structured_replies = structured_replies_;
    info.requests_in_flight = kMaxNbdRequestsPerConnection - slots_.available();
  }
  return info;
}

ExportDirectory Session::Directory() {
  return {[this](const std::string& name) -> absl::StatusOr<ExportInfo> {
            absl::StatusOr<std::unique_ptr<Mount>> mount = environment_.exports.open(name);
            if (!mount.ok()) return mount.status();
            mount_ = *std::move(mount);
            mount_->OnRevoked([this] { Stop(); });
            return ExportInfo{mount_->size_bytes(), mount_->read_only()};
          },
          [this] { return environment_.exports.names(); }};
}

Task<void> Session::Run() {
  const absl::Status agreed = co_await Negotiate();
  if (!agreed.ok()) {
    ++environment_.counters.failed_handshakes;
    TF_LOG(DEBUG) << "nbd: handshake with " << connection_->peer() << ": " << agreed.message();
  } else if (handshake_->state() == Handshake::State::kTransmission) {
    structured_replies_ = handshake_->agreed().structured_replies;
    base_allocation_ = handshake_->agreed().base_allocation;
    handshake_.reset();
    co_await Transmit();
  }
  connection_->Shutdown();
}

Task<absl::Status> Session::Negotiate() {
  while (true) {
    std::string output = handshake_->TakeOutput();
    if (!output.empty()) {
      iovec piece{output.data(), output.size()};
      const absl::Status sent = co_await connection_->Write(absl::MakeSpan(&piece, 1));
      if (!sent.ok()) co_return sent;
    }
    if (handshake_->finished()) break;
    const size_t consumed = handshake_->Advance(input_.readable());
    input_.Consume(consumed);
    // An export that was only looked at is not held on to.
    if (handshake_->state() != Handshake::State::kTransmission) mount_.reset();
    if (consumed == 0 && !handshake_->listing() && !handshake_->finished()) {
      const absl::StatusOr<size_t> received = co_await connection_->Read(input_.Writable());
      if (!received.ok()) co_return received.status();
      if (*received == 0) co_return absl::UnavailableError("the client left");
      input_.Received(*received);
    }
  }
  if (!handshake_->hang_up_reason().empty()) {
    co_return absl::InvalidArgumentError(handshake_->hang_up_reason());
  }
  co_return absl::OkStatus();
}

Task<void> Session::Transmit() {
  transmitting_ = true;
  TF_LOG(INFO) << "nbd: " << connection_->peer() << " opened " << mount_->name()
               << (mount_->read_only() ? " read-only" : "");
  mount_->SetAbandonedProbe([this] { return Abandoned(); });
  writer_.Spawn(replies_.Run());
  co_await Receive();
  co_await requests_.Join();
  replies_.Close();
  co_await writer_.Join();
  TF_LOG(INFO) << "nbd: " << connection_->peer() << " closed " << mount_->name();
  transmitting_ = false;
  mount_.reset();
}

// ---- Stopping -----------------------------------------------------------------------------------

void Session::Stop() {
  if (stopping_) return;
  stopping_ = true;
  if (!transmitting_) return Abort();
  CloseWhenDrained();
}

void Session::Abort() { connection_->Shutdown(); }

void Session::CloseWhenDrained() {
  // Replies count as running until they were sent. Ends the receiving task.
  if (stopping_ && running_ == 0) connection_->Shutdown();
}

void Session::CheckTimeouts(MonoNanos now) {
  constexpr auto kHandshakeTimeout = static_cast<int64_t>(kNbdHandshakeTimeoutMs) * kNanosPerMilli;
  if (!transmitting_) {
    if (!handshake_.has_value() || now - connected_mono_ < kHandshakeTimeout) return;
    TF_LOG(DEBUG) << "nbd: " << connection_->peer() << " did not finish its handshake in time";
    ++environment_.counters.timeouts;
    return Abort();
  }
  absl::string_view what;
  if (sending_.Stuck(replies_.writing(), replies_.writes(), now)) what = "took no replies";
  if (receiving_.Stuck(in_payload_, receives_, now)) what = "sent no more of a payload";
  if (what.empty()) return;
  TF_LOG(WARNING) << "nbd: " << connection_->peer() << " " << what << " for "
                  << kNbdStuckTimeoutMs / 1000 << " seconds; it is let go";
  ++environment_.counters.timeouts;
  Abort();
}

bool Session::Watchdog::Stuck(bool under_way, uint64_t steps, MonoNanos now) {
  constexpr auto kTimeout = static_cast<int64_t>(kNbdStuckTimeoutMs) * kNanosPerMilli;
  // The very first step may be stuck as well: then nothing was seen yet.
  const bool first_look = since_ == kNever;
  if (first_look || !under_way || steps != seen_steps_) {
    seen_steps_ = steps;
    since_ = now;
  }
  return now - since_ >= kTimeout;
}

bool Session::Abandoned() const {
  // A client that said goodbye has a right to what it asked for before.
  return !disconnect_received_ && !disconnect_ahead_ && connection_->PeerHungUp();
}

// ---- Receiving ----------------------------------------------------------------------------------

Task<void> Session::Receive() {
  while (true) {
    while (input_.size() < sizeof(RequestHeader)) {
      const bool more = co_await ReceiveMore();
      if (!more) co_return;
    }
    RequestHeader header;
    std::memcpy(&header, input_.readable().data(), sizeof(header));
    input_.Consume(sizeof(header));
    absl::StatusOr<Request> request = ParseRequest(header);
    if (request.ok()) request->received = received_;
    if (!request.ok()) {
      ++environment_.counters.protocol_errors;
      TF_LOG(WARNING) << "nbd: " << connection_->peer() << " sent "
                      << DisplayText(request.status().message()) << "; the connection is closed";
      co_return;
    }
    if (request->command == Command::kDisconnect) {
      disconnect_received_ = true;
      co_return;
    }
    co_await slots_.Acquire(1);
    Refusal refusal = stopping_ ? Refusal{Error::kShuttingDown, "the export is being shut down"}
                                : JudgeRequest(*request, Rules());
    if (refusal.error != Error::kNone) {
      const bool in_step = co_await DrainPayload(PayloadBytes(*request));
      requests_.Spawn(RunRefusal(*request, std::move(refusal)));
      if (!in_step) co_return;
    } else if (request->command == Command::kRead) {
      Start(RunRead(*request));
    } else if (request->command == Command::kBlockStatus) {
      Start(RunBlockStatus(*request));
    } else if (request->command != Command::kWrite) {
      Start(RunPlain(*request));
    } else if (!StartReceivedWrite(*request)) {
      const bool in_step = co_await ReceiveWrite(*request);
      if (!in_step) co_return;
    }
  }
}

Task<bool> Session::ReceiveMore() {
  const absl::StatusOr<size_t> received = co_await connection_->Read(input_.Writable());
  if (!received.ok() || *received == 0) co_return false;
  ++environment_.counters.receives;
  ++receives_;
  received_ = Executor::Current().Tick();
  input_.Received(*received);
  // NBD_CMD_DISC is the last thing that a client sends.
  disconnect_ahead_ = false;
  if (input_.size() >= sizeof(RequestHeader)) {
    RequestHeader last;
    std::memcpy(&last, input_.readable().end() - sizeof(last), sizeof(last));
    const absl::StatusOr<Request> request = ParseRequest(last);
    disconnect_ahead_ = request.ok() && request->command == Command::kDisconnect;
  }
  co_return true;
}

Task<bool> Session::ReceivePayload(absl::Span<std::byte> into) {
  into.remove_prefix(input_.MoveTo(into));
  in_payload_ = true;
  const absl::Cleanup done = [this] { in_payload_ = false; };
  while (!into.empty()) {
    if (into.size() < kReceiveInPlaceBytes) {
      const bool more = co_await ReceiveMore();
      if (!more) co_return false;
      into.remove_prefix(input_.MoveTo(into));
    } else {
      const absl::StatusOr<size_t> received = co_await connection_->Read(into);
      if (!received.ok() || *received == 0) co_return false;
      ++environment_.counters.receives;
      ++receives_;
      into.remove_prefix(*received);
    }
  }
  co_return true;
}

Task<bool> Session::DrainPayload(uint64_t length_bytes) {
  if (length_bytes > kMaxDrainBytes) {
    ++environment_.counters.protocol_errors;
    TF_LOG(WARNING) << "nbd: " << connection_->peer() << " sent a write of " << length_bytes
                    << " bytes; the connection is closed";
    co_return false;
  }
  while (length_bytes > 0) {
    if (input_.size() == 0) {
      const bool more = co_await ReceiveMore();
      if (!more) co_return false;
    }
    const size_t dropped = static_cast<size_t>(std::min<uint64_t>(input_.size(), length_bytes));
    input_.Consume(dropped);
    length_bytes -= dropped;
  }
  co_return true;
}

bool Session::StartReceivedWrite(const Request& request) {
  if (input_.size() < request.length) return false;
  PayloadBudget::Grant grant = share_.TryAcquire(ChargeOf(request.offset, request.length));
  if (!grant) return false;
  const size_t skip = SkipOf(request.offset);
  Buffer payload = mount_->buffers().TryAllocate(skip + request.length);
  if (payload.empty()) return false;
  input_.MoveTo(payload.span().subspan(skip, request.length));
  Start(RunWrite(request, std::move(payload), std::move(grant)));
  return true;
}

Task<Session::Piece> Session::TakePiece(uint64_t offset, uint32_t left) {
  Piece piece;
  piece.length = FirstPiece(offset, left, kNbdPieceBytes);
  piece.grant = share_.TryAcquire(ChargeOf(offset, piece.length));
  if (!piece.grant) {
    piece.length = FirstPiece(offset, left, kNbdGuaranteedBytes);
    PayloadBudget::Grant grant = co_await share_.Acquire(ChargeOf(offset, piece.length));
    piece.grant = std::move(grant);
  }
  co_return piece;
}

Task<Session::Piece> Session::TakeReadPiece(Request request, uint64_t offset, uint32_t left) {
  const bool one_message = !structured_replies_ || request.has(kFlagDf);
  if (!one_message) co_return co_await TakePiece(offset, left);
  Piece piece;
  piece.length = left;
  PayloadBudget::Grant grant = co_await share_.Acquire(ChargeOf(offset, left));
  piece.grant = std::move(grant);
  co_return piece;
}

Task<bool> Session::ReceiveWrite(Request request) {
  auto write = std::make_shared<SplitWrite>();
  write->request = request;
  uint64_t offset = request.offset;
  uint32_t left = request.length;
  bool in_step = true;
  while (left > 0 && in_step) {
    Piece piece = co_await TakePiece(offset, left);
    const size_t skip = SkipOf(offset);
    Buffer payload = co_await mount_->buffers().Allocate(skip + piece.length);
    const bool received = co_await ReceivePayload(payload.span().subspan(skip, piece.length));
    in_step = received;
    if (!in_step) {
      write->status.Update(absl::UnavailableError("the connection broke"));
    } else if (write->status.ok()) {
      ++write->unfinished;
      write->whole = Executor::Current().LastTick();
      Start(RunWritePiece(write, offset, piece.length, std::move(payload), std::move(piece.grant)));
    }
    offset += piece.length;
    left -= piece.length;
  }
  Start(FinishSplitWrite(std::move(write)));
  co_return in_step;
}

// ---- Running ------------------------------------------------------------------------------------

RequestRules Session::Rules() const {
  return {mount_->size_bytes(), mount_->read_only(), structured_replies_, base_allocation_};
}

void Session::Start(Task<void> request_task) {
  ++running_;
  requests_.Spawn(std::move(request_task));
}

void Session::Ended() {
  --running_;
  CloseWhenDrained();
}

Error Session::EncodeStatus(const Request& request, const absl::Status& status, Reply& reply) {
  if (status.ok()) {
    EncodeDone(request, reply);
    return Error::kNone;
  }
  const Refusal refusal = RefusalFor(status, request.command, stopping_);
  EncodeError(request, refusal, structured_replies_, reply);
  return refusal.error;
}

void Session::Answered(const Request& request, Error error) {
  CommandCounters& counters = environment_.counters.of(request.command);
  ++counters.requests;
  if (error == Error::kNone) {
    counters.bytes += request.length;
    environment_.latency.commands[static_cast<size_t>(request.command)].Add(
        Executor::Current().LastTick() - request.received);
  } else {
    ++counters.errors;
  }
  slots_.Release(1);
}

Task<void> Session::RunRefusal(Request request, Refusal refusal) {
  Reply reply;
  EncodeError(request, refusal, structured_replies_, reply);
  co_await replies_.Send(reply);
  Answered(request, refusal.error);
}

Task<void> Session::RunWrite(Request request, Buffer payload, PayloadBudget::Grant grant) {
  const MonoNanos whole = Executor::Current().LastTick();
  const absl::Status status = co_await mount_->Write(request.offset, request.length,
                                                     std::move(payload), request.has(kFlagFua));
  const MonoNanos written = Executor::Current().LastTick();
  grant.Release();
  Reply reply;
  const Error error = EncodeStatus(request, status, reply);
  co_await replies_.Send(reply);
  if (error == Error::kNone) {
    environment_.latency.receive.Add(whole - request.received);
    environment_.latency.reply.Add(Executor::Current().LastTick() - written);
  }
  Answered(request, error);
  Ended();
}

Task<void> Session::RunWritePiece(std::shared_ptr<SplitWrite> write, uint64_t offset,
                                  uint32_t length, Buffer payload, PayloadBudget::Grant grant) {
  const absl::Status status =
      co_await mount_->Write(offset, length, std::move(payload), write->request.has(kFlagFua));
  grant.Release();
  write->status.Update(status);
  co_await FinishSplitWrite(std::move(write));
}

Task<void> Session::FinishSplitWrite(std::shared_ptr<SplitWrite> write) {
  if (--write->unfinished == 0) {
    const MonoNanos written = Executor::Current().LastTick();
    Reply reply;
    const Error error = EncodeStatus(write->request, write->status, reply);
    co_await replies_.Send(reply);
    if (error == Error::kNone) {
      environment_.latency.receive.Add(write->whole - write->request.received);
      environment_.latency.reply.Add(Executor::Current().LastTick() - written);
    }
    Answered(write->request, error);
  }
  Ended();
}

Task<void> Session::RunRead(Request request) {
  uint64_t offset = request.offset;
  uint32_t left = request.length;
  Error error = Error::kNone;
  while (left > 0 && error == Error::kNone) {
    Piece piece = co_await TakeReadPiece(request, offset, left);
    const absl::StatusOr<ReadReply> data = co_await mount_->Read(offset, piece.length);
    Reply reply;
    if (!data.ok()) {
      error = EncodeStatus(request, data.status(), reply);
    } else if (!structured_replies_) {
      EncodeSimpleRead(request, data->buffer.data() + data->skip, reply);
    } else {
      EncodeReadChunks(request, offset, piece.length, data->buffer.data() + data->skip,
                       data->extents, piece.length == left, reply);
    }
    co_await replies_.Send(reply);
    offset += piece.length;
    left -= piece.length;
  }
  Answered(request, error);
  Ended();
}

Task<void> Session::RunBlockStatus(Request request) {
  const size_t max_extents = request.has(kFlagReqOne) ? 1 : kMaxStatusExtents;
  const absl::StatusOr<std::vector<ByteExtent>> extents =
      co_await mount_->BlockStatus(request.offset, request.length, max_extents);
  Reply reply;
  Error error = Error::kNone;
  if (extents.ok()) {
    EncodeBlockStatus(request, *extents, reply);
  } else {
    error = EncodeStatus(request, extents.status(), reply);
  }
  co_await replies_.Send(reply);
  Answered(request, error);
  Ended();
}

Task<absl::Status> Session::DoPlain(Request request) {
  const ZeroOptions zero_options{.fua = request.has(kFlagFua),
                                 .allocate = request.has(kFlagNoHole)};
  switch (request.command) {
    case Command::kFlush:
      co_return co_await mount_->Flush();
    case Command::kTrim:
      co_return co_await mount_->Trim(request.offset, request.length, request.has(kFlagFua));
    case Command::kWriteZeroes:
      co_return co_await mount_->WriteZeroes(request.offset, request.length, zero_options);
    default:
      // NBD_CMD_CACHE: a hint. There is no cache of data to fill.
      co_return absl::OkStatus();
  }
}

Task<void> Session::RunPlain(Request request) {
  const absl::Status status = co_await DoPlain(request);
  Reply reply;
  const Error error = EncodeStatus(request, status, reply);
  co_await replies_.Send(reply);
  Answered(request, error);
  Ended();
}

}  // namespace twofold::nbd
