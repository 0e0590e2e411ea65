#include "storage/io/posix_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/io/errno_status.h"

namespace twofold {
namespace {

constexpr mode_t kFileMode = 0600;
constexpr mode_t kFolderMode = 0700;

// "in/000.seg" is in folder "in", "SUPERBLOCK" in "".
std::string FolderOf(const std::string& path) {
  const size_t slash = path.find('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

absl::StatusOr<UniqueFd> OpenFolder(int directory, const std::string& name,
                                    const std::string& folder) {
  UniqueFd fd(
      openat(directory, folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, absl::StrCat("opening folder ", name, "/", folder));
  return fd;
}

// "process 123" as far as the lock file tells.
std::string HolderOf(int lock) {
  char text[16];
  const ssize_t size = pread(lock, text, sizeof(text), 0);
  int pid = 0;
  if (size <= 0 || !absl::SimpleAtoi(absl::string_view(text, static_cast<size_t>(size)), &pid)) {
    return "another process";
  }
  return absl::StrCat("process ", pid);
}

// Only a hint for people: the lock is the flock, so a failure to write it does no harm.
void WriteHolder(int lock) {
  const std::string text = absl::StrCat(getpid(), "\n");
  if (ftruncate(lock, 0) != 0) return;
  [[maybe_unused]] const ssize_t written = pwrite(lock, text.data(), text.size(), 0);
}

absl::Status CheckDirectIo(int file, const std::string& what) {
  struct statx info;
  if (statx(file, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) != 0) {
    return ErrnoStatus(errno, absl::StrCat(what, ": asking for its alignment"));
  }
  // Kernels and file systems that don't say take what O_DIRECT took when the file was opened.
  if ((info.stx_mask & STATX_DIOALIGN) == 0) return absl::OkStatus();
  if (info.stx_dio_offset_align == 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        what, ": this file system does no direct I/O (O_DIRECT); use ext4, xfs or btrfs"));
  }
  if (info.stx_dio_offset_align > kBlockSize || info.stx_dio_mem_align > kBlockSize) {
    return absl::FailedPreconditionError(absl::StrCat(
        what, ": direct I/O needs units of ",
        std::max(info.stx_dio_offset_align, info.stx_dio_mem_align), " bytes here, more than ",
        kBlockSize, "; use a disk with sectors of 512 or 4096 bytes"));
  }
  return absl::OkStatus();
}

}  // namespace

void UniqueFd::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

absl::StatusOr<LockedDirectory> OpenLockedDirectory(const std::string& path) {
  LockedDirectory result;
  result.directory = UniqueFd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!result.directory.valid()) {
    return ErrnoStatus(errno, absl::StrCat("opening directory ", path));
  }
  result.lock = UniqueFd(
      openat(result.directory.get(), kLockFileName, O_RDWR | O_CREAT | O_CLOEXEC, kFileMode));
  if (!result.lock.valid()) {
    return ErrnoStatus(errno, absl::StrCat("opening ", path, "/", kLockFileName));
  }
  if (flock(result.lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) {
      return ErrnoStatus(errno, absl::StrCat("locking ", path, "/", kLockFileName));
    }
    return absl::FailedPreconditionError(
        absl::StrCat("directory ", path, " is in use by ", HolderOf(result.lock.get()),
                     ", which holds its lock; stop that, or name another directory"));
  }
  WriteHolder(result.lock.get());
  return result;
}

absl::StatusOr<std::vector<std::string>> ListFiles(int directory, const std::string& name,
                                                   const std::string& folder) {
  absl::StatusOr<UniqueFd> fd = OpenFolder(directory, name, folder);
  if (absl::IsNotFound(fd.status())) return std::vector<std::string>();
  TF_RETURN_IF_ERROR(fd);
  DIR* stream = fdopendir(fcntl(fd->get(), F_DUPFD_CLOEXEC, 0));
  if (stream == nullptr) return ErrnoStatus(errno, absl::StrCat("listing ", name, "/", folder));
  std::vector<std::string> files;
  int error = 0;
  while (true) {
    errno = 0;
    const dirent* entry = readdir(stream);
    if (entry == nullptr) {
      error = errno;
      break;
    }
    struct stat info;
    if (fstatat(fd->get(), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;
      error = errno;
      break;
    }
    const std::string file = entry->d_name;
    if (!S_ISREG(info.st_mode) || (folder.empty() && file == kLockFileName)) continue;
    files.push_back(file);
  }
  closedir(stream);
  if (error != 0) return ErrnoStatus(error, absl::StrCat("listing ", name, "/", folder));
  std::sort(files.begin(), files.end());
  return files;
}

absl::StatusOr<OpenedFile> OpenDirectFile(int directory, const std::string& name,
                                          const std::string& path, bool create) {
  const std::string what = absl::StrCat(create ? "creating " : "opening ", name, "/", path);
  const std::string folder = FolderOf(path);
  if (create && !folder.empty() && mkdirat(directory, folder.c_str(), kFolderMode) != 0 &&
      errno != EEXIST) {
    return ErrnoStatus(errno, absl::StrCat("making folder ", name, "/", folder));
  }
  OpenedFile result;
  const int flags = O_RDWR | O_DIRECT | O_CLOEXEC | (create ? O_CREAT | O_EXCL : 0);
  result.fd = UniqueFd(openat(directory, path.c_str(), flags, kFileMode));
  if (!result.fd.valid()) {
    if (errno == EINVAL) {
      return absl::FailedPreconditionError(absl::StrCat(
          what, ": this file system does no direct I/O (O_DIRECT); use ext4, xfs or btrfs"));
    }
    return ErrnoStatus(errno, what);
  }
  struct stat info;
  if (fstat(result.fd.get(), &info) != 0) return ErrnoStatus(errno, what);
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(what, ": not a regular file"));
  }
  result.size_bytes = static_cast<uint64_t>(info.st_size);
  TF_RETURN_IF_ERROR(CheckDirectIo(result.fd.get(), what));
  return result;
}

absl::Status SyncEntry(int directory, const std::string& name, const std::string& path) {
  const std::string what = absl::StrCat("syncing the folder of ", name, "/", path);
  const std::string folder_name = FolderOf(path);
  TF_ASSIGN_OR_RETURN(const UniqueFd folder, OpenFolder(directory, name, folder_name));
  if (fsync(folder.get()) != 0) return ErrnoStatus(errno, what);
  if (!folder_name.empty() && fsync(directory) != 0) return ErrnoStatus(errno, what);
  return absl::OkStatus();
}

absl::Status ReserveSpace(int file, uint64_t bytes, const std::string& what) {
  struct stat info;
  struct statvfs space;
  if (fstat(file, &info) != 0 || fstatvfs(file, &space) != 0) return ErrnoStatus(errno, what);
  // Asked first, because fallocate takes all there is before it finds that it is too little.
  const uint64_t available = static_cast<uint64_t>(info.st_blocks) * 512 +
                             uint64_t{space.f_bavail} * uint64_t{space.f_frsize};
  if (bytes > available) return ErrnoStatus(ENOSPC, what);
  if (ftruncate(file, static_cast<off_t>(bytes)) != 0) return ErrnoStatus(errno, what);
  int error;
  do {
    error = fallocate(file, 0, 0, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
  } while (error == EINTR);
  // Where it is not supported the zeros that follow allocate.
  if (error == 0 || error == EOPNOTSUPP) return absl::OkStatus();
  // Gives back what it took; the file is in doubt anyhow.
  [[maybe_unused]] const int result = ftruncate(file, info.st_size);
  return ErrnoStatus(error, what);
}

absl::Status RemoveFile(int directory, const std::string& name, const std::string& path) {
  const std::string what = absl::StrCat("removing ", name, "/", path);
  TF_ASSIGN_OR_RETURN(const UniqueFd folder, OpenFolder(directory, name, FolderOf(path)));
  if (unlinkat(directory, path.c_str(), 0) != 0) return ErrnoStatus(errno, what);
  // A crash before this may bring the whole file back.
  if (fsync(folder.get()) != 0) return ErrnoStatus(errno, what);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> FreeBytesOf(int directory, const std::string& name) {
  struct statvfs info;
  if (fstatvfs(directory, &info) != 0) {
    return ErrnoStatus(errno, absl::StrCat("asking for the free space of ", name));
  }
  return uint64_t{info.f_bavail} * uint64_t{info.f_frsize};
}

}  // namespace twofold
