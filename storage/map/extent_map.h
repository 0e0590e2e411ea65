// SHARED CONTRACT. Where each block lives, at each retained point in time (DESIGN.md section 6).
//
// Holds committed entries only: the store applies an entry when the head has committed it (R2), so
// nothing here is ever undone. Applying never waits for the metadata store (M10): on a cache miss
// the run goes into a partial chunk whose base is fetched later. Belongs to one executor.
//
// Reads `catalogue` for the current epoch, the parents and the retained points of a timeline; the
// store applies an entry to the catalogue and to the map in the same turn.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/base/limits.h"
#include "storage/base/types.h"
#include "storage/log/segment_table.h"
#include "storage/map/catalogue.h"
#include "storage/map/extent.h"
#include "storage/map/forwarding.h"
#include "storage/map/live_bitmap.h"
#include "storage/map/metadata_store.h"
#include "storage/map/moved_record.h"
#include "storage/map/resync_plan.h"
#include "storage/runtime/task.h"

namespace twofold {

class ExtentMap {
 public:
  struct Options {
    size_t cache_bytes = 0;  // for chunks; dirty and frozen ones may pass it until a checkpoint
    size_t max_partial_chunks = 0;                  // M10
    uint64_t max_zeroed_chunks = kMaxZeroedChunks;  // of one trim; over more it becomes a tombstone
    uint32_t max_lineage_depth = kMaxLineageDepth;  // of a lookup's timelines (M8)
  };

  // All outlive the map. `table` is told what becomes live and dead.
  ExtentMap(MetadataStore* metadata, const Catalogue* catalogue, SegmentTable* table,
            Options options);
  ~ExtentMap();

  // Loads what a checkpoint keeps beside the chunks (segment usages into `table`, range tombstones,
  // reclaim work). Before the first Insert.
  Task<absl::Status> Load();

  // A committed write of the current epoch of `run`'s timeline. Marks its blocks live, and what it
  // displaces dead at once or listed dead for the points that still see it (M19).
  void Insert(TimelineId timeline, const Run& run);

  // The places of changes to come: has the processor fetch what it knows of them, for all at once.
  // The map is far larger than its caches, and one by one each change would wait for memory.
  struct Place {
    TimelineId timeline;
    BlockIndex block;
  };
  void Prefetch(absl::Span<const Place> places);

  // A committed trim or write-zeroes, recorded at `where` (its segment counts zero blocks, R17).
  // Any length in O(1) here: large ranges become a tombstone that a background pass turns into
  // explicit zero runs of the chunks that exist (R38, M7). Chunks never mapped get no entry.
  void Zero(TimelineId timeline, BlockRange range, Position position, SegmentNumber where);

  // A run of the span that a resync fills (resync_plan.h), in the current epoch of `timeline`:
  // newer than what the timeline shows there, though not than all that it was given. A zero run's
  // address is where it is recorded.
  void Fill(TimelineId timeline, const Run& run);

  // True when new batches should wait for WaitForRoom: too many partial chunks or tombstones, or
  // too much dirty.
  bool crowded() const;
  // kDataLoss / kUnavailable where room can't be made, because the metadata store does not answer.
  Task<absl::Status> WaitForRoom();
  // So much waits for a checkpoint that one should be written without regard to the log: it is half
  // of what makes the map crowded.
  bool checkpoint_due() const;

  // What `timeline` shows at `range` as of `as_of` (entries below it; kLastPosition: now). The
  // pieces are in order and cover the range. Absent blocks are looked up in the parents at their
  // fork points. kDataLoss / kUnavailable from the metadata store.
  Task<absl::StatusOr<std::vector<Piece>>> Lookup(TimelineId timeline, Position as_of,
                                                  BlockRange range);
  // The same, where everything needed is in memory; else false.
  bool TryLookup(TimelineId timeline, Position as_of, BlockRange range, std::vector<Piece>* pieces);

  // Space work (M6, M19, M20). The store calls these right before it applies the entry to the
  // catalogue.
  void BeforeSnapshotDelete(const SnapshotRecord& snapshot);
  void BeforeVolumeDelete(VolumeId volume);
  // The same before a timeline start (rollback, clone into a new volume): what only the end of the
  // timeline left behind shows is freed. Nothing to do where a snapshot was taken at its end (P5).
  void BeforeTimelineStart(VolumeId volume);
  // The same before a resync changes the catalogue to `next`, past what entries do.
  void BeforeCatalogueChange(const Catalogue& next);
  // While it is held nothing that a retained point of now sees goes away: reclaim jobs don't take
  // effect.
  void HoldReclaim(bool hold);
  // Whether ReclaimStep has something to do. Its work is bounded per step, survives crashes (it is
  // part of the checkpoints) and runs after the checkpoint that follows the delete.
  //
  // When all that is done it works on timelines (lineage.h): what a fork point held for nobody but
  // one other timeline is given back, and long chains become short. One at a time.
  bool has_reclaim_work();
  Task<absl::Status> ReclaimStep();
  uint64_t reclaim_jobs();

  // Cleaning (M15-M17). The store calls these in the turn in which the record is logged, or when it
  // replays it. What the map says of places is where blocks lay when they were written;
  // forwarding() says where they lie now, and whoever uses an address looks there.
  const Forwarding& forwarding() const;
  // The blocks of `moved` lie at `target` on now. `live`: those of the source that live.
  void TakeMoved(const MovedBlocks& moved, LogAddress target, const LiveBitmap& live);
  // The zero records of `source` stand in `target` now.
  void TakeMovedZeros(SegmentNumber source, SegmentNumber target);
  // The source is done with: no chain leads through it.
  void FinishMoved(SegmentNumber source);
  // Whether what a retained point shows may still change in memory, by a large trim that is older.
  bool has_tombstones_before_points() const;
  // Runs of a span of this map as a source, from the checkpoint: one must have been done since the
  // span's end became a retained point, when has_tombstones_before_points was false, and reclaim
  // is held since before. Pages of a bounded number of chunks, each chunk once.
  Task<absl::StatusOr<ResyncPage>> ReadSpan(ResyncSpan span, std::string from);
  // The timeline and point that show what is left of the end of `span` in the chunk of `block`: its
  // own, or the oldest state of who has taken the timeline over. While reclaim is held.
  ResyncSpan WhereShown(const ResyncSpan& span, BlockIndex block) const;

  // What the map's last checkpoint says of a segment: the runs that lie in it now, cut to that, and
  // the zero runs whose record stands there. `timeline`: in whose chunks or trims a run was found;
  // it may have been written to an ancestor. Pages of a bounded number of versions; a run may come
  // several times. extent_map_references.cc.
  struct Reference {
    TimelineId timeline;
    Run run;
  };
  struct ReferencePage {
    std::vector<Reference> references;
    std::string next;  // where the next page begins; empty: this was the last one
  };
  Task<absl::StatusOr<ReferencePage>> ReadReferences(SegmentNumber segment, std::string from);

  // A page of what `timeline` shows as data now, from `from` on; chunks that neither it nor an
  // ancestor has cost nothing.
  Task<absl::StatusOr<ShownPage>> ReadShown(TimelineId timeline, BlockIndex from);

  // A reference pass (M16) makes every chunk version say where its blocks lie now, so that
  // forwarding entries that are older than the pass can go. Steps read some versions each; what
  // they find goes with the next checkpoint, which is due when reference_checkpoint_due. True: that
  // was the last step; then a checkpoint, and FinishReferencePass. No checkpoint is under way
  // during a call.
  Task<absl::StatusOr<bool>> ReferenceStep();
  bool reference_checkpoint_due() const;
  Task<void> FinishReferencePass();

  // Checkpoint (M9), one at a time: PrepareFreeze fetches the missing bases; Freeze, which does not
  // suspend, hands over everything that changed since the last one (chunks as merges or puts,
  // version index, dead lists, live bits and usages from `table`, tombstones, jobs) as one batch.
  // The store completes it, adds its own keys, commits it, and calls FreezeDone. Changes after
  // Freeze belong to the next checkpoint.
  Task<absl::Status> PrepareFreeze();
  struct Frozen {
    MetadataBatch batch;
    SegmentTable::Frozen segments;
  };
  Frozen Freeze(SegmentNumber replay_from, SegmentNumber keep_from);
  // Adds to the batch what need not be made within the cut: the live bits. Lets others run.
  static Task<void> CompleteFrozen(Frozen* frozen);
  void FreezeDone();

  struct Counters {
    uint64_t chunks = 0;  // in memory
    uint64_t memory_bytes = 0;
    uint64_t dirty_chunks = 0;
    uint64_t partial_chunks = 0;
    uint64_t tombstones = 0;
    uint64_t flattened = 0;  // timelines, by this process
    uint64_t folded = 0;
    uint64_t hits = 0;
    uint64_t misses = 0;
  };
  Counters counters() const;

  // Waits for background work (base fetches, tombstones). No other call may be under way.
  Task<void> Stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace twofold
