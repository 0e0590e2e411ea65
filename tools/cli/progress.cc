#include "tools/cli/progress.h"

#include "absl/strings/str_cat.h"
#include "storage/base/units.h"

namespace twofold::cli {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(100);
constexpr char kClearLine[] = "\r\033[K";

}  // namespace

Progress::~Progress() { Clear(); }

void Progress::Clear() {
  if (shown_) console_.err << kClearLine << std::flush;
  shown_ = false;
}

void Progress::Update(const std::string& what, uint64_t done, uint64_t total, bool bytes) {
  const auto format = [bytes](uint64_t amount) {
    return bytes ? FormatSizeRounded(amount) : absl::StrCat(amount);
  };
  if (total == 0) return Show(absl::StrCat(what, "  ", format(done)));
  const auto percent =
      static_cast<uint64_t>(100.0 * static_cast<double>(done) / static_cast<double>(total));
  Show(absl::StrCat(what, "  ", percent, " %  (", format(done), " of ", format(total), ")"));
}

void Progress::Show(const std::string& text) {
  if (!console_.err_is_terminal) return;
  const auto now = std::chrono::steady_clock::now();
  if (shown_ && now - shown_at_ < kInterval) return;
  shown_ = true;
  shown_at_ = now;
  console_.err << kClearLine << Printable(text) << std::flush;
}

}  // namespace twofold::cli
