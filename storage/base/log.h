// The log of the process: one line a record, on stderr.
//
//   TF_LOG(INFO) << "set a: opened at " << position;
//   2026-11-22T10:42:07.123456Z INFO replication/pair/membership.cc:88 set a: opened at 3.17
//
// Levels are DEBUG, INFO, WARNING, ERROR. A record below the level is not even formatted. Control
// characters in a record are escaped, so that a name sent by a client can't forge a line. Any
// thread may log; lines never mix. What the log is for: DEBUG to follow one case, INFO what an
// operator would note in a diary, WARNING what asks for attention soon, ERROR what asks for it now.
#pragma once

#include <atomic>
#include <sstream>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace twofold {

enum class LogLevel : int { kDebug, kInfo, kWarning, kError };

// The lowest level that is written; kInfo at start.
void SetLogLevel(LogLevel level);
LogLevel GetLogLevel();

// "debug", "info", "warning" or "error". kInvalidArgument for anything else.
absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text);

namespace internal {

inline constexpr LogLevel kLogDEBUG = LogLevel::kDebug;
inline constexpr LogLevel kLogINFO = LogLevel::kInfo;
inline constexpr LogLevel kLogWARNING = LogLevel::kWarning;
inline constexpr LogLevel kLogERROR = LogLevel::kError;

extern std::atomic<LogLevel> log_level;

inline bool LogEnabled(LogLevel level) {
  return level >= log_level.load(std::memory_order_relaxed);
}

// Collects one record; its destructor writes it.
class LogRecord {
 public:
  LogRecord(LogLevel level, const char* file, int line) : level_(level), file_(file), line_(line) {}
  LogRecord(const LogRecord&) = delete;
  LogRecord& operator=(const LogRecord&) = delete;
  ~LogRecord();

  std::ostream& stream() { return stream_; }

 private:
  LogLevel level_;
  const char* file_;
  int line_;
  std::ostringstream stream_;
};

// Turns the stream of a record into void, with a precedence between << and ?:.
struct LogVoidify {
  void operator&(std::ostream&) const {}
};

}  // namespace internal
}  // namespace twofold

#define TF_LOG(level)                                                                            \
  !::twofold::internal::LogEnabled(::twofold::internal::kLog##level)                             \
      ? static_cast<void>(0)                                                                     \
      : ::twofold::internal::LogVoidify() &                                                      \
            ::twofold::internal::LogRecord(::twofold::internal::kLog##level, __FILE__, __LINE__) \
                .stream()
