// Making and clearing the directories of a new pool.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/cli/set_spec.h"

namespace twofold::cli {

// Directories that `init` needs, made where they are missing. Unless Keep() is called, destruction
// removes those that it has made, if they are empty.
class NewDirectories {
 public:
  NewDirectories() = default;
  NewDirectories(const NewDirectories&) = delete;
  NewDirectories& operator=(const NewDirectories&) = delete;
  ~NewDirectories();

  // Makes `directory` and what is missing above it (mode 0700), durably. kFailedPrecondition, with
  // a list of what is there, where it holds anything; kPermissionDenied.
  absl::Status Make(const std::string& directory);
  void Keep() { made_.clear(); }

 private:
  std::vector<std::string> made_;  // in the order of making
};

// Removes the files of a store (SUPERBLOCK, LOCK, log/*.seg, map/) or of a witness, and nothing
// else. On an error the text names what is left.
absl::Status RemoveStoreFiles(const std::string& directory);

// For each set, the bytes that its directories may take: what is free on their file systems,
// divided by the number of `sets`' directories there.
absl::StatusOr<std::vector<uint64_t>> FreeBytesBySet(const std::vector<SetSpec>& sets);

}  // namespace twofold::cli
