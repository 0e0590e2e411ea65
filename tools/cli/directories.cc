#include "tools/cli/directories.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/base/status_macros.h"

namespace twofold::cli {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxListed = 8;

// A new name is durable when its directory is synced.
void SyncDirectory(const fs::path& directory) {
  const int descriptor = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;  // The first durable write below will say so.
  fsync(descriptor);
  close(descriptor);
}

// What a directory may hold and still count as empty: a file system's own, and a lock that was let
// go.
bool Harmless(const std::string& name) { return name == "lost+found" || name == "LOCK"; }

// The names in `directory` that make it not empty, sorted.
absl::StatusOr<std::vector<std::string>> List(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    if (!Harmless(name)) names.push_back(std::move(name));
  }
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("reading ", directory.string()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status NotEmpty(const fs::path& directory, std::vector<std::string> names) {
  const bool store = std::binary_search(names.begin(), names.end(), "SUPERBLOCK");
  const size_t more = names.size() > kMaxListed ? names.size() - kMaxListed : 0;
  names.resize(names.size() - more);
  std::string advice =
      "; init takes empty directories only: choose another, or remove what is "
      "there yourself";
  if (store) {
    advice =
        "; that is a set of a pool already (`twofold inspect` shows it), or what an init that "
        "was killed left behind: choose another directory, or remove it yourself if nobody "
        "needs it";
  }
  return absl::FailedPreconditionError(
      absl::StrCat(directory.string(), " is not empty, it holds ", absl::StrJoin(names, ", "),
                   more > 0 ? absl::StrCat(" and ", more, " more") : "", advice));
}

}  // namespace

NewDirectories::~NewDirectories() {
  for (auto it = made_.rbegin(); it != made_.rend(); ++it) rmdir(it->c_str());
}

absl::Status NewDirectories::Make(const std::string& directory) {
  const fs::path path(directory);
  struct stat info{};
  if (stat(path.c_str(), &info) != 0) {
    if (errno != ENOENT) return absl::ErrnoToStatus(errno, directory);
    const fs::path parent = path.parent_path();
    if (parent != path && !fs::exists(parent)) TF_RETURN_IF_ERROR(Make(parent.string()));
    if (mkdir(path.c_str(), 0700) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("making the directory ", directory));
    }
    made_.push_back(directory);
    SyncDirectory(parent);
    return absl::OkStatus();
  }
  if (!S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory, " is there and is no directory; choose another"));
  }
  TF_ASSIGN_OR_RETURN(std::vector<std::string> names, List(path));
  if (!names.empty()) return NotEmpty(path, std::move(names));
  return absl::OkStatus();
}

absl::Status RemoveStoreFiles(const std::string& directory) {
  const fs::path root(directory);
  std::vector<std::string> left;
  const auto remove = [&left](const fs::path& path) {
    std::error_code error;
    fs::remove_all(path, error);
    if (error) left.push_back(path.string());
  };
  for (const char* name : {"SUPERBLOCK", "LOCK", "map", "witness", "witness.new"}) {
    remove(root / name);
  }
  std::error_code error;
  for (fs::directory_iterator it(root / "log", error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() == ".seg") remove(it->path());
  }
  rmdir((root / "log").c_str());
  SyncDirectory(root);
  if (left.empty()) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("could not be removed, do it yourself: ", absl::StrJoin(left, " ")));
}

absl::StatusOr<std::vector<uint64_t>> FreeBytesBySet(const std::vector<SetSpec>& sets) {
  struct FileSystem {
    uint64_t free_bytes = 0;
    uint64_t users = 0;
  };
  std::map<dev_t, FileSystem> file_systems;
  std::vector<std::vector<dev_t>> devices(sets.size());
  for (size_t i = 0; i < sets.size(); ++i) {
    for (const std::string& directory : sets[i].directories) {
      struct stat info{};
      struct statvfs space{};
      if (stat(directory.c_str(), &info) != 0 || statvfs(directory.c_str(), &space) != 0) {
        return absl::ErrnoToStatus(errno, directory);
      }
      devices[i].push_back(info.st_dev);
      FileSystem& file_system = file_systems[info.st_dev];
      file_system.free_bytes = uint64_t{space.f_bavail} * space.f_frsize;
      ++file_system.users;
    }
  }
  std::vector<uint64_t> free_bytes;
  for (const std::vector<dev_t>& set : devices) {
    uint64_t sum = 0;
    for (const dev_t device : set) {
      sum += file_systems[device].free_bytes / file_systems[device].users;
    }
    free_bytes.push_back(sum);
  }
  return free_bytes;
}

}  // namespace twofold::cli
