// The two sets as an operator names them, and where their directories are.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace twofold::cli {

struct SetSpec {
  std::string name;                      // "a"
  std::vector<std::string> directories;  // 1..kMaxStoreDirectories
  bool operator==(const SetSpec&) const = default;
};

// "set a (DIR,DIR)", for messages.
std::string Describe(const SetSpec& set);

// "a=DIR[,DIR...]".
absl::StatusOr<SetSpec> ParseSetSpec(const std::string& text);

// Exactly two sets of different names, no directory twice, none inside another; absolute paths on
// return, symbolic links resolved as far as the directories exist.
absl::StatusOr<std::vector<SetSpec>> CheckSets(std::vector<SetSpec> sets);

// The directory of the witness (R26): `given` when it is not empty, else "witness" in the deepest
// directory that holds all of the sets' directories, or kLastResortWitness where that is "/".
// `sets` as CheckSets gives them. kInvalidArgument when it lies inside a set, is one, or holds one.
absl::StatusOr<std::string> WitnessDirectory(const std::vector<SetSpec>& sets,
                                             const std::string& given);

inline constexpr char kLastResortWitness[] = "/var/lib/twofold/witness";

// "a" and "b" may lose all their data at once when they share a device: a warning that says so, or
// "".
std::string SharedDeviceWarning(const std::vector<SetSpec>& sets);

}  // namespace twofold::cli
