// Names of volumes and snapshots as users give them.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace twofold {

// kInvalidArgument unless 1..kMaxNameBytes of [A-Za-z0-9._-], not starting with '.' or '-'.
absl::Status CheckName(const std::string& name);

// A volume's snapshot as a user names it: "vol@snap".
struct SnapshotName {
  std::string volume;
  std::string snapshot;
  // kInvalidArgument unless it is two names that CheckName takes, with one '@' between.
  static absl::StatusOr<SnapshotName> Parse(const std::string& text);
  std::string ToString() const { return volume + "@" + snapshot; }
};

}  // namespace twofold
