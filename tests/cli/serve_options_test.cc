#include "tools/cli/serve_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "tools/control/unix_socket.h"

namespace twofold::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ServeConfig, ReadsEveryKey) {
  const auto options = ParseServeConfig(R"(
    witness = "/w"
    nbd = ["127.0.0.1:10809", "unix:/n"]
    control = "unix:/c"
    metrics = "127.0.0.1:9464"
    memory = "256M"
    map-cache = 33554432
    log-level = "warning"
    [set]
    a = "/disk1"
    b = ["/disk2", "/disk3"]
  )",
                                        "t.toml");
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->witness, "/w");
  EXPECT_THAT(options->nbd, ElementsAre("127.0.0.1:10809", "unix:/n"));
  EXPECT_EQ(options->control, "unix:/c");
  EXPECT_EQ(options->metrics, "127.0.0.1:9464");
  EXPECT_EQ(options->memory_bytes, uint64_t{256} << 20);
  EXPECT_EQ(options->map_cache_bytes, uint64_t{32} << 20);
  EXPECT_EQ(options->log_level, "warning");
  EXPECT_THAT(options->sets,
              ElementsAre(SetSpec{"a", {"/disk1"}}, SetSpec{"b", {"/disk2", "/disk3"}}));
}

TEST(ServeConfig, MayBeEmpty) { EXPECT_TRUE(ParseServeConfig("", "t.toml").ok()); }

TEST(ServeConfig, SaysWhatIsWrongInWhichLine) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"nbd = 1\n", "t.toml:1: \"nbd\" must be a string"},
      {"\n\nmemry = \"1G\"\n", "t.toml:3: unknown key \"memry\"; known are: control, log-level"},
      {"witness = \"/w\"\nwitness = \"/v\"\n", "t.toml:2: "},
      {"witness = \n", "t.toml:1: "},
      {"witness = ''\n", "t.toml:1: \"witness\" must be a string"},
      {"nbd = []\n", "t.toml:1: \"nbd\" is an empty array"},
      {"nbd = [\"a\", 2]\n", "t.toml:1: \"nbd\" must be a string, or an array of strings"},
      {"\nmemory = \"lots\"\n", "t.toml:2: "},
      {"memory = 1.5\n", "t.toml:1: \"memory\" must be a size"},
      {"memory = -1\n", "t.toml:1: \"memory\" must be a size"},
      {"set = \"a=/x\"\n", "t.toml:1: \"set\" must be a table"},
      {"[set]\na = 1\n", "t.toml:2: \"a\" must be a string"},
      {"[set]\n\"a b\" = \"/x\"\n", "t.toml:2: "},
      {"[sets]\na = \"/x\"\n", "t.toml:1: unknown key \"sets\""},
      {"control = { path = \"/x\" }\n", "t.toml:1: \"control\" must be a string"},
      {"\"\\u001b\" = 1\n", "t.toml:1: unknown key \"\\x1b\""},
  };
  for (const auto& [text, error] : cases) {
    SCOPED_TRACE(text);
    const auto options = ParseServeConfig(text, "t.toml");
    EXPECT_TRUE(absl::IsInvalidArgument(options.status())) << options.status();
    EXPECT_THAT(std::string(options.status().message()), HasSubstr(error));
  }
}

TEST(ServeConfig, SaysWhichFileIsMissing) {
  const auto options = LoadServeConfig("/nowhere/t.toml");
  EXPECT_TRUE(absl::IsNotFound(options.status()));
  EXPECT_THAT(std::string(options.status().message()), HasSubstr("/nowhere/t.toml"));
}

ServeOptions Minimal() {
  ServeOptions options;
  options.sets = {{"a", {"/nowhere/a"}}, {"b", {"/nowhere/b"}}};
  return options;
}

TEST(ServeOptions, LetTheCommandLineWin) {
  ServeOptions config = Minimal();
  config.nbd = {"unix:/config"};
  config.witness = "/config";
  config.memory_bytes = 1;
  ServeOptions command_line;
  command_line.nbd = {"unix:/line"};
  command_line.memory_bytes = 2;
  const ServeOptions merged = Merge(command_line, config);
  EXPECT_THAT(merged.nbd, ElementsAre("unix:/line"));
  EXPECT_EQ(merged.memory_bytes, 2u);
  EXPECT_EQ(merged.witness, "/config");
  EXPECT_EQ(merged.sets, config.sets);
}

TEST(ServeOptions, HaveDefaults) {
  unsetenv("TWOFOLD_CONTROL");
  const auto settings = ResolveServeOptions(Minimal());
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_THAT(settings->nbd, ElementsAre("127.0.0.1:10809"));
  EXPECT_EQ(settings->control, control::kDefaultControlSocket);
  EXPECT_EQ(settings->witness, "/nowhere/witness");
  EXPECT_EQ(settings->memory_bytes, size_t{192} << 20);
  EXPECT_EQ(settings->map_cache_bytes, size_t{128} << 20);
  EXPECT_EQ(settings->log_level, LogLevel::kInfo);
  EXPECT_EQ(settings->scrub.every_seconds, uint64_t{7} * 24 * 3600);
  EXPECT_EQ(settings->scrub.bytes_per_second, uint64_t{64} << 20);
}

TEST(ServeConfig, SaysWhenToScrub) {
  auto options = ParseServeConfig("[scrub]\nevery = \"12h\"\nrate = \"10M\"\n", "t.toml");
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->scrub_every_seconds, 12u * 3600);
  EXPECT_EQ(options->scrub_bytes_per_second, uint64_t{10} << 20);
  options = ParseServeConfig("[scrub]\nevery = \"never\"\n", "t.toml");
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->scrub_every_seconds, 0u);
  for (const char* bad : {"7", "d", "0d", "7 d", "-1d", "weekly", "7w", "1000000d"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseInterval(bad).status())) << bad;
  }
  const auto unknown = ParseServeConfig("[scrub]\nwhen = \"7d\"\n", "t.toml");
  EXPECT_THAT(std::string(unknown.status().message()), HasSubstr("t.toml:2: \"when\""));
  EXPECT_FALSE(ParseServeConfig("scrub = \"7d\"\n", "t.toml").ok());
}

TEST(ServeOptions, AreChecked) {
  const auto error = [](void (*change)(ServeOptions&)) {
    ServeOptions options = Minimal();
    change(options);
    const auto settings = ResolveServeOptions(options);
    EXPECT_TRUE(absl::IsInvalidArgument(settings.status())) << settings.status();
    return std::string(settings.status().message());
  };
  EXPECT_THAT(error([](ServeOptions& o) { o.sets.pop_back(); }), HasSubstr("two sets"));
  EXPECT_THAT(error([](ServeOptions& o) { o.nbd = {"localhost"}; }), HasSubstr("--nbd"));
  EXPECT_THAT(error([](ServeOptions& o) { o.metrics = "9464"; }), HasSubstr("--metrics"));
  EXPECT_THAT(error([](ServeOptions& o) { o.metrics = "unix:/m"; }), HasSubstr("HOST:PORT"));
  EXPECT_THAT(error([](ServeOptions& o) { o.memory_bytes = 1 << 20; }), HasSubstr("from 128M"));
  EXPECT_THAT(error([](ServeOptions& o) { o.map_cache_bytes = 1; }), HasSubstr("--map-cache"));
  EXPECT_THAT(error([](ServeOptions& o) { o.log_level = "loud"; }), HasSubstr("loud"));
  EXPECT_THAT(error([](ServeOptions& o) { o.force_stale = "c"; }), HasSubstr("--force-stale c"));
  EXPECT_THAT(error([](ServeOptions& o) { o.replace = "c"; }), HasSubstr("--replace c"));
  EXPECT_THAT(error([](ServeOptions& o) { o.control = std::string(200, 'x'); }),
              HasSubstr("longer than"));
}

// R26: never inside a set.
TEST(WitnessDirectory, LiesBesideTheSets) {
  const auto directory = [](const std::string& a, const std::string& b, const std::string& given) {
    const auto sets = CheckSets({{"a", {a}}, {"b", {b}}});
    EXPECT_TRUE(sets.ok()) << sets.status();
    return WitnessDirectory(*sets, given);
  };
  EXPECT_EQ(*directory("/nowhere/a", "/nowhere/b", ""), "/nowhere/witness");
  EXPECT_EQ(*directory("/nowhere/1/a", "/nowhere/2/b", ""), "/nowhere/witness");
  EXPECT_EQ(*directory("/nowhere1/a", "/nowhere2/b", ""), "/var/lib/twofold/witness");
  EXPECT_EQ(*directory("/nowhere/a", "/nowhere/b", "/else/w/"), "/else/w");
  for (const char* bad : {"/nowhere/a", "/nowhere/a/w", "/nowhere", "/", "/nowhere/x/../b/w"}) {
    const auto refused = directory("/nowhere/a", "/nowhere/b", bad);
    EXPECT_TRUE(absl::IsInvalidArgument(refused.status())) << bad;
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--witness")) << bad;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(directory("/nowhere/witness", "/nowhere/b", "").status()));
}

}  // namespace
}  // namespace twofold::cli
