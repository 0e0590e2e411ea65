#include "storage/io/errno_status.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace twofold {
namespace {

absl::StatusCode CodeOf(int error) {
  switch (error) {
    case ENOENT:
      return absl::StatusCode::kNotFound;
    case EEXIST:
      return absl::StatusCode::kAlreadyExists;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
      return absl::StatusCode::kResourceExhausted;
    case EACCES:
    case EPERM:
    case EROFS:
    case EINVAL:
    case ENOTDIR:
    case EISDIR:
    case EOPNOTSUPP:
    case EADDRINUSE:
    case EADDRNOTAVAIL:
    case ENAMETOOLONG:
      return absl::StatusCode::kFailedPrecondition;
    case EBADMSG:
    case EUCLEAN:
      return absl::StatusCode::kDataLoss;
    case ECANCELED:
      return absl::StatusCode::kCancelled;
    default:
      return absl::StatusCode::kUnavailable;
  }
}

// What a person can do about it.
absl::string_view Advice(int error) {
  switch (error) {
    case EMFILE:
      return "; raise the limit of open files (ulimit -n, LimitNOFILE=)";
    case ENFILE:
      return "; raise the system's limit of open files (sysctl fs.file-max)";
    case ENOSPC:
      return "; free space on this file system";
    case EDQUOT:
      return "; raise the disk quota";
    default:
      return "";
  }
}

}  // namespace

absl::Status ErrnoStatus(int error, absl::string_view what) {
  const char* description = strerrordesc_np(error);
  const char* name = strerrorname_np(error);
  return absl::Status(
      CodeOf(error),
      absl::StrCat(what, ": ", description != nullptr ? description : "error", " (",
                   name != nullptr ? name : absl::StrCat(error), ")", Advice(error)));
}

}  // namespace twofold
