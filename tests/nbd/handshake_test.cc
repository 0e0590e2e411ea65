#include "tools/nbd/handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/limits.h"
#include "tests/map/golden.h"
#include "tests/nbd/client_bytes.h"

namespace twofold::nbd {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

using Exports = std::map<std::string, ExportInfo>;

constexpr uint64_t kVolumeBytes = uint64_t{10} << 30;

// A handshake with a client's end: feeds bytes, collects what comes back.
class Dialogue {
 public:
  explicit Dialogue(Exports exports = {{"vol", {kVolumeBytes, false}}, {"vol@snap", {4096, true}}})
      : exports_(std::move(exports)),
        handshake_(ExportDirectory{[this](const std::string& name) -> absl::StatusOr<ExportInfo> {
                                     if (!find_status_.ok()) return find_status_;
                                     const auto found = exports_.find(name);
                                     if (found == exports_.end())
                                       return absl::NotFoundError("no such export");
                                     return found->second;
                                   },
                                   [this] {
                                     std::vector<std::string> names;
                                     for (const auto& [name, info] : exports_) {
                                       names.push_back(name);
                                     }
                                     std::reverse(names.begin(), names.end());
                                     return names;
                                   }}) {
    output_ = handshake_.TakeOutput();
  }

  // As the session does: `step_bytes` at a time.
  void Send(const std::string& bytes, size_t step_bytes = SIZE_MAX) {
    for (size_t at = 0; at < bytes.size(); at += std::min(step_bytes, bytes.size() - at)) {
      input_ += bytes.substr(at, step_bytes);
      while (!handshake_.finished()) {
        const size_t consumed = handshake_.Advance(AsBytes(input_));
        input_.erase(0, consumed);
        const std::string piece = handshake_.TakeOutput();
        largest_piece_ = std::max(largest_piece_, piece.size());
        output_ += piece;
        if (consumed == 0 && !handshake_.listing()) break;
      }
    }
  }

  // Past the greeting and the client's flags.
  Dialogue& Begin() {
    Send(ClientFlags());
    output_.erase(0, kGreetingBytes);
    return *this;
  }

  std::vector<OptionReplyMessage> Ask(const std::string& bytes) {
    Send(bytes);
    std::vector<OptionReplyMessage> replies = TakeOptionReplies(output_);
    EXPECT_EQ(output_, "");
    return replies;
  }

  // The one reply to an option.
  OptionReplyMessage AskOne(const std::string& bytes) {
    const std::vector<OptionReplyMessage> replies = Ask(bytes);
    EXPECT_THAT(replies, SizeIs(1));
    return replies.empty() ? OptionReplyMessage{} : replies[0];
  }

  // It goes on serving: an option that must work does.
  void ExpectAlive() {
    const std::vector<OptionReplyMessage> replies = Ask(OptionOf(kOptInfo, GoData("vol")));
    ASSERT_THAT(replies, SizeIs(3));
    EXPECT_EQ(replies[2], (OptionReplyMessage{kOptInfo, kRepAck, ""}));
  }

  void FailLookUps(absl::Status status) { find_status_ = std::move(status); }
  Handshake& handshake() { return handshake_; }
  std::string& output() { return output_; }
  size_t largest_piece() const { return largest_piece_; }

 private:
  Exports exports_;
  absl::Status find_status_;
  Handshake handshake_;
  std::string input_;
  std::string output_;
  size_t largest_piece_ = 0;
};

auto Is(uint32_t option, uint32_t type, const std::string& text) {
  return AllOf(Field(&OptionReplyMessage::option, option), Field(&OptionReplyMessage::type, type),
               Field(&OptionReplyMessage::payload, HasSubstr(text)));
}

// Transmission flags by the document's bit numbers: has flags, flush, FUA, multi-connection, cache;
// trim, write zeroes, fast zero for writers; DF with structured replies.
constexpr uint64_t kCommonFlags = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 8 | 1 << 10;
constexpr uint64_t kWriterFlags = kCommonFlags | 1 << 5 | 1 << 6 | 1 << 11;
constexpr uint64_t kReaderFlags = kCommonFlags | 1 << 1;
constexpr uint64_t kDfFlag = 1 << 7;

std::string InfoExportOf(uint64_t size, uint64_t flags) {
  return Be16(0) + Be64(size) + Be16(flags);
}
std::string InfoBlockSizeOf() { return Be16(3) + Be32(1) + Be32(4096) + Be32(32 << 20); }

// ---- Greeting and client flags ----

TEST(Handshake, GreetsAsFixedNewstyleWithoutZeroes) {
  EXPECT_EQ(Dialogue().output(), "NBDMAGICIHAVEOPT" + Be16(3));
}

TEST(Handshake, HasTheGoldenBytes) {
  Dialogue dialogue;
  dialogue.Send(ClientFlags());
  dialogue.Send(OptionOf(kOptStructuredReply));
  dialogue.Send(OptionOf(kOptList));
  dialogue.Send(OptionOf(kOptSetMetaContext, MetaData("vol", {"base:allocation"})));
  dialogue.Send(OptionOf(kOptGo, GoData("vol", {0, 1, 2, 3})));
  EXPECT_EQ(testing::PrintToString(dialogue.output()),
            testing::PrintToString(Golden("nbd/handshake.hex")));
}

TEST(Handshake, WaitsForAllFourBytesOfTheClientFlags) {
  Dialogue dialogue;
  dialogue.Send(ClientFlags().substr(0, 3));
  EXPECT_EQ(dialogue.handshake().state(), Handshake::State::kClientFlags);
  dialogue.Send(ClientFlags().substr(3));
  EXPECT_EQ(dialogue.handshake().state(), Handshake::State::kOption);
}

TEST(Handshake, HangsUpOnUnknownClientFlags) {
  Dialogue dialogue;
  dialogue.Send(ClientFlags(4 | 3));
  EXPECT_EQ(dialogue.handshake().state(), Handshake::State::kHangUp);
  EXPECT_THAT(dialogue.handshake().hang_up_reason(), HasSubstr("0x7"));
}

TEST(Handshake, TakesOptionsFromClientsThatSetNoFlags) {
  Dialogue dialogue;
  dialogue.Send(ClientFlags(0));
  dialogue.output().clear();
  dialogue.ExpectAlive();
}

TEST(Handshake, UnderstandsBytesOneByOne) {
  Dialogue dialogue;
  dialogue.Send(
      ClientFlags() + OptionOf(kOptInfo, GoData("nope")) + OptionOf(kOptGo, GoData("vol", {3})), 1);
  EXPECT_EQ(dialogue.handshake().state(), Handshake::State::kTransmission);
}

TEST(Handshake, UnderstandsSeveralOptionsAtOnce) {
  Dialogue dialogue;
  dialogue.Begin();
  EXPECT_THAT(
      dialogue.Ask(OptionOf(kOptStructuredReply) + OptionOf(kOptPeekExport) + OptionOf(kOptAbort)),
      ElementsAre(Is(kOptStructuredReply, kRepAck, ""),
                  Is(kOptPeekExport, kRepErrUnsup, "option 4"), Is(kOptAbort, kRepAck, "")));
}

TEST(Handshake, HangsUpOnAnOptionWithoutItsMagic) {
  Dialogue dialogue;
  dialogue.Begin().Send("IHAVEOPS" + Be32(kOptList) + Be32(0));
  EXPECT_EQ(dialogue.handshake().state(), Handshake::State::kHangUp);
}

TEST(Handshake, HangsUpAfterTooManyOptions) {
  Dialogue dialogue;
  dialogue.Begin();
  for (size_t i = 0; i < kMaxNbdOptions; ++i) {
    dialogue.Send(OptionOf(kOptInfo, GoData("nope")));
    ASSERT_EQ(dialogue.handshake().state(), Handshake::State::kOption);
  }
  dialogue.Send(OptionOf(kOptGo, GoData("vol")));
  EXPECT_EQ(dialogue.handshake().state(), Handshake::State::kHangUp);
}

// ---- Options as such ----

TEST(Handshake, AnswersUnknownOptionsAndSkipsTheirData) {
  Dialogue dialogue;
  dialogue.Begin();
  EXPECT_THAT(dialogue.AskOne(OptionOf(0xdeadbeef, std::string(100'000, 'x'))),
              Is(0xdeadbeef, kRepErrUnsup, "not known"));
  EXPECT_THAT(dialogue.AskOne(OptionOf(kOptExtendedHeaders)),
              Is(kOptExtendedHeaders, kRepErrUnsup, ""));
  dialogue.ExpectAlive();
}

TEST(Handshake, AnswersOptionsThatAreTooLongAndSkipsTheirData) {
  for (const uint32_t option : {kOptInfo, kOptGo, kOptListMetaContext, kOptSetMetaContext}) {
    Dialogue dialogue;
    dialogue.Begin();
    EXPECT_THAT(dialogue.AskOne(OptionOf(option, std::string(kMaxNbdOptionBytes + 1, 'x'))),
                Is(option, kRepErrTooBig, "at most 4104"));
    dialogue.ExpectAlive();
  }
}

TEST(Handshake, SkipsNearlyFourGibibytesInConstantMemory) {
  Dialogue dialogue;
  dialogue.Begin();
  EXPECT_THAT(dialogue.AskOne(OptionHeaderOf(kOptGo, 0xffffffff)), Is(kOptGo, kRepErrTooBig, ""));
  const std::string piece(1 << 20, 'x');
  for (uint64_t left = 0xffffffff; left > 0; left -= std::min<uint64_t>(left, piece.size())) {
    dialogue.handshake().Advance(AsBytes(piece).first(std::min<uint64_t>(left, piece.size())));
  }
  EXPECT_EQ(dialogue.handshake().TakeOutput(), "");
  dialogue.ExpectAlive();
}

TEST(Handshake, AnswersAbortWithAnAckWhateverItsData) {
  for (const std::string& data : {std::string(), std::string("bye"), std::string(9000, 'x')}) {
    Dialogue dialogue;
    dialogue.Begin();
    EXPECT_THAT(dialogue.AskOne(OptionOf(kOptAbort, data)), Is(kOptAbort, kRepAck, ""));
    EXPECT_EQ(dialogue.handshake().state(), Handshake::State::kHangUp);
    EXPECT_EQ(dialogue.handshake().hang_up_reason(), "");
  }
}

TEST(Handshake, HasNoTls) {
  Dialogue dialogue;
  dialogue.Begin();
  EXPECT_THAT(dialogue.AskOne(OptionOf(kOptStartTls)), Is(kOptStartTls, kRepErrUnsup, "TLS"));
  EXPECT_THAT(dialogue.AskOne(OptionOf(kOptStartTls, "x")), Is(kOptStartTls, kRepErrUnsup, "TLS"));
  dialogue.ExpectAlive();
}

TEST(Handshake, RefusesDataWithStructuredReplyAndDoesNotTurnItOn) {
  Dialogue dialogue;
  dialogue.Begin();
  EXPECT_THAT(dialogue.AskOne(OptionOf(kOptStructuredReply, "x")),
              Is(kOptStructuredReply, kRepErrInvalid, "no data"));
  dialogue.Send(OptionOf(kOptGo, GoData("vol")));
  EXPECT_FALSE(dialogue.handshake().agreed().structured_replies);
}

TEST(Handshake, AcceptsStructuredReplyTwice) {
  Dialogue dialogue;
  dialogue.Begin();
  EXPECT_THAT(dialogue.AskOne(OptionOf(kOptStructuredReply)), Is(kOptStructuredReply, kRepAck, ""));
  EXPECT_THAT(dialogue.AskOne(OptionOf(kOptStructuredReply)), Is(kOptStructuredReply, kRepAck, ""));
}

// ---- LIST ----

TEST(Handshake, ListsExportsInOrderWithDescriptions) {
  Dialogue dialogue;
  dialogue.Begin();
  EXPECT_THAT(
      dialogue.Ask(OptionOf(kOptList)),
      ElementsAre(
          OptionReplyMessage{kOptList, kRepServer, String32("vol") + "Twofold volume"},
          OptionReplyMessage{kOptList, kRepServer,
                             String32("vol@snap") + "read-only snapshot of Twofold volume vol"},
          OptionReplyMessage{kOptList, kRepAck, ""}));
  EXPECT_EQ(dialogue.handshake().state(), Handshake::State::kOption);
}

TEST(Handshake, ListsNothingWithAnAck) {
  Dialogue dialogue(Exports{});
  dialogue.Begin();
  EXPECT_THAT(dialogue.AskOne(OptionOf(kOptList)), Is(kOptList, kRepAck, ""));
}

TEST(Handshake, UnderstandsAnOptionThatWasSentTogetherWithList) {
  Dialogue dialogue;
  dialogue.Begin();
  EXPECT_THAT(dialogue.Ask(OptionOf(kOptList) + OptionOf(kOptStartTls)), SizeIs(4));
}

TEST(Handshake, RefusesDataWithList) {
  Dialogue dialogue;
  dialogue.Begin();
  EXPECT_THAT(dialogue.AskOne(OptionOf(kOptList, "vol")), Is(kOptList, kRepErrInvalid, "no data"));
  EXPECT_THAT(dialogue.AskOne(OptionOf(kOptList, std::string(50'000, 'x'))),
              Is(kOptList, kRepErrInvalid, "no data"));
  dialogue.ExpectAlive();
}

TEST(Handshake, ListsManyExportsInBoundedPiecesEachOnce) {
  Exports exports;
  for (int i = 0; i < 10'000; ++i) exports[absl::StrCat("vol@", i)] = {4096, true};
  Dialogue dialogue(exports);
  dialogue.Begin();
  const std::vector<OptionReplyMessage> replies = dialogue.Ask(OptionOf(kOptList));
  ASSERT_THAT(replies, SizeIs(10'001));
  auto expected = exports.begin();
  for (size_t i = 0; i < 10'000; ++i, ++expected) {
    ASSERT_EQ(replies[i].payload.substr(0, 4 + expected->first.size()), String32(expected->first));
  }
  EXPECT_EQ(replies.back(), (OptionReplyMessage{kOptList, kRepAck, ""}));
  EXPECT_LT(dialogue.largest_piece(), 150'000u);
}

// ---- INFO and GO ----

TEST(Handshake, InfoTellsSizeFlagsAndBlockSizesAndStaysInTheHandshake) {
  Dialogue dialogue;
  dialogue.Begin();
  EXPECT_THAT(
      dialogue.Ask(OptionOf(kOptInfo, GoData("vol"))),
      ElementsAre(OptionReplyMessage{kOptInfo, kRepInfo, InfoExportOf(kVolumeBytes, kWriterFlags)},
                  OptionReplyMessage{kOptInfo, kRepInfo, InfoBlockSizeOf()},
                  OptionReplyMessage{kOptInfo, kRepAck, ""}));
  EXPECT_EQ(dialogue.handshake().state(), Handshake::State::kOption);
}

TEST(Handshake, InfoOfASnapshotIsReadOnly) {
  Dialogue dialogue;
  dialogue.Begin();
  EXPECT_EQ(dialogue.Ask(OptionOf(kOptInfo, GoData("vol@snap")))[0].payload,
            InfoExportOf(4096, kReaderFlags));
}

TEST(Handshake, DfIsOfferedOnlyWithStructuredReplies) {
  Dialogue dialogue;
  dialogue.Begin();
  dialogue.Ask(OptionOf(kOptStructuredReply));
  EXPECT_EQ(dialogue.Ask(OptionOf(kOptInfo, GoData("vol")))[0].payload,
            InfoExportOf(kVolumeBytes, kWriterFlags | kDfFlag));
}

TEST(Handshake, GoTellsWhatWasAskedForOnceAndIgnoresUnknownRequests) {
  Dialogue dialogue;
  dialogue.Begin();
  EXPECT_THAT(dialogue.Ask(OptionOf(kOptGo, GoData("vol@snap", {2, 77, 1, 3, 0, 2, 1}))),
              ElementsAre(OptionReplyMessage{kOptGo, kRepInfo, InfoExportOf(4096, kReaderFlags)},
                          OptionReplyMessage{kOptGo, kRepInfo, InfoBlockSizeOf()},
                          OptionReplyMessage{kOptGo, kRepInfo, Be16(1) + "vol@snap"},
                          OptionReplyMessage{kOptGo, kRepInfo,
                                             Be16(2) + "read-only snapshot of Twofold volume vol"},
                          OptionReplyMessage{kOptGo, kRepAck, ""}));
  EXPECT_EQ(dialogue.handshake().state(), Handshake::State::kTransmission);
  EXPECT_EQ(dialogue.handshake().agreed().export_name, "vol@snap");
  EXPECT_TRUE(dialogue.handshake().agreed().info.read_only);
}

TEST(Handshake, GoLeavesWhatFollowsToTheTransmissionPhase) {
  Dialogue dialogue;
  dialogue.Begin();
  const std::string go = OptionOf(kOptGo, GoData("vol"));
  const std::string both = go + RequestOf(kCmdRead, 1, 0, 4096);
  size_t consumed = 0;
  while (!dialogue.handshake().finished()) {
    consumed += dialogue.handshake().Advance(AsBytes(both).subspan(consumed));
  }
  EXPECT_EQ(consumed, go.size());
}

TEST(Handshake, RefusesUnknownExports) {
  for (const uint32_t option : {kOptInfo, kOptGo}) {
    Dialogue dialogue;
    dialogue.Begin();
    EXPECT_THAT(dialogue.AskOne(OptionOf(option, GoData("nope"))),
                Is(option, kRepErrUnknown, "export \"nope\": no such export"));
    EXPECT_THAT(dialogue.AskOne(OptionOf(option, GoData(""))),
                Is(option, kRepErrUnknown, "no default export"));
    dialogue.ExpectAlive();
  }
}

TEST(Handshake, ShowsStrangeNamesEscaped) {
  Dialogue dialogue;
  dialogue.Begin();
  EXPECT_THAT(dialogue.AskOne(OptionOf(kOptGo, GoData("\xff\n\x1b[31m"))),
              Is(kOptGo, kRepErrUnknown, R"(export "\xff\n\x1b[31m")"));
}

TEST(Handshake, RefusesExportsThatCannotBeHadNow) {
  Dialogue dialogue;
  dialogue.Begin();
  dialogue.FailLookUps(absl::UnavailableError("set b is missing"));
  EXPECT_THAT(dialogue.AskOne(OptionOf(kOptGo, GoData("vol"))),
              Is(kOptGo, kRepErrUnknown, "set b is missing"));
  dialogue.FailLookUps(absl::PermissionDeniedError("not for you"));
  EXPECT_THAT(dialogue.AskOne(OptionOf(kOptGo, GoData("vol"))),
              Is(kOptGo, kRepErrPolicy, "not for you"));
  dialogue.FailLookUps(absl::OkStatus());
  dialogue.ExpectAlive();
}

TEST(Handshake, RefusesMalformedInfoAndGo) {
  const std::vector<std::pair<std::string, std::string>> malformed = {
      {"", "length of the export name"},
      {Be16(3), "length of the export name"},
      {Be32(4) + "vol", "length of the export name"},
      {Be32(0xffffffff) + "vol" + Be16(0), "length of the export name"},
      {String32("vol"), "number of information requests"},
      {String32("vol") + Be16(1), "number of information requests"},
      {String32("vol") + Be16(2) + Be16(0), "number of information requests"},
      {String32("vol") + Be16(0xffff) + Be16(0), "number of information requests"},
      {GoData("vol", {0}) + "x", "number of information requests"},
      {GoData(std::string("v\0l", 3)), "NUL"},
      {Be32(4097) + std::string(4097, 'n') + Be16(0), "longer than 4096"},
  };
  for (const uint32_t option : {kOptInfo, kOptGo}) {
    Dialogue dialogue;
    dialogue.Begin();
    for (const auto& [data, text] : malformed) {
      EXPECT_THAT(dialogue.AskOne(OptionOf(option, data)), Is(option, kRepErrInvalid, text));
    }
    dialogue.ExpectAlive();
  }
}

TEST(Handshake, TakesNamesOfTheGreatestLength) {
  const std::string name(4096, 'n');
  Dialogue dialogue(Exports{{name, {4096, false}}});
  dialogue.Begin().Send(OptionOf(kOptGo, GoData(name, {3})));
  EXPECT_EQ(dialogue.handshake().agreed().export_name, name);
}

// ---- EXPORT_NAME ----

TEST(Handshake, ExportNameAnswersWithoutZeroesForThoseThatWaivedThem) {
  Dialogue dialogue;
  dialogue.Begin().Send(OptionOf(kOptExportName, "vol"));
  EXPECT_EQ(dialogue.output(), Be64(kVolumeBytes) + Be16(kWriterFlags));
  EXPECT_EQ(dialogue.handshake().state(), Handshake::State::kTransmission);
  EXPECT_EQ(dialogue.handshake().agreed().export_name, "vol");
}

TEST(Handshake, ExportNameAnswersWith124ZeroesOtherwise) {
  Dialogue dialogue;
  dialogue.Send(ClientFlags(1) + OptionOf(kOptExportName, "vol"));
  EXPECT_EQ(dialogue.output().substr(kGreetingBytes),
            Be64(kVolumeBytes) + Be16(kWriterFlags) + std::string(124, '\0'));
}

TEST(Handshake, ExportNameThatCannotBeHadHangsUp) {
  for (const std::string& name :
       {std::string("nope"), std::string(), std::string("v\0l", 3), std::string(4096, 'n'),
        std::string(4097, 'n'), std::string(100'000, 'n')}) {
    Dialogue dialogue;
    dialogue.Begin().Send(OptionOf(kOptExportName, name));
    EXPECT_EQ(dialogue.output(), "");
    EXPECT_EQ(dialogue.handshake().state(), Handshake::State::kHangUp);
    EXPECT_THAT(dialogue.handshake().hang_up_reason(), HasSubstr("export"));
  }
}

// ---- Metadata contexts ----

class MetaContext : public testing::Test {
 protected:
  MetaContext() { dialogue_.Begin().Ask(OptionOf(kOptStructuredReply)); }
  std::vector<OptionReplyMessage> List(const std::vector<std::string>& queries) {
    return dialogue_.Ask(OptionOf(kOptListMetaContext, MetaData("vol", queries)));
  }
  std::vector<OptionReplyMessage> Set(const std::vector<std::string>& queries) {
    return dialogue_.Ask(OptionOf(kOptSetMetaContext, MetaData("vol", queries)));
  }
  bool GoAndSeeIfSelected(const std::string& name = "vol") {
    dialogue_.Ask(OptionOf(kOptGo, GoData(name)));
    EXPECT_EQ(dialogue_.handshake().state(), Handshake::State::kTransmission);
    return dialogue_.handshake().agreed().base_allocation;
  }

  Dialogue dialogue_;
  const OptionReplyMessage listed_{kOptListMetaContext, kRepMetaContext,
                                   Be32(0) + "base:allocation"};
  const OptionReplyMessage list_ack_{kOptListMetaContext, kRepAck, ""};
  const OptionReplyMessage selected_{kOptSetMetaContext, kRepMetaContext,
                                     Be32(1) + "base:allocation"};
  const OptionReplyMessage set_ack_{kOptSetMetaContext, kRepAck, ""};
};

TEST_F(MetaContext, ListsEverythingForNoQueryAndForTheWildcard) {
  EXPECT_THAT(List({}), ElementsAre(listed_, list_ack_));
  EXPECT_THAT(List({"base:"}), ElementsAre(listed_, list_ack_));
  EXPECT_THAT(List({"x-other:stuff", "base:allocation", "base:"}), ElementsAre(listed_, list_ack_));
}

TEST_F(MetaContext, ListsNothingForUnknownQueries) {
  EXPECT_THAT(List({"qemu:dirty-bitmap:b", "base:other", "base:allocationx"}),
              ElementsAre(list_ack_));
}

TEST_F(MetaContext, ListingSelectsNothing) {
  List({"base:allocation"});
  EXPECT_FALSE(GoAndSeeIfSelected());
}

TEST_F(MetaContext, SetSelectsOnce) {
  EXPECT_THAT(Set({"qemu:dirty-bitmap:b", "base:allocation", "base:allocation"}),
              ElementsAre(selected_, set_ack_));
  EXPECT_TRUE(GoAndSeeIfSelected());
}

TEST_F(MetaContext, SetIgnoresTheWildcardAndUnknownLeaves) {
  EXPECT_THAT(Set({"base:"}), ElementsAre(set_ack_));
  EXPECT_THAT(Set({"base:nothing"}), ElementsAre(set_ack_));
  EXPECT_FALSE(GoAndSeeIfSelected());
}

TEST_F(MetaContext, SetHoldsForEntryByExportNameToo) {
  Set({"base:allocation"});
  dialogue_.Send(OptionOf(kOptExportName, "vol"));
  EXPECT_TRUE(dialogue_.handshake().agreed().base_allocation);
}

TEST_F(MetaContext, SetIsBoundToItsExport) {
  Set({"base:allocation"});
  EXPECT_FALSE(GoAndSeeIfSelected("vol@snap"));
}

TEST_F(MetaContext, SetWithoutQueriesSelectsNothingAnyMore) {
  Set({"base:allocation"});
  EXPECT_THAT(Set({}), ElementsAre(set_ack_));
  EXPECT_FALSE(GoAndSeeIfSelected());
}

TEST(Handshake, SetMetaContextThatFailsClearsWhatWasSelected) {
  const std::vector<std::string> failing = {
      OptionOf(kOptSetMetaContext, MetaData("nope", {"base:allocation"})),
      OptionOf(kOptSetMetaContext, MetaData("vol", {"no namespace"})),
      OptionOf(kOptSetMetaContext, "x"),
      OptionOf(kOptSetMetaContext, std::string(5000, 'x')),
  };
  for (const std::string& option : failing) {
    Dialogue dialogue;
    dialogue.Begin().Ask(OptionOf(kOptStructuredReply) +
                         OptionOf(kOptSetMetaContext, MetaData("vol", {"base:allocation"})));
    EXPECT_GE(dialogue.AskOne(option).type, kRepErrUnsup);
    dialogue.Ask(OptionOf(kOptGo, GoData("vol")));
    EXPECT_FALSE(dialogue.handshake().agreed().base_allocation);
  }
}

TEST_F(MetaContext, FailsForUnknownExports) {
  EXPECT_THAT(dialogue_.AskOne(OptionOf(kOptSetMetaContext, MetaData("nope", {}))),
              Is(kOptSetMetaContext, kRepErrUnknown, "nope"));
  EXPECT_THAT(dialogue_.AskOne(OptionOf(kOptListMetaContext, MetaData("nope", {}))),
              Is(kOptListMetaContext, kRepErrUnknown, "nope"));
  dialogue_.ExpectAlive();
}

TEST_F(MetaContext, RefusesMalformedOptions) {
  const std::vector<std::pair<std::string, std::string>> malformed = {
      {"", "length of the export name"},
      {Be32(100) + "vol", "length of the export name"},
      {String32("vol"), "number of queries"},
      {String32("vol") + Be32(1), "length of the query"},
      {String32("vol") + Be32(1) + Be32(16) + "base:allocation", "length of the query"},
      {String32("vol") + Be32(0xffffffff) + String32("base:allocation"), "length of the query"},
      {MetaData("vol", {"base:allocation"}) + "x", "number of queries"},
      {MetaData("vol", {"allocation"}), "no namespace"},
      {MetaData("vol", {""}), "no namespace"},
      {MetaData("vol", {std::string("base:\0", 6)}), "NUL"},
      {MetaData(std::string("v\0", 2), {}), "NUL"},
  };
  for (const uint32_t option : {kOptListMetaContext, kOptSetMetaContext}) {
    for (const auto& [data, text] : malformed) {
      EXPECT_THAT(dialogue_.AskOne(OptionOf(option, data)), Is(option, kRepErrInvalid, text));
    }
  }
  dialogue_.ExpectAlive();
}

TEST(Handshake, MetaContextsNeedStructuredReplies) {
  Dialogue dialogue;
  dialogue.Begin();
  for (const uint32_t option : {kOptListMetaContext, kOptSetMetaContext}) {
    EXPECT_THAT(dialogue.AskOne(OptionOf(option, MetaData("vol", {"base:allocation"}))),
                Is(option, kRepErrInvalid, "structured replies"));
  }
  dialogue.ExpectAlive();
}

// ---- Refusing everything ----

TEST(Handshake, ShuttingDownErrorsEveryOptionButAbort) {
  for (const uint32_t option : {kOptList, kOptInfo, kOptGo, kOptStructuredReply, kOptStartTls,
                                kOptListMetaContext, kOptSetMetaContext, 99u}) {
    Dialogue dialogue;
    dialogue.Begin();
    dialogue.handshake().RefuseOptions(OptionReply::kErrShutdown, "going down");
    EXPECT_THAT(dialogue.AskOne(OptionOf(option, GoData("vol"))),
                Is(option, kRepErrShutdown, "going down"));
    EXPECT_THAT(dialogue.AskOne(OptionOf(kOptAbort)), Is(kOptAbort, kRepAck, ""));
  }
}

TEST(Handshake, RefusingHangsUpOnExportName) {
  Dialogue dialogue;
  dialogue.Begin();
  dialogue.handshake().RefuseOptions(OptionReply::kErrPolicy, "too many clients");
  dialogue.Send(OptionOf(kOptExportName, "vol"));
  EXPECT_EQ(dialogue.output(), "");
  EXPECT_EQ(dialogue.handshake().state(), Handshake::State::kHangUp);
  EXPECT_EQ(dialogue.handshake().hang_up_reason(), "too many clients");
}

}  // namespace
}  // namespace twofold::nbd
