#include "storage/base/log.h"

#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "absl/base/const_init.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace twofold {
namespace {

// Keeps lines whole when a write to stderr is cut short.
ABSL_CONST_INIT absl::Mutex write_mutex(absl::kConstInit);

absl::string_view Name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "DEBUG";
    case LogLevel::kInfo:
      return "INFO";
    case LogLevel::kWarning:
      return "WARNING";
    case LogLevel::kError:
      return "ERROR";
  }
  return "?";
}

void AppendEscaped(absl::string_view text, std::string* line) {
  for (const char c : text) {
    if (c == '\n') {
      line->append("\\n");
    } else if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
      absl::StrAppendFormat(line, "\\x%02x", static_cast<unsigned char>(c));
    } else {
      line->push_back(c);
    }
  }
}

// A log that can't be written stops nobody: the rest of the line is given up.
void WriteAll(absl::string_view line) {
  while (!line.empty()) {
    const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    line.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

namespace internal {

std::atomic<LogLevel> log_level{LogLevel::kInfo};

LogRecord::~LogRecord() {
  const int saved_errno = errno;
  std::string line = absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ ", absl::Now(), absl::UTCTimeZone());
  absl::StrAppend(&line, Name(level_), " ", file_, ":", line_, " ");
  AppendEscaped(std::move(stream_).str(), &line);
  line.push_back('\n');
  {
    const absl::MutexLock lock(&write_mutex);
    WriteAll(line);
  }
  errno = saved_errno;
}

}  // namespace internal

void SetLogLevel(LogLevel level) { internal::log_level.store(level, std::memory_order_relaxed); }

LogLevel GetLogLevel() { return internal::log_level.load(std::memory_order_relaxed); }

absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text) {
  for (const LogLevel level :
       {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError}) {
    if (text == absl::AsciiStrToLower(Name(level))) return level;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown log level \"", text, "\": use debug, info, warning or error"));
}

}  // namespace twofold
