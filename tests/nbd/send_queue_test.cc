#include "tools/nbd/send_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/limits.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task_scope.h"
#include "tests/nbd/client_bytes.h"
#include "tests/sim/sim_poller.h"

namespace twofold::nbd {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::Le;
using testing::SizeIs;

// Takes what is written, each write as one string; can be slow, and can break.
class Sink final : public Connection {
 public:
  explicit Sink(sim::SimPoller& poller) : poller_(poller) {}

  Task<absl::StatusOr<size_t>> Read(absl::Span<std::byte>) override { co_return size_t{0}; }
  Task<absl::Status> Write(absl::Span<iovec> pieces) override {
    EXPECT_LE(pieces.size(), kMaxIoPieces);
    std::string bytes;
    for (const iovec& piece : pieces) {
      EXPECT_GT(piece.iov_len, 0u);
      bytes.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
    }
    pieces_in_last_write = pieces.size();
    co_await poller_.Delay(delay_nanos);
    if (broken) co_return absl::UnavailableError("the peer is gone");
    writes.push_back(std::move(bytes));
    co_return absl::OkStatus();
  }
  bool PeerHungUp() override { return broken; }
  void Shutdown() override { shut_down = true; }
  const std::string& peer() const override { return peer_; }

  std::string all() const {
    std::string all;
    for (const std::string& write : writes) all += write;
    return all;
  }

  std::vector<std::string> writes;
  size_t pieces_in_last_write = 0;
  int64_t delay_nanos = 1000;
  bool broken = false;
  bool shut_down = false;

 private:
  sim::SimPoller& poller_;
  const std::string peer_ = "sink";
};

struct World {
  static Task<void> SendDone(World* world, uint64_t cookie) {
    Reply reply;
    EncodeDone(Request{Command::kWrite, 0, cookie, 0, 4096}, reply);
    const bool sent = co_await world->queue.Send(reply);
    (sent ? world->sent : world->dropped).push_back(cookie);
  }
  static Task<void> SendData(World* world, uint64_t cookie, const std::string* data) {
    Reply reply;
    EncodeSimpleRead(Request{Command::kRead, 0, cookie, 0, static_cast<uint32_t>(data->size())},
                     AsBytes(*data).data(), reply);
    const bool sent = co_await world->queue.Send(reply);
    (sent ? world->sent : world->dropped).push_back(cookie);
  }
  // `data_bytes` in chunks of a block each, every second one a hole.
  static Task<void> SendChunks(World* world, uint64_t cookie, const std::string* data) {
    std::vector<ByteExtent> extents;
    for (size_t at = 0; at < data->size(); at += kBlockSize) {
      extents.push_back({kBlockSize, extents.size() % 2 == 1});
    }
    Reply reply;
    const auto length = static_cast<uint32_t>(data->size());
    EncodeReadChunks(Request{Command::kRead, 0, cookie, 0, length}, 0, length,
                     AsBytes(*data).data(), extents, true, reply);
    const bool sent = co_await world->queue.Send(reply);
    (sent ? world->sent : world->dropped).push_back(cookie);
  }
  Task<void> Finish() {
    co_await senders.Join();
    queue.Close();
    co_await writer.Join();
  }

  sim::SimPoller poller{1};
  Executor executor{poller};
  Sink sink{poller};
  Counters counters;
  SendQueue queue{sink, counters};
  TaskScope senders;
  TaskScope writer;
  std::vector<uint64_t> sent;
  std::vector<uint64_t> dropped;
};

std::string Pattern(size_t length) {
  std::string data(length, '\0');
  for (size_t i = 0; i < length; ++i) data[i] = static_cast<char>(i * 7 + (i >> 12));
  return data;
}

void RunTest(Task<void> (*body)(World*)) {
  World world;
  world.executor.Run(body(&world));
}

Task<void> TogetherBody(World* world) {
  world->writer.Spawn(world->queue.Run());
  for (uint64_t cookie = 1; cookie <= 40; ++cookie) {
    world->senders.Spawn(World::SendDone(world, cookie));
  }
  co_await world->Finish();
  EXPECT_THAT(world->sink.writes, SizeIs(1));
  EXPECT_EQ(world->sink.pieces_in_last_write, 1u);
  std::string bytes = world->sink.all();
  for (uint64_t cookie = 1; cookie <= 40; ++cookie) EXPECT_EQ(TakeReply(bytes).cookie, cookie);
  EXPECT_EQ(bytes, "");
  EXPECT_EQ(world->counters.sends, 1u);
}

TEST(SendQueue, SendsWhatIsReadyInOneWriteOfOnePiece) { RunTest(TogetherBody); }

Task<void> MeanwhileBody(World* world) {
  world->writer.Spawn(world->queue.Run());
  world->senders.Spawn(World::SendDone(world, 1));
  co_await world->poller.Delay(500);
  EXPECT_TRUE(world->queue.writing());
  world->senders.Spawn(World::SendDone(world, 2));
  world->senders.Spawn(World::SendDone(world, 3));
  EXPECT_THAT(world->sent, ElementsAre());
  co_await world->Finish();
  EXPECT_THAT(world->sent, ElementsAre(1, 2, 3));
  EXPECT_THAT(world->sink.writes, ElementsAre(SizeIs(16), SizeIs(32)));
}

TEST(SendQueue, GathersWhatBecomesReadyDuringAWrite) { RunTest(MeanwhileBody); }

Task<void> LargeBody(World* world) {
  const std::string large = Pattern(kMaxNbdRequestBytes);
  const std::string small = Pattern(4096);
  world->writer.Spawn(world->queue.Run());
  world->senders.Spawn(World::SendData(world, 1, &small));
  world->senders.Spawn(World::SendData(world, 2, &large));
  world->senders.Spawn(World::SendData(world, 3, &small));
  co_await world->Finish();
  EXPECT_THAT(world->sent, ElementsAre(1, 2, 3));
  EXPECT_THAT(world->sink.writes, Each(SizeIs(Le(kNbdSendBytes + 64))));
  std::string bytes = world->sink.all();
  EXPECT_EQ(TakeReply(bytes, small.size()).payload, small);
  EXPECT_TRUE(TakeReply(bytes, large.size()).payload == large);
  EXPECT_EQ(TakeReply(bytes, small.size()).payload, small);
  EXPECT_EQ(bytes, "");
}

TEST(SendQueue, CutsLargeDataAtTheBoundOfAWrite) { RunTest(LargeBody); }

Task<void> ManyChunksBody(World* world) {
  const std::string data = Pattern(kNbdPieceBytes);
  world->writer.Spawn(world->queue.Run());
  for (uint64_t cookie = 1; cookie <= 4; ++cookie) {
    world->senders.Spawn(World::SendChunks(world, cookie, &data));
  }
  co_await world->Finish();
  std::string bytes = world->sink.all();
  for (uint64_t cookie = 1; cookie <= 4; ++cookie) {
    for (size_t at = 0; at < data.size(); at += kBlockSize) {
      const ReplyMessage chunk = TakeReply(bytes);
      EXPECT_EQ(chunk.cookie, cookie);
      EXPECT_EQ(chunk.done, at + kBlockSize == data.size());
      EXPECT_EQ(FromBe(chunk.payload.substr(0, 8)), at);
      if (chunk.type == 1) {
        EXPECT_EQ(chunk.payload.substr(8), data.substr(at, kBlockSize));
      }
    }
  }
  EXPECT_EQ(bytes, "");
}

TEST(SendQueue, SendsRepliesOfManyPartsAcrossWrites) { RunTest(ManyChunksBody); }

Task<void> BrokenBody(World* world) {
  world->writer.Spawn(world->queue.Run());
  world->sink.broken = true;
  world->senders.Spawn(World::SendDone(world, 1));
  co_await world->poller.Delay(500);
  world->senders.Spawn(World::SendDone(world, 2));
  co_await world->poller.Delay(5000);
  EXPECT_TRUE(world->sink.shut_down);
  EXPECT_THAT(world->dropped, ElementsAre(1, 2));
  world->senders.Spawn(World::SendDone(world, 3));  // does not wait at all
  EXPECT_THAT(world->dropped, ElementsAre(1, 2, 3));
  co_await world->Finish();
  EXPECT_THAT(world->sent, ElementsAre());
}

TEST(SendQueue, DropsRepliesOnceTheConnectionIsBroken) { RunTest(BrokenBody); }

}  // namespace
}  // namespace twofold::nbd
