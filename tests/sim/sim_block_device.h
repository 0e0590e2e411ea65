// A block device on a SimDisk, whose fault model is written there (sim_disk.h). Each operation
// takes a time from the seed, so operations that are under way together complete in any order.
//
// Stricter than a real disk, to find bugs: what a caller does to a buffer that is being written, or
// reads from one that is being filled, is noticed or sees rubbish.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "storage/base/prng.h"
#include "storage/io/block_device.h"
#include "storage/runtime/sync.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_poller.h"

namespace twofold::sim {

class SimBlockDevice final : public BlockDevice {
 public:
  // `poller` and `disk` outlive it. kFailedPrecondition while another device is open on the disk.
  static Task<absl::StatusOr<std::unique_ptr<SimBlockDevice>>> Open(SimPoller& poller,
                                                                    SimDisk& disk);
  // Gives up the disk. No operation may be under way, after a crash neither.
  ~SimBlockDevice() override;

  const std::string& name() const override { return disk_name_; }
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

  struct Stats {
    uint64_t reads = 0;
    uint64_t writes = 0;
    uint64_t durable_writes = 0;
    uint64_t syncs = 0;
  };
  const Stats& stats() const { return stats_; }

 private:
  friend class SimDisk;

  struct OpenFile {
    std::string path;
    bool open = true;
    uint64_t writes = 0;  // under way
  };
  // Wakes operations that a held disk keeps; shared with events that may come after the device's
  // end.
  struct Gate {
    Event opened;
  };

  SimBlockDevice(SimPoller& poller, SimDisk& disk);

  void Die();    // by SimDisk::Crash
  void LetGo();  // by SimDisk::Release

  OpenFile& Get(FileHandle file);
  bool IsOpen(const std::string& path) const;
  std::string Describe(const std::string& path) const;
  absl::Status Dead() const;
  SimPoller::DelayAwaiter Delay();
  // The second half of an operation: some time, and as long as the disk is held.
  Task<void> Finish();
  Task<absl::Status> WriteTo(OpenFile& open, uint64_t offset, std::vector<SimDisk::BlockRef> blocks,
                             Durability durability);

  SimPoller& poller_;
  SimDisk& disk_;
  const std::string disk_name_;
  Prng random_;
  std::vector<std::unique_ptr<OpenFile>> files_;  // by FileHandle
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  Stats stats_;
  uint64_t written_bytes_ = 0;
  uint64_t operations_ = 0;  // under way
  bool dead_ = false;
  bool closed_ = false;
};

}  // namespace twofold::sim
