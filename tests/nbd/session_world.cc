#include "tests/nbd/session_world.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "storage/base/check.h"
#include "storage/runtime/executor.h"
#include "tools/nbd/exports.h"

namespace twofold::nbd {
namespace {

constexpr size_t kSendPieceBytes = size_t{256} << 10;

Endpoint ServerEndpoint() { return {Endpoint::Kind::kUnix, "/nbd.sock"}; }

Task<void> SleepTask(int64_t nanos) { co_await SleepFor(nanos); }

}  // namespace

SessionWorld::SessionWorld(Options options)
    : pool_(options.seed, options.replica), network_(pool_.poller(), options.network) {
  pool_.MustAttach();
  pool_.MakeVolume("vol", kVolumeBytes);
  auto server = Server::Create(network_, ExportsOf(pool_.pool()), options.server);
  TF_CHECK_OK(server.status());
  server_ = *std::move(server);
  pool_.Call([this] { TF_CHECK_OK(server_->Start({ServerEndpoint()})); });
}

SessionWorld::~SessionWorld() {
  if (server_ != nullptr) StopServer();
}

void SessionWorld::StopServer() {
  pool_.Run(server_->Stop());
  EXPECT_EQ(buffers_used_bytes(), 0u);
  server_.reset();
}

Position SessionWorld::position(const std::string& volume) {
  return pool_.pool().FindVolume(volume)->position;
}

void SessionWorld::MakeSnapshot(const std::string& volume, const std::string& name) {
  std::vector<SnapshotName> names;
  names.push_back({volume, name});
  const auto made = pool_.Run(pool_.pool().CreateSnapshots(std::move(names)));
  EXPECT_TRUE(made.ok()) << made.status();
}

void SessionWorld::Sleep(int64_t nanos) { pool_.Run(SleepTask(nanos)); }

bool SessionWorld::WaitFor(const std::function<bool()>& condition, int64_t limit_nanos) {
  const MonoNanos end = Now() + limit_nanos;
  for (int64_t pause = 20'000; !condition(); pause = std::min(2 * pause, kNanosPerSecond / 10)) {
    if (Now() >= end) return false;
    Sleep(pause);
  }
  return true;
}

std::unique_ptr<Connection> SessionWorld::Connect() {
  auto connection = pool_.Run(network_.Connect(ServerEndpoint()));
  TF_CHECK_OK(connection.status());
  return *std::move(connection);
}

RawClient::RawClient(SessionWorld& world, bool reading)
    : world_(world), connection_(world.Connect()) {
  if (reading) StartReading();
}

RawClient::~RawClient() {
  Close();
  world_.pool().Run(scope_.Join());
}

void RawClient::StartReading() {
  world_.pool().Call([this] { scope_.Spawn(ReadAll()); });
}

Task<void> RawClient::ReadAll() {
  std::vector<std::byte> piece(size_t{64} << 10);
  while (true) {
    const absl::StatusOr<size_t> bytes = co_await connection_->Read(absl::MakeSpan(piece));
    if (!bytes.ok() || *bytes == 0) break;
    received_.append(reinterpret_cast<const char*>(piece.data()), *bytes);
  }
  closed_ = true;
}

Task<void> RawClient::WriteAll() {
  while (!outgoing_.empty()) {
    std::string piece = outgoing_.substr(0, kSendPieceBytes);
    iovec pieces{piece.data(), piece.size()};
    const absl::Status sent = co_await connection_->Write(absl::MakeSpan(&pieces, 1));
    if (!sent.ok()) break;
    outgoing_.erase(0, piece.size());
  }
  sending_ = false;
}

void RawClient::Send(const std::string& bytes) {
  outgoing_ += bytes;
  if (outgoing_.empty() || std::exchange(sending_, true)) return;
  world_.pool().Call([this] { scope_.Spawn(WriteAll()); });
}

void RawClient::Close() {
  world_.pool().Call([this] { connection_->Shutdown(); });
}

void RawClient::CloseSending() {
  world_.pool().Call([this] { sim::SimNetwork::CloseSending(*connection_); });
}

bool RawClient::WaitClosed(int64_t limit_nanos) {
  return world_.WaitFor([this] { return closed_; }, limit_nanos);
}

std::string RawClient::Take(size_t bytes) {
  const bool there = world_.WaitFor([this, bytes] { return received_.size() >= bytes || closed_; });
  EXPECT_TRUE(there && received_.size() >= bytes)
      << "expected " << bytes << " bytes, got " << received_.size()
      << (closed_ ? ", and the connection was closed" : "");
  std::string taken = received_.substr(0, bytes);
  received_.erase(0, bytes);
  return taken;
}

void RawClient::Greet(uint32_t flags) {
  EXPECT_EQ(Take(kGreetingBytes), "NBDMAGICIHAVEOPT" + Be16(3));
  Send(ClientFlags(flags));
}

std::vector<OptionReplyMessage> RawClient::TakeAnswer() {
  std::vector<OptionReplyMessage> replies;
  const bool whole = world_.WaitFor([this, &replies] {
    for (OptionReplyMessage& reply : TakeOptionReplies(received_)) {
      replies.push_back(std::move(reply));
    }
    const bool ended =
        !replies.empty() && (replies.back().type == kRepAck || replies.back().type >= kRepErrUnsup);
    return ended || closed_;
  });
  EXPECT_TRUE(whole && !replies.empty()) << "no answer" << (closed_ ? ": closed" : "");
  if (replies.empty()) replies.push_back({});
  return replies;
}

std::vector<OptionReplyMessage> RawClient::Ask(uint32_t option, const std::string& data) {
  Send(OptionOf(option, data));
  return TakeAnswer();
}

void RawClient::Open(const std::string& name, bool structured, bool contexts) {
  Greet();
  if (structured) {
    EXPECT_EQ(Ask(kOptStructuredReply).back().type, kRepAck);
  }
  if (contexts) {
    EXPECT_EQ(Ask(kOptSetMetaContext, MetaData(name, {"base:allocation"})).back().type, kRepAck);
  }
  EXPECT_EQ(Ask(kOptGo, GoData(name)).back().type, kRepAck) << name;
}

ReplyMessage RawClient::TakeOneReply(size_t data_bytes) {
  const auto length = [this, data_bytes] { return ReplyBytes(received_, data_bytes); };
  const bool there = world_.WaitFor([this, &length] {
    const size_t bytes = length();
    return closed_ || (bytes > 0 && received_.size() >= bytes);
  });
  if (!there || length() == 0 || received_.size() < length()) {
    ADD_FAILURE() << "no reply" << (closed_ ? ": the connection was closed" : "");
    return {};
  }
  return TakeReply(received_, data_bytes);
}

bool RawClient::WriteAndRead(uint64_t offset, char fill) {
  const uint64_t write = next_cookie_++;
  const uint64_t read = next_cookie_++;
  const std::string data(kBlockSize, fill);
  Send(RequestOf(kCmdWrite, write, offset, kBlockSize, 0, data));
  const ReplyMessage written = TakeOneReply();
  if (written.cookie != write || written.error != 0) return false;
  Send(RequestOf(kCmdRead, read, offset, kBlockSize));
  const ReplyMessage reply = TakeOneReply(kBlockSize);
  if (reply.cookie != read || reply.error != 0 || !reply.done) return false;
  // A chunk has its offset first.
  return reply.payload == (reply.type == -1 ? data : Be64(offset) + data);
}

void ExpectServing(SessionWorld& world, const std::string& name) {
  RawClient client(world);
  client.Open(name);
  EXPECT_TRUE(client.WriteAndRead(kVolumeBytes - kBlockSize, 'g'));
  client.Send(RequestOf(kCmdDisc, 1, 0, 0));
  EXPECT_TRUE(client.WaitClosed());
  EXPECT_EQ(client.received(), "");
}

}  // namespace twofold::nbd
