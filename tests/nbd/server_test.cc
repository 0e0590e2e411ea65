// Clients that are slow, silent, too many or suddenly gone: each costs a bounded amount, and the
// others do not notice.
#include "tools/nbd/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/base/log.h"
#include "storage/base/prng.h"
#include "tests/nbd/session_world.h"

namespace twofold::nbd {
namespace {

using ::testing::HasSubstr;

constexpr auto kHandshakeTimeout = static_cast<int64_t>(kNbdHandshakeTimeoutMs) * kNanosPerMilli;
constexpr auto kStuckTimeout = static_cast<int64_t>(kNbdStuckTimeoutMs) * kNanosPerMilli;

SessionWorld::Options AtMost(size_t connections) {
  SessionWorld::Options options;
  options.server.max_connections = connections;
  return options;
}

// What a client that went away without a word has left behind is gone too.
void ExpectForgotten(SessionWorld& world, size_t connections_left = 0) {
  EXPECT_TRUE(world.WaitFor([&] { return world.server().connections() == connections_left; },
                            kNanosPerSecond));
  EXPECT_TRUE(world.WaitFor([&] { return world.buffers_used_bytes() == 0; }, kNanosPerSecond));
}

std::string WriteOf(uint64_t cookie, uint64_t offset, uint32_t length, char fill) {
  return RequestOf(kCmdWrite, cookie, offset, length, 0, std::string(length, fill));
}

std::string ReadBack(SessionWorld& world, uint64_t offset, uint32_t length) {
  RawClient client(world);
  client.Open("vol");
  client.Send(RequestOf(kCmdRead, 1, offset, length));
  return client.TakeOneReply(length).payload;
}

// ---- Silence ------------------------------------------------------------------------------------

TEST(NbdServer, ClosesAHandshakeThatIsNotFinishedInTime) {
  SessionWorld world;
  const MonoNanos begin = world.Now();
  RawClient silent(world);
  RawClient greeted(world);
  greeted.Greet();
  RawClient half(world);
  half.Send(ClientFlags() + OptionHeaderOf(kOptGo, 9) + "abc");
  RawClient unread(world, /*reading=*/false);  // asks for more than the network holds
  unread.Send(ClientFlags());
  for (int i = 0; i < 250; ++i) unread.Send(OptionOf(kOptInfo, GoData("vol", {1, 2, 3})));
  world.Sleep(kHandshakeTimeout - 2 * kNanosPerSecond);
  ExpectServing(world);
  EXPECT_FALSE(silent.closed() || greeted.closed() || half.closed());
  EXPECT_TRUE(silent.WaitClosed(5 * kNanosPerSecond));
  EXPECT_TRUE(greeted.WaitClosed(kNanosPerSecond) && half.WaitClosed(kNanosPerSecond));
  EXPECT_GE(world.Now() - begin, kHandshakeTimeout);
  ExpectForgotten(world);
  EXPECT_GE(world.counters().timeouts, 3u);
  ExpectServing(world);
}

TEST(NbdServer, ClosesAHandshakeThatIsDraggedOut) {
  SessionWorld world;
  RawClient client(world);
  client.Send(ClientFlags() + OptionHeaderOf(99, 1'000'000));
  const MonoNanos begin = world.Now();
  while (!client.closed() && world.Now() - begin < 2 * kHandshakeTimeout) {
    client.Send("x");
    world.Sleep(kNanosPerSecond / 2);
  }
  EXPECT_TRUE(client.closed());
  EXPECT_EQ(world.counters().timeouts, 1u);
  ExpectForgotten(world);
}

// A client that has opened its export may be silent as long as it likes.
TEST(NbdServer, KeepsAClientThatAsksNothing) {
  SessionWorld world;
  RawClient client(world);
  client.Open("vol");
  world.Sleep(3'600 * kNanosPerSecond);
  EXPECT_TRUE(client.WriteAndRead(0, 'x'));
}

TEST(NbdServer, CountsWhatRequestsHaveTaken) {
  SessionWorld world;
  RawClient client(world);
  client.Open("vol");
  // The header and a part of the payload: the write begins two seconds later.
  client.Send(RequestOf(kCmdWrite, 1, 0, 8192) + std::string(5000, 'x'));
  world.Sleep(2 * kNanosPerSecond);
  client.Send(std::string(3192, 'x'));
  EXPECT_EQ(client.TakeOneReply().error, 0u);
  client.Send(RequestOf(kCmdRead, 2, 0, 4096));
  EXPECT_EQ(client.TakeOneReply(4096).error, 0u);
  client.Send(RequestOf(kCmdRead, 3, kVolumeBytes, 4096));  // fails, and counts for nothing
  EXPECT_NE(client.TakeOneReply().error, 0u);
  world.Sleep(kNanosPerSecond);
  const ServerLatency& latency = world.server().latency();
  const LatencyHistogram& write = latency.commands[static_cast<size_t>(Command::kWrite)];
  EXPECT_EQ(write.count(), 1u);
  EXPECT_EQ(latency.receive.count(), 1u);
  EXPECT_EQ(latency.reply.count(), 1u);
  EXPECT_GE(latency.receive.max(), 3 * kNanosPerSecond / 2);
  EXPECT_GE(write.max(), latency.receive.max() + latency.reply.max());
  EXPECT_LE(write.max(), 3 * kNanosPerSecond);
  EXPECT_EQ(latency.commands[static_cast<size_t>(Command::kRead)].count(), 1u);

  int64_t sum = latency.receive.sum() + latency.reply.sum();
  size_t stages = 0;
  for (const StageLatency& stage : world.pool().pool().Latencies()) {
    EXPECT_EQ(stage.histogram.count(), 1u) << stage.stage;
    sum += stage.histogram.sum();
    ++stages;
  }
  EXPECT_EQ(stages, 3u);  // order, replicate, commit: simulated replicas have none of their own
  EXPECT_EQ(sum, write.sum());
}

// Memory that all share is not held for ever by those who stop in the middle of a payload.
TEST(NbdServer, ClientsThatStopInAPayloadHoldUpNobodyAndAreLetGo) {
  constexpr size_t kStuck = 150;
  SessionWorld world;
  std::vector<std::unique_ptr<RawClient>> stuck;
  for (size_t i = 0; i < kStuck; ++i) {
    stuck.push_back(std::make_unique<RawClient>(world));
    stuck.back()->Open("vol");
    stuck.back()->Send(RequestOf(kCmdWrite, 1, 0, kVolumeBytes) + std::string(1000, 'x'));
  }
  world.Sleep(kNanosPerSecond);
  EXPECT_LE(world.buffers_used_bytes(), kDefaultBufferPoolBytes);
  for (int i = 0; i < 20; ++i) ExpectServing(world);
  RawClient large(world);  // in one message: needs memory that is shared
  large.Open("vol");
  large.Send(RequestOf(kCmdRead, 2, 0, kVolumeBytes));
  EXPECT_TRUE(world.WaitFor([&] { return large.received().size() >= 16 + kVolumeBytes; },
                            2 * kStuckTimeout));
  ExpectForgotten(world, 1);
  EXPECT_EQ(world.counters().timeouts, kStuck);
}

// However slowly it sends.
TEST(NbdServer, KeepsAClientThatSendsItsPayloadBitByBit) {
  SessionWorld world;
  RawClient client(world);
  client.Open("vol");
  client.Send(RequestOf(kCmdWrite, 1, 0, 4096));
  for (int i = 0; i < 8; ++i) {
    client.Send(std::string(512, 's'));
    world.Sleep(kStuckTimeout / 2);
  }
  EXPECT_EQ(client.TakeOneReply().error, 0u);
}

// Opens "vol", asks for far more than the network holds, and reads nothing.
std::unique_ptr<RawClient> MuteClient(SessionWorld& world, bool structured) {
  auto client = std::make_unique<RawClient>(world, /*reading=*/false);
  std::string bytes = ClientFlags();
  if (structured) bytes += OptionOf(kOptStructuredReply);
  bytes += OptionOf(kOptGo, GoData("vol"));
  for (uint64_t cookie = 0; cookie < 200; ++cookie) {
    bytes += RequestOf(kCmdRead, cookie, 0, kVolumeBytes);
  }
  for (uint64_t cookie = 0; cookie < 20; ++cookie) bytes += WriteOf(cookie, 0, 300'000, 'm');
  client->Send(bytes);
  return client;
}

TEST(NbdServer, AClientThatTakesNoRepliesIsLetGo) {
  SessionWorld world;
  const auto mute = MuteClient(world, false);
  world.Sleep(kStuckTimeout - 2 * kNanosPerSecond);
  EXPECT_GT(mute->unsent_bytes(), 0u) << "it is not read any further";
  EXPECT_EQ(world.server().connections(), 1u);
  world.Sleep(4 * kNanosPerSecond);
  EXPECT_EQ(world.counters().timeouts, 1u);
  ExpectForgotten(world);
}

// All payload memory that is to be had is taken: the others go on with what is their own.
TEST(NbdServer, ManyClientsThatTakeNoRepliesHoldUpNobodyAndAreLetGo) {
  constexpr size_t kMute = 40;
  SessionWorld world;
  RawClient writer(world);
  writer.Open("vol");  // holes would hardly fill the network
  writer.Send(WriteOf(1, 0, kVolumeBytes, 'd'));
  EXPECT_EQ(writer.TakeOneReply().error, 0u);
  writer.Close();
  std::vector<std::unique_ptr<RawClient>> mute;
  for (size_t i = 0; i < kMute; ++i) mute.push_back(MuteClient(world, i % 2 == 1));
  world.Sleep(5 * kNanosPerSecond);
  ASSERT_EQ(world.server().connections(), kMute);
  EXPECT_GT(world.buffers_used_bytes(), kDefaultBufferPoolBytes / 2);
  EXPECT_LE(world.buffers_used_bytes(), kDefaultBufferPoolBytes);
  const MonoNanos begin = world.Now();
  for (int i = 0; i < 20; ++i) ExpectServing(world);
  RawClient large(world);
  large.Open("vol", true);
  large.Send(RequestOf(kCmdWrite, 1, 0, kVolumeBytes, 0, std::string(kVolumeBytes, 'L')));
  EXPECT_EQ(large.TakeOneReply().error, 0u);
  large.Send(RequestOf(kCmdRead, 2, 0, kVolumeBytes));
  size_t read_bytes = 0;
  while (read_bytes < kVolumeBytes) {
    const ReplyMessage piece = large.TakeOneReply();
    ASSERT_EQ(piece.type, 1);
    read_bytes += piece.payload.size() - 8;
  }
  EXPECT_LT(world.Now() - begin, 5 * kNanosPerSecond);
  // Those that waited for the memory of others get their time from when they have it.
  EXPECT_TRUE(
      world.WaitFor([&] { return world.counters().timeouts == kMute; }, 10 * kStuckTimeout));
  ExpectForgotten(world, 1);
}

// ---- Too many -----------------------------------------------------------------------------------

TEST(NbdServer, TellsClientsOverTheLimitSo) {
  SessionWorld world(AtMost(2));
  auto first = std::make_unique<RawClient>(world);
  first->Open("vol");
  RawClient second(world);
  second.Open("vol");

  RawClient third(world);
  third.Greet();
  for (const uint32_t option : {kOptGo, kOptInfo, kOptList, kOptStructuredReply}) {
    const auto replies = third.Ask(option, option == kOptList ? "" : GoData("vol"));
    EXPECT_EQ(replies.back().type, kRepErrPolicy);
    EXPECT_THAT(replies.back().payload, HasSubstr("2 connections"));
  }
  EXPECT_EQ(third.Ask(kOptAbort).back().type, kRepAck);
  EXPECT_TRUE(third.WaitClosed(kNanosPerSecond));
  RawClient old(world);
  old.Greet();
  old.Send(OptionOf(kOptExportName, "vol"));
  EXPECT_TRUE(old.WaitClosed(kNanosPerSecond));
  EXPECT_EQ(old.received(), "");

  EXPECT_TRUE(second.WriteAndRead(0, '2'));
  first.reset();
  EXPECT_TRUE(world.WaitFor([&] { return world.server().connections() == 1; }));
  ExpectServing(world);
  EXPECT_EQ(world.counters().refused_connections, 2u);
}

TEST(NbdServer, ClosesClientsBeyondThoseThatItTellsSo) {
  SessionWorld world(AtMost(1));
  RawClient only(world);
  only.Open("vol");
  std::vector<std::unique_ptr<RawClient>> others;
  for (size_t i = 0; i < kMaxNbdRefusedConnections + 10; ++i) {
    others.push_back(std::make_unique<RawClient>(world));
  }
  world.Sleep(kNanosPerSecond);
  size_t closed = 0;
  for (const auto& other : others) closed += other->closed() ? 1 : 0;
  EXPECT_EQ(closed, 10u);
  EXPECT_TRUE(only.WriteAndRead(0, 'o'));
  world.Sleep(kHandshakeTimeout + 2 * kNanosPerSecond);
  for (const auto& other : others) EXPECT_TRUE(other->closed());
  EXPECT_TRUE(only.WriteAndRead(0, 'p'));
}

// ---- Gone ---------------------------------------------------------------------------------------

// R9: nothing of it has a place in the order.
TEST(NbdServer, AWriteWhosePayloadBreaksOffGetsNoSeq) {
  SessionWorld world;
  ExpectServing(world);
  const Position before = world.position();
  for (const uint32_t length : {uint32_t{1}, uint32_t{4096}, uint32_t{70'000}, uint32_t{500'000}}) {
    for (const size_t missing : {size_t{1}, size_t{length} / 2 + 1, size_t{length}}) {
      RawClient client(world);
      client.Open("vol");
      const std::string bytes = WriteOf(1, 512, length, 'x');
      client.Send(bytes.substr(0, bytes.size() - missing));
      EXPECT_TRUE(world.WaitFor([&client] { return client.unsent_bytes() == 0; }));
      world.Sleep(10 * kNanosPerMilli);
      client.Close();
      ExpectForgotten(world);
      EXPECT_EQ(world.position(), before) << length << " less " << missing;
    }
  }
  EXPECT_TRUE(ReadBack(world, 0, 512 * 1024) == std::string(512 * 1024, '\0'));
}

TEST(NbdServer, AWriteThatWaitsForItsTurnWhenTheClientGoesGetsNoSeq) {
  SessionWorld world;
  ExpectServing(world);
  const Position before = world.position();
  for (size_t i = 0; i < 2; ++i) world.pool().replica(i).HoldReads(true);
  RawClient client(world);
  client.Open("vol");
  client.Send(WriteOf(1, 100, 200, 'x'));  // needs the old bytes around it first
  world.Sleep(10 * kNanosPerMilli);
  client.Close();
  world.Sleep(10 * kNanosPerMilli);
  for (size_t i = 0; i < 2; ++i) {
    world.pool().Call([&world, i] { world.pool().replica(i).HoldReads(false); });
  }
  ExpectForgotten(world);
  EXPECT_EQ(world.position(), before);
  EXPECT_TRUE(ReadBack(world, 0, 4096) == std::string(4096, '\0'));
}

TEST(NbdServer, AWriteThatHasItsPlaceIsFinishedWithoutItsClient) {
  SessionWorld world;
  const Position before = world.position();
  for (size_t i = 0; i < 2; ++i) world.pool().replica(i).HoldAppends(true);
  RawClient client(world);
  client.Open("vol");
  client.Send(WriteOf(1, 4096, 8192, 'x'));
  world.Sleep(10 * kNanosPerMilli);
  client.Close();
  world.Sleep(10 * kNanosPerMilli);
  for (size_t i = 0; i < 2; ++i) {
    world.pool().Call([&world, i] { world.pool().replica(i).HoldAppends(false); });
  }
  ExpectForgotten(world);
  EXPECT_GT(world.position(), before);
  EXPECT_TRUE(ReadBack(world, 4096, 8192) == std::string(8192, 'x'));
}

// NBD_CMD_DISC: "the server MUST handle all outstanding requests".
TEST(NbdServer, FinishesWhatWasAskedBeforeDisconnect) {
  SessionWorld world;
  RawClient client(world);
  client.Open("vol");
  std::string bytes;
  for (uint64_t i = 0; i < 50; ++i) bytes += WriteOf(i, i * 4096, 4096, 'd');
  client.Send(bytes + RequestOf(kCmdDisc, 99, 0, 0));
  EXPECT_TRUE(client.WaitClosed());
  for (uint64_t i = 0; i < 50; ++i) EXPECT_EQ(client.TakeOneReply().error, 0u);
  EXPECT_EQ(client.received(), "");
  EXPECT_TRUE(ReadBack(world, 0, 50 * 4096) == std::string(50 * 4096, 'd'));
}

TEST(NbdServer, FinishesWhatWasAskedBeforeDisconnectWhenTheClientDoesNotWait) {
  SessionWorld world;
  {
    RawClient client(world);
    client.Open("vol");
    std::string bytes;
    for (uint64_t i = 0; i < 50; ++i) bytes += WriteOf(i, i * 4096, 4096, 'd');
    client.Send(bytes + RequestOf(kCmdDisc, 99, 0, 0));
    EXPECT_TRUE(world.WaitFor([&client] { return client.unsent_bytes() == 0; }));
  }
  ExpectForgotten(world);
  EXPECT_TRUE(ReadBack(world, 0, 50 * 4096) == std::string(50 * 4096, 'd'));
}

TEST(NbdServer, AnswersAClientThatHasClosedItsSendingSide) {
  SessionWorld world;
  ExpectServing(world);
  RawClient client(world);
  client.Open("vol");
  for (uint64_t i = 0; i < 20; ++i) client.Send(RequestOf(kCmdRead, i, 0, kVolumeBytes));
  EXPECT_TRUE(world.WaitFor([&client] { return client.unsent_bytes() == 0; }));
  client.CloseSending();
  EXPECT_TRUE(client.WaitClosed());
  for (uint64_t i = 0; i < 20; ++i) EXPECT_EQ(client.TakeOneReply(kVolumeBytes).error, 0u);
  EXPECT_EQ(client.received(), "");
  ExpectForgotten(world);
}

// ---- Stopping -----------------------------------------------------------------------------------

TEST(NbdServer, StopsInTimeWhateverTheClientsDo) {
  SessionWorld world;
  RawClient silent(world);
  RawClient idle(world);
  idle.Open("vol");
  RawClient in_payload(world);
  in_payload.Open("vol");
  in_payload.Send(RequestOf(kCmdWrite, 1, 0, 4096) + "xyz");
  RawClient mute(world, /*reading=*/false);
  mute.Send(ClientFlags() + OptionOf(kOptGo, GoData("vol")));
  for (uint64_t i = 0; i < 200; ++i) mute.Send(RequestOf(kCmdRead, i, 0, kVolumeBytes));
  world.Sleep(kNanosPerSecond);
  const MonoNanos begin = world.Now();
  world.StopServer();
  EXPECT_LE(world.Now() - begin,
            static_cast<int64_t>(kNbdDrainTimeoutMs) * kNanosPerMilli + 2 * kNanosPerSecond);
  EXPECT_TRUE(silent.WaitClosed() && idle.WaitClosed() && in_payload.WaitClosed());
}

// ---- Anything -----------------------------------------------------------------------------------

// A stream that a good client could send, with some bytes of it wrong, missing or doubled.
std::string MutatedStream(Prng& random) {
  std::string bytes = ClientFlags();
  if (random.OneIn(2)) bytes += OptionOf(kOptStructuredReply);
  if (random.OneIn(2)) bytes += OptionOf(kOptSetMetaContext, MetaData("bad", {"base:allocation"}));
  if (random.OneIn(3)) bytes += OptionOf(kOptList);
  if (random.OneIn(3)) bytes += OptionOf(kOptInfo, GoData("bad", {1, 2}));
  bytes += random.OneIn(5) ? OptionOf(kOptExportName, "bad") : OptionOf(kOptGo, GoData("bad"));
  for (uint64_t i = random.Uniform(30); i > 0; --i) {
    const auto command = static_cast<uint16_t>(random.Uniform(9));
    const uint64_t offset = random.Uniform(kVolumeBytes);
    const auto length = static_cast<uint32_t>(random.Uniform(random.OneIn(4) ? 400'000 : 9'000));
    const auto flags = static_cast<uint16_t>(random.OneIn(3) ? random.Uniform(32) : 0);
    bytes += RequestOf(command, i, offset, length, flags,
                       command == kCmdWrite ? std::string(length, 'b') : "");
  }
  for (uint64_t i = random.Uniform(4); i > 0; --i) {
    const size_t at = static_cast<size_t>(random.Uniform(bytes.size()));
    switch (random.Uniform(4)) {
      case 0:
        bytes[at] = static_cast<char>(random.Next());
        break;
      case 1:
        bytes.erase(at, 1 + random.Uniform(40));
        break;
      case 2:
        bytes.insert(at, bytes.substr(at, 1 + random.Uniform(40)));
        break;
      default:
        bytes.resize(std::max<size_t>(at, 1));
        break;
    }
  }
  return bytes;
}

TEST(NbdServer, SurvivesAnythingWhileOthersAreServed) {
  SetLogLevel(LogLevel::kError);
  for (uint64_t seed = 1; seed <= 60 && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    SessionWorld::Options options;
    options.seed = seed;
    options.server.max_connections = 6;
    SessionWorld world(options);
    world.pool().MakeVolume("bad", kVolumeBytes);
    Prng random(seed);
    RawClient good(world);
    good.Open("vol", random.OneIn(2));
    std::vector<std::unique_ptr<RawClient>> clients;
    for (int step = 0; step < 30; ++step) {
      clients.push_back(std::make_unique<RawClient>(world, /*reading=*/!random.OneIn(4)));
      clients.back()->Send(MutatedStream(random));
      if (random.OneIn(4)) clients.back()->CloseSending();
      world.Sleep(static_cast<int64_t>(random.Uniform(20 * kNanosPerMilli)));
      if (random.OneIn(2))
        clients.erase(clients.begin() + static_cast<ptrdiff_t>(random.Uniform(clients.size())));
      const uint64_t block = random.Uniform(kVolumeBytes / kBlockSize);
      EXPECT_TRUE(good.WriteAndRead(block * kBlockSize, static_cast<char>('A' + step)));
    }
    clients.clear();
    ExpectForgotten(world, 1);
  }
  SetLogLevel(LogLevel::kInfo);
}

}  // namespace
}  // namespace twofold::nbd
