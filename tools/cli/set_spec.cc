#include "tools/cli/set_spec.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "replication/volume/names.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"

namespace twofold::cli {
namespace {

namespace fs = std::filesystem;

constexpr char kExample[] = "; write it as --set a=/srv/twofold/a --set b=/srv/twofold/b";

absl::StatusOr<std::string> Resolve(const std::string& directory) {
  std::error_code error;
  fs::path path = fs::absolute(directory, error);
  if (!error) path = fs::weakly_canonical(path, error);
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat("directory ", directory, ": ", error.message()));
  }
  // "/x/" has an empty last part.
  if (!path.has_filename() && path.has_relative_path()) path = path.parent_path();
  return path.string();
}

// True when `inner` is `outer` or lies below it. Both are resolved.
bool Within(const fs::path& inner, const fs::path& outer) {
  const auto [mismatch, unused] =
      std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
  return mismatch == outer.end();
}

fs::path CommonAncestor(const fs::path& one, const fs::path& other) {
  fs::path common;
  auto left = one.begin();
  auto right = other.begin();
  for (; left != one.end() && right != other.end() && *left == *right; ++left, ++right) {
    common /= *left;
  }
  return common;
}

// Of the directory, or of the nearest one above it that exists.
std::optional<dev_t> DeviceOf(fs::path path) {
  struct stat info{};
  while (stat(path.c_str(), &info) != 0) {
    if (path == path.parent_path()) return std::nullopt;
    path = path.parent_path();
  }
  return info.st_dev;
}

}  // namespace

std::string Describe(const SetSpec& set) {
  return absl::StrCat("set ", set.name, " (", absl::StrJoin(set.directories, ","), ")");
}

absl::StatusOr<SetSpec> ParseSetSpec(const std::string& text) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits('=', 1));
  SetSpec set{.name = parts.first, .directories = {}};
  if (text.find('=') == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("--set ", text, " has no \"=\" between name and directory", kExample));
  }
  TF_RETURN_IF_ERROR(Annotate(CheckName(set.name), absl::StrCat("--set ", text)));
  for (absl::string_view directory : absl::StrSplit(parts.second, ',')) {
    if (directory.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--set ", text, " has an empty directory", kExample));
    }
    set.directories.emplace_back(directory);
  }
  if (set.directories.size() > kMaxStoreDirectories) {
    return absl::InvalidArgumentError(
        absl::StrCat("set ", set.name, " has ", set.directories.size(),
                     " directories; the most is ", kMaxStoreDirectories));
  }
  return set;
}

absl::StatusOr<std::vector<SetSpec>> CheckSets(std::vector<SetSpec> sets) {
  if (sets.size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("a pool has two sets, ", sets.size(), " given", kExample));
  }
  if (sets[0].name == sets[1].name) {
    return absl::InvalidArgumentError(absl::StrCat(
        "set ", sets[0].name, " is given twice; give all directories of a set at once, as --set ",
        sets[0].name, "=DIR,DIR"));
  }
  std::vector<std::pair<std::string, std::string>> seen;  // directory, set
  for (SetSpec& set : sets) {
    for (std::string& directory : set.directories) {
      TF_ASSIGN_OR_RETURN(directory, Resolve(directory));
      for (const auto& [other, owner] : seen) {
        if (!Within(directory, other) && !Within(other, directory)) continue;
        return absl::InvalidArgumentError(absl::StrCat(
            "set ", set.name, "'s directory ", directory,
            directory == other ? " is also given for set " : " and one lies inside the other: set ",
            owner, directory == other ? "" : absl::StrCat("'s ", other),
            "; sets share nothing, so give each directories of its own"));
      }
      seen.emplace_back(directory, set.name);
    }
  }
  return sets;
}

absl::StatusOr<std::string> WitnessDirectory(const std::vector<SetSpec>& sets,
                                             const std::string& given) {
  std::string witness = given;
  if (witness.empty()) {
    fs::path common = fs::path(sets[0].directories[0]).parent_path();
    for (const SetSpec& set : sets) {
      for (const std::string& directory : set.directories) {
        common = CommonAncestor(common, fs::path(directory).parent_path());
      }
    }
    witness = common == "/" ? kLastResortWitness : (common / "witness").string();
  }
  TF_ASSIGN_OR_RETURN(witness, Resolve(witness));
  for (const SetSpec& set : sets) {
    for (const std::string& directory : set.directories) {
      if (!Within(witness, directory) && !Within(directory, witness)) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "the witness directory ", witness, " and set ", set.name, "'s directory ", directory,
          " lie one inside the other; the loss of a set must not take the witness "
          "with it: choose a directory beside the sets with --witness DIR"));
    }
  }
  return witness;
}

std::string SharedDeviceWarning(const std::vector<SetSpec>& sets) {
  std::set<dev_t> first;
  for (const std::string& directory : sets[0].directories) {
    if (const auto device = DeviceOf(directory)) first.insert(*device);
  }
  for (const std::string& directory : sets[1].directories) {
    const auto device = DeviceOf(directory);
    if (!device || !first.contains(*device)) continue;
    return absl::StrCat("sets ", sets[0].name, " and ", sets[1].name,
                        " are on one file system; if its disk is lost, both are lost. Fine for a "
                        "trial; for real data give each set disks of its own");
  }
  return "";
}

}  // namespace twofold::cli
