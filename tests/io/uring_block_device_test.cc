// What only the real device has: its directory, its lock, errors of the kernel.
#include "storage/io/uring_block_device.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "storage/base/limits.h"
#include "storage/io/buffer_pool.h"
#include "storage/io/errno_status.h"
#include "storage/io/uring_poller.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/offload.h"
#include "tests/io/temp_dir.h"

namespace twofold {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using DeviceOr = absl::StatusOr<std::unique_ptr<UringBlockDevice>>;

class UringBlockDeviceTest : public ::testing::Test {
 protected:
  ~UringBlockDeviceTest() override { offload_.Stop(); }
  DeviceOr Open(const std::string& path) {
    return executor_.Run(UringBlockDevice::Open(*poller_, offload_, path));
  }

  TempDir dir_;
  std::unique_ptr<UringPoller> poller_ = UringPoller::Create().value();
  Executor executor_{*poller_};
  Offload offload_{1};
  BufferPool pool_{size_t{1} << 20};
};

TEST_F(UringBlockDeviceTest, WantsADirectoryThatExists) {
  const DeviceOr missing = Open(dir_ / "missing");
  EXPECT_TRUE(absl::IsNotFound(missing.status()));
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr(dir_ / "missing"));
  std::ofstream(dir_ / "file") << "x";
  EXPECT_TRUE(absl::IsFailedPrecondition(Open(dir_ / "file").status()));
}

TEST_F(UringBlockDeviceTest, NamesTheProcessThatHoldsTheLock) {
  // A child holds the lock until its pipe is closed.
  int ready[2];
  int end[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(end), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(end[1]);
    const absl::StatusOr<LockedDirectory> held = OpenLockedDirectory(dir_.path());
    char byte = held.ok() ? 'y' : 'n';
    if (write(ready[1], &byte, 1) != 1 || read(end[0], &byte, 1) != 0) _exit(2);
    _exit(0);
  }
  close(end[0]);
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');

  const absl::Status locked = Open(dir_.path()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(locked));
  EXPECT_THAT(std::string(locked.message()), HasSubstr("process " + std::to_string(child)));

  // The lock ends with its process, however that ends.
  ASSERT_EQ(kill(child, SIGKILL), 0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_EQ(Open(dir_.path()).status(), absl::OkStatus());
  for (const int fd : {ready[0], ready[1], end[1]}) close(fd);
}

TEST_F(UringBlockDeviceTest, GivesUpItsLockWhenItIsDestroyed) {
  {
    EXPECT_EQ(Open(dir_.path()).status(), absl::OkStatus());
  }
  EXPECT_EQ(Open(dir_.path()).status(), absl::OkStatus());
}

TEST_F(UringBlockDeviceTest, ListsRegularFilesOnly) {
  std::filesystem::create_directory(dir_ / "map");
  std::filesystem::create_symlink(dir_ / "map", dir_ / "link");
  std::ofstream(dir_ / "b") << "x";
  std::ofstream(dir_ / "a") << "x";
  const std::unique_ptr<UringBlockDevice> device = Open(dir_.path()).value();
  EXPECT_THAT(executor_.Run(device->List("")).value(), ElementsAre("a", "b"));
}

TEST_F(UringBlockDeviceTest, AllocatesRealSpace) {
  const std::unique_ptr<UringBlockDevice> device = Open(dir_.path()).value();
  const FileHandle file = executor_.Run(device->Open("log/x.seg", OpenMode::kCreate)).value();
  constexpr uint64_t kBytes = (uint64_t{3} << 20) + kBlockSize;
  ASSERT_EQ(executor_.Run(device->Allocate(file, kBytes)), absl::OkStatus());
  struct stat info;
  ASSERT_EQ(stat((dir_ / "log/x.seg").c_str(), &info), 0);
  EXPECT_EQ(static_cast<uint64_t>(info.st_size), kBytes);
  EXPECT_GE(static_cast<uint64_t>(info.st_blocks) * 512, kBytes);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(UringBlockDeviceTest, ReportsAFileThatWasCutOff) {
  const std::unique_ptr<UringBlockDevice> device = Open(dir_.path()).value();
  const FileHandle file = executor_.Run(device->Open("x", OpenMode::kCreate)).value();
  ASSERT_EQ(executor_.Run(device->Allocate(file, 8 * kBlockSize)), absl::OkStatus());
  ASSERT_EQ(truncate((dir_ / "x").c_str(), 2 * kBlockSize), 0);
  const Buffer buffer = pool_.TryAllocate(4 * kBlockSize);
  const iovec piece{buffer.data(), 4 * kBlockSize};
  // The first two blocks come, the others don't.
  const absl::Status status = executor_.Run(device->Read(file, 0, absl::MakeSpan(&piece, 1)));
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("8192 bytes"));
}

TEST_F(UringBlockDeviceTest, ReportsErrorsOfTheKernelWithPlaceAndName) {
  const std::unique_ptr<UringBlockDevice> device = Open(dir_.path()).value();
  std::filesystem::create_directory(dir_ / "folder");
  const absl::Status status = executor_.Run(device->Open("folder", OpenMode::kExisting)).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr(dir_ / "folder"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("EISDIR"));
}

TEST(ErrnoStatus, HasTheCodeForEachKindOfError) {
  EXPECT_TRUE(absl::IsUnavailable(ErrnoStatus(EIO, "x")));
  EXPECT_TRUE(absl::IsUnavailable(ErrnoStatus(ECONNRESET, "x")));
  EXPECT_TRUE(absl::IsNotFound(ErrnoStatus(ENOENT, "x")));
  EXPECT_TRUE(absl::IsAlreadyExists(ErrnoStatus(EEXIST, "x")));
  EXPECT_TRUE(absl::IsResourceExhausted(ErrnoStatus(ENOSPC, "x")));
  EXPECT_TRUE(absl::IsFailedPrecondition(ErrnoStatus(EROFS, "x")));
  EXPECT_TRUE(absl::IsDataLoss(ErrnoStatus(EUCLEAN, "x")));
  EXPECT_EQ(ErrnoStatus(EIO, "reading x").message(), "reading x: Input/output error (EIO)");
  EXPECT_THAT(std::string(ErrnoStatus(EMFILE, "x").message()), HasSubstr("LimitNOFILE"));
}

}  // namespace
}  // namespace twofold
