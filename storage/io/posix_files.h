// Blocking calls on a device's directory. They run on offload threads (uring_block_device.cc).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace twofold {

// A file descriptor that is closed with its owner.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~UniqueFd() { Close(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  // For who closes it from now on.
  int Release() { return std::exchange(fd_, -1); }
  void Close();

 private:
  int fd_ = -1;
};

// The lock's file name in a device's directory; not one of the device's files.
inline constexpr char kLockFileName[] = "LOCK";

struct LockedDirectory {
  UniqueFd directory;
  UniqueFd lock;  // the lock is held as long as this is open
};

// Opens a directory that exists and takes its lock. kNotFound where there is none,
// kFailedPrecondition where another process holds the lock; its text names the process.
absl::StatusOr<LockedDirectory> OpenLockedDirectory(const std::string& path);

// The regular files of `folder` below the directory ("" is the directory itself, without its lock),
// sorted. A missing folder is empty. `name` is the directory's path, for messages.
absl::StatusOr<std::vector<std::string>> ListFiles(int directory, const std::string& name,
                                                   const std::string& folder);

struct OpenedFile {
  UniqueFd fd;
  uint64_t size_bytes = 0;
};

// Opens a file for O_DIRECT. `create`: it must not be there, and its folder is made when needed;
// the new entries are durable after SyncEntry. Checks that the file system does direct I/O in units
// of kBlockSize; otherwise kFailedPrecondition.
absl::StatusOr<OpenedFile> OpenDirectFile(int directory, const std::string& name,
                                          const std::string& path, bool create);

// Makes the entry of `path` in its folder durable, and that of the folder.
absl::Status SyncEntry(int directory, const std::string& name, const std::string& path);

// Makes a file exactly `bytes` long with its space allocated, as far as the file system does that
// ahead of writing. kResourceExhausted where there is no room; the file may have grown then.
absl::Status ReserveSpace(int file, uint64_t bytes, const std::string& what);

// Removes a file and makes that durable.
absl::Status RemoveFile(int directory, const std::string& name, const std::string& path);

// Bytes that an unprivileged user could still allocate on the directory's file system.
absl::StatusOr<uint64_t> FreeBytesOf(int directory, const std::string& name);

}  // namespace twofold
