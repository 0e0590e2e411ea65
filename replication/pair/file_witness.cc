#include "replication/pair/file_witness.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/pair/witness_codec.h"
#include "storage/base/status_macros.h"

namespace twofold {
namespace {

constexpr char kFile[] = "witness";
constexpr char kNewFile[] = "witness.new";

std::string ErrorText(int error) { return std::generic_category().message(error); }

absl::Status IoError(absl::string_view what, int error) {
  return absl::UnavailableError(absl::StrCat(what, ": ", ErrorText(error)));
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

absl::StatusOr<int> LockDirectory(const std::string& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT || errno == ENOTDIR) {
      return absl::NotFoundError(absl::StrCat("there is no witness directory ", directory,
                                              "; `twofold init` makes it with the pool"));
    }
    return IoError(absl::StrCat("opening the witness directory ", directory), errno);
  }
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  const int error = errno;
  close(fd);
  if (error == EWOULDBLOCK) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the witness directory ", directory, " is in use by another process; stop it first"));
  }
  return IoError(absl::StrCat("locking the witness directory ", directory), error);
}

absl::StatusOr<Membership> ReadFile(int directory_fd) {
  const FileDescriptor file(openat(directory_fd, kFile, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (file.get() < 0) {
    if (errno == ENOENT) return absl::NotFoundError("it was never written");
    return IoError("opening the file", errno);
  }
  // One byte more than a whole file may have, so that a longer one is noticed.
  std::array<char, kMaxWitnessFileBytes + 1> bytes;
  size_t length = 0;
  while (length < bytes.size()) {
    const ssize_t got =
        pread(file.get(), bytes.data() + length, bytes.size() - length, static_cast<off_t>(length));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return IoError("reading the file", errno);
    if (got == 0) break;
    length += static_cast<size_t>(got);
  }
  return DecodeWitness(absl::string_view(bytes.data(), length));
}

absl::Status WriteAside(int directory_fd, const std::string& content) {
  const FileDescriptor file(
      openat(directory_fd, kNewFile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (file.get() < 0) return IoError("making the new file", errno);
  for (size_t done = 0; done < content.size();) {
    const ssize_t put = write(file.get(), content.data() + done, content.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return IoError("writing the new file", errno);
    done += static_cast<size_t>(put);
  }
  if (fsync(file.get()) != 0) return IoError("syncing the new file", errno);
  return absl::OkStatus();
}

// A crash at any line leaves the old file or the new one, whole.
absl::Status ReplaceFile(int directory_fd, const std::string& content) {
  TF_RETURN_IF_ERROR(WriteAside(directory_fd, content));
  // Until here the old membership stands; from here on a crash leaves either.
  if (renameat(directory_fd, kNewFile, directory_fd, kFile) != 0) {
    return IoError("renaming the new file", errno);
  }
  if (fsync(directory_fd) != 0) {
    return IoError("syncing the directory; the outcome is unknown, read it again", errno);
  }
  return absl::OkStatus();
}

absl::Status CompareAndReplace(int directory_fd, Generation expected_generation,
                               uint64_t expected_version, const Membership& next) {
  absl::StatusOr<Membership> stored = ReadFile(directory_fd);
  Generation generation;
  uint64_t version = 0;
  if (stored.ok()) {
    generation = stored->generation;
    version = stored->version;
  } else if (!absl::IsNotFound(stored.status())) {
    return stored.status();
  }
  if (generation != expected_generation || version != expected_version) {
    return absl::AbortedError(absl::StrCat("it holds generation ", generation.value(), ", version ",
                                           version, ", expected was ", expected_generation.value(),
                                           ", version ", expected_version,
                                           ": somebody else changed the membership"));
  }
  return ReplaceFile(directory_fd, EncodeWitness(next));
}

absl::Status RestoreFile(int directory_fd, const Membership& membership) {
  const absl::StatusOr<Membership> stored = ReadFile(directory_fd);
  if (stored.ok()) {
    return absl::AbortedError(absl::StrCat("it holds generation ", stored->generation.value(),
                                           ", version ", stored->version, ", undamaged"));
  }
  if (!absl::IsDataLoss(stored.status()) && !absl::IsNotFound(stored.status())) {
    return stored.status();
  }
  return ReplaceFile(directory_fd, EncodeWitness(membership));
}

}  // namespace

Task<absl::StatusOr<std::unique_ptr<FileWitness>>> FileWitness::Open(std::string directory,
                                                                     Offload* offload) {
  absl::StatusOr<int> fd = co_await offload->Run([&directory] { return LockDirectory(directory); });
  TF_CO_RETURN_IF_ERROR(fd);
  co_return std::unique_ptr<FileWitness>(new FileWitness(std::move(directory), *fd, offload));
}

FileWitness::~FileWitness() { TF_CHECK_EQ(directory_fd_, -1) << "Close() was not called"; }

Task<absl::StatusOr<Membership>> FileWitness::Read() {
  const AsyncMutex::Guard lock = co_await mutex_.Lock();
  const int fd = directory_fd_;
  absl::StatusOr<Membership> membership = co_await offload_->Run([fd] { return ReadFile(fd); });
  if (!membership.ok()) {
    co_return Annotate(membership.status(), absl::StrCat("witness ", directory_));
  }
  co_return membership;
}

Task<absl::Status> FileWitness::CompareAndSwap(Generation expected_generation,
                                               uint64_t expected_version, Membership next) {
  const AsyncMutex::Guard lock = co_await mutex_.Lock();
  absl::Status status =
      co_await offload_->Run([this, expected_generation, expected_version, &next] {
        return CompareAndReplace(directory_fd_, expected_generation, expected_version, next);
      });
  co_return Annotate(status, absl::StrCat("witness ", directory_));
}

Task<absl::Status> FileWitness::Restore(Membership membership) {
  const AsyncMutex::Guard lock = co_await mutex_.Lock();
  absl::Status status = co_await offload_->Run(
      [this, &membership] { return RestoreFile(directory_fd_, membership); });
  co_return Annotate(status, absl::StrCat("witness ", directory_));
}

Task<void> FileWitness::Close() {
  const AsyncMutex::Guard lock = co_await mutex_.Lock();
  close(std::exchange(directory_fd_, -1));  // gives the lock up
}

}  // namespace twofold
