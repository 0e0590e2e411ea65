// The inside of ExtentMap, by subject:
//   extent_map.cc          changes: Insert, Zero, what they displace; room; the facade
//   extent_map_lookup.cc   lookups in memory and the wait for what is not
//   extent_map_load.cc     reading chunks: misses, bases of partial chunks
//   extent_map_freeze.cc   checkpoints: Load, Freeze, FreezeDone
//   extent_map_trim.cc     large trims: the pass that turns tombstones into zero runs
//   extent_map_reclaim.cc  deleted snapshots and volumes
//   extent_map_lineage.cc  timelines made flat, and folded into others
//   extent_map_moved.cc    blocks that the cleaner has moved, and references to them
//   extent_map_references.cc  what lies in a segment, for repair
//   extent_map_resync.cc   what a resync reads at its source and fills in at its target
// What is pure and stands alone has files of its own: chunk_cache, space_accounting, tombstones,
// reclaim_plan, lineage.
//
// How a read of the metadata store and what is in memory go together. The store holds exactly the
// last checkpoint that is done; a commit that is under way shows or does not show. Everything
// since, that batch included, is in memory. So a read is good if no checkpoint was done while it
// ran
// (`checkpoints_done_` did not move), and what is in memory *then* overlays it; otherwise it is
// done again.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "storage/map/chunk.h"
#include "storage/map/chunk_cache.h"
#include "storage/map/extent_map.h"
#include "storage/map/forwarding.h"
#include "storage/map/key_codec.h"
#include "storage/map/lineage.h"
#include "storage/map/reclaim_plan.h"
#include "storage/map/space_accounting.h"
#include "storage/map/tombstones.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task_scope.h"

namespace twofold {

class ExtentMap::Impl {
 public:
  Impl(MetadataStore* metadata, const Catalogue* catalogue, SegmentTable* table, Options options);
  ~Impl();

  // The contract: extent_map.h.
  Task<absl::Status> Load();
  void Insert(TimelineId timeline, const Run& run);
  void Prefetch(absl::Span<const Place> places);
  void Zero(TimelineId timeline, BlockRange range, Position position, SegmentNumber where);
  void Fill(TimelineId timeline, const Run& run);
  bool crowded() const;
  bool checkpoint_due() const;
  Task<absl::Status> WaitForRoom();
  Task<absl::StatusOr<std::vector<Piece>>> Lookup(TimelineId timeline, Position as_of,
                                                  BlockRange range);
  bool TryLookup(TimelineId timeline, Position as_of, BlockRange range, std::vector<Piece>* pieces);
  void BeforeSnapshotDelete(const SnapshotRecord& snapshot);
  void BeforeVolumeDelete(VolumeId volume);
  void BeforeTimelineStart(VolumeId volume);
  void BeforeCatalogueChange(const Catalogue& next);
  void HoldReclaim(bool hold) { reclaim_held_ = hold; }
  bool has_tombstones_before_points() const;
  Task<absl::StatusOr<ResyncPage>> ReadSpan(ResyncSpan span, std::string from);
  ResyncSpan WhereShown(const ResyncSpan& span, BlockIndex block) const;
  Task<absl::StatusOr<ShownPage>> ReadShown(TimelineId timeline, BlockIndex from);
  bool has_reclaim_work();
  Task<absl::Status> ReclaimStep();
  uint64_t reclaim_jobs();
  const Forwarding& forwarding() const { return forwarding_; }
  void TakeMoved(const MovedBlocks& moved, LogAddress target, const LiveBitmap& live);
  void TakeMovedZeros(SegmentNumber source, SegmentNumber target);
  void FinishMoved(SegmentNumber source) { forwarding_.Collapse(source); }
  Task<absl::StatusOr<ReferencePage>> ReadReferences(SegmentNumber segment, std::string from);
  Task<absl::StatusOr<bool>> ReferenceStep();
  bool reference_checkpoint_due() const;
  Task<void> FinishReferencePass();
  Task<absl::Status> PrepareFreeze();
  Frozen Freeze(SegmentNumber replay_from, SegmentNumber keep_from);
  void FreezeDone();
  Counters counters() const;
  Task<void> Stop();

 private:
  // ---- Changes (extent_map.cc) ------------------------------------------------------------------
  // In the catalogue, or deleted and not yet reclaimed.
  const TimelineRecord* FindTimeline(TimelineId timeline) const;
  const TimelineRecord& Timeline(TimelineId timeline) const;
  // Where a lookup goes on with what the timeline's own chunks don't say; none for a flat one.
  struct Ancestor {
    TimelineId timeline;
    Position as_of;
  };
  std::optional<Ancestor> ParentOf(TimelineId timeline) const;
  bool HasParent(TimelineId timeline) const { return ParentOf(timeline).has_value(); }
  // Whether a run at `position` is not newer than all that the timeline was given before: one that
  // comes again (R18).
  bool IsLate(const TimelineRecord& timeline, Position position);
  void InsertPart(const TimelineRecord& timeline, const Run& part, bool late);
  void ZeroPart(const TimelineRecord& timeline, const Run& part, bool late);
  void InsertInto(Chunk& chunk, const TimelineRecord& timeline, const Run& part, bool late);
  // A chunk that nothing is known of yet, or nothing of which is below.
  void BecomePartial(Chunk& chunk);
  // The version that changes of `epoch` go to, made by copying the newest one if need be.
  ChunkVersion& OpenVersion(Chunk& chunk, Epoch epoch);
  // Inserts `run` and accounts for it. `counted`: it was counted as born when it came to a partial
  // chunk.
  void InsertRun(TimelineId timeline, ChunkVersion& version, const Run& run, bool counted);
  void AccountContested(const Run& run, const std::vector<Run>& same);
  void DeleteVersion(const ChunkId& id, Epoch epoch);
  // Puts the tombstones of epochs up to `epoch` into a complete chunk.
  void ApplyTombstones(Chunk& chunk, Epoch epoch);
  void ApplyAllTombstones(Chunk& chunk);
  void StartBackground();
  // More than a cache full waits for a checkpoint: background work that makes more of it pauses.
  bool too_dirty() const;

  // ---- Reading (extent_map_load.cc) -------------------------------------------------------------
  // One read of a chunk that is under way, or just done; shared by all who wait for it. While one
  // of them holds it the chunk is not evicted.
  struct Reading {
    explicit Reading(ChunkCache* cache_in) : cache(*cache_in) {}
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;
    ~Reading();
    ChunkCache& cache;
    Event done;
    absl::Status status;
    std::shared_ptr<Chunk> chunk;  // pinned
  };
  // Makes the chunk complete in memory, from the metadata store where it is not. When it returns OK
  // the chunk is there, until the result is let go (unless it was erased).
  Task<absl::StatusOr<std::shared_ptr<Reading>>> ReadChunk(ChunkId id);
  Task<absl::Status> ReadIntoCache(ChunkId id);
  using Base = std::optional<std::pair<Epoch, RunList>>;
  Task<absl::StatusOr<Base>> ReadVersion(ChunkId id);
  void Install(const ChunkId& id, Base base);
  void Complete(Chunk& chunk, Base base);
  // Whether a partial chunk holds nothing but zeros, which matter only where something lies below.
  bool OnlyZeros(const Chunk& chunk) const;
  Task<absl::StatusOr<bool>> AncestorHas(TimelineId timeline, uint64_t chunk);
  void DropZeros(Chunk& chunk);
  Task<void> FetchBases();

  // ---- Lookups (extent_map_lookup.cc) -----------------------------------------------------------
  // What one timeline itself says of a chunk.
  struct Layer {
    enum class Kind { kRuns, kNothing, kMissing } kind = Kind::kMissing;
    const RunList* runs = nullptr;  // kRuns
    ChunkId missing{};              // kMissing: to be read first
  };
  Layer FindLayer(TimelineId timeline, Position as_of, const BlockRange& range, RunList* scratch);
  Layer FindInNewest(Chunk& chunk, Position as_of, const BlockRange& range, RunList* scratch);
  bool ResolveChunk(TimelineId timeline, Position as_of, const BlockRange& range,
                    std::vector<Piece>* pieces, ChunkId* missing);
  Task<absl::StatusOr<std::vector<Piece>>> LookupStep(TimelineId timeline, Position as_of,
                                                      BlockRange range);
  // What must be read before the lookup can go on: one chunk of a layer for each chunk of the range
  // at most.
  std::vector<ChunkId> MissingFor(TimelineId timeline, Position as_of, const BlockRange& range);
  Task<absl::Status> ReadAndHold(ChunkId id, std::shared_ptr<Reading>* held);
  void OverlayTombstones(TimelineId timeline, Position as_of, const BlockRange& range,
                         uint64_t applied, Layer* layer, RunList* scratch);

  // ---- Large trims (extent_map_trim.cc) ---------------------------------------------------------
  Task<void> DissolveTombstones();
  Task<absl::Status> Dissolve(PendingTombstone tombstone);
  void RemoveTombstone(const PendingTombstone& tombstone);
  // The first chunk in [from, end) of which the timeline itself has a version.
  Task<absl::StatusOr<std::optional<uint64_t>>> NextChunk(TimelineId timeline, uint64_t from,
                                                          uint64_t end);
  Task<absl::Status> ApplyTombstonesTo(TimelineId timeline, uint64_t chunk);

  // ---- Lineages (extent_map_lineage.cc) ---------------------------------------------------------
  using Versions = std::vector<std::pair<Epoch, RunList>>;  // of a chunk, the newest first
  struct PendingLineageWork {
    LineageWork work{};
    uint64_t next = 0;      // chunk
    bool finished = false;  // its effects are in memory
    bool frozen = false;    // and in a batch
  };
  void FindLineageWork();
  void DropLineageWork(TimelineId timeline);
  bool MayWorkOnLineages() const;
  bool HasLineageWork();
  bool IsLineageRunnable();
  bool IsStillWork(const LineageWork& work) const;
  Task<absl::Status> LineageStep();
  Task<absl::StatusOr<std::optional<uint64_t>>> NextInheritedChunk(TimelineId timeline,
                                                                   uint64_t from);
  // Each does a chunk, and says whether that was the last one.
  Task<absl::StatusOr<bool>> FlattenStep(LineageWork work);
  void Absorb(Chunk& chunk, const Versions& stored, const std::vector<Run>& inherited);
  Task<absl::StatusOr<bool>> FoldStep(LineageWork work);
  void FoldChunk(const LineageWork& work, const Chunk& heir, const Versions& stored,
                 const Versions& source);
  void FinishFold(const LineageWork& work);
  // The versions of a chunk in the metadata store, up to the key `end`.
  Task<absl::StatusOr<Versions>> ReadVersions(TimelineId timeline, uint64_t chunk, std::string end);
  void FreezeLineages(MetadataBatch* batch);
  void FreezeLineagesDone();

  // ---- Spans of a resync (extent_map_resync.cc) -------------------------------------------------
  // Where what a span shows of its timeline is to be found.
  struct SpanPart {
    TimelineId timeline;
    Position as_of;
    uint64_t end_chunk = 0;
  };
  std::vector<SpanPart> PartsOf(const ResyncSpan& span) const;
  // The first chunk from `from` on of which the timeline or an ancestor says something.
  Task<absl::StatusOr<std::optional<uint64_t>>> NextOfLayers(TimelineId timeline, uint64_t from);

  // ---- Reclaim (extent_map_reclaim.cc) ----------------------------------------------------------
  struct PendingJob {
    uint64_t number = 0;
    ReclaimJob job{};
    bool in_store = false;  // as it is now it is in the metadata store, or in the batch on its way
    bool frozen = false;    // in effect, and in a batch
    bool durable = false;   // which was committed: the job may run
    bool finished = false;  // its effects are in memory
    bool finish_frozen = false;  // and in a batch
  };
  // How far the job that runs has come, in this process.
  struct ReclaimCursor {
    uint64_t job = 0;  // number; 0: none
    enum class Phase { kDead, kCompare, kVersions } phase = Phase::kDead;
    std::string from{};   // the next key to look at
    std::string older{};  // kCompare: the same on both sides
    std::string newer{};
    bool by_older = false;  // kVersions: on which side
  };
  void AddJobs(const std::vector<ReclaimJob>& jobs);
  void FixEnds(TimelineId timeline);
  void DropTombstones(TimelineId timeline, Position from);
  const PendingJob* RunnableJob() const;
  // Each does a bounded part, and says whether that was the last one.
  Task<absl::StatusOr<bool>> ReclaimPoint(ReclaimJob job);
  Task<absl::StatusOr<bool>> FreeDeadPage(ReclaimJob job);
  absl::Status FreeEntry(const DeadKey& key, BlockCount count, const Base& seen);
  Task<absl::Status> CompareSides(ReclaimJob job);
  Task<absl::StatusOr<bool>> DropVersionsPage(ReclaimJob job);
  Task<absl::StatusOr<bool>> ReclaimTail(ReclaimJob job);
  Task<absl::Status> FreeChunkTail(ReclaimJob job, uint64_t chunk, Epoch found_at);
  void FreeEachOnce(Position born_from, const Versions& versions);
  void AddDeletedRange(std::string from, std::string to);
  void FreezeJobs(MetadataBatch* batch);
  void TakeEffect(PendingJob* pending);
  bool HasPartial(TimelineId timeline) const;
  void FreezeJobsDone();
  Task<absl::Status> LoadJobs();

  // ---- References to moved blocks (extent_map_moved.cc) ----------------------------------------
  struct ReferencePass {
    uint64_t serial = 0;  // entries up to it go at the end
    std::string from{};   // the next chunk version to look at
  };
  void FreezeRewrites(MetadataBatch* batch);
  absl::Status RenewRewrites();
  void ResolveCached(Chunk& chunk);

  // ---- Checkpoints (extent_map_freeze.cc) -------------------------------------------------------
  void AppendReferences(TimelineId timeline, const RunList& runs, SegmentNumber segment,
                        std::vector<Reference>* references) const;
  Task<absl::StatusOr<std::vector<KeyValue>>> ScanTable(Table table);
  Task<absl::Status> LoadPartials();
  void FreezeChunk(Chunk& chunk, MetadataBatch* batch);
  void FreezePartial(const Chunk& chunk, MetadataBatch* batch);

  MetadataStore& metadata_;
  const Catalogue& catalogue_;
  SegmentTable& table_;
  const Options options_;

  ChunkCache cache_;
  Forwarding forwarding_;
  Lineages lineages_;
  SpaceAccounting accounting_;
  Tombstones tombstones_;

  uint64_t checkpoints_done_ = 0;
  std::vector<std::string> deleted_;  // keys, since the last freeze
  std::vector<std::pair<std::string, std::string>> deleted_ranges_;

  std::deque<PendingJob> jobs_;  // in the order in which they are done
  uint64_t next_job_ = 1;
  std::map<TimelineId, TimelineRecord> departed_;  // gone from the catalogue, and still to be freed
  ReclaimCursor reclaim_;
  bool reclaiming_ = false;
  bool reclaim_held_ = false;
  uint64_t reclaimed_since_freeze_ = 0;
  bool freezing_ = false;  // from Freeze to FreezeDone

  std::optional<PendingLineageWork> lineage_work_;
  bool look_for_lineage_work_ = true;
  uint64_t flattened_ = 0;
  uint64_t folded_ = 0;
  std::vector<std::string> added_versions_;  // keys of the version index, of what is in rewrites_

  std::optional<ReferencePass> reference_pass_;
  // Chunk versions as the metadata store has them, but for the places: by key. They hold until the
  // next commit, with which they go.
  std::map<std::string, std::string> rewrites_;

  std::map<VolumeId, Position> loaded_up_to_;  // what the checkpoint that was loaded had applied
  absl::flat_hash_map<TimelineId, Position> inserted_up_to_;

  // Partial chunks, oldest first; some may be complete by now.
  std::deque<std::pair<uint64_t, ChunkId>> fetch_queue_;
  uint64_t last_partial_ = 0;
  uint64_t partial_chunks_ = 0;
  size_t fetchers_ = 0;
  absl::Status fetch_status_;                         // of the last base that could not be read
  bool dissolving_ = false;                           // DissolveTombstones runs
  absl::Status trim_status_;                          // of its last attempt
  absl::flat_hash_set<std::string> stored_partials_;  // their keys
  absl::flat_hash_map<ChunkId, std::shared_ptr<Reading>> readings_;

  Event changed_;  // woken when there may be more room, or a base has arrived
  TaskScope scope_;
  bool stopping_ = false;
  uint64_t hits_ = 0;
  uint64_t misses_ = 0;

  // Reused, to save allocations; empty between calls.
  std::vector<Run> displaced_;
  std::vector<Run> lost_;
};

}  // namespace twofold
