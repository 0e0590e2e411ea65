// What a pool is made of; shared by pool.cc (opening, looking, stopping) and pool_admin.cc
// (changing).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "replication/pair/attach.h"
#include "replication/pair/repair.h"
#include "replication/pair/replica_set.h"
#include "replication/volume/away_sets.h"
#include "replication/volume/pool.h"
#include "replication/volume/pool_scrub.h"
#include "replication/volume/pool_usage.h"
#include "replication/volume/stream.h"
#include "replication/volume/volume.h"
#include "storage/io/buffer_pool.h"
#include "storage/map/catalogue.h"
#include "storage/runtime/cancel.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task_scope.h"

namespace twofold {

class PoolState {
 public:
  // `parts` were attached with the result `attached`.
  PoolState(Pool::Parts parts, const Attached& attached);

  const Catalogue& catalogue() const { return set.catalogue(); }
  VolumeParts volume_parts() { return {&set, &buffers, &scratch, &writes}; }

  // kNotFound with the name. The pointer is good until the next suspension.
  absl::StatusOr<Volume*> FindVolume(const std::string& name);
  absl::StatusOr<const SnapshotRecord*> FindSnapshot(const SnapshotName& name) const;

  VolumeInfo Describe(const VolumeRecord& record) const;
  SnapshotInfo Describe(const SnapshotRecord& record) const;

  // Appends one record to the catalogue's stream (R39), with room as for `use`. Committed and
  // durable when it returns OK.
  Task<absl::Status> AppendToCatalogue(LogEntry entry, RoomFor use);

  // Who lacks what, and what to do; nothing while all is well.
  std::optional<DegradedInfo> Degraded() const;
  // What its own numbers say, as one that is in-sync.
  ReplicaInfo Describe(const Replica& replica) const;
  ReplicaInfo Describe(const AwaySet& away) const;
  // `resync` has just ended well.
  void NoteBroughtLevel(const std::string& set_name, const Resync& resync);
  std::vector<ReplicaInfo> Replicas() const;
  Task<void> CheckReplicas();
  // A witness that was damaged, or deleted, under the pool gets back what it held.
  Task<void> CheckWitness();

  // Destroys deleted volumes whose last mount has gone.
  void Reap();

  Pool::Parts parts;
  ReplicaSet set;
  Repairer repairer{&set};
  BufferPool buffers;
  BufferPool scratch;
  ChangeLatency writes;
  Stream catalogue_stream;
  std::map<VolumeId, std::unique_ptr<Volume>> volumes;
  std::vector<std::unique_ptr<Volume>> deleted;  // until their mounts have gone
  PoolScrub scrub{this};
  PoolUsage usage{this};
  std::optional<SnapshotId> snapshot_in_deletion;
  AsyncMutex admin;  // one administrative call at a time
  // Every volume's admission is closed for a moment in which nothing of it is changed: clients may
  // come, and their requests wait.
  bool paused = false;
  bool stopped = false;
  CancelSource stopping;
  AwaySets away;                                    // sets that are not in-sync
  std::map<std::string, ResyncInfo> brought_level;  // by set: how it came back last
  std::map<std::string, uint64_t> superblocks;      // their versions, by set, when last looked at
  TaskScope watch;
};

// The bodies of Pool's administrative calls (pool_admin.cc); the caller holds `admin`.
Task<absl::StatusOr<VolumeInfo>> CreateVolume(PoolState* pool, std::string name,
                                              uint64_t size_bytes, AckMode ack,
                                              OnSetLoss on_set_loss);
Task<absl::StatusOr<VolumeInfo>> ResizeVolume(PoolState* pool, std::string name,
                                              uint64_t size_bytes, bool force);
Task<absl::Status> DeleteVolume(PoolState* pool, std::string name, bool force);
Task<absl::StatusOr<std::vector<SnapshotInfo>>> CreateSnapshots(PoolState* pool,
                                                                std::vector<SnapshotName> names);
Task<absl::Status> DeleteSnapshot(PoolState* pool, SnapshotName name);
Task<absl::StatusOr<SnapshotInfo>> Rollback(PoolState* pool, SnapshotName name, bool force);

}  // namespace twofold
