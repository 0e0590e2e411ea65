// An extent map with all that is around it: a catalogue, a log of entries, segments, a simulated
// metadata store with delays from a seed, virtual time; and a plain model of what every timeline
// and every retained point must show.
//
// Committed entries are never lost: a crash drops what is in memory, and the entries since the last
// durable checkpoint are applied again.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "storage/base/prng.h"
#include "storage/log/segment_table.h"
#include "storage/map/extent_map.h"
#include "storage/map/key_codec.h"
#include "storage/map/recount.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task_scope.h"
#include "tests/map/history.h"
#include "tests/sim/sim_metadata_store.h"

namespace twofold {

// Time passes only when everything waits for it.
class VirtualPoller final : public Poller {
 public:
  void Poll(MonoNanos deadline) override {
    if (deadline == 0) return;
    TF_CHECK(deadline != kNever) << "everything waits for something that will not come";
    if (deadline > now_) now_ = deadline;
  }
  void Wake() noexcept override {}
  MonoNanos Now() const override { return now_; }
  WallNanos WallNow() const override { return now_; }

 private:
  MonoNanos now_ = 1;
};

struct WorldOptions {
  uint64_t seed = 1;
  sim::SimMetadataOptions delays;
  ExtentMap::Options map = {
      .cache_bytes = 1 << 20, .max_partial_chunks = 1000, .max_zeroed_chunks = 3};
  uint64_t volume_blocks = 8 * kChunkBlocks;
  uint32_t segment_blocks = 48;
};

class World {
 public:
  explicit World(WorldOptions options = {});
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  template <typename T>
  T Run(Task<T> task) {
    return executor_.Run(std::move(task));
  }
  ExtentMap& map() { return *map_; }
  const Catalogue& catalogue() const { return history_.catalogue(); }
  const SegmentTable& table() const { return *table_; }
  sim::SimMetadataDisk& disk() { return disk_; }
  MetadataStore& metadata() { return *metadata_; }
  const WorldOptions& options() const { return options_; }

  // ---- Entries, applied at once; to be called by a task of Run ----
  VolumeId CreateVolume();
  Position Write(VolumeId volume, uint64_t first, uint64_t count);
  Position Zero(VolumeId volume, uint64_t first, uint64_t count);
  // Gives the map an entry of the volume's current timeline that it has had before: must change
  // nothing (R18).
  void InsertAgain(VolumeId volume, uint64_t dice);
  SnapshotId Snapshot(VolumeId volume);
  void DeleteSnapshot(SnapshotId snapshot);
  // `keep_end`: with a snapshot of the state before (P5).
  TimelineId Rollback(VolumeId volume, SnapshotId snapshot, bool keep_end = true);
  // A new volume that begins as the snapshot is.
  VolumeId Clone(SnapshotId snapshot);
  void DeleteVolume(VolumeId volume);
  TimelineId Current(VolumeId volume) const {
    return catalogue().volumes().at(volume).current_timeline;
  }
  Position PositionOf(SnapshotId snapshot) const {
    return catalogue().snapshots().at(snapshot).position;
  }

  // ---- Checkpoints ----
  Task<absl::Status> Checkpoint();
  // Called right before each cut: what comes to cold chunks then stays partial in the checkpoint.
  void BeforeCuts(std::function<void()> hook) { before_cut_ = std::move(hook); }
  // Steps as long as there are any; not checkpoints.
  Task<absl::Status> Reclaim();
  // Checkpoints and steps until no job is left.
  Task<absl::Status> ReclaimAll();
  Task<absl::StatusOr<Recount>> Verify();
  // Drops what is in memory, and opens again from what is durable. Nothing else may be under way
  // but tasks that end with an error.
  Task<void> Crash(TaskScope* others = nullptr);
  // Crash without losing a checkpoint: for cold caches.
  Task<void> Reopen() { return Crash(); }

  // The map is lost, and made anew from what the log still holds (MapRebuilder): nothing of
  // segments that were freed, and of the others all that lives and, as the dice fall, what is dead.
  // Nothing else may be under way.
  Task<void> Rebuild(Prng* random);

  // ---- Looking ----
  struct Cell {
    Position position;
    bool data = false;
    LogAddress address;
    bool operator==(const Cell&) const = default;
  };
  using Cells = std::vector<Cell>;
  const Cells& Shown(TimelineId timeline, Position as_of = kLastPosition) const;
  // What a lookup gives; expects its pieces to cover the range in order.
  Task<absl::StatusOr<Cells>> Look(TimelineId timeline, Position as_of, BlockRange range);
  // Compares a lookup with the model. What changes while it waits may show or not.
  Task<void> Check(TimelineId timeline, Position as_of, BlockRange range);
  // Every current timeline and every snapshot, whole. What a fork point without a name shows, its
  // children show.
  Task<void> CheckAll();
  std::vector<std::pair<TimelineId, Position>> Points() const;
  // Keys of a table.
  size_t CountKeys(Table table) const;

 private:
  struct Logged {
    LogEntry entry;
    LogAddress where;
  };
  void Log(LogEntry entry);
  void Apply(const Logged& logged);
  void Insert(const Logged& logged);
  LogAddress Place(uint32_t blocks);
  void Model(const Logged& logged);
  Task<absl::StatusOr<std::vector<twofold::Run>>> LeftOf(const Logged& logged, Prng* random);
  void CheckNotShown(const std::vector<SegmentNumber>& released);
  Task<void> Open();
  Task<absl::Status> WriteCheckpoint();
  bool Exists(TimelineId timeline, Position as_of) const;
  static Cells Read(const std::vector<Piece>& pieces, BlockRange range);

  const WorldOptions options_;
  VirtualPoller poller_;
  Executor executor_;
  sim::SimMetadataDisk disk_;

  // What is on stable storage.
  std::vector<Logged> log_;
  std::map<SegmentNumber, SegmentState> present_;
  std::set<std::pair<uint64_t, uint32_t>> gone_;  // places of which a rebuild found nothing left
  SegmentNumber open_segment_{1};
  uint32_t open_blocks_ = 0;

  // What a crash drops.
  History history_;
  std::unique_ptr<MetadataStore> metadata_;
  std::unique_ptr<SegmentTable> table_;
  std::unique_ptr<ExtentMap> map_;
  std::set<SegmentNumber> released_;  // their rows go with the next checkpoint
  bool checkpointing_ = false;
  bool disk_crashed_ = false;
  std::function<void()> before_cut_;

  // The model.
  std::map<TimelineId, Cells> ends_;
  std::map<std::pair<TimelineId, Position>, Cells> points_;
  uint64_t names_ = 0;
};

}  // namespace twofold
