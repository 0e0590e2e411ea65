// P8 over a live pool: each malformed message gets the error that the protocol document asks for,
// the connection stays in step where it may, and everybody else is served as before.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/nbd/session_world.h"

namespace twofold::nbd {
namespace {

constexpr uint32_t kEPerm = 1, kEInval = 22, kENoSpc = 28, kENotSup = 95;
constexpr uint32_t kMaxRequest = uint32_t{32} << 20;
constexpr auto kSize = static_cast<uint32_t>(kVolumeBytes);

// ---- Options ------------------------------------------------------------------------------------

struct BadOption {
  const char* name;
  bool structured;  // negotiated before
  uint32_t option;
  std::string data;
  uint32_t error;
};

std::vector<BadOption> BadOptions() {
  const std::string go = GoData("vol");
  const std::string nul("vo\0l", 4);
  return {
      {"Unknown", false, 99, "some data", kRepErrUnsup},
      {"UnknownLarge", false, 0xffffffff, std::string(100'000, 'x'), kRepErrUnsup},
      {"Zero", false, 0, "", kRepErrUnsup},
      {"Withdrawn", false, kOptPeekExport, "vol", kRepErrUnsup},
      {"Tls", false, kOptStartTls, "", kRepErrUnsup},
      {"ExtendedHeaders", true, kOptExtendedHeaders, "", kRepErrUnsup},
      {"ListWithData", false, kOptList, "x", kRepErrInvalid},
      {"StructuredReplyWithData", false, kOptStructuredReply, "1", kRepErrInvalid},
      {"GoTooLong", false, kOptGo, std::string(5000, 'x'), kRepErrTooBig},
      {"InfoTooLong", false, kOptInfo, std::string(1 << 20, 'x'), kRepErrTooBig},
      {"GoEmpty", false, kOptGo, "", kRepErrInvalid},
      {"GoNameCutShort", false, kOptGo, Be32(100) + "vol" + Be16(0), kRepErrInvalid},
      {"GoNameOfFourGiB", false, kOptGo, Be32(0xffffffff) + "vol" + Be16(0), kRepErrInvalid},
      {"GoNameTooLong", false, kOptGo, GoData(std::string(4097, 'n')), kRepErrInvalid},
      {"GoNameWithNul", false, kOptGo, GoData(nul), kRepErrInvalid},
      {"GoWithoutCount", false, kOptGo, String32("vol"), kRepErrInvalid},
      {"GoCountTooLarge", false, kOptGo, String32("vol") + Be16(3) + Be16(1), kRepErrInvalid},
      {"GoCountTooSmall", false, kOptGo, go + Be16(1), kRepErrInvalid},
      {"GoOddTail", false, kOptGo, go + "x", kRepErrInvalid},
      {"GoUnknownExport", false, kOptGo, GoData("nobody"), kRepErrUnknown},
      {"GoNoName", false, kOptGo, GoData(""), kRepErrUnknown},
      {"GoUnknownSnapshot", false, kOptGo, GoData("vol@nothing"), kRepErrUnknown},
      {"GoStrangeName", false, kOptGo, GoData("vol@@\n\xff"), kRepErrUnknown},
      {"InfoUnknownExport", false, kOptInfo, GoData("nobody", {0, 1, 2, 3}), kRepErrUnknown},
      {"ContextsWithoutStructured", false, kOptSetMetaContext, MetaData("vol", {}), kRepErrInvalid},
      {"ListContextsWithoutStructured", false, kOptListMetaContext, MetaData("vol", {}),
       kRepErrInvalid},
      {"ContextsTooLong", true, kOptSetMetaContext, std::string(5000, 'x'), kRepErrTooBig},
      {"ContextsEmpty", true, kOptSetMetaContext, "", kRepErrInvalid},
      {"ContextsUnknownExport", true, kOptSetMetaContext, MetaData("nobody", {"base:allocation"}),
       kRepErrUnknown},
      {"ContextsWithoutNamespace", true, kOptSetMetaContext, MetaData("vol", {"allocation"}),
       kRepErrInvalid},
      {"ContextsEmptyQuery", true, kOptSetMetaContext, MetaData("vol", {""}), kRepErrInvalid},
      {"ContextsNulInQuery", true, kOptSetMetaContext, MetaData("vol", {std::string("b:\0", 3)}),
       kRepErrInvalid},
      {"ContextsCountTooLarge", true, kOptListMetaContext, String32("vol") + Be32(0xffffffff),
       kRepErrInvalid},
      {"ContextsCountTooSmall", true, kOptListMetaContext, MetaData("vol", {}) + String32("base:"),
       kRepErrInvalid},
      {"ContextsQueryCutShort", true, kOptSetMetaContext,
       String32("vol") + Be32(1) + Be32(50) + "base:", kRepErrInvalid},
  };
}

TEST(SessionInput, EachBadOptionGetsItsErrorAndTheHandshakeGoesOn) {
  SessionWorld world;
  RawClient bystander(world);
  bystander.Open("vol");
  for (const BadOption& bad : BadOptions()) {
    SCOPED_TRACE(bad.name);
    RawClient client(world);
    client.Greet();
    if (bad.structured) {
      EXPECT_EQ(client.Ask(kOptStructuredReply).back().type, kRepAck);
    }
    for (int i = 0; i < 2; ++i) {
      const std::vector<OptionReplyMessage> replies = client.Ask(bad.option, bad.data);
      EXPECT_EQ(replies.size(), 1u);
      EXPECT_EQ(replies.back().option, bad.option);
      EXPECT_EQ(replies.back().type, bad.error);
      EXPECT_NE(replies.back().payload, "") << "says what is wrong";
    }
    EXPECT_EQ(client.Ask(kOptGo, GoData("vol")).back().type, kRepAck);
    EXPECT_TRUE(client.WriteAndRead(0, 'c'));
    EXPECT_TRUE(bystander.WriteAndRead(8192, 'b'));
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_EQ(world.counters().failed_handshakes, 0u);
}

TEST(SessionInput, UnknownInformationRequestsAreNoError) {
  SessionWorld world;
  RawClient client(world);
  client.Greet();
  const auto replies = client.Ask(kOptInfo, GoData("vol", {77, 0xffff, 3, 1}));
  ASSERT_EQ(replies.size(), 4u);  // export, block size, name, ack
  EXPECT_EQ(replies.back().type, kRepAck);
}

TEST(SessionInput, AbortIsAcknowledgedAndCloses) {
  SessionWorld world;
  RawClient client(world);
  client.Greet();
  EXPECT_EQ(client.Ask(kOptAbort, "why not").back().type, kRepAck);
  EXPECT_TRUE(client.WaitClosed());
  ExpectServing(world);
}

struct FatalHandshake {
  const char* name;
  std::string bytes;  // after the greeting
};

std::vector<FatalHandshake> FatalHandshakes() {
  std::string many;
  for (int i = 0; i < 300; ++i) many += OptionOf(99);
  return {
      {"UnknownFlags", ClientFlags(0x80000003)},
      {"AnotherProtocol", "GET / HTTP/1.1\r\nHost: nbd\r\n\r\n"},
      {"WrongMagic", ClientFlags() + "IHAVEOPS" + Be32(kOptGo) + Be32(0)},
      {"TransmissionAtOnce", ClientFlags() + RequestOf(kCmdRead, 1, 0, 4096)},
      {"ExportNameUnknown", ClientFlags() + OptionOf(kOptExportName, "nobody")},
      {"ExportNameEmpty", ClientFlags() + OptionOf(kOptExportName, "")},
      {"ExportNameTooLong", ClientFlags() + OptionOf(kOptExportName, std::string(4097, 'v'))},
      {"ExportNameWithNul", ClientFlags() + OptionOf(kOptExportName, std::string("vol\0", 4))},
      {"TooManyOptions", ClientFlags() + many},
  };
}

TEST(SessionInput, WhatCannotBeAnsweredEndsTheHandshakeAndNothingElse) {
  SessionWorld world;
  RawClient bystander(world);
  bystander.Open("vol");
  uint64_t failed = 0;
  for (const FatalHandshake& fatal : FatalHandshakes()) {
    SCOPED_TRACE(fatal.name);
    RawClient client(world);
    EXPECT_EQ(client.Take(kGreetingBytes).size(), kGreetingBytes);
    client.Send(fatal.bytes);
    EXPECT_TRUE(client.WaitClosed(kNanosPerSecond)) << "not left to the timeout";
    EXPECT_EQ(world.counters().failed_handshakes, ++failed);
    EXPECT_TRUE(bystander.WriteAndRead(8192, 'b'));
  }
  ExpectServing(world);
}

TEST(SessionInput, ClientsThatLeaveAnywhereInTheHandshakeAreForgotten) {
  SessionWorld world;
  const std::string bytes = ClientFlags() + OptionOf(kOptStructuredReply) + OptionOf(kOptList) +
                            OptionOf(kOptGo, GoData("vol", {1, 2}));
  for (size_t sent = 0; sent <= bytes.size(); ++sent) {
    RawClient client(world);
    client.Send(bytes.substr(0, sent));
    EXPECT_TRUE(world.WaitFor([&client] { return client.unsent_bytes() == 0; }));
    client.Close();
    EXPECT_TRUE(world.WaitFor([&world] { return world.server().connections() == 0; })) << sent;
  }
  ExpectServing(world);
}

TEST(SessionInput, AnOptionAfterGoEndsTheConnection) {
  SessionWorld world;
  RawClient client(world);
  client.Open("vol");
  client.Send(OptionOf(kOptList) + std::string(100, 'x'));
  EXPECT_TRUE(client.WaitClosed(kNanosPerSecond));
  EXPECT_EQ(world.counters().protocol_errors, 1u);
  ExpectServing(world);
}

// ---- Requests -----------------------------------------------------------------------------------

struct BadRequest {
  const char* name;
  const char* exported;
  uint16_t command;
  uint16_t flags;
  uint64_t offset;
  uint32_t length;
  uint32_t payload_bytes;
  uint32_t error;
};

std::vector<BadRequest> BadRequests() {
  constexpr uint64_t kFar = ~uint64_t{0};
  return {
      {"UnknownCommand", "vol", kCmdResize, 0, 0, 4096, 0, kEInval},
      {"UnknownLargeCommand", "vol", 0xffff, 0, 0, 4096, 0, kEInval},
      {"UnknownFlag", "vol", kCmdRead, 0x8000, 0, 4096, 0, kEInval},
      {"UnknownFlagOfAWrite", "vol", kCmdWrite, 0x0020, 0, 4096, 4096, kEInval},
      {"DfOfAWrite", "vol", kCmdWrite, kDf, 0, 4096, 4096, kEInval},
      {"NoHoleOfATrim", "vol", kCmdTrim, kNoHole, 0, 4096, 0, kEInval},
      {"FastZeroOfARead", "vol", kCmdRead, kFastZero, 0, 4096, 0, kEInval},
      {"ReqOneOfAFlush", "vol", kCmdFlush, kReqOne, 0, 0, 0, kEInval},
      {"ReadPastTheEnd", "vol", kCmdRead, 0, kSize - 4096, 4097, 0, kEInval},
      {"ReadAtTheEnd", "vol", kCmdRead, 0, kSize, 1, 0, kEInval},
      {"ReadThatWraps", "vol", kCmdRead, 0, kFar - 4095, 8192, 0, kEInval},
      {"ReadNothing", "vol", kCmdRead, 0, 4096, 0, 0, kEInval},
      {"ReadTooMuch", "vol", kCmdRead, 0, 0, kMaxRequest + 1, 0, kEInval},
      {"ReadFourGiB", "vol", kCmdRead, 0, 0, 0xffffffff, 0, kEInval},
      {"WritePastTheEnd", "vol", kCmdWrite, 0, kSize - 100, 101, 101, kENoSpc},
      {"WriteAtTheEnd", "vol", kCmdWrite, 0, kSize, 4096, 4096, kENoSpc},
      {"WriteThatWraps", "vol", kCmdWrite, 0, kFar, 4096, 4096, kENoSpc},
      {"WriteNothing", "vol", kCmdWrite, 0, 0, 0, 0, kEInval},
      {"WriteTooMuch", "vol", kCmdWrite, 0, 0, kMaxRequest + 4096, kMaxRequest + 4096, kEInval},
      {"TrimPastTheEnd", "vol", kCmdTrim, 0, kSize - 4096, 8192, 0, kEInval},
      {"TrimNothing", "vol", kCmdTrim, 0, 0, 0, 0, kEInval},
      {"ZeroPastTheEnd", "vol", kCmdWriteZeroes, 0, kSize - 4096, 8192, 0, kENoSpc},
      {"ZeroThatWraps", "vol", kCmdWriteZeroes, kNoHole, kFar, 0xffffffff, 0, kENoSpc},
      {"FastZeroOfAPart", "vol", kCmdWriteZeroes, kFastZero, 100, 200, 0, kENotSup},
      {"FastZeroWithoutHole", "vol", kCmdWriteZeroes, kFastZero | kNoHole, 0, 8192, 0, kENotSup},
      {"FlushOfARange", "vol", kCmdFlush, 0, 4096, 4096, 0, kEInval},
      {"CachePastTheEnd", "vol", kCmdCache, 0, kSize, 4096, 0, kEInval},
      {"StatusWithoutContext", "vol", kCmdBlockStatus, 0, 0, 4096, 0, kEInval},
      {"WriteOfASnapshot", "vol@s", kCmdWrite, 0, 0, 4096, 4096, kEPerm},
      {"LongWriteOfASnapshot", "vol@s", kCmdWrite, kFua, 0, 300'000, 300'000, kEPerm},
      {"TrimOfASnapshot", "vol@s", kCmdTrim, 0, 0, 4096, 0, kEPerm},
      {"ZeroOfASnapshot", "vol@s", kCmdWriteZeroes, kNoHole, 0, 4096, 0, kEPerm},
      {"ReadPastTheEndOfASnapshot", "vol@s", kCmdRead, 0, kSize, 4096, 0, kEInval},
  };
}

class SessionRequest : public ::testing::TestWithParam<bool> {};

// Sends `bad`, and then a read, whose reply must be in its place.
void ExpectErrorAndInStep(RawClient& client, const BadRequest& bad, bool structured) {
  client.Send(RequestOf(bad.command, 7, bad.offset, bad.length, bad.flags,
                        std::string(bad.payload_bytes, 'B')));
  client.Send(RequestOf(kCmdRead, 8, 0, 512));
  bool refused = false;
  bool read = false;
  for (int i = 0; i < 2; ++i) {
    const ReplyMessage reply = client.TakeOneReply(512);
    EXPECT_TRUE(reply.done);
    if (reply.cookie == 7) {
      refused = true;
      EXPECT_EQ(reply.error, bad.error);
      EXPECT_EQ(reply.type, structured ? 0x8001 : -1);
      EXPECT_EQ(reply.payload.empty(), !structured) << "the text says what is wrong";
    } else {
      read = true;
      EXPECT_EQ(reply.cookie, 8u);
      EXPECT_EQ(reply.error, 0u);
    }
  }
  EXPECT_TRUE(refused && read);
}

TEST_P(SessionRequest, EachBadRequestGetsItsErrorAndTheConnectionGoesOn) {
  const bool structured = GetParam();
  SessionWorld world;
  ExpectServing(world);
  world.MakeSnapshot("vol", "s");
  RawClient head(world);
  head.Open("vol", structured);
  RawClient snapshot(world);
  snapshot.Open("vol@s", structured);
  RawClient bystander(world);
  bystander.Open("vol");
  const Position before = world.position();
  for (const BadRequest& bad : BadRequests()) {
    SCOPED_TRACE(bad.name);
    ExpectErrorAndInStep(bad.exported == std::string("vol") ? head : snapshot, bad, structured);
    EXPECT_EQ(world.position(), before) << "a refused request changes nothing";
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_TRUE(head.WriteAndRead(0, 'h'));
  EXPECT_TRUE(bystander.WriteAndRead(8192, 'b'));
  EXPECT_EQ(world.counters().protocol_errors, 0u);
}

TEST_P(SessionRequest, WhatEndsAConnectionEndsNothingElse) {
  const bool structured = GetParam();
  SessionWorld world;
  RawClient bystander(world);
  bystander.Open("vol");
  const std::string long_write = RequestOf(kCmdWrite, 1, 0, 0xffffffff);
  const std::string wrong_magic = Be32(0x25609514) + std::string(24, '\0');
  const std::string a_reply = Be32(0x67446698) + std::string(24, '\0');
  uint64_t ended = 0;
  for (const std::string& bytes :
       {long_write, wrong_magic, a_reply, std::string(1000, '\0'), std::string(28, '\xff')}) {
    RawClient client(world);
    client.Open("vol", structured);
    EXPECT_TRUE(client.WriteAndRead(0, 'c'));
    client.Send(bytes);
    EXPECT_TRUE(client.WaitClosed(kNanosPerSecond));
    EXPECT_EQ(world.counters().protocol_errors, ++ended);
    EXPECT_TRUE(bystander.WriteAndRead(8192, 'b'));
  }
  ExpectServing(world);
}

INSTANTIATE_TEST_SUITE_P(Each, SessionRequest, ::testing::Bool(), [](const auto& structured) {
  return structured.param ? "StructuredReplies" : "SimpleReplies";
});

TEST(SessionInput, DfNeedsStructuredReplies) {
  SessionWorld world;
  RawClient simple(world);
  simple.Open("vol");
  ExpectErrorAndInStep(simple, {"", "vol", kCmdRead, kDf, 0, 4096, 0, kEInval}, false);
  RawClient structured(world);
  structured.Open("vol", true);
  structured.Send(RequestOf(kCmdRead, 9, 0, kSize, kDf));
  const ReplyMessage reply = structured.TakeOneReply();
  EXPECT_EQ(reply.cookie, 9u);
  EXPECT_TRUE(reply.done) << "in one chunk";
}

TEST(SessionInput, StatusOfAWrongRangeIsAnErrorWithContextsToo) {
  SessionWorld world;
  RawClient client(world);
  client.Open("vol", true, true);
  for (const BadRequest& bad :
       std::vector<BadRequest>{{"PastTheEnd", "vol", kCmdBlockStatus, 0, kSize - 1, 2, 0, kEInval},
                               {"Nothing", "vol", kCmdBlockStatus, kReqOne, 0, 0, 0, kEInval},
                               {"WrongFlag", "vol", kCmdBlockStatus, kDf, 0, 4096, 0, kEInval}}) {
    SCOPED_TRACE(bad.name);
    ExpectErrorAndInStep(client, bad, true);
  }
  client.Send(RequestOf(kCmdBlockStatus, 9, 0, kSize));
  EXPECT_EQ(client.TakeOneReply().type, 5);
}

// A request may come in any pieces, and many in one.
TEST(SessionInput, UnderstandsRequestsByteByByte) {
  SessionWorld::Options options;
  options.network.max_piece_bytes = 1;
  SessionWorld world(options);
  RawClient client(world);
  client.Open("vol", true);
  EXPECT_TRUE(client.WriteAndRead(4000, 'p'));
  ExpectErrorAndInStep(client, {"", "vol", kCmdWrite, 0, kSize, 300, 300, kENoSpc}, true);
}

}  // namespace
}  // namespace twofold::nbd
