// That the simulated disk can do all the harm that its fault model says, and no more.
#include "tests/sim/sim_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "storage/io/buffer_pool.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task_scope.h"
#include "tests/sim/sim_block_device.h"
#include "tests/sim/sim_poller.h"

namespace twofold::sim {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsSubsetOf;
using ::testing::UnorderedElementsAre;

constexpr size_t kSectorBytes = 512;
constexpr size_t kSectors = kBlockSize / kSectorBytes;

// A machine with one disk and one file "data" of 16 blocks, all zeros.
class Machine {
 public:
  explicit Machine(uint64_t seed, SimDiskOptions options = {})
      : poller_(seed), disk_("disk", options) {
    OpenDevice();
    file_ = Run(device_->Open("data", OpenMode::kCreate)).value();
    EXPECT_EQ(Run(device_->Allocate(file_, 16 * kBlockSize)), absl::OkStatus());
  }

  template <typename T>
  T Run(Task<T> task) {
    return executor_.Run(std::move(task));
  }
  void OpenDevice() { device_ = Run(SimBlockDevice::Open(poller_, disk_)).value(); }
  void Reopen() {
    device_ = nullptr;
    OpenDevice();
    file_ = Run(device_->Open("data", OpenMode::kExisting)).value();
  }
  void Crash(CrashKind kind) { disk_.Crash(kind, poller_.random()); }

  // A block full of `value`.
  Buffer Fill(int value) {
    Buffer buffer = pool_.TryAllocate(kBlockSize);
    std::memset(buffer.data(), value, kBlockSize);
    return buffer;
  }
  absl::Status Write(uint64_t block, int value, Durability durability) {
    const Buffer buffer = Fill(value);
    const iovec piece{buffer.data(), kBlockSize};
    return Run(device_->Write(file_, block * kBlockSize, absl::MakeSpan(&piece, 1), durability));
  }
  absl::Status Read(uint64_t block) {
    const Buffer buffer = Fill(0);
    const iovec piece{buffer.data(), kBlockSize};
    return Run(device_->Read(file_, block * kBlockSize, absl::MakeSpan(&piece, 1)));
  }
  absl::Status Sync() { return Run(device_->Sync(file_)); }

  // What each sector of a block holds; each sector holds one value only.
  std::vector<int> Sectors(const SimDisk& disk, uint64_t block) {
    const std::vector<std::byte> bytes = disk.Peek("data", block * kBlockSize, kBlockSize);
    std::vector<int> values;
    for (size_t i = 0; i < kSectors; ++i) {
      const std::byte* sector = bytes.data() + i * kSectorBytes;
      EXPECT_EQ(std::memcmp(sector, sector + 1, kSectorBytes - 1), 0);
      values.push_back(static_cast<int>(sector[0]));
    }
    return values;
  }
  std::vector<int> Sectors(uint64_t block) { return Sectors(disk_, block); }

  SimPoller poller_;
  Executor executor_{poller_};
  BufferPool pool_{size_t{4} << 20};
  SimDisk disk_;
  std::unique_ptr<SimBlockDevice> device_;
  FileHandle file_;
};

constexpr uint64_t kSeeds = 200;

// What a crash made of block 3: the sets of values seen, over many seeds.
struct Outcomes {
  std::set<std::set<int>> seen;
  void Note(const std::vector<int>& sectors) {
    seen.insert(std::set<int>(sectors.begin(), sectors.end()));
  }
};

Outcomes AfterCrash(CrashKind kind, const std::function<void(Machine&)>& before) {
  Outcomes outcomes;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Machine machine(seed);
    before(machine);
    machine.Crash(kind);
    outcomes.Note(machine.Sectors(3));
  }
  return outcomes;
}

TEST(SimDisk, DurableWritesSurviveEverything) {
  for (const CrashKind kind : {CrashKind::kPower, CrashKind::kProcess}) {
    const Outcomes outcomes = AfterCrash(kind, [](Machine& machine) {
      EXPECT_EQ(machine.Write(3, 7, Durability::kDurable), absl::OkStatus());
    });
    EXPECT_THAT(outcomes.seen, ElementsAre(std::set<int>{7}));
  }
}

TEST(SimDisk, OtherWritesAreKeptDroppedOrTornByALossOfPower) {
  const Outcomes outcomes = AfterCrash(CrashKind::kPower, [](Machine& machine) {
    EXPECT_EQ(machine.Write(3, 7, Durability::kWritten), absl::OkStatus());
  });
  EXPECT_THAT(outcomes.seen,
              UnorderedElementsAre(std::set<int>{0}, std::set<int>{7}, std::set<int>{0, 7}));
}

TEST(SimDisk, CompletedWritesSurviveTheDeathOfTheProcess) {
  const Outcomes outcomes = AfterCrash(CrashKind::kProcess, [](Machine& machine) {
    EXPECT_EQ(machine.Write(3, 7, Durability::kWritten), absl::OkStatus());
  });
  EXPECT_THAT(outcomes.seen, ElementsAre(std::set<int>{7}));
}

TEST(SimDisk, WhatTheProcessLeftIsStillNotOnThePlatter) {
  const Outcomes outcomes = AfterCrash(CrashKind::kPower, [](Machine& machine) {
    EXPECT_EQ(machine.Write(3, 7, Durability::kWritten), absl::OkStatus());
    machine.Crash(CrashKind::kProcess);
    machine.Reopen();
  });
  EXPECT_THAT(outcomes.seen,
              UnorderedElementsAre(std::set<int>{0}, std::set<int>{7}, std::set<int>{0, 7}));
  const Outcomes synced = AfterCrash(CrashKind::kPower, [](Machine& machine) {
    EXPECT_EQ(machine.Write(3, 7, Durability::kWritten), absl::OkStatus());
    machine.Crash(CrashKind::kProcess);
    machine.Reopen();
    EXPECT_EQ(machine.Sync(), absl::OkStatus());  // as recovery does (R13)
  });
  EXPECT_THAT(synced.seen, ElementsAre(std::set<int>{7}));
}

TEST(SimDisk, ASyncSavesWhatWasCompletedBefore) {
  const Outcomes outcomes = AfterCrash(CrashKind::kPower, [](Machine& machine) {
    EXPECT_EQ(machine.Write(3, 7, Durability::kWritten), absl::OkStatus());
    EXPECT_EQ(machine.Sync(), absl::OkStatus());
    EXPECT_EQ(machine.disk_.PendingWrites(), 0u);
  });
  EXPECT_THAT(outcomes.seen, ElementsAre(std::set<int>{7}));
}

TEST(SimDisk, ASyncSavesNothingThatWasUnderWay) {
  Outcomes outcomes = AfterCrash(CrashKind::kPower, [](Machine& machine) {
    const Buffer buffer = machine.Fill(7);
    const iovec piece{buffer.data(), kBlockSize};
    std::vector<Task<absl::Status>> tasks;
    tasks.push_back(machine.device_->Write(machine.file_, 3 * kBlockSize, absl::MakeSpan(&piece, 1),
                                           Durability::kWritten));
    tasks.push_back(machine.device_->Sync(machine.file_));
    EXPECT_EQ(FirstError(machine.Run(WhenAll(std::move(tasks)))), absl::OkStatus());
  });
  EXPECT_THAT(outcomes.seen, Contains(std::set<int>{0}));
}

TEST(SimDisk, ADurableWriteSavesNothingButItself) {
  const Outcomes outcomes = AfterCrash(CrashKind::kPower, [](Machine& machine) {
    EXPECT_EQ(machine.Write(3, 7, Durability::kWritten), absl::OkStatus());
    EXPECT_EQ(machine.Write(4, 8, Durability::kDurable), absl::OkStatus());
  });
  EXPECT_THAT(outcomes.seen, Contains(std::set<int>{0}));
}

TEST(SimDisk, AnEarlierWriteDoesNotComeBackOverADurableOne) {
  const Outcomes outcomes = AfterCrash(CrashKind::kPower, [](Machine& machine) {
    EXPECT_EQ(machine.Write(3, 7, Durability::kWritten), absl::OkStatus());
    EXPECT_EQ(machine.Write(3, 8, Durability::kDurable), absl::OkStatus());
  });
  EXPECT_THAT(outcomes.seen, ElementsAre(std::set<int>{8}));
}

TEST(SimDisk, OfSeveralPendingWritesAnyMayRemain) {
  const Outcomes outcomes = AfterCrash(CrashKind::kPower, [](Machine& machine) {
    EXPECT_EQ(machine.Write(3, 7, Durability::kDurable), absl::OkStatus());
    EXPECT_EQ(machine.Write(3, 8, Durability::kWritten), absl::OkStatus());
    EXPECT_EQ(machine.Write(3, 9, Durability::kWritten), absl::OkStatus());
  });
  for (const int value : {7, 8, 9}) {
    EXPECT_THAT(outcomes.seen, Contains(std::set<int>{value}));
  }
  for (const std::set<int>& seen : outcomes.seen) {
    EXPECT_THAT(seen, IsSubsetOf({7, 8, 9}));
  }
}

// Crashes with operations in flight; they must unwind, and the disk opens again.
Task<void> CrashWhileWriting(Machine* machine, CrashKind kind, Durability durability,
                             std::vector<absl::Status>* statuses) {
  struct Body {
    static Task<void> Write(Machine* in, Durability how, std::vector<absl::Status>* into) {
      const Buffer buffer = in->Fill(7);
      const iovec piece{buffer.data(), kBlockSize};
      const absl::Status status =
          co_await in->device_->Write(in->file_, 3 * kBlockSize, absl::MakeSpan(&piece, 1), how);
      into->push_back(status);
    }
  };
  TaskScope scope;
  scope.Spawn(Body::Write(machine, durability, statuses));
  co_await machine->poller_.Delay(
      static_cast<int64_t>(machine->poller_.random().Uniform(2 * kNanosPerMilli)));
  machine->disk_.Crash(kind, machine->poller_.random());
  co_await scope.Join();
}

TEST(SimDisk, AWriteInFlightIsKeptDroppedOrTornByAnyCrash) {
  for (const CrashKind kind : {CrashKind::kPower, CrashKind::kProcess}) {
    std::set<std::set<int>> failed;
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      Machine machine(seed);
      std::vector<absl::Status> statuses;
      machine.Run(CrashWhileWriting(&machine, kind, Durability::kDurable, &statuses));
      ASSERT_EQ(statuses.size(), 1u);
      const std::vector<int> sectors = machine.Sectors(3);
      if (statuses[0].ok()) {
        EXPECT_THAT(sectors, Each(7)) << "seed " << seed;
      } else {
        EXPECT_TRUE(absl::IsUnavailable(statuses[0])) << statuses[0];
        failed.insert(std::set<int>(sectors.begin(), sectors.end()));
      }
      EXPECT_TRUE(absl::IsUnavailable(machine.Read(3)));
      EXPECT_TRUE(absl::IsUnavailable(machine.Sync()));
      machine.Reopen();
      EXPECT_EQ(machine.Read(3), absl::OkStatus());
    }
    EXPECT_THAT(failed,
                UnorderedElementsAre(std::set<int>{0}, std::set<int>{7}, std::set<int>{0, 7}));
  }
}

TEST(SimDisk, AFileIsInDoubtUntilItIsAllocated) {
  std::set<std::string> outcomes;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Machine machine(seed);
    const auto file = machine.Run(machine.device_->Open("new", OpenMode::kCreate));
    ASSERT_TRUE(file.ok());
    SimDisk copy(machine.disk_);
    copy.Crash(CrashKind::kPower, machine.poller_.random());
    outcomes.insert(copy.Exists("new") ? "there" : "gone");

    ASSERT_EQ(machine.Run(machine.device_->Allocate(*file, 4 * kBlockSize)), absl::OkStatus());
    machine.Crash(CrashKind::kPower);
    ASSERT_TRUE(machine.disk_.Exists("new"));
    EXPECT_EQ(machine.disk_.FileSize("new"), 4 * kBlockSize);
  }
  EXPECT_EQ(outcomes.size(), 2u);
}

TEST(SimDisk, AnAllocationUnderWayLeavesAnySizeAndOldOrZeroBlocks) {
  std::set<uint64_t> sizes;
  std::set<int> contents;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Machine machine(seed);
    ASSERT_EQ(machine.Write(3, 7, Durability::kDurable), absl::OkStatus());
    machine.disk_.Hold();  // it will not get to its end
    struct Body {
      static Task<void> Allocate(Machine* in) {
        const absl::Status status = co_await in->device_->Allocate(in->file_, 32 * kBlockSize);
        EXPECT_TRUE(absl::IsUnavailable(status));
      }
      static Task<void> Crash(Machine* in) {
        TaskScope scope;
        scope.Spawn(Allocate(in));
        co_await in->poller_.Delay(3 * kNanosPerMilli);
        in->Crash(CrashKind::kPower);
        co_await scope.Join();
      }
    };
    machine.Run(Body::Crash(&machine));
    const uint64_t size = machine.disk_.FileSize("data");
    sizes.insert(size);
    if (size > 3 * kBlockSize) contents.insert(machine.Sectors(3)[0]);
  }
  EXPECT_THAT(sizes, Contains(16 * kBlockSize));
  EXPECT_THAT(sizes, Contains(32 * kBlockSize));
  EXPECT_GT(sizes.size(), 5u);
  EXPECT_THAT(contents, UnorderedElementsAre(0, 7));
}

TEST(SimDisk, ACopyIsADiskOfItsOwn) {
  Machine machine(1);
  ASSERT_EQ(machine.Write(3, 7, Durability::kWritten), absl::OkStatus());
  std::set<int> outcomes;
  Prng random(1);
  for (int i = 0; i < 50; ++i) {
    SimDisk copy(machine.disk_);
    copy.Crash(CrashKind::kPower, random);
    outcomes.insert(machine.Sectors(copy, 3)[0]);
    EXPECT_EQ(copy.PendingWrites(), 0u);
  }
  EXPECT_EQ(outcomes.size(), 2u);
  EXPECT_THAT(machine.Sectors(3), Each(7));
  EXPECT_EQ(machine.disk_.PendingWrites(), 1u);
  EXPECT_EQ(machine.Read(3), absl::OkStatus());
}

TEST(SimDisk, FailsReadsAndWritesAtChosenPlaces) {
  Machine machine(1);
  machine.disk_.FailReads("data", 3 * kBlockSize, kBlockSize, 2);
  EXPECT_EQ(machine.Read(2), absl::OkStatus());
  EXPECT_EQ(machine.Read(4), absl::OkStatus());
  EXPECT_TRUE(absl::IsUnavailable(machine.Read(3)));
  EXPECT_TRUE(absl::IsUnavailable(machine.Read(3)));
  EXPECT_EQ(machine.Read(3), absl::OkStatus());

  machine.disk_.FailWrites("", 5 * kBlockSize, SimDisk::kToTheEnd);
  EXPECT_EQ(machine.Write(4, 7, Durability::kDurable), absl::OkStatus());
  EXPECT_TRUE(absl::IsUnavailable(machine.Write(5, 7, Durability::kDurable)));
  EXPECT_TRUE(absl::IsUnavailable(machine.Write(15, 7, Durability::kDurable)));
  machine.disk_.ClearFaults();
  EXPECT_EQ(machine.Write(5, 7, Durability::kDurable), absl::OkStatus());
}

TEST(SimDisk, AFailedWriteLeavesAnySectorsAndIsNotDurable) {
  std::set<std::set<int>> seen;
  std::set<int> after_crash;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Machine machine(seed);
    machine.disk_.FailWrites("data", 3 * kBlockSize, kBlockSize);
    EXPECT_TRUE(absl::IsUnavailable(machine.Write(3, 7, Durability::kDurable)));
    const std::vector<int> sectors = machine.Sectors(3);
    seen.insert(std::set<int>(sectors.begin(), sectors.end()));
    machine.Crash(CrashKind::kPower);
    if (sectors == std::vector<int>(kSectors, 7)) after_crash.insert(machine.Sectors(3)[0]);
  }
  EXPECT_THAT(seen, UnorderedElementsAre(std::set<int>{0}, std::set<int>{7}, std::set<int>{0, 7}));
  EXPECT_THAT(after_crash, UnorderedElementsAre(0, 7));
}

TEST(SimDisk, AfterAFailedSyncALaterOneSavesNothing) {
  const Outcomes outcomes = AfterCrash(CrashKind::kPower, [](Machine& machine) {
    EXPECT_EQ(machine.Write(3, 7, Durability::kWritten), absl::OkStatus());
    machine.disk_.FailSyncs("data", 1);
    EXPECT_TRUE(absl::IsUnavailable(machine.Sync()));
    EXPECT_EQ(machine.Sync(), absl::OkStatus());
  });
  EXPECT_THAT(outcomes.seen, Contains(std::set<int>{0}));
}

TEST(SimDisk, DamagesChosenPlaces) {
  Machine machine(1);
  ASSERT_EQ(machine.Write(3, 7, Durability::kDurable), absl::OkStatus());
  ASSERT_EQ(machine.Write(4, 8, Durability::kDurable), absl::OkStatus());
  machine.disk_.FlipBit("data", 3 * kBlockSize + 100, 3);
  EXPECT_EQ(machine.disk_.Peek("data", 3 * kBlockSize + 99, 3),
            (std::vector<std::byte>{std::byte{7}, std::byte{15}, std::byte{7}}));
  machine.disk_.CopyBlock("data", 4, "data", 3);
  EXPECT_THAT(machine.Sectors(3), Each(8));
  machine.disk_.ZeroBlock("data", 4);
  EXPECT_THAT(machine.Sectors(4), Each(0));
  // Damage is on the platter.
  machine.Crash(CrashKind::kPower);
  EXPECT_THAT(machine.Sectors(3), Each(8));
  EXPECT_THAT(machine.Sectors(4), Each(0));
  machine.disk_.Lose("data");
  EXPECT_FALSE(machine.disk_.Exists("data"));
}

TEST(SimDisk, LosesAndMisdirectsWrites) {
  Machine machine(1);
  machine.disk_.LoseNextWrite("data");
  EXPECT_EQ(machine.Write(3, 7, Durability::kDurable), absl::OkStatus());
  EXPECT_THAT(machine.Sectors(3), Each(0));
  machine.disk_.MisdirectNextWrite("data", 9 * kBlockSize);
  EXPECT_EQ(machine.Write(3, 7, Durability::kDurable), absl::OkStatus());
  EXPECT_THAT(machine.Sectors(3), Each(0));
  EXPECT_THAT(machine.Sectors(9), Each(7));
  EXPECT_EQ(machine.Write(3, 7, Durability::kDurable), absl::OkStatus());
  EXPECT_THAT(machine.Sectors(3), Each(7));
}

TEST(SimDisk, FailsByChance) {
  Machine machine(1, {.read_error_one_in = 4, .write_error_one_in = 4});
  int failed_reads = 0;
  int failed_writes = 0;
  for (int i = 0; i < 100; ++i) {
    if (!machine.Read(1).ok()) ++failed_reads;
    if (!machine.Write(1, 7, Durability::kDurable).ok()) ++failed_writes;
  }
  EXPECT_GT(failed_reads, 10);
  EXPECT_LT(failed_reads, 50);
  EXPECT_GT(failed_writes, 10);
  EXPECT_LT(failed_writes, 50);
}

Task<void> HoldAndRelease(Machine* machine) {
  struct Body {
    static Task<void> Read(Machine* in, bool* done) {
      const Buffer buffer = in->Fill(1);
      const iovec piece{buffer.data(), kBlockSize};
      const absl::Status status =
          co_await in->device_->Read(in->file_, 0, absl::MakeSpan(&piece, 1));
      EXPECT_EQ(status, absl::OkStatus());
      *done = true;
    }
  };
  bool done = false;
  machine->disk_.Hold();
  TaskScope scope;
  scope.Spawn(Body::Read(machine, &done));
  co_await SleepFor(3600 * kNanosPerSecond);
  EXPECT_FALSE(done);
  machine->disk_.Release();
  co_await scope.Join();
  EXPECT_TRUE(done);
}

TEST(SimDisk, HangsWhileItIsHeld) {
  Machine machine(1);
  machine.Run(HoldAndRelease(&machine));
}

Task<void> CompletionOrder(Machine* machine, std::vector<int>* order) {
  struct Body {
    static Task<void> Read(Machine* in, int name, std::vector<int>* into) {
      const Buffer buffer = in->Fill(1);
      const iovec piece{buffer.data(), kBlockSize};
      const absl::Status status =
          co_await in->device_->Read(in->file_, 0, absl::MakeSpan(&piece, 1));
      EXPECT_EQ(status, absl::OkStatus());
      into->push_back(name);
    }
  };
  TaskScope scope;
  for (int i = 0; i < 8; ++i) scope.Spawn(Body::Read(machine, i, order));
  co_await scope.Join();
}

TEST(SimDisk, CompletesInAnOrderThatTheSeedDecides) {
  std::set<std::vector<int>> orders;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    std::vector<int> first;
    std::vector<int> second;
    for (std::vector<int>* order : {&first, &second}) {
      Machine machine(seed);
      machine.Run(CompletionOrder(&machine, order));
    }
    EXPECT_EQ(first, second) << "seed " << seed;
    orders.insert(first);
  }
  EXPECT_GT(orders.size(), 40u);
}

Task<void> ChangeBufferUnderWrite(Machine* machine) {
  struct Body {
    static Task<void> Write(Machine* in, const Buffer* buffer) {
      const iovec piece{buffer->data(), kBlockSize};
      const absl::Status status = co_await in->device_->Write(
          in->file_, 0, absl::MakeSpan(&piece, 1), Durability::kWritten);
      EXPECT_EQ(status, absl::OkStatus());
    }
  };
  const Buffer buffer = machine->Fill(1);
  TaskScope scope;
  scope.Spawn(Body::Write(machine, &buffer));
  buffer.data()[77] = std::byte{2};
  co_await scope.Join();
}

TEST(SimDiskDeathTest, NoticesABufferThatChangesUnderItsWrite) {
  Machine machine(1);
  EXPECT_DEATH(machine.Run(ChangeBufferUnderWrite(&machine)), "changed while it was under way");
}

}  // namespace
}  // namespace twofold::sim
