#include "storage/io/uring_block_device.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/io/errno_status.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

constexpr int kMaxTransientErrors =
    1000;  // EINTR and EAGAIN in a row, then the device counts as gone
constexpr int kImmediateRetries = 10;

alignas(kBlockSize) std::byte zeros[kDevicePieceBytes];  // never written

uint64_t CheckedLength(uint64_t offset, absl::Span<const iovec> pieces) {
  TF_CHECK(!pieces.empty());
  TF_CHECK_LE(pieces.size(), kMaxIoPieces);
  TF_CHECK_EQ(offset % kBlockSize, 0u);
  uint64_t length = 0;
  for (const iovec& piece : pieces) {
    TF_CHECK_EQ(piece.iov_len % kBlockSize, 0u);
    TF_CHECK_EQ(reinterpret_cast<uintptr_t>(piece.iov_base) % kBlockSize, 0u);
    length += piece.iov_len;
  }
  return length;
}

// What is left of `pieces` after the first `done` bytes.
std::vector<iovec> RestOf(absl::Span<const iovec> pieces, uint64_t done) {
  std::vector<iovec> rest;
  for (iovec piece : pieces) {
    const uint64_t skip = std::min<uint64_t>(done, piece.iov_len);
    done -= skip;
    if (skip == piece.iov_len) continue;
    piece.iov_base = static_cast<std::byte*>(piece.iov_base) + skip;
    piece.iov_len -= skip;
    rest.push_back(piece);
  }
  return rest;
}

void CheckPath(const std::string& path) {
  TF_CHECK(!path.empty() && path.front() != '/' && path.find("..") == std::string::npos &&
           std::count(path.begin(), path.end(), '/') <= 1)
      << path;
}

// Counts an operation for as long as its coroutine runs.
class Counted {
 public:
  explicit Counted(uint64_t& count) : count_(count) { ++count_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --count_; }

 private:
  uint64_t& count_;
};

}  // namespace

Task<absl::StatusOr<std::unique_ptr<UringBlockDevice>>> UringBlockDevice::Open(
    UringPoller& poller, Offload& offload, std::string directory) {
  auto open = [directory] { return OpenLockedDirectory(directory); };
  absl::StatusOr<LockedDirectory> locked = co_await offload.Run(open);
  TF_CO_RETURN_IF_ERROR(locked);
  co_return absl::WrapUnique(
      new UringBlockDevice(poller, offload, std::move(directory), *std::move(locked)));
}

UringBlockDevice::UringBlockDevice(UringPoller& poller, Offload& offload, std::string name,
                                   LockedDirectory directory)
    : poller_(poller),
      offload_(offload),
      name_(std::move(name)),
      directory_(std::move(directory)) {}

UringBlockDevice::~UringBlockDevice() {
  TF_CHECK_EQ(operations_, 0u) << "operations on " << name_ << " outlive the device";
}

UringBlockDevice::File& UringBlockDevice::Get(FileHandle file) {
  TF_CHECK(!closed_) << name_ << " is closed";
  TF_CHECK_LT(file.index, files_.size());
  TF_CHECK(files_[file.index]->fd.valid()) << Describe(*files_[file.index]) << " is closed";
  return *files_[file.index];
}

std::optional<FileHandle> UringBlockDevice::FindOpen(const std::string& path) const {
  for (size_t i = 0; i < files_.size(); ++i) {
    if (files_[i]->fd.valid() && files_[i]->path == path) {
      return FileHandle{static_cast<uint32_t>(i)};
    }
  }
  return std::nullopt;
}

std::string UringBlockDevice::Describe(const File& file) const {
  return absl::StrCat(name_, "/", file.path);
}

Task<absl::StatusOr<std::vector<std::string>>> UringBlockDevice::List(std::string folder) {
  TF_CHECK(!closed_);
  const Counted counted(operations_);
  auto list = [this, folder] { return ListFiles(directory_.directory.get(), name_, folder); };
  co_return co_await offload_.Run(list);
}

Task<absl::StatusOr<FileHandle>> UringBlockDevice::Open(std::string path, OpenMode mode) {
  TF_CHECK(!closed_);
  CheckPath(path);
  const Counted counted(operations_);
  if (mode == OpenMode::kExisting) {
    const std::optional<FileHandle> open = FindOpen(path);
    if (open.has_value()) co_return *open;
  }
  auto open_file = [this, path, mode] {
    return OpenDirectFile(directory_.directory.get(), name_, path, mode == OpenMode::kCreate);
  };
  absl::StatusOr<OpenedFile> opened = co_await offload_.Run(open_file);
  TF_CO_RETURN_IF_ERROR(opened);
  files_.push_back(
      std::make_unique<File>(File{std::move(path), std::move(opened->fd), opened->size_bytes}));
  co_return FileHandle{static_cast<uint32_t>(files_.size() - 1)};
}

Task<absl::StatusOr<uint64_t>> UringBlockDevice::Size(FileHandle file) {
  co_return Get(file).size_bytes;
}

Task<absl::Status> UringBlockDevice::Allocate(FileHandle handle, uint64_t bytes) {
  TF_CHECK_EQ(bytes % kBlockSize, 0u);
  File& file = Get(handle);
  const Counted counted(operations_);
  const std::string what = absl::StrCat("allocating ", bytes, " bytes for ", Describe(file));

  // A crash from here on leaves the file with any size up to `bytes`, or not at all if it is new.
  const int fd = file.fd.get();
  auto reserve = [fd, bytes, what] { return ReserveSpace(fd, bytes, what); };
  const absl::Status reserved = co_await offload_.Run(reserve);
  TF_CO_RETURN_IF_ERROR(reserved);
  file.size_bytes = bytes;

  // Unwritten extents would make each first write into them a change of metadata (and cost more
  // than a quarter of the speed).
  for (uint64_t offset = 0; offset < bytes; offset += kDevicePieceBytes) {
    const iovec piece{zeros, static_cast<size_t>(std::min(kDevicePieceBytes, bytes - offset))};
    const absl::Status written =
        co_await Transfer(Direction::kWrite, file, offset, absl::MakeSpan(&piece, 1), 0);
    TF_CO_RETURN_IF_ERROR(Annotate(written, what));
  }

  // The zeros and the size, then the entry: whoever finds the file after this finds it whole.
  const absl::Status synced = co_await SyncFile(file, 0);
  TF_CO_RETURN_IF_ERROR(Annotate(synced, what));
  auto sync_entry = [this, path = file.path] {
    return SyncEntry(directory_.directory.get(), name_, path);
  };
  const absl::Status entry = co_await offload_.Run(sync_entry);
  co_return Annotate(entry, what);
}

Task<absl::Status> UringBlockDevice::Read(FileHandle file, uint64_t offset,
                                          absl::Span<const iovec> pieces) {
  return Transfer(Direction::kRead, Get(file), offset, pieces, 0);
}

Task<absl::Status> UringBlockDevice::Write(FileHandle file, uint64_t offset,
                                           absl::Span<const iovec> pieces, Durability durability) {
  return Transfer(Direction::kWrite, Get(file), offset, pieces,
                  durability == Durability::kDurable ? RWF_DSYNC : 0);
}

Task<absl::Status> UringBlockDevice::Transfer(Direction direction, File& file, uint64_t offset,
                                              absl::Span<const iovec> pieces, int rw_flags) {
  const uint64_t length = CheckedLength(offset, pieces);
  const Counted counted(operations_);
  const auto what = [&] {
    return absl::StrCat(direction == Direction::kRead ? "reading " : "writing ", length,
                        " bytes at ", offset, " of ", Describe(file));
  };
  if (offset > file.size_bytes || length > file.size_bytes - offset) {
    co_return absl::OutOfRangeError(absl::StrCat(what(), ": the file ends at ", file.size_bytes));
  }
  // A durable write is what everybody waits for, and the device lies idle until it has it: the rest
  // of the turn (a batch's worth of replies and requests) goes on beside it.
  const Submission submission =
      (rw_flags & RWF_DSYNC) != 0 ? Submission::kSoon : Submission::kWithTurn;
  std::vector<iovec> rest;  // used after a short transfer
  uint64_t done = 0;
  int transient_errors = 0;
  while (true) {
    const auto prepare = [&](io_uring_sqe* sqe) {
      const int fd = file.fd.get();
      const auto count = static_cast<unsigned>(pieces.size());
      if (direction == Direction::kRead) {
        io_uring_prep_readv2(sqe, fd, pieces.data(), count, offset + done, rw_flags);
      } else {
        io_uring_prep_writev2(sqe, fd, pieces.data(), count, offset + done, rw_flags);
      }
    };
    const int32_t result = co_await UringOp(poller_, prepare, submission);
    if (result == -EINTR || result == -EAGAIN) {
      // Nothing was transferred, so the whole rest can be sent again, a durable write too.
      if (++transient_errors > kMaxTransientErrors) co_return ErrnoStatus(-result, what());
      if (transient_errors <= kImmediateRetries) {
        co_await Yield();
      } else {
        co_await SleepFor(kNanosPerMilli);
      }
      continue;
    }
    if (result < 0) co_return ErrnoStatus(-result, what());
    if (result == 0) {
      co_return absl::UnavailableError(
          absl::StrCat(what(), ": stopped after ", done, " bytes; is the file cut off?"));
    }
    transient_errors = 0;
    done += static_cast<uint64_t>(result);
    if (direction == Direction::kWrite) written_bytes_ += static_cast<uint64_t>(result);
    if (done == length) co_return absl::OkStatus();
    rest = RestOf(pieces, static_cast<uint64_t>(result));
    pieces = rest;
  }
}

Task<absl::Status> UringBlockDevice::SyncFile(File& file, unsigned fsync_flags) {
  const Counted counted(operations_);
  // Never tried again: the kernel reports a lost write once, and the second sync would call it
  // good.
  const int32_t result = co_await UringOp(
      poller_, [&](io_uring_sqe* sqe) { io_uring_prep_fsync(sqe, file.fd.get(), fsync_flags); });
  if (result < 0) co_return ErrnoStatus(-result, absl::StrCat("syncing ", Describe(file)));
  co_return absl::OkStatus();
}

Task<absl::Status> UringBlockDevice::Sync(FileHandle file) {
  return SyncFile(Get(file), IORING_FSYNC_DATASYNC);
}

Task<void> UringBlockDevice::CloseFile(FileHandle handle) {
  auto fd = std::make_shared<UniqueFd>(std::move(Get(handle).fd));
  const Counted counted(operations_);
  auto close = [fd] {
    fd->Close();
    return true;
  };
  co_await offload_.Run(close);
}

Task<absl::Status> UringBlockDevice::Remove(std::string path) {
  TF_CHECK(!closed_);
  CheckPath(path);
  const Counted counted(operations_);
  if (FindOpen(path).has_value()) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("removing ", name_, "/", path, ": it is open"));
  }
  auto remove = [this, path] { return RemoveFile(directory_.directory.get(), name_, path); };
  co_return co_await offload_.Run(remove);
}

Task<absl::StatusOr<uint64_t>> UringBlockDevice::FreeBytes() {
  TF_CHECK(!closed_);
  const Counted counted(operations_);
  co_return co_await offload_.Run(
      [this] { return FreeBytesOf(directory_.directory.get(), name_); });
}

Task<void> UringBlockDevice::Close() {
  TF_CHECK_EQ(operations_, 0u) << "operations on " << name_ << " under way";
  if (closed_) co_return;
  closed_ = true;
  co_await offload_.Run([this] {
    files_.clear();
    // The lock last: who takes it finds nothing of ours open.
    directory_ = LockedDirectory();
    return true;
  });
}

}  // namespace twofold
