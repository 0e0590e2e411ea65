// SHARED CONTRACT. The seam to a disk: one directory that holds files of fixed size.
//
// Two implementations: UringBlockDevice (O_DIRECT files through io_uring) and sim::SimBlockDevice
// (tests/sim), which keeps, drops or tears what was not durable when it crashes. A store talks to
// one device per directory. Whole blocks only: every offset, length and address is a multiple of
// kBlockSize.
//
// Errors: kUnavailable where the device failed (EIO, gone); kNotFound and kAlreadyExists by name;
// kResourceExhausted where the file system is full; kFailedPrecondition where the directory is
// locked by another process. After a failed durable write or sync nothing is known of the range it
// covered.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/runtime/task.h"

namespace twofold {

// Names an open file of one device; valid until the device is closed.
struct FileHandle {
  uint32_t index = 0;
  bool operator==(const FileHandle&) const = default;
};

enum class Durability {
  kWritten,  // in the device's hands: survives the death of this process, not a loss of power
  kDurable,  // on stable storage when the call returns
};

enum class OpenMode {
  kExisting,  // kNotFound when it is not there
  kCreate,    // kAlreadyExists when it is there
};

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;

  // What it is, for messages: the directory's path.
  virtual const std::string& name() const = 0;

  // The files below `folder` ("" is the directory itself), names only, sorted. A missing folder is
  // empty.
  virtual Task<absl::StatusOr<std::vector<std::string>>> List(std::string folder) = 0;

  // Opens `path` (relative, at most one folder deep; the folder is made when needed). A file that
  // is open already keeps its handle. A created file is durable once it is allocated; until then a
  // crash may leave it, with any size, or not.
  virtual Task<absl::StatusOr<FileHandle>> Open(std::string path, OpenMode mode) = 0;

  // Bytes, a multiple of kBlockSize for files that Allocate made.
  virtual Task<absl::StatusOr<uint64_t>> Size(FileHandle file) = 0;

  // Makes the file exactly `bytes` long, all of it written with zeros, and makes that, its size and
  // its directory entry durable (R16): later writes into it touch no metadata of the file system.
  virtual Task<absl::Status> Allocate(FileHandle file, uint64_t bytes) = 0;

  // Fills all pieces from `offset` on; reading or writing past the end is kOutOfRange. The pieces
  // and what they point to stay untouched by the caller until it returns.
  virtual Task<absl::Status> Read(FileHandle file, uint64_t offset,
                                  absl::Span<const iovec> pieces) = 0;

  // Writes all pieces (at most kMaxIoPieces). kDurable: O_DIRECT with RWF_DSYNC or the like. A
  // crash before it returns leaves any subset of the range's 512-byte sectors new, the rest old.
  virtual Task<absl::Status> Write(FileHandle file, uint64_t offset, absl::Span<const iovec> pieces,
                                   Durability durability) = 0;

  // Makes everything written to the file before durable.
  virtual Task<absl::Status> Sync(FileHandle file) = 0;

  // Gives up a handle; nothing may be under way on it. Not needed before Close.
  virtual Task<void> CloseFile(FileHandle file) = 0;

  // Removes a file, durably. kFailedPrecondition while it is open.
  virtual Task<absl::Status> Remove(std::string path) = 0;

  // Bytes that could still be allocated in this directory.
  virtual Task<absl::StatusOr<uint64_t>> FreeBytes() = 0;

  // What was written since it was opened, what Allocate writes included: payload only, not what the
  // file system makes of it.
  virtual uint64_t WrittenBytes() const = 0;

  // Closes all files and gives up the lock on the directory. No operation may be under way.
  virtual Task<void> Close() = 0;
};

}  // namespace twofold
