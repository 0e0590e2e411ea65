// What block_device.h promises, held against both implementations.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage/base/limits.h"
#include "storage/io/buffer_pool.h"
#include "storage/io/uring_block_device.h"
#include "storage/io/uring_poller.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/offload.h"
#include "storage/runtime/sync.h"
#include "tests/io/temp_dir.h"
#include "tests/sim/sim_block_device.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_poller.h"

namespace twofold {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using DeviceOr = absl::StatusOr<std::unique_ptr<BlockDevice>>;

// A machine with one directory.
class World {
 public:
  virtual ~World() = default;
  virtual Poller& poller() = 0;
  virtual Task<DeviceOr> Open() = 0;
};

template <typename Device>
Task<DeviceOr> AsInterface(Task<absl::StatusOr<std::unique_ptr<Device>>> task) {
  absl::StatusOr<std::unique_ptr<Device>> device = co_await std::move(task);
  if (!device.ok()) co_return device.status();
  co_return std::unique_ptr<BlockDevice>(*std::move(device));
}

class RealWorld final : public World {
 public:
  RealWorld() : poller_(UringPoller::Create().value()) {}
  ~RealWorld() override { offload_.Stop(); }
  Poller& poller() override { return *poller_; }
  Task<DeviceOr> Open() override {
    return AsInterface(UringBlockDevice::Open(*poller_, offload_, dir_.path()));
  }

 private:
  TempDir dir_;
  std::unique_ptr<UringPoller> poller_;
  Offload offload_{1};
};

class SimWorld final : public World {
 public:
  Poller& poller() override { return poller_; }
  Task<DeviceOr> Open() override { return AsInterface(sim::SimBlockDevice::Open(poller_, disk_)); }

 private:
  sim::SimPoller poller_{1};
  sim::SimDisk disk_{"disk", {.capacity_bytes = uint64_t{64} << 40}};
};

struct WorldKind {
  const char* name;
  std::function<std::unique_ptr<World>()> make;
};

class BlockDeviceContract : public ::testing::TestWithParam<WorldKind> {
 protected:
  BlockDeviceContract() : world_(GetParam().make()), executor_(world_->poller()) {
    device_ = Run(world_->Open()).value();
  }
  ~BlockDeviceContract() override {
    if (device_ != nullptr) Run(device_->Close());
  }

  template <typename T>
  T Run(Task<T> task) {
    return executor_.Run(std::move(task));
  }

  // `blocks` blocks, each filled with its own byte from `first` on.
  Buffer Fill(size_t blocks, unsigned first) {
    Buffer buffer = pool_.TryAllocate(blocks * kBlockSize);
    for (size_t i = 0; i < blocks; ++i) {
      std::memset(buffer.data() + i * kBlockSize, static_cast<int>(first + i), kBlockSize);
    }
    return buffer;
  }
  static iovec Piece(const Buffer& buffer, size_t block = 0, size_t blocks = 1) {
    return {buffer.data() + block * kBlockSize, blocks * kBlockSize};
  }

  FileHandle MakeFile(const std::string& path, uint64_t blocks) {
    const FileHandle file = Run(device_->Open(path, OpenMode::kCreate)).value();
    EXPECT_EQ(Run(device_->Allocate(file, blocks * kBlockSize)), absl::OkStatus());
    return file;
  }

  // The first byte of each block, after checking that each block is all the same.
  std::vector<int> ReadBlocks(FileHandle file, uint64_t first, size_t blocks) {
    const Buffer buffer = Fill(blocks, 0xee);
    const iovec piece = Piece(buffer, 0, blocks);
    EXPECT_EQ(Run(device_->Read(file, first * kBlockSize, absl::MakeSpan(&piece, 1))),
              absl::OkStatus());
    std::vector<int> values;
    for (size_t i = 0; i < blocks; ++i) {
      const std::byte* block = buffer.data() + i * kBlockSize;
      EXPECT_EQ(std::memcmp(block, block + 1, kBlockSize - 1), 0);
      values.push_back(static_cast<int>(block[0]));
    }
    return values;
  }

  std::unique_ptr<World> world_;
  Executor executor_;
  BufferPool pool_{size_t{16} << 20};
  std::unique_ptr<BlockDevice> device_;
};

TEST_P(BlockDeviceContract, AllocatedFilesAreZeroAndHaveTheirSize) {
  const FileHandle file = MakeFile("in/one.seg", 300);
  EXPECT_EQ(Run(device_->Size(file)).value(), 300 * kBlockSize);
  EXPECT_EQ(ReadBlocks(file, 0, 300), std::vector<int>(300, 0));
}

TEST_P(BlockDeviceContract, ReadsBackWhatWasWritten) {
  const FileHandle file = MakeFile("data", 16);
  const Buffer buffer = Fill(4, 10);
  for (const Durability durability : {Durability::kWritten, Durability::kDurable}) {
    const uint64_t at = durability == Durability::kWritten ? 2 : 9;
    const iovec piece = Piece(buffer, 0, 4);
    EXPECT_EQ(Run(device_->Write(file, at * kBlockSize, absl::MakeSpan(&piece, 1), durability)),
              absl::OkStatus());
  }
  EXPECT_THAT(ReadBlocks(file, 0, 16),
              ElementsAre(0, 0, 10, 11, 12, 13, 0, 0, 0, 10, 11, 12, 13, 0, 0, 0));
  EXPECT_EQ(Run(device_->Sync(file)), absl::OkStatus());
}

TEST_P(BlockDeviceContract, CountsWhatItWrites) {
  EXPECT_EQ(device_->WrittenBytes(), 0u);
  const FileHandle file = MakeFile("data", 300);
  EXPECT_EQ(device_->WrittenBytes(), 300 * kBlockSize);
  const Buffer buffer = Fill(4, 10);
  const iovec piece = Piece(buffer, 0, 4);
  for (const Durability durability : {Durability::kWritten, Durability::kDurable}) {
    EXPECT_EQ(Run(device_->Write(file, 0, absl::MakeSpan(&piece, 1), durability)),
              absl::OkStatus());
  }
  ReadBlocks(file, 0, 16);
  EXPECT_EQ(device_->WrittenBytes(), 308 * kBlockSize);
}

TEST_P(BlockDeviceContract, GathersAndScattersPieces) {
  const FileHandle file = MakeFile("data", 1200);
  const Buffer buffer = Fill(4, 1);
  // As many pieces as are allowed, out of order in memory.
  std::vector<iovec> pieces;
  for (size_t i = 0; i < kMaxIoPieces; ++i) pieces.push_back(Piece(buffer, 3 - i % 4));
  EXPECT_EQ(Run(device_->Write(file, 5 * kBlockSize, pieces, Durability::kDurable)),
            absl::OkStatus());
  EXPECT_THAT(ReadBlocks(file, 4, 6), ElementsAre(0, 4, 3, 2, 1, 4));
  EXPECT_THAT(ReadBlocks(file, 5 + kMaxIoPieces - 1, 2), ElementsAre(2, 0));

  const Buffer into = Fill(3, 0);
  const std::vector<iovec> scattered = {Piece(into, 2), Piece(into, 0, 2)};
  EXPECT_EQ(Run(device_->Read(file, 5 * kBlockSize, scattered)), absl::OkStatus());
  EXPECT_EQ(into.data()[2 * kBlockSize], std::byte{4});
  EXPECT_EQ(into.data()[0], std::byte{3});
  EXPECT_EQ(into.data()[kBlockSize], std::byte{2});
}

TEST_P(BlockDeviceContract, ServesManyOperationsAtOnce) {
  constexpr size_t kOperations = 200;
  const FileHandle file = MakeFile("data", kOperations);
  const Buffer buffer = Fill(kOperations, 0);
  std::vector<iovec> pieces;
  for (size_t i = 0; i < kOperations; ++i) pieces.push_back(Piece(buffer, i));
  std::vector<Task<absl::Status>> tasks;
  for (size_t i = 0; i < kOperations; ++i) {
    tasks.push_back(device_->Write(file, i * kBlockSize, absl::MakeSpan(&pieces[i], 1),
                                   i % 2 == 0 ? Durability::kDurable : Durability::kWritten));
  }
  EXPECT_EQ(FirstError(Run(WhenAll(std::move(tasks)))), absl::OkStatus());
  const std::vector<int> values = ReadBlocks(file, 0, kOperations);
  for (size_t i = 0; i < kOperations; ++i) EXPECT_EQ(values[i], static_cast<int>(i));
}

TEST_P(BlockDeviceContract, ReadingAndWritingPastTheEndIsOutOfRange) {
  const FileHandle file = MakeFile("data", 4);
  const Buffer buffer = Fill(2, 1);
  const iovec piece = Piece(buffer, 0, 2);
  for (const uint64_t at : {3, 4, 5000}) {
    EXPECT_TRUE(
        absl::IsOutOfRange(Run(device_->Read(file, at * kBlockSize, absl::MakeSpan(&piece, 1)))));
    EXPECT_TRUE(absl::IsOutOfRange(Run(
        device_->Write(file, at * kBlockSize, absl::MakeSpan(&piece, 1), Durability::kDurable))));
  }
  EXPECT_EQ(Run(device_->Size(file)).value(), 4 * kBlockSize);
}

TEST_P(BlockDeviceContract, AllocateAgainChangesTheSizeAndZeroesAll) {
  const FileHandle file = MakeFile("data", 4);
  const Buffer buffer = Fill(4, 1);
  for (const uint64_t blocks : {8, 2}) {
    const iovec piece = Piece(buffer, 0, 2);
    EXPECT_EQ(Run(device_->Write(file, 0, absl::MakeSpan(&piece, 1), Durability::kWritten)),
              absl::OkStatus());
    EXPECT_EQ(Run(device_->Allocate(file, blocks * kBlockSize)), absl::OkStatus());
    EXPECT_EQ(Run(device_->Size(file)).value(), blocks * kBlockSize);
    EXPECT_EQ(ReadBlocks(file, 0, blocks), std::vector<int>(blocks, 0));
  }
}

TEST_P(BlockDeviceContract, ListsFilesByFolder) {
  MakeFile("SUPERBLOCK", 1);
  MakeFile("log/2.seg", 1);
  MakeFile("log/10.seg", 1);
  EXPECT_THAT(Run(device_->List("")).value(), ElementsAre("SUPERBLOCK"));
  EXPECT_THAT(Run(device_->List("log")).value(), ElementsAre("10.seg", "2.seg"));
  EXPECT_THAT(Run(device_->List("nowhere")).value(), IsEmpty());
}

TEST_P(BlockDeviceContract, OpensByNameAndMode) {
  EXPECT_TRUE(absl::IsNotFound(Run(device_->Open("x", OpenMode::kExisting)).status()));
  EXPECT_TRUE(absl::IsNotFound(Run(device_->Open("in/x", OpenMode::kExisting)).status()));
  const FileHandle file = MakeFile("x", 1);
  EXPECT_TRUE(absl::IsAlreadyExists(Run(device_->Open("x", OpenMode::kCreate)).status()));
  EXPECT_EQ(Run(device_->Open("x", OpenMode::kExisting)).value(), file);
}

TEST_P(BlockDeviceContract, RemovesClosedFilesOnly) {
  const FileHandle file = MakeFile("log/x", 1);
  EXPECT_TRUE(absl::IsFailedPrecondition(Run(device_->Remove("log/x"))));
  Run(device_->CloseFile(file));
  EXPECT_EQ(Run(device_->Remove("log/x")), absl::OkStatus());
  EXPECT_TRUE(absl::IsNotFound(Run(device_->Remove("log/x"))));
  EXPECT_TRUE(absl::IsNotFound(Run(device_->Open("log/x", OpenMode::kExisting)).status()));
  EXPECT_THAT(Run(device_->List("log")).value(), IsEmpty());
}

TEST_P(BlockDeviceContract, KeepsEverythingOverCloseAndOpen) {
  const FileHandle file = MakeFile("data", 4);
  const Buffer buffer = Fill(2, 7);
  const iovec piece = Piece(buffer, 0, 2);
  EXPECT_EQ(Run(device_->Write(file, kBlockSize, absl::MakeSpan(&piece, 1), Durability::kWritten)),
            absl::OkStatus());
  Run(device_->Close());
  device_ = Run(world_->Open()).value();
  const FileHandle again = Run(device_->Open("data", OpenMode::kExisting)).value();
  EXPECT_EQ(Run(device_->Size(again)).value(), 4 * kBlockSize);
  EXPECT_THAT(ReadBlocks(again, 0, 4), ElementsAre(0, 7, 8, 0));
}

TEST_P(BlockDeviceContract, HoldsItsDirectoryAlone) {
  const DeviceOr second = Run(world_->Open());
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status()));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("in use"));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(device_->name()));
  Run(device_->Close());
  device_ = Run(world_->Open()).value();
}

TEST_P(BlockDeviceContract, TellsFreeSpaceAndThatThereIsTooLittle) {
  const uint64_t free_bytes = Run(device_->FreeBytes()).value();
  EXPECT_GT(free_bytes, uint64_t{1} << 20);
  const FileHandle file = Run(device_->Open("huge", OpenMode::kCreate)).value();
  const uint64_t too_much = (free_bytes * 2 / kBlockSize) * kBlockSize;
  EXPECT_TRUE(absl::IsResourceExhausted(Run(device_->Allocate(file, too_much))));
  Run(device_->CloseFile(file));
  EXPECT_EQ(Run(device_->Remove("huge")), absl::OkStatus());
}

INSTANTIATE_TEST_SUITE_P(
    Of, BlockDeviceContract,
    ::testing::Values(WorldKind{"Uring", [] { return std::make_unique<RealWorld>(); }},
                      WorldKind{"Sim", [] { return std::make_unique<SimWorld>(); }}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace twofold
