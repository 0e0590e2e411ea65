// SHARED CONTRACT. The two sets and the volumes on them: opening, levelling, administration.
//
// A pool belongs to one executor. Administrative calls are serialised; they run beside client I/O.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "replication/pair/attach.h"
#include "replication/pair/witness.h"
#include "replication/replica.h"
#include "replication/volume/ack_mode.h"
#include "replication/volume/mount.h"
#include "replication/volume/names.h"
#include "replication/volume/on_set_loss.h"
#include "replication/volume/scrub_info.h"
#include "replication/volume/usage_info.h"
#include "storage/base/types.h"
#include "storage/io/buffer_pool.h"
#include "storage/runtime/task.h"

namespace twofold {

struct VolumeInfo {
  std::string name;
  VolumeId id;
  uint64_t size_bytes = 0;
  AckMode ack = AckMode::kDurable;
  TimelineId timeline;
  WallNanos created = 0;
  Position position;  // the last acknowledged entry
  size_t mounts = 0;  // clients connected
  size_t snapshots = 0;
  std::string state;  // "online", or why not
  OnSetLoss on_set_loss = OnSetLoss::kContinue;
};

struct SnapshotInfo {
  std::string volume;
  std::string name;
  SnapshotId id;
  GroupId group;  // 0: alone
  TimelineId timeline;
  Position position;
  WallNanos created = 0;
  uint64_t size_bytes = 0;       // of the volume at that point
  bool before_rollback = false;  // made by a rollback to keep the state it left (P5)
};

// How far a set is that is being brought level.
struct ResyncInfo {
  std::string phase;  // ResyncPhaseName
  std::string what;   // a line for people
  WallNanos started = 0;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;  // an estimate from above
  uint64_t bytes_per_second = 0;
  uint64_t seconds_left = 0;  // 0: not known
  uint64_t lost_blocks = 0;   // that no set had any more
  WallNanos ended = 0;        // 0: it has not
  bool operator==(const ResyncInfo&) const = default;
};

struct ReplicaInfo {
  std::string set;    // "a"
  std::string place;  // directories
  std::string store;  // its id, where known
  // "in-sync"; "failed" (about to be dropped); "dropped", "detached" or "missing" (closed);
  // "stale" (open, lacks writes, its turn comes) or "resyncing".
  std::string state;
  std::string reason;   // of a failure, with what to do
  WallNanos since = 0;  // in this state, or away
  // Up to where it has each volume, by name; and the stamp of the newest entry.
  std::vector<std::pair<std::string, Position>> positions;
  WallNanos newest = 0;
  // The one under way; of a set that is in-sync the one that brought it level, if this daemon did.
  std::optional<ResyncInfo> resync;
  WallNanos next_try = 0;       // 0: none is planned, or it is under way
  uint64_t capacity_bytes = 0;  // of client data, less reserves
  uint64_t used_bytes = 0;
  uint64_t live_bytes = 0;     // what volumes, snapshots and what was rolled back from show
  uint64_t reserve_bytes = 0;  // beside the capacity: for deletes, the cleaner and checkpoints
  uint64_t free_segments = 0;
  uint64_t segments = 0;
  // Written since it was opened: into its log, its map, and of the log's by the cleaner alone.
  uint64_t log_written_bytes = 0;
  uint64_t map_written_bytes = 0;
  uint64_t moved_bytes = 0;
  // What it does just now: a checkpoint, moving a segment, and deletes, trims and rollbacks that
  // have yet to give something back.
  bool checkpoint_running = false;
  bool clean_running = false;
  uint64_t reclaim_jobs = 0;
  uint64_t incarnation = 0;
  uint64_t bad_blocks_seen = 0;  // CRC failures met since start
  DamageReport damage;           // found since start, and what became of it
  // Of what is used: overwritten or deleted, and the log's own; given back as segments are cleaned.
  uint64_t to_clean_bytes() const { return used_bytes > live_bytes ? used_bytes - live_bytes : 0; }
  uint64_t free_bytes() const {
    return capacity_bytes > used_bytes ? capacity_bytes - used_bytes : 0;
  }
  ScrubInfo scrub;  // the pass under way, or the last one; when it was last proven whole
};

// What is not as it should be while a set is missing (R28).
struct DegradedInfo {
  WallNanos since = 0;
  std::vector<std::string> sets;  // those that lack something
  std::string why;
  std::string at_risk;
  std::string what_to_do;
};

struct PoolInfo {
  std::string pool_id;
  Generation generation;
  uint64_t membership_version = 0;
  std::string state;  // "healthy", "degraded", or why it is offline and what to do
  std::optional<DegradedInfo> degraded;
  std::vector<ReplicaInfo> replicas;
  uint64_t resync_bytes_per_second = 0;  // at most; 0: no limit
  std::string witness;
  uint64_t buffer_pool_used_bytes = 0;
  uint64_t buffer_pool_capacity_bytes = 0;
};

// How the pool gets at the directories of its sets, which only the daemon knows. Any may be empty:
// then what it is for can't be done while the pool is open.
struct SetDirectories {
  // Opens the store of the set where it is said to be. kNotFound: nothing is there.
  std::function<Task<absl::StatusOr<std::unique_ptr<Replica>>>(std::string set)> open;
  // Whether what was not there at `lost` is there again: all of it, the very same files, no copy.
  std::function<Task<bool>(std::string set, WallNanos lost)> is_back;
  // Formats and opens an empty store for the set in these directories, or opens one that was made
  // like that and is not in use yet. kFailedPrecondition where they hold anything else.
  std::function<Task<absl::StatusOr<std::unique_ptr<Replica>>>(
      std::string set, std::vector<std::string> directories)>
      make;
  // The superblock of the set was written while it was open, as repair does: its files are the
  // same.
  std::function<void(const std::string& set)> rewritten;
  // The set is in these directories from now on.
  std::function<void(std::string set, std::vector<std::string> directories)> moved;
};

class PoolState;  // pool_state.h

class Pool {
 public:
  struct Parts {
    std::vector<std::unique_ptr<Replica>> replicas;  // opened stores
    std::unique_ptr<Witness> witness;
    size_t buffer_pool_bytes = 0;
    AttachOptions attach;
    ScrubSchedule scrub;
    SetDirectories directories;
    uint64_t resync_bytes_per_second = 0;  // at most; 0: as fast as clients leave room for
  };

  // Writes the first membership of a new pool (R26). kAborted when the witness holds one already.
  static Task<absl::Status> Format(Witness* witness, std::string pool_id,
                                   std::vector<std::string> store_ids);

  // Attaches (R20; AttachReplicas) and opens the volumes. With a set missing or stale the pool is
  // degraded from the start (R28). On an error the parts are stopped and closed.
  static Task<absl::StatusOr<std::unique_ptr<Pool>>> Attach(Parts parts);

  // Stop() first, and no mount is left.
  ~Pool();

  // "vol" or "vol@snap"; the pool outlives the mount. kNotFound; kUnavailable while the volume is
  // being changed (rollback, shrinking, deletion): try again; and while a set is missing of a
  // volume with on-set-loss=block (R28), whose snapshots can be opened all the same.
  absl::StatusOr<std::unique_ptr<Mount>> OpenMount(const std::string& export_name);
  // Every name that OpenMount takes: volumes and snapshots.
  std::vector<std::string> ExportNames() const;

  // Each is durable on both sets when it returns OK.
  Task<absl::StatusOr<VolumeInfo>> CreateVolume(std::string name, uint64_t size_bytes, AckMode ack,
                                                OnSetLoss on_set_loss = OnSetLoss::kContinue);
  // Grows at once; clients see it when they connect again. Shrinking gives up what lies beyond the
  // new end, so it needs `force` and no client connected (kFailedPrecondition).
  Task<absl::StatusOr<VolumeInfo>> ResizeVolume(std::string name, uint64_t size_bytes, bool force);
  // kFailedPrecondition while clients are connected or it has snapshots, unless `force`, which
  // disconnects the clients and deletes the snapshots.
  Task<absl::Status> DeleteVolume(std::string name, bool force);
  std::vector<VolumeInfo> Volumes() const;
  absl::StatusOr<VolumeInfo> FindVolume(const std::string& name) const;

  // All at one instant (P4, R34). kAlreadyExists, kNotFound.
  Task<absl::StatusOr<std::vector<SnapshotInfo>>> CreateSnapshots(std::vector<SnapshotName> names);
  absl::StatusOr<std::vector<SnapshotInfo>> Snapshots(
      const std::optional<std::string>& volume) const;
  // kFailedPrecondition while clients are connected to it.
  Task<absl::Status> DeleteSnapshot(SnapshotName name);

  // Starts a new timeline at the snapshot (P5); returns the snapshot that keeps the state it left.
  // kFailedPrecondition while clients are connected, unless `force`, which disconnects them.
  Task<absl::StatusOr<SnapshotInfo>> Rollback(SnapshotName name, bool force);

  // A set that is away is opened again and brought level, in the background once that has begun
  // (R23). OK where it is in-sync already, or on its way. kNotFound: no such set;
  // kFailedPrecondition: what hinders it.
  Task<absl::StatusOr<ReplicaInfo>> AttachSet(std::string set);
  // Drops the set on purpose (R21), and closes it: its disks can be taken out. It stays away until
  // it is attached, or the daemon starts anew. kFailedPrecondition: it is the only one in-sync.
  Task<absl::StatusOr<ReplicaInfo>> DetachSet(std::string set);
  // Makes an empty store in `directories`, puts it for good in the place of the set's store, which
  // is away (R22), and brings it level in the background. The old one is left as it is, and is no
  // member any more. kFailedPrecondition: the set is in-sync, or the directories hold something.
  Task<absl::StatusOr<ReplicaInfo>> ReplaceSet(std::string set,
                                               std::vector<std::string> directories);
  // The same with a store that is there. Takes `newcomer` over, stopping it on an error.
  Task<absl::Status> ReplaceSet(std::unique_ptr<Replica> newcomer);
  // What a resync moves at most, also of one that is under way. 0: as fast as clients leave room.
  void SetResyncRate(uint64_t bytes_per_second);

  // In the background: reads and verifies all of a set, or of every set that is in-sync
  // (storage/store/scrub.h), or compares the two sets' maps (pair/compare.h). Contracts: PoolScrub.
  absl::Status StartScrub(const std::optional<std::string>& set,
                          std::optional<uint64_t> bytes_per_second);
  absl::Status StartComparison();
  absl::Status StopScrub(const std::optional<std::string>& set);
  ScrubStatus Scrubs() const;

  // What is used by what, of one volume or of everything; counted now, beside clients, which may
  // take a while. Contracts: PoolUsage.
  Task<absl::StatusOr<UsageInfo>> CountUsage(std::optional<std::string> volume);
  void CancelUsage();
  std::optional<UsageInfo> LastUsage() const;

  PoolInfo Info() const;
  // What writes have taken since the pool was opened, and the replicas' own (Replica::latencies).
  std::vector<StageLatency> Latencies() const;

  // Every set in use was looked after once more, and what failed is dropped or about to be. The
  // pool does so by itself every kReplicaCheckMs.
  Task<void> CheckReplicas();

  // Revokes mounts, drains, covers the logs' ends (R12), checkpoints and closes the replicas. Once;
  // no other call may be under way or follow.
  Task<void> Stop();

 private:
  explicit Pool(std::unique_ptr<PoolState> state);
  absl::StatusOr<ReplicaInfo> FindReplica(const std::string& set) const;
  std::unique_ptr<PoolState> state_;
};

}  // namespace twofold
