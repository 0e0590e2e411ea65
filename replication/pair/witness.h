// SHARED CONTRACT. Who durably remembers which replicas are in-sync.
//
// Two implementations: FileWitness (a small file beside neither set, R26) and, later, etcd. Every
// change is a compare-and-swap on (generation, version) (R20).
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "replication/membership_record.h"
#include "storage/base/types.h"
#include "storage/runtime/task.h"

namespace twofold {

class Witness {
 public:
  virtual ~Witness() = default;
  virtual const std::string& name() const = 0;  // for messages
  // kNotFound when it was never written; kDataLoss when it can't be read back; kUnavailable.
  virtual Task<absl::StatusOr<Membership>> Read() = 0;
  // Durable when it returns OK. kAborted when what is stored is not (expected generation, version);
  // kUnavailable when the outcome is unknown: read again before the next step (R25).
  virtual Task<absl::Status> CompareAndSwap(Generation expected_generation,
                                            uint64_t expected_version, Membership next) = 0;
  // Puts a membership in the place of one that is damaged or gone. The caller knows which: he is
  // the head, or has heard every replica (R22). Durable when it returns OK. kAborted when what is
  // stored can be read.
  virtual Task<absl::Status> Restore(Membership membership) = 0;
  virtual Task<void> Close() = 0;
};

}  // namespace twofold
