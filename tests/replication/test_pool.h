// A pool over two simulated replicas, for tests that look at volumes and administration.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "replication/volume/pool.h"
#include "storage/base/limits.h"
#include "storage/runtime/executor.h"
#include "tests/replication/sim_replica.h"
#include "tests/replication/sim_witness.h"
#include "tests/sim/sim_poller.h"

namespace twofold {

class TestPool {
 public:
  explicit TestPool(uint64_t seed = 1, sim::SimReplicaOptions options = {});
  ~TestPool();

  // Opens the replicas over what the disks have, and attaches. Those of `set_absent` are missing.
  absl::Status Attach();
  void set_absent(std::vector<size_t> absent) { absent_ = std::move(absent); }
  // What Attach is told besides (AttachOptions).
  AttachOptions& options() { return attach_options_; }
  void MustAttach();
  // Disk `index` can be opened while the pool is.
  SetDirectories Directories();
  // The same, but the process dies after that time; true when the attach was done before.
  bool AttachOrCrashAfter(int64_t nanos, bool power_loss);
  // A clean end.
  void Stop();
  // The process dies: what is under way comes to nothing, and every client with it.
  void Crash(bool power_loss = false);
  // The same, on the executor, without the Stop that ends the dead pool.
  void CrashMachines(bool power_loss);

  template <typename T>
  T Run(Task<T> task) {
    return executor_.Run(std::move(task));
  }

  // On the executor, as everything that wakes somebody must be.
  void Call(std::function<void()> function);

  Pool& pool() { return *pool_; }
  // Of disk `index`, which is present.
  sim::SimReplica& replica(size_t index) { return *disks_[index].open; }
  // Whether somebody has it open.
  bool present(size_t index) const { return disks_[index].open != nullptr; }
  // Whether the witness lists the disk.
  bool InSync(size_t index) const;
  sim::SimWitness& live_witness() { return *live_witness_; }
  sim::SimPoller& poller() { return poller_; }
  Executor& executor() { return executor_; }
  std::vector<sim::SimDisk>& disks() { return disks_; }
  std::optional<Membership>& witness() { return stored_; }
  // The next Attach finds it so that it does not verify.
  void DamageWitness() { witness_damaged_ = true; }

  // Volumes of 64 KiB to 1 MiB do for most tests.
  void MakeVolume(const std::string& name, uint64_t size_bytes = 1 << 20,
                  AckMode ack = AckMode::kDurable, OnSetLoss on_set_loss = OnSetLoss::kContinue);
  std::unique_ptr<Mount> Open(const std::string& name);
  // The bytes of `length`, all `fill`, placed as Mount::Write wants them.
  Buffer Payload(Mount& mount, uint64_t offset, uint64_t length, char fill);
  absl::Status Write(Mount& mount, uint64_t offset, uint64_t length, char fill, bool fua = false);
  // What stands there; empty and a test failure on an error.
  std::string Read(Mount& mount, uint64_t offset, uint64_t length);
  std::vector<ByteExtent> Extents(Mount& mount, uint64_t offset, uint64_t length);

 private:
  Task<absl::StatusOr<std::unique_ptr<Replica>>> Open(sim::SimDisk* disk);
  Task<bool> IsBack(sim::SimDisk* disk);
  Task<absl::StatusOr<std::unique_ptr<Replica>>> MakeEmpty(sim::SimDisk* disk,
                                                           std::string store_id);

  sim::SimPoller poller_;
  Executor executor_;
  const sim::SimReplicaOptions options_;
  std::vector<sim::SimDisk> disks_{2};
  std::optional<Membership> stored_;
  std::vector<size_t> absent_;
  AttachOptions attach_options_;
  bool dead_ = false;  // the machine that the pool runs on
  bool witness_damaged_ = false;
  sim::SimWitness* live_witness_ = nullptr;
  std::unique_ptr<Pool> pool_;
};

}  // namespace twofold
