// A disk as one directory of O_DIRECT files, read and written through io_uring; see block_device.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage/io/block_device.h"
#include "storage/io/posix_files.h"
#include "storage/io/uring_poller.h"
#include "storage/runtime/offload.h"

namespace twofold {

class UringBlockDevice final : public BlockDevice {
 public:
  // Takes the directory, which must exist, with an exclusive lock on its file LOCK for the life of
  // the object (R26). `poller` and `offload` outlive it. kNotFound; kFailedPrecondition where
  // another process (or another device of this one) holds the lock.
  static Task<absl::StatusOr<std::unique_ptr<UringBlockDevice>>> Open(UringPoller& poller,
                                                                      Offload& offload,
                                                                      std::string directory);
  // Without Close it closes the files itself and blocks shortly.
  ~UringBlockDevice() override;

  const std::string& name() const override { return name_; }
  Task<absl::StatusOr<std::vector<std::string>>> List(std::string folder) override;
  Task<absl::StatusOr<FileHandle>> Open(std::string path, OpenMode mode) override;
  Task<absl::StatusOr<uint64_t>> Size(FileHandle file) override;
  Task<absl::Status> Allocate(FileHandle file, uint64_t bytes) override;
  Task<absl::Status> Read(FileHandle file, uint64_t offset,
                          absl::Span<const iovec> pieces) override;
  Task<absl::Status> Write(FileHandle file, uint64_t offset, absl::Span<const iovec> pieces,
                           Durability durability) override;
  Task<absl::Status> Sync(FileHandle file) override;
  Task<void> CloseFile(FileHandle file) override;
  Task<absl::Status> Remove(std::string path) override;
  Task<absl::StatusOr<uint64_t>> FreeBytes() override;
  uint64_t WrittenBytes() const override { return written_bytes_; }
  Task<void> Close() override;

 private:
  enum class Direction { kRead, kWrite };
  struct File {
    std::string path;
    UniqueFd fd;  // not valid: closed
    uint64_t size_bytes = 0;
  };

  UringBlockDevice(UringPoller& poller, Offload& offload, std::string name,
                   LockedDirectory directory);

  File& Get(FileHandle file);
  std::optional<FileHandle> FindOpen(const std::string& path) const;
  std::string Describe(const File& file) const;
  Task<absl::Status> Transfer(Direction direction, File& file, uint64_t offset,
                              absl::Span<const iovec> pieces, int rw_flags);
  Task<absl::Status> SyncFile(File& file, unsigned fsync_flags);

  UringPoller& poller_;
  Offload& offload_;
  const std::string name_;
  LockedDirectory directory_;
  std::vector<std::unique_ptr<File>> files_;  // by FileHandle
  uint64_t operations_ = 0;                   // under way
  uint64_t written_bytes_ = 0;
  bool closed_ = false;
};

}  // namespace twofold
