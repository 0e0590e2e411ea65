// Shows how far long work has come, on a terminal: one line that is written over. Elsewhere it is
// silent.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "tools/cli/console.h"

namespace twofold::cli {

class Progress {
 public:
  explicit Progress(Console& console) : console_(console) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // Clears the line.
  ~Progress();

  // "what  42 %  (3 of 7)", at most ten times a second; `total` 0: not known. Sizes where `bytes`.
  void Update(const std::string& what, uint64_t done, uint64_t total, bool bytes);
  // Any text, as often.
  void Show(const std::string& text);
  // Takes the line away, before something else is written.
  void Clear();

 private:
  Console& console_;
  std::chrono::steady_clock::time_point shown_at_;
  bool shown_ = false;
};

}  // namespace twofold::cli
