// One full copy of the pool's volumes on one machine: a segment log and the extent map over it.
//
// A store is single-threaded: it belongs to the executor that opened it, and shares nothing (P9).
// The log is the only truth; the map is made from it, and only from what the head has committed
// (R2). What is logged and not committed waits in `Streams`; a crash leaves it in the log, and
// attaching commits it or gives it up.
//
//   Append -> SegmentLog -> OnLogged -> Streams -> Commit -> Apply -> ExtentMap, Catalogue
//
// A failed durable write, or a failed checkpoint, makes the store refuse everything but reads: what
// is on the disk is unknown from then on, and the volume must go on without it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/base/histogram.h"
#include "storage/base/types.h"
#include "storage/io/block_device.h"
#include "storage/log/segment_log.h"
#include "storage/log/segment_table.h"
#include "storage/log/superblock.h"
#include "storage/map/catalogue.h"
#include "storage/map/extent.h"
#include "storage/map/extent_map.h"
#include "storage/map/live_bitmap.h"
#include "storage/map/metadata_store.h"
#include "storage/map/moved_record.h"
#include "storage/map/resync_plan.h"
#include "storage/runtime/cancel.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task.h"
#include "storage/runtime/task_scope.h"
#include "storage/store/checkpoint_record.h"
#include "storage/store/cleaner.h"
#include "storage/store/damage_list.h"
#include "storage/store/proof_record.h"
#include "storage/store/rebuild.h"
#include "storage/store/room.h"
#include "storage/store/streams.h"
#include "storage/store/tail_entry.h"
#include "storage/store/usage_report.h"

namespace twofold {

class DepartureGroup;  // storage/log/departure_group.h
class SegmentContent;  // segment_content.h
struct Filling;        // resync_record.h

// What a store stands on; it takes them over.
struct StoreParts {
  std::vector<std::unique_ptr<BlockDevice>> devices;  // one per directory, in any order
  std::unique_ptr<MetadataStore> metadata;
};

struct StoreOptions {
  size_t map_cache_bytes = 0;  // 0: kDefaultMapCacheBytes
  // For `inspect`: changes nothing on disk; only reads work.
  bool read_only = false;
  OnRebuildProgress on_rebuild;  // told how a rebuild of the map goes on; may be empty
  // Entries and log bytes after which a checkpoint is due; 0: kCheckpointEntries, kCheckpointBytes,
  // less on small stores (M9).
  uint64_t checkpoint_entries = 0;
  uint64_t checkpoint_bytes = 0;
  uint32_t max_lineage_depth = kMaxLineageDepth;  // extent_map.h
  // The stores whose logs' batches leave together with this one's; outlives it. Null: none do.
  DepartureGroup* departures = nullptr;
  // Where the end of its log is damaged the store opens as of before that, giving up the rest: if
  // it is of this pool. For a set that is not in-sync by the witness's word, and is brought level
  // from one that is: all that is given up is there. Empty: damage there is kDataLoss.
  std::string give_up_end_of_pool;
};

// Makes an empty store in directories that hold none (kAlreadyExists otherwise). The metadata store
// of a new store is empty too. Durable when it returns OK.
Task<absl::Status> FormatStore(std::vector<BlockDevice*> devices, Superblock superblock);

// Whether opening a store failed because of its map, which can be rebuilt from the log (M12).
bool IsMapDamage(const absl::Status& status);

class Store {
 public:
  // Opens and recovers: newest checkpoint, then the log from there. Takes a new incarnation (R11).
  // What it serves is durable (R13). kNotFound: no store here; kDataLoss: damage that recovery
  // can't pass, with its place.
  static Task<absl::StatusOr<std::unique_ptr<Store>>> Open(StoreParts parts, StoreOptions options);
  // Stop() first.
  ~Store();

  const Superblock& superblock() const { return superblock_; }
  const std::string& place() const { return place_; }
  const Catalogue& catalogue() {
    ApplyAllCommitted();
    return catalogue_;
  }
  const AttachState& attach_state() const { return attach_; }
  const Streams& streams() const { return streams_; }
  const SegmentTable& segment_table() {
    ApplyAllCommitted();
    return table_;
  }
  const SegmentLog& log() const { return *log_; }
  ExtentMap& map() {
    ApplyAllCommitted();
    return *map_;
  }
  MetadataStore& metadata() { return *parts_.metadata; }
  // What opening has found.
  const std::vector<LogDamage>& damage() const { return damage_; }
  const CheckpointRecord& last_checkpoint() const { return last_checkpoint_; }
  // As the checkpoint had it, without what was replayed since; of a read-only store.
  const Catalogue& checkpoint_catalogue() const { return checkpoint_catalogue_; }

  // Durably refuses every lower generation from now on (R20). kAborted when a higher one was seen.
  // Everything older has been logged or has failed when it returns.
  Task<absl::Status> Seal(Generation generation);
  // Durably records the membership. kAborted when it is older than what is recorded.
  Task<absl::Status> RecordMembership(AttachState state);

  // Room for what is about to be appended; see Room. Reserve waits for checkpoints that free
  // segments, and for the map to have room in memory (M10). kResourceExhausted: full.
  bool TryReserve(BlockCount blocks, uint64_t entries);
  Task<absl::Status> Reserve(BlockCount blocks, uint64_t entries, RoomFor use);
  void Release(BlockCount blocks, uint64_t entries);

  // Logs one entry that has a Seq and whose room was reserved; contract: Replica::Append.
  Task<absl::Status> Append(Generation generation, const LogEntry& entry,
                            absl::Span<const std::byte> payload, Durability durability);

  // The entries of the volume up to `position` are complete on every in-sync replica (R2): whoever
  // looks from now on sees them. Into the map they go with the first look, at the latest in the
  // next turn, so that answers to clients do not wait for it. Does not suspend.
  void Commit(VolumeId volume, Position position);

  // Everything logged before is durable when it returns (R33).
  Task<absl::Status> Flush();

  // Contracts: Replica::Read, Replica::Status, Replica::ReadTail.
  Task<absl::StatusOr<std::vector<BlockExtent>>> Read(TimelineId timeline, Position as_of,
                                                      BlockRange range, absl::Span<std::byte> into);
  Task<absl::StatusOr<std::vector<BlockExtent>>> Status(TimelineId timeline, Position as_of,
                                                        BlockRange range, size_t max_extents);
  Task<absl::StatusOr<std::vector<TailEntry>>> ReadTail(VolumeId volume, Position after,
                                                        size_t max_bytes);

  // Contracts: Replica::PinForResync and what follows it there. resync.cc.
  Task<absl::Status> PinForResync();
  void UnpinForResync();
  absl::Status resync_pin() const { return source_.status; }
  // Contracts: Replica::HoldPoints and what follows it there.
  Task<absl::Status> HoldPoints();
  void LetPointsGo();
  absl::Status points_held() const { return points_held_; }
  Task<absl::StatusOr<std::vector<Piece>>> Describe(TimelineId timeline, Position as_of,
                                                    BlockRange range) {
    return LookupPieces(timeline, as_of, range);
  }
  Task<absl::Status> PrepareSpans();
  Task<absl::StatusOr<ResyncPage>> ReadSpan(ResyncSpan span, std::string from);
  Position zeros_uncertain_up_to(VolumeId volume) const;
  Task<absl::StatusOr<std::vector<BlockExtent>>> StatusOfSpan(ResyncSpan span, BlockRange range);
  Task<absl::Status> VoidTails(Generation generation);
  Task<absl::StatusOr<std::vector<ResyncSpan>>> BeginResync(Generation generation, Catalogue goal);
  Task<absl::StatusOr<std::vector<Run>>> Lacking(TimelineId timeline, std::vector<Run> runs);
  Task<absl::StatusOr<ShownPage>> ReadShown(TimelineId timeline, BlockIndex from);
  Task<absl::Status> Fill(Generation generation, TimelineId timeline, std::vector<Run> runs,
                          absl::Span<const std::byte> payload);
  Task<absl::Status> FillLost(Generation generation, TimelineId timeline, std::vector<Run> runs);
  Task<absl::Status> EndSpan(Generation generation, ResyncSpan span);
  Task<absl::Status> EndResync(Generation generation);
  bool resyncing() const { return resync_ != nullptr; }

  // Reads the blocks of one run (at most kMaxEntryBlocks), wherever they lie now, and checks them:
  // kDataLoss with the place (P7). kNotFound: its place was given back since the run was looked up;
  // look it up again.
  Task<absl::Status> ReadRun(Run run, absl::Span<std::byte> into);
  // Every batch of a segment, by its descriptors.
  Task<absl::StatusOr<std::vector<LoggedBatch>>> ReadSegment(SegmentNumber segment) {
    return log_->ReadSegment(segment);
  }

  // Moves what lives in a sealed segment to the end of the log, so that the next checkpoints free
  // it (M14-M17); cleaner.h. `bad_blocks` is asked for the blocks that can't be read or fail their
  // checksum; with it blocks are also moved of which only the map says what they are (R15).
  Task<absl::StatusOr<CleanOutcome>> Clean(SegmentNumber segment, BlockSource bad_blocks);

  // Contracts: Replica::Repair, Replica::CancelRepairs, Replica::ReadVersion. repair.cc.
  Task<absl::StatusOr<CleanOutcome>> Repair(SegmentNumber segment, BlockSource source);
  void CancelRepairs() { repairs_cancelled_ = true; }
  Task<absl::Status> ReadVersion(BlockIdentity block, absl::Span<std::byte> into);
  // Reads what a sealed segment says of itself, and notes what is damaged (not its payload).
  // kFailedPrecondition: it is being written. kNotFound: it is not in use.
  Task<absl::Status> CheckRecords(SegmentNumber segment);

  // A whole reference pass (M16): afterwards nothing in the map names a place from which the
  // cleaner moved a block before the call. Done in the background when forwarding entries take much
  // memory.
  Task<absl::Status> RenewReferences();

  // What is used by what, of one volume or of everything: takes a checkpoint and counts in it,
  // beside clients (usage.cc). Ended before Stop is called, which `cancelled` is for. kNotFound: no
  // such volume; kCancelled; the errors of Checkpoint and of the metadata store.
  Task<absl::StatusOr<UsageReport>> CountUsage(std::optional<VolumeId> volume,
                                               UsageCancelled cancelled);

  // Writes a checkpoint now and frees the segments that it releases (M9, M14).
  Task<absl::Status> Checkpoint();

  // Segments that the cleaner leaves alone: a live block in them is bad, or nothing says what it
  // is.
  const std::set<SegmentNumber>& segments_left_alone() const { return left_alone_; }

  struct Usage {
    uint64_t capacity_blocks =
        0;  // of client payload, reserves taken off, blocks written one by one at worst
    uint64_t used_blocks = 0;
    uint64_t reserve_blocks = 0;  // what is kept back for deletes, the cleaner and checkpoints
    uint64_t live_blocks = 0;
    uint64_t segments = 0;
    uint64_t free_segments = 0;
  };
  Usage usage();
  struct CleaningCounters {
    uint64_t cleaned_segments = 0;
    uint64_t moved_blocks = 0;
  };
  const CleaningCounters& cleaning_counters() const { return counters_; }
  // What it does just now beside what it is asked for.
  struct Busy {
    bool checkpoint = false;
    bool clean = false;         // a segment is moved, for the cleaner or for repair
    uint64_t reclaim_jobs = 0;  // deletes, trims and rollbacks that have yet to give something back
  };
  Busy busy();
  // What it has written since it was opened.
  struct Written {
    uint64_t log_bytes = 0;  // into its directories, the superblock included
    uint64_t map_bytes = 0;  // the metadata store's
  };
  Written written() const;
  struct Latency {
    LatencyHistogram read;            // of Read: looking up, the device, checksums
    LatencyHistogram apply;           // putting committed entries into the map; the loop is held
    LatencyHistogram checkpoint_cut;  // of a checkpoint: the part that holds the loop
    LatencyHistogram checkpoint;      // from its beginning until it is committed
    LatencyHistogram clean;           // of Clean: one segment
  };
  const Latency& latency() const { return latency_; }
  uint64_t bad_blocks_seen() const { return bad_blocks_seen_; }
  // What was met that is damaged: by whatever reads, the scrub, and opening. Every read of payload
  // through the store notes what is bad by itself; NoteDamage is for who looks at the rest (`count`
  // 0: the segment's records). damage.cc.
  const DamageList& damage_list() const { return damage_list_; }
  void NoteDamage(LogAddress first, uint32_t count, const std::string& what);
  // The same of what is no segment, or nobody knows which: the superblock, files of the log. It is
  // listed under segment 0, and Repair of that heals it. file_damage.cc.
  void NoteFileDamage(const std::string& where, const std::string& what);
  // When it was last proven whole (scrub.h); nothing: never. A resync, which fills it anew from
  // another set, ends that.
  const std::optional<ProofRecord>& proof() const { return proof_; }
  // OK, or why the store takes nothing any more.
  const absl::Status& health() const { return failed_; }

  // Looks whether the files that it writes are still in their directories. Writes into files that
  // were deleted succeed, and would be acknowledged; so whoever owns the store asks now and then.
  // An error is the store's failure. Of a store that has failed already it tells whether they are
  // gone.
  Task<absl::Status> CheckPresence();
  bool files_gone() const { return files_gone_; }
  // Its map was found damaged since it was opened; opening it again rebuilds that from the log.
  bool map_damaged() const { return map_damaged_; }

  // Waits for what is under way, covers the log's end (R12), checkpoints if healthy, and closes the
  // devices. New calls are refused.
  Task<void> Stop();

 private:
  friend class StoreScrub;  // looks at everything, and pins it

  Store(StoreParts parts, StoreOptions options);

  // recovery.cc
  Task<absl::Status> Recover();
  Task<absl::Status> LoadCheckpoint();
  Task<absl::Status> OpenLog();
  Task<absl::Status> ReplayLog();
  Task<absl::Status> RebuildLostMap();
  Task<absl::Status> StartAppending(SegmentLog::Replayed replayed);
  absl::Status ReconcileSegments(const std::vector<SegmentNumber>& present);
  absl::Status TakeReplayed(const LoggedBatch& batch);
  bool TakeOwnState(const LogEntry& entry);
  Task<absl::Status> KeepOwnState();
  void ForgetSegmentsBeyond(SegmentNumber last);
  std::vector<SegmentNumber> SegmentsInUse() const;

  // usage.cc
  Task<absl::StatusOr<UsageReport>> CountCheckpoint(std::optional<VolumeId> volume,
                                                    UsageCancelled cancelled);
  absl::Status CheckCounting(const UsageCancelled& cancelled) const;
  uint64_t ClientWork() const;  // grows with what clients do

  // presence.cc
  Task<absl::Status> LookForFiles();

  // store.cc
  void OnLogged(const LoggedBatch& batch);
  absl::Status NoteOwnRecord(const LoggedBatch::Item& item, const LogPosition& batch);
  size_t PrefetchCommitted(VolumeId volume);
  void ApplyCommitted(VolumeId volume);
  // Before anybody looks at map or catalogue.
  void ApplyAllCommitted();
  Task<void> ApplyLoop();
  absl::Status Apply(const PendingEntry& pending);
  Task<absl::Status> AppendOwn(EntryKind kind, std::string body);
  void Fail(const absl::Status& status);
  // `status`: of a look into the map. map_damage.cc
  Task<void> NoteMapDamage(absl::Status status);
  Task<void> FailCheckpoint(absl::Status status);
  // Short of segments, and behind entries that attaching has yet to settle nothing can be freed: a
  // checkpoint would only make what is logged since count.
  bool waits_for_tail() const { return short_behind_tail_ && streams_.pending_entries() > 0; }
  static uint64_t BlocksOf(const LoggedBatch& batch);
  Room::Space Space() const;

  // cleaner.cc
  absl::Status NoteMoved(const LoggedBatch::Item& item);
  absl::Status NoteMovedZeros(const LoggedBatch::Item& item, SegmentNumber logged_in);
  Task<absl::StatusOr<LiveBitmap>> ReadLive(SegmentNumber segment);
  Task<absl::Status> FollowLive(SegmentNumber segment);
  Task<absl::Status> TakeReplayedMoves();
  Task<absl::Status> MakeCleanable(SegmentNumber segment);
  Task<absl::StatusOr<CleanOutcome>> MoveEverything(SegmentNumber segment, BlockSource bad_blocks);
  Task<absl::Status> MoveGroup(MovedBlocks group, std::vector<uint32_t> crcs,
                               const BlockSource& bad_blocks, CleanOutcome* outcome);
  // What was read of a group.
  struct LoadedGroup {
    uint64_t replaced = 0;
    absl::Status left;  // why some of it can't be moved; then the rest is here
    MovedBlocks whole;
    std::vector<uint32_t> whole_crcs;
  };
  Task<absl::Status> LoadGroup(const MovedBlocks& group, const std::vector<uint32_t>& crcs,
                               absl::Span<std::byte> into, const BlockSource& bad_blocks,
                               LoadedGroup* loaded);
  static Task<absl::Status> FetchBlock(BlockIdentity identity, absl::Span<std::byte> into,
                                       const BlockSource& bad_blocks);
  absl::Status CheckGoesOn(const BlockSource& bad_blocks) const;
  Task<absl::Status> ReadBlocks(LogAddress first, absl::Span<std::byte> into);
  Task<absl::Status> ReadGroup(const MovedBlocks& group, absl::Span<std::byte> into);
  Task<absl::Status> AppendMoved(const LogEntry* entry, absl::Span<const std::byte> payload);
  Task<absl::Status> MoveZeros(SegmentNumber segment, std::vector<MovedZero> zeros,
                               CleanOutcome* outcome);

  // cleaning.cc
  uint64_t Headroom() const;
  uint64_t CleaningStartsAtBlocks() const;
  uint64_t GainAtCheckpoint() const;
  bool HasReleasable() const;
  void NoteEmptied(SegmentNumber segment, const CleanOutcome& outcome);
  std::optional<SegmentNumber> NextToClean(RoomFor use) const;
  Task<absl::StatusOr<bool>> CleanRound();
  bool CleaningDue() const;
  Task<void> CleanLoop();
  Task<void> ReferenceLoop();
  Task<void> WaitForForwardingRoom();
  Task<void> MakeWay(MonoNanos busy);
  Task<void> SlowDown(BlockCount blocks);

  // checkpoint.cc
  Task<absl::Status> WriteCheckpoint();
  Task<absl::Status> LogWholeCatalogue();
  Task<void> BackgroundLoop();
  bool CheckpointDue() const;
  Task<absl::Status> MakeRoom();
  Task<absl::Status> RelieveMap();
  Task<absl::Status> RememberProof(ProofRecord proof);
  void AppendProof(MetadataBatch* batch);
  Task<absl::Status> LoadProof();

  // resync.cc
  void HoldReclaim();
  absl::Status CheckHeld() const;
  bool GiveUpPin();
  bool GiveUpPoints();
  SegmentNumber FirstSegmentOfTail(VolumeId volume, Position after) const;
  absl::Status CheckTarget(Generation generation) const;
  absl::Status CheckFilled(const LogEntry& entry) const;
  absl::Status CheckFilling(Generation generation, TimelineId timeline) const;
  Task<absl::Status> AppendFillings(std::vector<Filling> fillings, std::vector<LogAddress>* places);
  Task<absl::Status> AppendFilling(const Filling* filling, LogAddress* place);
  Task<absl::Status> AppendRecord(LogEntry entry, absl::Span<const std::byte> payload,
                                  Durability durability);
  absl::Status NoteVoid(const LogEntry& entry);
  absl::Status NoteGoalPiece(const LogEntry& entry);
  absl::Status NoteFill(const LoggedBatch::Item& item);
  absl::Status NoteFillZeros(const LogEntry& entry, SegmentNumber where);
  absl::Status NoteSpan(const LogEntry& entry);
  absl::Status NoteResyncEnd();
  void ChangeCatalogue(Catalogue next);
  void OpenNextSpan();
  void AppendResyncState(MetadataBatch* batch);
  Task<absl::Status> LoadResyncState();

  // damage.cc
  void NoteDamageFound();
  void AddDamage(DamagedPlace place);
  void SettleDamage(SegmentNumber segment, const absl::Status& cleaned);

  // repair.cc
  Task<absl::Status> ReadContent(SegmentNumber segment, bool by_map, SegmentContent* content);
  Task<absl::Status> MakeSealed(SegmentNumber segment);
  Task<absl::Status> GiveBack(SegmentNumber segment);

  // file_damage.cc
  void NoteSuperblockDamage(const std::vector<SuperblockDamage>& damage);
  Task<absl::Status> RepairFiles();
  Task<absl::Status> RepairSuperblocks();
  Task<absl::Status> RepairLogFiles();
  std::vector<SegmentNumber> LostSegments() const;

  // reader.cc
  Task<absl::Status> ReadPlaced(Run run, absl::Span<std::byte> into);
  Task<absl::StatusOr<std::vector<Piece>>> LookupPieces(TimelineId timeline, Position as_of,
                                                        BlockRange range);
  Task<absl::Status> ReadPieces(const std::vector<Piece>& pieces, BlockRange range,
                                absl::Span<std::byte> into);

  StoreParts parts_;
  const StoreOptions options_;
  std::vector<BlockDevice*> devices_;  // in the superblock's order
  std::string place_;
  Superblock superblock_;

  Catalogue catalogue_;
  SegmentTable table_;
  Streams streams_;
  std::vector<VolumeId> unapplied_;  // streams with committed entries that are not in the map yet
  Event apply_due_;
  Room room_;
  std::unique_ptr<SegmentLog> log_;
  std::unique_ptr<ExtentMap> map_;
  std::vector<LogDamage> damage_;

  AttachState attach_;  // as recorded in the log
  Generation
      fence_;  // lower generations are refused; ahead of attach_.sealed while a seal is under way
  bool appending_ = false;
  bool map_loaded_ = true;  // false while opening reads the map
  absl::Status failed_;
  bool files_gone_ = false;
  bool map_damaged_ = false;
  uint64_t bad_blocks_seen_ = 0;
  DamageList damage_list_;
  std::map<std::string, uint32_t> damaged_files_;  // by place: its number in the list
  bool repairs_cancelled_ = false;
  uint64_t reads_ = 0;  // by clients
  std::optional<ProofRecord> proof_;
  bool proof_changed_ = false;  // since the last checkpoint

  // Checkpoints.
  CheckpointRecord last_checkpoint_;
  std::optional<RebuiltMark> rebuilt_;  // the map was made from the log once
  Catalogue checkpoint_catalogue_;
  AsyncMutex checkpoint_mutex_;
  bool checkpoint_running_ = false;
  std::vector<SegmentNumber> released_;  // since the last one: their rows go with the next
  // Segments from there on hold the newest complete catalogue of the log, the membership before it,
  // and every entry that was not committed when it was written: with it they are the catalogue
  // (R17).
  SegmentNumber catalogue_segment_;
  bool catalogue_changed_ = true;     // since it was written
  bool short_behind_tail_ = false;    // a checkpoint is due once nothing is pending
  SegmentNumber membership_segment_;  // of the newest membership record
  // The oldest entry that was not committed when the catalogue that is being logged was made.
  std::optional<LogPosition> catalogue_pending_;
  // The newest catalogue in the log, complete or not: where it begins, and what it needs.
  CatalogueReference catalogue_begun_;
  SegmentNumber catalogue_begun_needs_;
  uint64_t entries_since_checkpoint_ = 0;
  uint64_t blocks_since_checkpoint_ = 0;

  // What the last checkpoint that freed nothing had to work with.
  struct Effort {
    uint64_t entries = ~uint64_t{0};  // logged
    uint64_t live_blocks = 0;
    bool operator==(const Effort&) const = default;
  };
  Effort fruitless_;

  // Cleaning: one segment at a time, its live blocks followed from the checkpoint's bitmap on.
  struct Cleaning {
    SegmentNumber segment;
    LiveBitmap live;
  };
  AsyncMutex clean_mutex_;
  std::optional<Cleaning> cleaning_;
  // The kMovedZeros entries that are being logged or replayed: the next one of them, and where the
  // first one stands.
  struct ZeroGroup {
    SegmentNumber source;
    uint32_t next = 0;
    SegmentNumber target;
  };
  ZeroGroup zero_group_;
  std::vector<LoggedBatch::Item> replayed_moves_;  // of kMoved and whole kMovedZeros

  CleaningCounters counters_;
  Latency latency_;

  AsyncMutex usage_mutex_;

  // When to clean: one round at a time, woken by what uses up free segments.
  Event clean_work_;
  AsyncMutex clean_round_mutex_;
  // Segments that the cleaner has moved everything out of: a checkpoint that is cut from now on
  // frees them. Those that it doesn't, since something pins them, are forgotten all the same.
  struct Emptied {
    SegmentNumber segment;
    uint64_t cost_blocks = 0;  // at worst, of what was moved; less than what the segment gives
  };
  std::vector<Emptied> emptied_;
  uint64_t clean_rounds_ = 0;
  bool last_round_gained_ = false;
  bool cleaning_up_ = false;                // the loop works to get to its mark
  RoomFor clean_use_ = RoomFor::kCleaning;  // how far it may go now
  uint64_t waiting_for_room_ = 0;           // calls of Reserve
  std::set<SegmentNumber> left_alone_;      // a live block in them is bad
  uint64_t segments_freed_ = 0;
  AsyncMutex references_mutex_;
  Event references_work_;
  Event references_renewed_;
  MonoNanos next_write_at_ = 0;  // slowed down
  CancelSource pauses_;
  // As the source of a resync: what is kept for it.
  struct ResyncSource {
    absl::Status status = absl::UnavailableError("no resync reads from here");
    SegmentNumber log_from;
    // Where to look for what comes after a position of a stream, so that reading a tail again and
    // again does not begin at the log's beginning each time.
    struct Mark {
      Position position;
      SegmentNumber segment;
    };
    std::map<VolumeId, Mark> marks;
  };
  ResyncSource source_;
  absl::Status points_held_ = absl::UnavailableError("nobody compares it");

  // As the target, from `resync begin` to `resync end` (R4).
  struct ResyncTarget {
    Catalogue goal;
    std::vector<ResyncSpan> spans;  // of which those before `next` are filled
    size_t next = 0;
  };
  std::unique_ptr<ResyncTarget> resync_;
  bool resync_changed_ = false;  // since the last checkpoint: its goal, or that there is one
  std::string goal_pieces_;      // while they come

  // Background: one loop, woken by what makes a checkpoint or reclaim due.
  bool stopping_ = false;
  Event work_;
  TaskScope scope_;
};

}  // namespace twofold
