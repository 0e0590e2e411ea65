#include "storage/base/units.h"

#include <limits>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace twofold {
namespace {

constexpr absl::string_view kUnits = "KMGTPE";
constexpr absl::string_view kHowTo =
    "write a whole number with K, M, G, T, P or E (powers of 1024), such as 10G or 64KiB";

absl::Status BadSize(absl::string_view text, absl::string_view problem) {
  return absl::InvalidArgumentError(
      absl::StrCat("size \"", absl::CHexEscape(text), "\": ", problem, "; ", kHowTo));
}

}  // namespace

absl::StatusOr<uint64_t> ParseSize(absl::string_view text) {
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(static_cast<unsigned char>(text[digits]))) {
    ++digits;
  }
  const absl::string_view number_text = text.substr(0, digits);
  const absl::string_view unit = text.substr(digits);
  if (text.empty()) return BadSize(text, "is empty");
  if (number_text.empty()) return BadSize(text, "does not begin with a digit");
  if (absl::StartsWith(unit, ".")) return BadSize(text, "has a fraction");

  int shift = 0;
  if (!unit.empty() && unit != "B") {
    const size_t index = kUnits.find(absl::ascii_toupper(static_cast<unsigned char>(unit[0])));
    const absl::string_view rest = unit.substr(1);
    if (index != absl::string_view::npos && (rest == "B" || rest == "b")) {
      return BadSize(text, absl::StrCat("unit \"", unit, "\" can mean powers of 1000 or of 1024"));
    }
    if (index == absl::string_view::npos || !(rest.empty() || rest == "iB")) {
      return BadSize(text, absl::StrCat("unknown unit \"", absl::CHexEscape(unit), "\""));
    }
    shift = 10 * (static_cast<int>(index) + 1);
  }

  uint64_t number = 0;
  if (!absl::SimpleAtoi(number_text, &number) ||
      number > (std::numeric_limits<uint64_t>::max() >> shift)) {
    return BadSize(text, "does not fit in 64 bits");
  }
  return number << shift;
}

std::string FormatSize(uint64_t size_bytes) {
  size_t units = 0;
  uint64_t number = size_bytes;
  while (number != 0 && number % 1024 == 0 && units < kUnits.size()) {
    number /= 1024;
    ++units;
  }
  return units == 0 ? absl::StrCat(number) : absl::StrCat(number, kUnits.substr(units - 1, 1));
}

std::string FormatSizeRounded(uint64_t size_bytes) {
  if (size_bytes < 1024) return absl::StrCat(size_bytes, " B");
  size_t units = 0;
  double number = static_cast<double>(size_bytes);
  // 1023.5 would be printed as 1024 of its unit: it is 1.00 of the next.
  while (number >= 1023.5 && units < kUnits.size()) {
    number /= 1024;
    ++units;
  }
  const int decimals = number < 9.995 ? 2 : number < 99.95 ? 1 : 0;
  return absl::StrFormat("%.*f %ciB", decimals, number, kUnits[units - 1]);
}

}  // namespace twofold
