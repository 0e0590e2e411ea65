#include "tools/load/latency_plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace twofold::load {
namespace {

constexpr double kWidth = 960;
constexpr double kHeight = 560;
constexpr double kLeft = 80;
constexpr double kRight = 720;  // the legend is beyond
constexpr double kTop = 50;
constexpr double kBottom = 500;
constexpr double kLegendLine = 22;
constexpr int kNines = 4;          // the percentile axis ends at 99.99
constexpr int kStepsPerNine = 40;  // points of a curve
constexpr int kMinExponent = 2;    // what takes less than 100 ns is not worth the room
constexpr int kMaxExponent = 13;   // no histogram tells of more

constexpr std::array<const char*, 14> kColours = {
    "#111111", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2",
    "#17becf", "#bcbd22", "#1f77b4", "#7f7f7f", "#f0b030", "#006d5b", "#a0c8f0"};

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text,
                             {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

// 0 at the median's side, kNines at the tail's: 0 % is 0, 90 % is 1, 99 % is 2.
double PercentAt(double nines) { return 100 * (1 - std::pow(10, -nines)); }
double X(double nines) { return kLeft + (kRight - kLeft) * nines / kNines; }

// From the power of ten below the least to that above the most; nanoseconds.
struct Scale {
  int first = 3;
  int last = 4;
  double Y(int64_t nanos) const {
    const double exponent = std::log10(static_cast<double>(std::max<int64_t>(nanos, 1)));
    const double part = std::clamp((exponent - first) / (last - first), 0.0, 1.0);
    return kBottom - (kBottom - kTop) * part;
  }
};

Scale ScaleFor(const std::vector<StageLatency>& stages) {
  int64_t least = INT64_MAX;
  int64_t most = 1;
  for (const StageLatency& stage : stages) {
    if (stage.histogram.count() == 0) continue;
    least = std::min(least, stage.histogram.Percentile(0));
    most = std::max(most, stage.histogram.Percentile(PercentAt(kNines)));
  }
  if (least > most) return {};
  const auto exponent = [](int64_t nanos) {
    return std::log10(static_cast<double>(std::max<int64_t>(nanos, 1)));
  };
  Scale scale;
  scale.first =
      std::clamp(static_cast<int>(std::floor(exponent(least))), kMinExponent, kMaxExponent - 1);
  scale.last =
      std::clamp(static_cast<int>(std::ceil(exponent(most))), scale.first + 1, kMaxExponent);
  return scale;
}

std::string DurationText(int exponent) {
  static constexpr const char* kUnits[] = {"ns", "µs", "ms", "s", "ks"};
  const int unit = std::min(exponent / 3, 4);
  return absl::StrCat(static_cast<int64_t>(std::pow(10, exponent - 3 * unit)), " ", kUnits[unit]);
}

void Line(std::string* svg, double x1, double y1, double x2, double y2) {
  absl::StrAppendFormat(svg, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x1, y1,
                        x2, y2);
}

void Label(std::string* svg, double x, double y, const char* anchor, const std::string& text) {
  absl::StrAppendFormat(svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y,
                        anchor, Escaped(text));
}

void Axes(std::string* svg, const Scale& scale) {
  absl::StrAppend(svg, "<g stroke=\"#ddd\">\n");
  for (int nines = 0; nines <= kNines; ++nines) Line(svg, X(nines), kTop, X(nines), kBottom);
  for (int exponent = scale.first; exponent <= scale.last; ++exponent) {
    const double y = scale.Y(static_cast<int64_t>(std::pow(10, exponent)));
    Line(svg, kLeft, y, kRight, y);
  }
  absl::StrAppend(svg, "</g>\n");
  for (int nines = 0; nines <= kNines; ++nines) {
    Label(svg, X(nines), kBottom + 20, "middle", absl::StrFormat("%.6g %%", PercentAt(nines)));
  }
  for (int exponent = scale.first; exponent <= scale.last; ++exponent) {
    Label(svg, kLeft - 8, scale.Y(static_cast<int64_t>(std::pow(10, exponent))) + 4, "end",
          DurationText(exponent));
  }
  Label(svg, (kLeft + kRight) / 2, kBottom + 44, "middle", "percentile");
}

// Up to the percentile that one request stands for.
std::string Curve(const LatencyHistogram& histogram, const Scale& scale) {
  std::string points;
  for (int step = 0; step <= kNines * kStepsPerNine; ++step) {
    const double nines = static_cast<double>(step) / kStepsPerNine;
    // Fewer requests than that say nothing of such a percentile.
    if (nines > 0 && std::pow(10, nines) > static_cast<double>(histogram.count())) break;
    absl::StrAppendFormat(&points, "%s%.1f,%.1f", points.empty() ? "" : " ", X(nines),
                          scale.Y(histogram.Percentile(PercentAt(nines))));
  }
  return points;
}

}  // namespace

std::string LatencyPlot(const std::string& title, const std::vector<StageLatency>& stages) {
  const Scale scale = ScaleFor(stages);
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" "
      "height=\"%.0f\" font-family=\"sans-serif\" font-size=\"13\">\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
      kWidth, kHeight, kWidth, kHeight);
  Label(&svg, kLeft, kTop - 20, "start", title);
  Axes(&svg, scale);
  // A stage has one colour; where both sets have it, the second one is dashed.
  std::vector<std::string> seen;
  double legend = kTop + 8;
  for (const StageLatency& stage : stages) {
    if (stage.histogram.count() == 0) continue;
    const auto found = std::find(seen.begin(), seen.end(), stage.stage);
    const auto colour = static_cast<size_t>(std::distance(seen.begin(), found));
    const bool again = found != seen.end();
    if (!again) seen.push_back(stage.stage);
    absl::StrAppend(&svg, "<g fill=\"none\" stroke-width=\"2\" stroke=\"",
                    kColours[colour % kColours.size()], "\"",
                    again ? " stroke-dasharray=\"6 4\"" : "", ">\n<polyline points=\"",
                    Curve(stage.histogram, scale), "\"/>\n");
    Line(&svg, kRight + 16, legend - 4, kRight + 46, legend - 4);
    absl::StrAppend(&svg, "</g>\n");
    Label(&svg, kRight + 54, legend, "start",
          stage.set.empty() ? stage.stage : absl::StrCat(stage.stage, ", set ", stage.set));
    legend += kLegendLine;
  }
  absl::StrAppend(&svg, "</svg>\n");
  return svg;
}

}  // namespace twofold::load
