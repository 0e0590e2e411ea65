// Whether a store's files are still where they were.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"
#include "storage/store/store.h"

namespace twofold {
namespace {

constexpr char kSuperblock[] = "SUPERBLOCK";

}  // namespace

// A listing of each directory is all it costs: the files stay open, and those of the log are as
// many as there are segments. A directory that was moved away with all it holds is found by its
// open descriptor, and is as good as before.
Task<absl::Status> Store::LookForFiles() {
  for (BlockDevice* device : devices_) {
    absl::StatusOr<std::vector<std::string>> names = co_await device->List("");
    TF_CO_RETURN_IF_ERROR(names);
    if (std::find(names->begin(), names->end(), kSuperblock) == names->end()) {
      co_return absl::NotFoundError(
          absl::StrCat(device->name(), "/", kSuperblock, " is gone: the directory was deleted"));
    }
  }
  co_return co_await log_->CheckPresence();
}

Task<absl::Status> Store::CheckPresence() {
  absl::Status status = co_await LookForFiles();
  files_gone_ = absl::IsNotFound(status);
  if (!status.ok()) Fail(status);
  co_return failed_;
}

}  // namespace twofold
