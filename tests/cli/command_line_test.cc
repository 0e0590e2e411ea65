#include "tools/cli/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tools/cli/main.h"

namespace twofold::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ParsedCommandLine Parse(const std::string& line) {
  return ParseCommandLine(absl::StrSplit(line, ' ', absl::SkipEmpty()));
}

CommandLine MustParse(const std::string& line) {
  ParsedCommandLine parsed = Parse(line);
  EXPECT_TRUE(parsed.error.ok()) << line << ": " << parsed.error;
  EXPECT_TRUE(parsed.command_line.has_value()) << line << " gave text: " << parsed.text;
  return parsed.command_line.value_or(CommandLine());
}

control::Request RequestOf(const std::string& line) {
  return std::get<ClientCommand>(MustParse(line).command).request;
}

TEST(CommandLine, KnowsTheClientCommands) {
  EXPECT_EQ(RequestOf("volume create db 10G"),
            control::Request(control::CreateVolume{"db", uint64_t{10} << 30, AckMode::kDurable}));
  EXPECT_EQ(RequestOf("volume create db 512M --ack written"),
            control::Request(control::CreateVolume{"db", 512 << 20, AckMode::kWritten}));
  EXPECT_EQ(RequestOf("volume list"), control::Request(control::ListVolumes{}));
  EXPECT_EQ(RequestOf("volume show db"), control::Request(control::ShowVolume{"db", true}));
  EXPECT_EQ(RequestOf("volume show db --no-usage"),
            control::Request(control::ShowVolume{"db", false}));
  EXPECT_EQ(RequestOf("volume resize db 1G"),
            control::Request(control::ResizeVolume{"db", 1 << 30, false}));
  EXPECT_EQ(RequestOf("volume resize --force db 1G"),
            control::Request(control::ResizeVolume{"db", 1 << 30, true}));
  EXPECT_EQ(RequestOf("volume delete db --force"),
            control::Request(control::DeleteVolume{"db", true}));
  EXPECT_EQ(RequestOf("snapshot create db@a mail@a"),
            control::Request(control::CreateSnapshots{{"db@a", "mail@a"}}));
  EXPECT_EQ(RequestOf("snapshot list"), control::Request(control::ListSnapshots{}));
  EXPECT_EQ(RequestOf("snapshot list db"), control::Request(control::ListSnapshots{"db"}));
  EXPECT_EQ(RequestOf("snapshot list db --usage"),
            control::Request(control::ListSnapshots{"db", true}));
  EXPECT_EQ(RequestOf("snapshot delete db@a"), control::Request(control::DeleteSnapshot{"db@a"}));
  EXPECT_EQ(RequestOf("rollback db@a"), control::Request(control::Rollback{"db@a", false}));
  EXPECT_EQ(RequestOf("rollback db@a --force"), control::Request(control::Rollback{"db@a", true}));
  EXPECT_EQ(RequestOf("status"), control::Request(control::GetStatus{}));
  EXPECT_EQ(RequestOf("status --usage"), control::Request(control::GetStatus{true}));
}

ScrubCommand ScrubOf(const std::string& line) {
  return std::get<ScrubCommand>(MustParse(line).command);
}

TEST(CommandLine, KnowsScrub) {
  using Mode = ScrubCommand::Mode;
  EXPECT_EQ(ScrubOf("scrub").request, control::StartScrub{});
  EXPECT_EQ(ScrubOf("scrub").mode, Mode::kWait);
  EXPECT_EQ(ScrubOf("scrub a --rate 10M").request,
            (control::StartScrub{"a", uint64_t{10} << 20, false}));
  EXPECT_EQ(ScrubOf("scrub --rate 0 --background").request.bytes_per_second, 0u);
  EXPECT_EQ(ScrubOf("scrub --background").mode, Mode::kBackground);
  EXPECT_TRUE(ScrubOf("scrub --compare").request.compare);
  EXPECT_EQ(ScrubOf("scrub b --stop").mode, Mode::kStop);
  EXPECT_EQ(ScrubOf("scrub b --stop").request.set, "b");
}

TEST(CommandLine, RefusesAScrubThatMeansNothing) {
  for (const char* line : {"scrub a b", "scrub --rate", "scrub --rate fast", "scrub --compare a",
                           "scrub --compare --rate 1M", "scrub --stop --background",
                           "scrub --stop --compare", "scrub -a"}) {
    EXPECT_EQ(Parse(line).error.code(), absl::StatusCode::kInvalidArgument) << line;
  }
}

BenchLatencyCommand BenchOf(const std::string& line) {
  return std::get<BenchLatencyCommand>(MustParse(line).command);
}

TEST(CommandLine, KnowsBenchLatency) {
  const BenchLatencyCommand plain = BenchOf("bench latency db");
  EXPECT_EQ(plain.volume, "db");
  EXPECT_EQ(plain.request_bytes, 4096u);
  EXPECT_EQ(plain.depth, 1u);
  EXPECT_EQ(plain.read_percent, 0u);
  EXPECT_EQ(plain.per_second, 0);
  EXPECT_EQ(plain.seconds, 10u);
  EXPECT_FALSE(plain.force);
  const BenchLatencyCommand full = BenchOf(
      "bench latency db --size 128k --depth 8 --read-share 70 --rate 1500.5 --duration 3 "
      "--svg /x.svg --force");
  EXPECT_EQ(full.request_bytes, 128u << 10);
  EXPECT_EQ(full.depth, 8u);
  EXPECT_EQ(full.read_percent, 70u);
  EXPECT_EQ(full.per_second, 1500.5);
  EXPECT_EQ(full.seconds, 3u);
  EXPECT_EQ(full.svg, "/x.svg");
  EXPECT_TRUE(full.force);
  EXPECT_EQ(BenchOf("bench latency db --rate 100").depth, 64u);
  EXPECT_EQ(BenchOf("bench latency db --rate 100 --depth 1").depth, 1u);
}

TEST(CommandLine, RefusesABenchThatMeansNothing) {
  for (const char* line :
       {"bench", "bench latency", "bench latency a/b", "bench latency db --size 0",
        "bench latency db --size 1000", "bench latency db --size 64M", "bench latency db --depth 0",
        "bench latency db --depth 129", "bench latency db --size 32M --depth 9",
        "bench latency db --read-share 101", "bench latency db --read-share -1",
        "bench latency db --rate -1", "bench latency db --rate nan", "bench latency db --rate inf",
        "bench latency db --duration 0", "bench latency db --duration 86401",
        "bench latency db@snap"}) {
    EXPECT_EQ(Parse(line).error.code(), absl::StatusCode::kInvalidArgument) << line;
  }
}

TEST(CommandLine, TakesJsonOnEveryCommand) {
  EXPECT_TRUE(MustParse("status --json").json);
  EXPECT_TRUE(MustParse("volume list --json").json);
  EXPECT_TRUE(MustParse("inspect /x --json").json);
  EXPECT_TRUE(MustParse("init --set a=/nowhere/a --set b=/nowhere/b --json").json);
  EXPECT_TRUE(MustParse("serve --json").json);
  EXPECT_FALSE(MustParse("status").json);
}

TEST(CommandLine, FindsTheControlSocket) {
  const auto socket = [](const std::string& line) {
    return std::get<ClientCommand>(MustParse(line).command).control_socket;
  };
  unsetenv("TWOFOLD_CONTROL");
  EXPECT_EQ(socket("status"), "/run/twofold/control.sock");
  setenv("TWOFOLD_CONTROL", "unix:/from/environment", 1);
  EXPECT_EQ(socket("status"), "/from/environment");
  EXPECT_EQ(socket("status --control /given"), "/given");
  EXPECT_EQ(socket("status --control unix:/given"), "/given");
  unsetenv("TWOFOLD_CONTROL");
}

TEST(CommandLine, ReadsInit) {
  const auto init = std::get<InitCommand>(
      MustParse("init --set a=/nowhere/a1,/nowhere/a2 --set b=/nowhere/b --size 10G "
                "--segment-size 4M")
          .command);
  ASSERT_EQ(init.sets.size(), 2u);
  EXPECT_EQ(init.sets[0].name, "a");
  EXPECT_THAT(init.sets[0].directories, ElementsAre("/nowhere/a1", "/nowhere/a2"));
  EXPECT_THAT(init.sets[1].directories, ElementsAre("/nowhere/b"));
  EXPECT_EQ(init.witness, "/nowhere/witness");
  EXPECT_EQ(init.segment_bytes, uint64_t{4} << 20);
  EXPECT_EQ(init.size_bytes.at("a"), uint64_t{10} << 30);
  EXPECT_EQ(init.size_bytes.at("b"), uint64_t{10} << 30);
}

TEST(CommandLine, ReadsSizesPerSet) {
  const auto init = std::get<InitCommand>(
      MustParse("init --set a=/nowhere/a --set b=/nowhere/b --size b=1G").command);
  EXPECT_EQ(init.size_bytes.count("a"), 0u);
  EXPECT_EQ(init.size_bytes.at("b"), uint64_t{1} << 30);
}

TEST(CommandLine, ReadsServe) {
  const auto serve = std::get<ServeCommand>(
      MustParse("serve --set a=/x --set b=/y --nbd 127.0.0.1:0 --nbd unix:/z --memory 256M "
                "--map-cache 16M --witness /w --control unix:/c --config /f --log-level debug")
          .command);
  EXPECT_EQ(serve.options.sets.size(), 2u);
  EXPECT_THAT(serve.options.nbd, ElementsAre("127.0.0.1:0", "unix:/z"));
  EXPECT_EQ(serve.options.memory_bytes, uint64_t{256} << 20);
  EXPECT_EQ(serve.options.map_cache_bytes, uint64_t{16} << 20);
  EXPECT_EQ(serve.options.witness, "/w");
  EXPECT_EQ(serve.options.control, "unix:/c");
  EXPECT_EQ(serve.options.log_level, "debug");
  EXPECT_EQ(serve.config, "/f");
}

TEST(CommandLine, ReadsInspect) {
  const auto mode = [](const std::string& line) {
    return std::get<InspectCommand>(MustParse(line).command).mode;
  };
  EXPECT_EQ(mode("inspect /x"), InspectCommand::Mode::kSummary);
  EXPECT_EQ(mode("inspect /x --verify"), InspectCommand::Mode::kVerify);
  EXPECT_EQ(mode("inspect --dump /x"), InspectCommand::Mode::kDump);
  EXPECT_THAT(std::get<InspectCommand>(MustParse("inspect /x /y").command).directories,
              ElementsAre("/x", "/y"));
}

struct Wrong {
  const char* line;
  const char* text;
  const char* help;  // the command whose --help is pointed at
};

TEST(CommandLine, SaysWhatIsWrongAndWhereHelpIs) {
  const std::vector<Wrong> cases = {
      {"", "subcommand is required", "twofold"},
      {"fly", "fly", "twofold"},
      {"--fly", "fly", "twofold"},
      {"volume", "subcommand is required", "twofold volume"},
      {"volume create", "NAME is required", "twofold volume create"},
      {"volume create db", "SIZE is required", "twofold volume create"},
      {"volume create db 10G more", "more", "twofold volume create"},
      {"volume create db ten", "ten", "twofold volume create"},
      {"volume create db 10GB", "10GB", "twofold volume create"},
      {"volume create db -1", "-1", "twofold volume create"},
      {"volume create db 0", "multiple of 4096", "twofold volume create"},
      {"volume create db 5000", "the next is 8192", "twofold volume create"},
      {"volume create db 2P", "won't do", "twofold volume create"},
      {"volume create d/b 10G", "is no name", "twofold volume create"},
      {"volume create db@x 10G", "is no name", "twofold volume create"},
      {"volume create db 10G --ack maybe", "maybe", "twofold volume create"},
      {"volume list db", "db", "twofold volume list"},
      {"volume resize db 1G --ack written", "ack", "twofold volume resize"},
      {"volume show .", "is no name", "twofold volume show"},
      {"snapshot create", "is required", "twofold snapshot create"},
      {"snapshot create db", "names no snapshot", "twofold snapshot create"},
      {"snapshot create db@a db@b", "named twice", "twofold snapshot create"},
      {"snapshot delete db", "names no snapshot", "twofold snapshot delete"},
      {"rollback db", "names no snapshot", "twofold rollback"},
      {"rollback", "is required", "twofold rollback"},
      {"status --control", "--control", "twofold status"},
      {"inspect", "DIR is required", "twofold inspect"},
      {"inspect /x --verify --dump", "excludes", "twofold inspect"},
      {"init", "two sets, 0 given", "twofold init"},
      {"init --set a=/x", "two sets, 1 given", "twofold init"},
      {"init --set a=/x --set b=/y --set c=/z", "two sets, 3 given", "twofold init"},
      {"init --set /x --set b=/y", "has no \"=\"", "twofold init"},
      {"init --set a= --set b=/y", "empty directory", "twofold init"},
      {"init --set a=/x, --set b=/y", "empty directory", "twofold init"},
      {"init --set a=/x --set a=/y", "given twice", "twofold init"},
      {"init --set a=/x --set b=/x", "also given for set a", "twofold init"},
      {"init --set a=/x --set b=/x/y", "inside the other", "twofold init"},
      {"init --set a=/x/ --set b=/y --witness /x/w", "one inside the other", "twofold init"},
      {"init --set a=/x --set b=/y --segment-size 5M", "power of two", "twofold init"},
      {"init --set a=/x --set b=/y --segment-size 1M", "from 4M", "twofold init"},
      {"init --set a=/x --set b=/y --size c=1G", "names a set", "twofold init"},
      {"init --set a=/x --set b=/y --size 1G --size b=1G", "twice for set b", "twofold init"},
      {"serve --memory lots", "lots", "twofold serve"},
  };
  for (const Wrong& wrong : cases) {
    SCOPED_TRACE(wrong.line);
    const ParsedCommandLine parsed = Parse(wrong.line);
    EXPECT_TRUE(absl::IsInvalidArgument(parsed.error)) << parsed.error;
    EXPECT_THAT(std::string(parsed.error.message()), HasSubstr(wrong.text));
    EXPECT_THAT(std::string(parsed.error.message()),
                HasSubstr(absl::StrCat("`", wrong.help, " --help`")));
  }
}

TEST(CommandLine, ExplainsEachCommand) {
  for (const char* command :
       {"", "init", "serve", "volume", "volume create", "volume list", "volume show",
        "volume resize", "volume delete", "snapshot", "snapshot create", "snapshot list",
        "snapshot delete", "rollback", "status", "inspect"}) {
    const ParsedCommandLine parsed = Parse(absl::StrCat(command, " --help"));
    EXPECT_TRUE(parsed.error.ok()) << command;
    EXPECT_FALSE(parsed.command_line.has_value()) << command;
    EXPECT_THAT(parsed.text, HasSubstr("Usage:")) << command;
  }
  EXPECT_THAT(Parse("volume create --help").text, HasSubstr("--ack"));
  EXPECT_THAT(Parse("--version").text, HasSubstr("twofold "));
}

// ---- Exit codes ----

struct Outcome {
  int exit_code;
  std::string out;
  std::string err;
};

Outcome RunLine(const std::string& line) {
  std::ostringstream out;
  std::ostringstream err;
  Console console{.out = out, .err = err};
  const int exit_code = Main(absl::StrSplit(line, ' ', absl::SkipEmpty()), console);
  return {exit_code, out.str(), err.str()};
}

TEST(Main, EndsWithTwoForWrongUsage) {
  const Outcome outcome = RunLine("volume create");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("twofold: NAME is required"));
}

// Each with a text that says what is wrong, and where the help is.
TEST(Main, EndsWithTwoForEveryKindOfWrongUsage) {
  for (const char* line : {"",
                           "frobnicate",
                           "volume",
                           "volume frobnicate",
                           "volume create v",
                           "volume create v 1X",
                           "volume create v 10G extra",
                           "volume create v 10G --ack sometimes",
                           "volume create v 4097",
                           "volume create -x 4096",
                           "volume show",
                           "volume resize v",
                           "snapshot create",
                           "snapshot create v",
                           "snapshot delete v@",
                           "rollback",
                           "rollback v",
                           "status extra",
                           "status --colour",
                           "status --control",
                           "init",
                           "init --set a=/x",
                           "inspect",
                           "inspect /nowhere --dump --verify",
                           "--frobnicate"}) {
    SCOPED_TRACE(line);
    const Outcome outcome = RunLine(line);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, HasSubstr("twofold: "));
    EXPECT_THAT(outcome.err, HasSubstr("--help"));
  }
  const Outcome without_sets = RunLine("serve");
  EXPECT_EQ(without_sets.exit_code, 2);
  EXPECT_THAT(without_sets.err, HasSubstr("write it as --set a="));
}

TEST(Main, EndsWithOneForAFailure) {
  const Outcome outcome = RunLine("status --control /nowhere/control.sock");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("twofold serve"));
}

TEST(Main, EndsWithZeroForHelp) {
  const Outcome outcome = RunLine("--help");
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("snapshot"));
  EXPECT_EQ(outcome.err, "");
}

TEST(Main, WritesErrorsAsJsonWhereAsked) {
  EXPECT_THAT(RunLine("status --json --control /nowhere/control.sock").err,
              HasSubstr(R"({"error":{"code":"not_found","message":"no daemon)"));
  EXPECT_THAT(RunLine("volume create --json").err,
              HasSubstr(R"({"error":{"code":"invalid_argument")"));
}

TEST(Main, MakesControlCharactersOfANameVisible) {
  const Outcome outcome = RunLine("volume show \x1b[2J");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err.find('\x1b'), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace twofold::cli
