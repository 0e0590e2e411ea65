// Counting what is used by what, on a set that is in-sync, while the pool is open.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "replication/volume/usage_info.h"
#include "storage/runtime/task.h"
#include "storage/store/usage_report.h"

namespace twofold {

class PoolState;

class PoolUsage {
 public:
  explicit PoolUsage(PoolState* pool) : pool_(pool) {}

  // Of one volume, or of everything. kNotFound: no such volume; kUnavailable: no set that could be
  // asked, or it has failed meanwhile; kCancelled: after Cancel.
  Task<absl::StatusOr<UsageInfo>> Count(std::optional<std::string> volume);
  // Counts that are under way end soon, and none begins any more.
  void Cancel() { cancelled_ = true; }
  // The last count of everything since the daemon started.
  const std::optional<UsageInfo>& last() const { return last_; }

 private:
  static UsageInfo Describe(const std::string& set, bool all, const UsageReport& report);

  PoolState* const pool_;
  bool cancelled_ = false;
  std::optional<UsageInfo> last_;
};

}  // namespace twofold
