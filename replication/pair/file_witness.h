// The witness as a small file in a directory of its own, beside neither set (R26;
// docs/formats/witness.md).
//
// The file system calls block, so they run on offload threads. The directory is locked from Open to
// Close: two daemons never hold one witness.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "replication/pair/witness.h"
#include "storage/runtime/offload.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task.h"

namespace twofold {

class FileWitness final : public Witness {
 public:
  // Locks `directory`, which exists. kNotFound: it does not; kFailedPrecondition: another process
  // has it; kUnavailable: the file system says no. `offload` outlives the witness.
  static Task<absl::StatusOr<std::unique_ptr<FileWitness>>> Open(std::string directory,
                                                                 Offload* offload);
  // Close() first.
  ~FileWitness() override;

  const std::string& name() const override { return directory_; }
  Task<absl::StatusOr<Membership>> Read() override;
  // Expected generation 0 and version 0 stand for "never written".
  Task<absl::Status> CompareAndSwap(Generation expected_generation, uint64_t expected_version,
                                    Membership next) override;
  Task<absl::Status> Restore(Membership membership) override;
  Task<void> Close() override;

 private:
  FileWitness(std::string directory, int directory_fd, Offload* offload)
      : directory_(std::move(directory)), directory_fd_(directory_fd), offload_(offload) {}

  const std::string directory_;
  int directory_fd_;  // -1 once closed
  Offload* const offload_;
  AsyncMutex mutex_;  // a compare and its swap are one step
};

}  // namespace twofold
