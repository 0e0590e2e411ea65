#include "storage/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"

namespace twofold {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

class LogTest : public testing::Test {
 protected:
  ~LogTest() override { SetLogLevel(LogLevel::kInfo); }
};

TEST_F(LogTest, WritesOneLineWithTimeLevelAndPlace) {
  testing::internal::CaptureStderr();
  TF_LOG(INFO) << "set " << 'a' << " opened at " << 17;
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              MatchesRegex("[0-9]+-[0-9]+-[0-9]+T[0-9]+:[0-9]+:[0-9]+\\.[0-9]+Z INFO "
                           "tests/base/log_test.cc:[0-9]+ set a opened at 17\n"));
}

TEST_F(LogTest, NeitherWritesNorEvaluatesBelowTheLevel) {
  int evaluations = 0;
  testing::internal::CaptureStderr();
  TF_LOG(DEBUG) << ++evaluations;
  SetLogLevel(LogLevel::kError);
  TF_LOG(WARNING) << ++evaluations;
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(evaluations, 0);

  SetLogLevel(LogLevel::kDebug);
  testing::internal::CaptureStderr();
  TF_LOG(DEBUG) << ++evaluations;
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("DEBUG"));
  EXPECT_EQ(evaluations, 1);
}

TEST_F(LogTest, EscapesWhatCouldForgeALine) {
  testing::internal::CaptureStderr();
  TF_LOG(WARNING) << "name \"x\n2026 ERROR forged\x1b[0m\"";
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_THAT(text, HasSubstr("name \"x\\n2026 ERROR forged\\x1b[0m\"\n"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST_F(LogTest, KeepsErrno) {
  testing::internal::CaptureStderr();
  errno = EPIPE;
  TF_LOG(ERROR) << "something";
  EXPECT_EQ(errno, EPIPE);
  testing::internal::GetCapturedStderr();
}

TEST_F(LogTest, KeepsLinesOfThreadsApart) {
  constexpr int kThreads = 4;
  constexpr int kLines = 200;
  const std::string text(300, 'x');
  testing::internal::CaptureStderr();
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&text] {
      for (int line = 0; line < kLines; ++line) TF_LOG(INFO) << "begin " << text << " end";
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<std::string> lines =
      absl::StrSplit(testing::internal::GetCapturedStderr(), '\n', absl::SkipEmpty());
  EXPECT_EQ(lines.size(), size_t{kThreads * kLines});
  for (const std::string& line : lines) {
    ASSERT_TRUE(absl::EndsWith(line, "begin " + text + " end")) << line;
  }
}

TEST(ParseLogLevel, KnowsItsFourLevels) {
  EXPECT_EQ(ParseLogLevel("debug").value(), LogLevel::kDebug);
  EXPECT_EQ(ParseLogLevel("info").value(), LogLevel::kInfo);
  EXPECT_EQ(ParseLogLevel("warning").value(), LogLevel::kWarning);
  EXPECT_EQ(ParseLogLevel("error").value(), LogLevel::kError);
  EXPECT_EQ(
      ParseLogLevel("loud").status(),
      absl::InvalidArgumentError("unknown log level \"loud\": use debug, info, warning or error"));
}

}  // namespace
}  // namespace twofold
