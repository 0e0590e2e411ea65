#include "tools/load/latency_plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace twofold::load {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

StageLatency Stage(const std::string& stage, const std::string& set, int count, int64_t nanos) {
  StageLatency latency{stage, set, {}};
  for (int i = 0; i < count; ++i) latency.histogram.Add(nanos);
  return latency;
}

TEST(LatencyPlot, HasACurveForEachStageThatCounted) {
  const std::string svg =
      LatencyPlot("db", {Stage("client_write", "", 1000, 400'000), Stage("order", "", 0, 0),
                         Stage("log", "a", 1000, 200'000), Stage("log", "b", 1000, 300'000)});
  EXPECT_EQ(Count(svg, "<polyline"), 3u);
  EXPECT_EQ(Count(svg, "stroke-dasharray"), 1u);  // set b
  EXPECT_THAT(svg, HasSubstr(">client_write</text>"));
  EXPECT_THAT(svg, HasSubstr(">log, set b</text>"));
  EXPECT_THAT(svg, Not(HasSubstr(">order</text>")));
  EXPECT_THAT(svg, HasSubstr(">100 µs</text>"));
  EXPECT_THAT(svg, HasSubstr(">1 ms</text>"));
  EXPECT_TRUE(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
  EXPECT_EQ(Count(svg, "<g "), Count(svg, "</g>"));
}

// 100 requests have a 99th percentile and no 99.9th.
TEST(LatencyPlot, DrawsNoPercentileThatNoRequestStandsFor) {
  const auto points = [](int count) {
    const std::string svg = LatencyPlot("", {Stage("log", "", count, 5000)});
    const size_t begin = svg.find("points=\"");
    return Count(svg.substr(begin, svg.find("\"/>", begin) - begin), ",");
  };
  EXPECT_EQ(points(1), 1u);
  EXPECT_EQ(points(100), 81u);
  EXPECT_EQ(points(10'000), 161u);
  EXPECT_EQ(points(1'000'000), 161u);
}

TEST(LatencyPlot, TakesNothingAndAnything) {
  EXPECT_THAT(LatencyPlot("", {}), HasSubstr("</svg>"));
  const std::string svg = LatencyPlot("a<b&\"c\"", {Stage("s<script>", "", 1, INT64_MAX)});
  EXPECT_THAT(svg, HasSubstr("a&lt;b&amp;&quot;c&quot;"));
  EXPECT_THAT(svg, Not(HasSubstr("<script>")));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

}  // namespace
}  // namespace twofold::load
