#include "storage/base/check.h"

#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>

namespace twofold::internal {

CheckFailure::CheckFailure(const char* file, int line, const char* condition) {
  stream_ << file << ':' << line << ": check failed: " << condition << ' ';
}

CheckFailure::CheckFailure(const char* file, int line, std::string* values) {
  const std::unique_ptr<std::string> owned(values);
  stream_ << file << ':' << line << ": check failed: " << *owned << ' ';
}

CheckFailure::~CheckFailure() {
  std::string text = std::move(stream_).str();
  if (text.back() == ' ') text.back() = '\n';
  if (text.back() != '\n') text.push_back('\n');
  // Straight to the descriptor, in one piece: nothing of the process is to be trusted any more.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
  std::abort();
}

std::string* CheckOk(const absl::Status& status, const char* expression) {
  if (status.ok()) [[likely]]
    return nullptr;
  return new std::string(expression + (" is " + status.ToString()));
}

}  // namespace twofold::internal
