#include "tools/nbd/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "absl/strings/string_view.h"
#include "storage/base/limits.h"
#include "tests/nbd/client_bytes.h"

namespace twofold::nbd {
namespace {

using testing::HasSubstr;

constexpr uint64_t kSize = uint64_t{1} << 30;
constexpr RequestRules kAll{kSize, false, true, true};

absl::StatusOr<Request> Parse(const std::string& bytes) {
  RequestHeader header;
  EXPECT_GE(bytes.size(), sizeof(header));
  std::memcpy(&header, bytes.data(), sizeof(header));
  return ParseRequest(header);
}

Refusal Judge(uint16_t command, uint64_t offset, uint32_t length, uint16_t flags = 0,
              const RequestRules& rules = kAll) {
  return JudgeRequest(Parse(RequestOf(command, 1, offset, length, flags)).value(), rules);
}

#define EXPECT_RUNS(refusal) EXPECT_EQ((refusal).error, Error::kNone)
#define EXPECT_REFUSED(refusal, expected, about) \
  do {                                           \
    const Refusal refused = (refusal);           \
    EXPECT_EQ(refused.error, Error::expected);   \
    EXPECT_THAT(refused.text, HasSubstr(about)); \
  } while (false)

TEST(ParseRequest, ReadsEveryField) {
  const Request request =
      Parse(RequestOf(kCmdWrite, 0x1122334455667788, 0x99aabbccddeeff00, 0x12345678, kFua)).value();
  EXPECT_EQ(request.command, Command::kWrite);
  EXPECT_EQ(request.flags, kFlagFua);
  EXPECT_EQ(request.cookie, 0x1122334455667788u);
  EXPECT_EQ(request.offset, 0x99aabbccddeeff00u);
  EXPECT_EQ(request.length, 0x12345678u);
}

TEST(ParseRequest, RefusesAWrongMagic) {
  std::string bytes = RequestOf(kCmdRead, 1, 0, 4096);
  bytes[3] = 0x14;
  EXPECT_THAT(Parse(bytes).status().message(), HasSubstr("0x25609514"));
}

TEST(PayloadBytes, OnlyWritesHaveSome) {
  for (uint16_t command = 0; command < 10; ++command) {
    EXPECT_EQ(PayloadBytes(Parse(RequestOf(command, 1, 0, 4096)).value()),
              command == kCmdWrite ? 4096u : 0u);
  }
}

TEST(JudgeRequest, LetsGoodRequestsRun) {
  EXPECT_RUNS(Judge(kCmdRead, 0, 1));
  EXPECT_RUNS(Judge(kCmdRead, 511, 4097, kDf));
  EXPECT_RUNS(Judge(kCmdRead, kSize - kMaxNbdRequestBytes, kMaxNbdRequestBytes));
  EXPECT_RUNS(Judge(kCmdWrite, kSize - 1, 1, kFua));
  EXPECT_RUNS(Judge(kCmdWrite, 0, kMaxNbdRequestBytes));
  EXPECT_RUNS(Judge(kCmdFlush, 0, 0));
  EXPECT_RUNS(Judge(kCmdTrim, 1, kSize - 1, kFua));
  EXPECT_RUNS(Judge(kCmdCache, 0, kSize));
  EXPECT_RUNS(Judge(kCmdWriteZeroes, 0, kSize, kFua | kNoHole));
  EXPECT_RUNS(Judge(kCmdWriteZeroes, 0, kSize, kFastZero));
  EXPECT_RUNS(Judge(kCmdBlockStatus, 0, kSize, kReqOne));
}

TEST(JudgeRequest, LetsRangesUpTo32BitsRun) {
  const RequestRules rules{uint64_t{1} << 40, false, true, true};
  for (const uint16_t command : {kCmdTrim, kCmdCache, kCmdWriteZeroes, kCmdBlockStatus}) {
    EXPECT_RUNS(Judge(command, (uint64_t{1} << 40) - 0xffffffff, 0xffffffff, 0, rules));
  }
}

TEST(JudgeRequest, TakesFuaWithEveryCommand) {
  for (const uint16_t command :
       {kCmdRead, kCmdWrite, kCmdTrim, kCmdCache, kCmdWriteZeroes, kCmdBlockStatus}) {
    EXPECT_RUNS(Judge(command, 0, 4096, kFua));
  }
  EXPECT_RUNS(Judge(kCmdFlush, 0, 0, kFua));
  EXPECT_RUNS(Judge(kCmdDisc, 0, 0, kFua));
}

TEST(JudgeRequest, NeverRefusesADisconnect) {
  EXPECT_RUNS(Judge(kCmdDisc, 0, 0));
  EXPECT_RUNS(Judge(kCmdDisc, 7, 7, 0xffff));
}

TEST(JudgeRequest, RefusesUnknownCommands) {
  EXPECT_REFUSED(Judge(kCmdResize, 0, 4096), kInvalid, "command 8");
  EXPECT_REFUSED(Judge(0xffff, 0, 4096), kInvalid, "command 65535");
}

TEST(JudgeRequest, RefusesFlagsThatDoNotGoWithTheCommand) {
  const std::vector<std::pair<uint16_t, uint16_t>> allowed = {
      {kCmdRead, kFua | kDf},
      {kCmdWrite, kFua},
      {kCmdFlush, kFua},
      {kCmdTrim, kFua},
      {kCmdCache, kFua},
      {kCmdWriteZeroes, kFua | kNoHole | kFastZero},
      {kCmdBlockStatus, kFua | kReqOne},
  };
  for (const auto& [command, flags] : allowed) {
    for (int bit = 0; bit < 16; ++bit) {
      const auto flag = static_cast<uint16_t>(1 << bit);
      const uint32_t length = command == kCmdFlush ? 0 : 8192;
      if ((flags & flag) != 0) {
        EXPECT_RUNS(Judge(command, 0, length, flag));
      } else {
        EXPECT_REFUSED(Judge(command, 0, length, flag), kInvalid, "flags");
      }
    }
  }
}

TEST(JudgeRequest, RefusesChangesOfReadOnlyExports) {
  const RequestRules rules{kSize, true, true, true};
  for (const uint16_t command : {kCmdWrite, kCmdTrim, kCmdWriteZeroes}) {
    EXPECT_REFUSED(Judge(command, 0, 4096, kFua, rules), kPermission, "read-only");
    EXPECT_REFUSED(Judge(command, kSize, 4096, 0, rules), kPermission, "read-only");
  }
  EXPECT_RUNS(Judge(kCmdRead, 0, 4096, 0, rules));
  EXPECT_RUNS(Judge(kCmdFlush, 0, 0, 0, rules));
  EXPECT_RUNS(Judge(kCmdCache, 0, 4096, 0, rules));
  EXPECT_RUNS(Judge(kCmdBlockStatus, 0, 4096, 0, rules));
}

TEST(JudgeRequest, RefusesWritesPastTheEndAsOutOfSpace) {
  for (const uint16_t command : {kCmdWrite, kCmdWriteZeroes}) {
    EXPECT_REFUSED(Judge(command, kSize, 1), kNoSpace, "pass the export's end");
    EXPECT_REFUSED(Judge(command, kSize - 4096, 4097), kNoSpace, "pass the export's end");
    EXPECT_REFUSED(Judge(command, ~uint64_t{0}, 4096), kNoSpace, "pass the export's end");
    EXPECT_REFUSED(Judge(command, ~uint64_t{0} - 4095, 4096), kNoSpace, "pass the export's end");
  }
}

TEST(JudgeRequest, RefusesOthersPastTheEndAsInvalid) {
  for (const uint16_t command : {kCmdRead, kCmdTrim, kCmdCache, kCmdBlockStatus}) {
    EXPECT_REFUSED(Judge(command, kSize, 1), kInvalid, "pass the export's end");
    EXPECT_REFUSED(Judge(command, kSize - 4096, 4097), kInvalid, "pass the export's end");
    EXPECT_REFUSED(Judge(command, ~uint64_t{0} - 4095, 4096), kInvalid, "pass the export's end");
  }
}

TEST(JudgeRequest, RefusesEverythingOfAnEmptyExport) {
  EXPECT_REFUSED(Judge(kCmdRead, 0, 1, 0, {0, false, true, true}), kInvalid, "end at 0");
}

TEST(JudgeRequest, RefusesLengthZero) {
  for (const uint16_t command :
       {kCmdRead, kCmdWrite, kCmdTrim, kCmdCache, kCmdWriteZeroes, kCmdBlockStatus}) {
    EXPECT_REFUSED(Judge(command, 0, 0), kInvalid, "zero");
  }
}

TEST(JudgeRequest, RefusesDataOverTheMaximum) {
  EXPECT_REFUSED(Judge(kCmdRead, 0, kMaxNbdRequestBytes + 1), kInvalid, "maximum of 33554432");
  EXPECT_REFUSED(Judge(kCmdWrite, 0, 0xffffffff), kInvalid, "maximum of 33554432");
}

TEST(JudgeRequest, RefusesFlushOfARange) {
  EXPECT_REFUSED(Judge(kCmdFlush, 1, 0), kInvalid, "must be zero");
  EXPECT_REFUSED(Judge(kCmdFlush, 0, 4096), kInvalid, "must be zero");
}

TEST(JudgeRequest, RefusesWhatWasNotNegotiated) {
  const RequestRules simple{kSize, false, false, false};
  EXPECT_REFUSED(Judge(kCmdRead, 0, 4096, kDf, simple), kInvalid, "structured replies");
  EXPECT_REFUSED(Judge(kCmdBlockStatus, 0, 4096, 0, simple), kInvalid, "metadata context");
  EXPECT_REFUSED(Judge(kCmdBlockStatus, 0, 4096, 0, {kSize, false, true, false}), kInvalid,
                 "metadata context");
}

TEST(JudgeRequest, FastZeroNeedsAWholeBlockThatNeedNotBeStored) {
  EXPECT_RUNS(Judge(kCmdWriteZeroes, 4096, 4096, kFastZero));
  EXPECT_RUNS(Judge(kCmdWriteZeroes, 4095, 4097, kFastZero));
  EXPECT_REFUSED(Judge(kCmdWriteZeroes, 4096, 4095, kFastZero), kNotSupported, "no faster");
  EXPECT_REFUSED(Judge(kCmdWriteZeroes, 1, 8190, kFastZero), kNotSupported, "no faster");
  EXPECT_REFUSED(Judge(kCmdWriteZeroes, 0, kSize, kFastZero | kNoHole), kNotSupported, "no faster");
  // Without the flag it is done all the same.
  EXPECT_RUNS(Judge(kCmdWriteZeroes, 1, 8190));
  EXPECT_RUNS(Judge(kCmdWriteZeroes, 0, kSize, kNoHole));
}

TEST(JudgeRequest, AWrongRangeIsToldBeforeFastZero) {
  EXPECT_REFUSED(Judge(kCmdWriteZeroes, kSize, 4096, kFastZero | kNoHole), kNoSpace, "end");
}

TEST(ErrorFor, GivesEachStatusItsError) {
  const auto error = [](absl::StatusCode code, Command command = Command::kRead,
                        bool shutting_down = false) {
    return ErrorFor(absl::Status(code, "why"), command, shutting_down);
  };
  EXPECT_EQ(ErrorFor(absl::OkStatus(), Command::kRead, false), Error::kNone);
  EXPECT_EQ(error(absl::StatusCode::kResourceExhausted), Error::kNoSpace);
  EXPECT_EQ(error(absl::StatusCode::kDataLoss), Error::kIo);
  EXPECT_EQ(error(absl::StatusCode::kPermissionDenied), Error::kPermission);
  EXPECT_EQ(error(absl::StatusCode::kInvalidArgument), Error::kInvalid);
  EXPECT_EQ(error(absl::StatusCode::kInternal), Error::kIo);
  EXPECT_EQ(error(absl::StatusCode::kFailedPrecondition), Error::kIo);
  EXPECT_EQ(error(absl::StatusCode::kUnavailable), Error::kIo);
  EXPECT_EQ(error(absl::StatusCode::kAborted), Error::kIo);
  EXPECT_EQ(error(absl::StatusCode::kAborted, Command::kWrite, true), Error::kShuttingDown);
  EXPECT_EQ(error(absl::StatusCode::kUnavailable, Command::kWrite, true), Error::kShuttingDown);
  EXPECT_EQ(error(absl::StatusCode::kDataLoss, Command::kRead, true), Error::kIo);
  EXPECT_EQ(error(absl::StatusCode::kOutOfRange, Command::kRead), Error::kInvalid);
  EXPECT_EQ(error(absl::StatusCode::kOutOfRange, Command::kTrim), Error::kInvalid);
  EXPECT_EQ(error(absl::StatusCode::kOutOfRange, Command::kWrite), Error::kNoSpace);
  EXPECT_EQ(error(absl::StatusCode::kOutOfRange, Command::kWriteZeroes), Error::kNoSpace);
}

TEST(RefusalFor, KeepsTheText) {
  const Refusal refusal = RefusalFor(absl::DataLossError("block 7 is bad"), Command::kRead, false);
  EXPECT_EQ(refusal.error, Error::kIo);
  EXPECT_EQ(refusal.text, "block 7 is bad");
}

}  // namespace
}  // namespace twofold::nbd
