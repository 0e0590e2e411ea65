// How the pool gets at the directories of its sets while it is open (SetDirectories).
#include <sys/stat.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "replication/local_replica.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "tools/cli/daemon.h"
#include "tools/cli/replacement.h"

namespace twofold::cli {
namespace {

using FileId = std::pair<uint64_t, WallNanos>;

// What tells a store's own files from a copy of them. The time at which an inode was last changed
// can't be set: that of a copy, or of what a backup brought back, is when it was made. A disk that
// is mounted again shows what it had.
std::optional<FileId> IdOf(const std::string& directory) {
  struct stat info{};
  if (stat(absl::StrCat(directory, "/log").c_str(), &info) != 0) return std::nullopt;
  if (stat(absl::StrCat(directory, "/SUPERBLOCK").c_str(), &info) != 0) return std::nullopt;
  return FileId(info.st_ino,
                WallNanos{info.st_ctim.tv_sec} * kNanosPerSecond + info.st_ctim.tv_nsec);
}

}  // namespace

// An open writes the superblock; what writes it later says so (SetDirectories).
void Daemon::NoteFiles(const SetSpec& set) {
  std::vector<FileId>& ids = files_[set.name];
  ids.clear();
  for (const std::string& directory : set.directories) {
    ids.push_back(IdOf(directory).value_or(FileId()));
  }
}

SetSpec* Daemon::FindSpec(const std::string& set) {
  for (SetSpec& spec : settings_.sets) {
    if (spec.name == set) return &spec;
  }
  return nullptr;
}

SetDirectories Daemon::Directories() {
  SetDirectories directories;
  directories.open = [this](const std::string& set) { return OpenAgain(set); };
  directories.is_back = [this](const std::string& set, WallNanos lost) {
    return IsBack(set, lost);
  };
  directories.rewritten = [this](const std::string& set) { NoteFiles(*FindSpec(set)); };
  directories.make = [this](const std::string& set, std::vector<std::string> names) {
    return MakeSet(set, std::move(names));
  };
  directories.moved = [this](const std::string& set, std::vector<std::string> names) {
    const std::string text = absl::StrJoin(names, ",");
    FindSpec(set)->directories = std::move(names);
    TF_LOG(WARNING) << "set " << set << " is in " << text << " from now on: start the daemon with "
                    << "--set " << set << "=" << text << ", or put that into its configuration";
  };
  return directories;
}

Task<absl::StatusOr<std::unique_ptr<Replica>>> Daemon::OpenAgain(std::string set) {
  const SetSpec* spec = FindSpec(set);
  if (spec == nullptr) co_return absl::NotFoundError(absl::StrCat("--set does not name ", set));
  for (const std::string& directory : spec->directories) {
    if (IdOf(directory).has_value()) continue;
    co_return absl::NotFoundError(
        absl::StrCat(Describe(*spec), ": there is no SUPERBLOCK or no log in ", directory));
  }
  // Nobody counts on it: the membership that is in the witness is without it.
  absl::StatusOr<std::unique_ptr<Store>> store =
      co_await OpenStore(*spec, /*read_only=*/false, layout_.pool_id);
  TF_CO_RETURN_IF_ERROR(store);
  const std::string found = (*store)->superblock().set_name;
  if (found != set) {
    co_await (*store)->Stop();
    co_return absl::FailedPreconditionError(
        absl::StrCat(Describe(*spec), " holds set ", found, "; put its own directory back"));
  }
  layout_ = (*store)->superblock();
  NoteFiles(*spec);
  co_return std::make_unique<LocalReplica>(*std::move(store));
}

Task<bool> Daemon::IsBack(std::string set, WallNanos lost) {
  const SetSpec* spec = FindSpec(set);
  if (spec == nullptr) co_return false;
  const auto seen = files_.find(set);
  const std::vector<FileId> expected = seen == files_.end() ? std::vector<FileId>() : seen->second;
  // A disk that is just going may take its time to say so.
  auto look = [directories = spec->directories, expected, lost] {
    for (size_t i = 0; i < directories.size(); ++i) {
      const std::optional<FileId> id = IdOf(directories[i]);
      if (!id.has_value()) return false;
      // Of one that was never open here it is known only that a copy would be younger.
      if (expected.empty() ? id->second >= lost : *id != expected[i]) return false;
    }
    return true;
  };
  const bool back = co_await parts_.offload->Run(look);
  co_return back;
}

// As `serve` would check them.
absl::StatusOr<SetSpec> Daemon::CheckMove(const std::string& set,
                                          const std::vector<std::string>& directories) const {
  std::vector<SetSpec> sets = settings_.sets;
  for (SetSpec& spec : sets) {
    if (spec.name == set) spec.directories = directories;
  }
  TF_ASSIGN_OR_RETURN(sets, CheckSets(std::move(sets)));
  TF_RETURN_IF_ERROR(WitnessDirectory(sets, settings_.witness).status());
  for (const SetSpec& spec : sets) {
    if (spec.name == set) return spec;
  }
  return absl::NotFoundError(absl::StrCat("--set does not name ", set));
}

// What a replace that was cut short has left: an empty store that no membership ever named.
Task<absl::StatusOr<std::unique_ptr<Replica>>> Daemon::OpenUnused(SetSpec set) {
  absl::StatusOr<std::unique_ptr<Store>> looked = co_await OpenStore(set, /*read_only=*/true);
  TF_CO_RETURN_IF_ERROR(looked);
  const Superblock& superblock = (*looked)->superblock();
  const bool unused = superblock.pool_id == layout_.pool_id && superblock.set_name == set.name &&
                      (*looked)->attach_state().membership_version == 0 &&
                      (*looked)->catalogue().streams().empty();
  co_await (*looked)->Stop();
  if (!unused) {
    co_return absl::FailedPreconditionError(absl::StrCat(
        Describe(set),
        " holds a store that is or was in use (`twofold inspect` shows it): give an ",
        "empty directory. To have a set filled anew where it is, move what is there away first. ",
        "Nothing was changed"));
  }
  absl::StatusOr<std::unique_ptr<Store>> store = co_await OpenStore(set, /*read_only=*/false);
  TF_CO_RETURN_IF_ERROR(store);
  NoteFiles(set);
  co_return std::make_unique<LocalReplica>(*std::move(store));
}

Task<absl::StatusOr<std::unique_ptr<Replica>>> Daemon::MakeSet(
    std::string set, std::vector<std::string> directories) {
  const absl::StatusOr<SetSpec> spec = CheckMove(set, directories);
  TF_CO_RETURN_IF_ERROR(spec);
  struct stat info{};
  if (stat(absl::StrCat(spec->directories.front(), "/SUPERBLOCK").c_str(), &info) == 0) {
    co_return co_await OpenUnused(*spec);
  }
  absl::StatusOr<std::unique_ptr<Store>> store =
      co_await MakeReplacement(parts_.poller, parts_.offload, *spec, layout_, OptionsOfStores());
  TF_CO_RETURN_IF_ERROR(store);
  NoteFiles(*spec);
  co_return std::make_unique<LocalReplica>(*std::move(store));
}

}  // namespace twofold::cli
