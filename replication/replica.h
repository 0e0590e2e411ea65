// SHARED CONTRACT. One copy of the pool's volumes as the head sees it: in this process
// (LocalReplica) or, later, over the wire.
//
// The head sends each replica the entries of a volume in Seq order; the replica logs them in that
// order, so its log is a prefix of the volume's history. What is not committed lives in its log and
// memory only (R2): the extent map shows an entry when the head has committed it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "replication/membership_record.h"
#include "storage/base/stage_latency.h"
#include "storage/base/types.h"
#include "storage/io/block_device.h"
#include "storage/log/entry.h"
#include "storage/map/catalogue.h"
#include "storage/map/extent.h"
#include "storage/map/resync_plan.h"
#include "storage/runtime/task.h"
#include "storage/store/checkpoint_record.h"
#include "storage/store/cleaner.h"
#include "storage/store/damage_list.h"
#include "storage/store/proof_record.h"
#include "storage/store/room.h"
#include "storage/store/scrub.h"
#include "storage/store/tail_entry.h"
#include "storage/store/usage_report.h"

namespace twofold {

// What a sealed replica has.
struct SealReport {
  Generation generation;            // now sealed at
  uint64_t membership_version = 0;  // the highest it has recorded
  // Per volume, the catalogue included: the end of its durable, complete log (R4) and its commit
  // position.
  struct Stream {
    VolumeId volume;
    Position end;
    Position committed;
    WallNanos last_stamp = 0;  // of the entry at `end` (R35)
  };
  std::vector<Stream> streams;
};

struct ReplicaStatus {
  bool failed = false;
  bool gone = false;  // it failed, since its files are not there any more
  // It failed, since its map is damaged: opening it again makes that anew from the log (M12).
  bool map_damaged = false;
  std::string reason;
  uint64_t capacity_blocks = 0;  // client payload that fits in all, reserves taken off
  uint64_t used_blocks = 0;      // of it: not in free segments, or promised
  uint64_t live_blocks = 0;
  uint64_t reserve_blocks = 0;  // beside the capacity: for deletes, the cleaner and checkpoints
  uint64_t segments = 0;
  uint64_t free_segments = 0;
  // Written since it was opened: into its log, its map, and of the log's by the cleaner alone.
  uint64_t log_written_bytes = 0;
  uint64_t map_written_bytes = 0;
  uint64_t moved_blocks = 0;
  // What it does just now; Store::Busy.
  bool checkpoint_running = false;
  bool clean_running = false;
  uint64_t reclaim_jobs = 0;
  Incarnation incarnation;
  uint64_t superblock_version = 0;  // grows when its superblock is written
  uint64_t bad_blocks_seen = 0;
  DamageReport damage;
  std::optional<ProofRecord> proof;  // when it was last proven whole; nothing: never
};

class Replica {
 public:
  virtual ~Replica() = default;

  virtual const std::string& set_name() const = 0;  // "a"
  virtual const std::string& store_id() const = 0;  // 32 hexadecimal digits
  virtual const std::string& pool_id() const = 0;
  virtual const std::string& place() const = 0;  // for people: its directories

  // Durably refuses every lower generation from now on, finishes or fails everything older, and
  // reports (R20). kAborted when a higher generation was seen already.
  virtual Task<absl::StatusOr<SealReport>> Seal(Generation generation) = 0;

  // Durably records the membership (no Seq, R20). kAborted on a lower version or generation.
  virtual Task<absl::Status> RecordMembership(Membership membership) = 0;
  // What earlier heads have left here: also before it is sealed.
  virtual const AttachState& recorded() const = 0;

  // Promises room for `blocks` of payload and `entries` entries, until Append uses it or Release
  // gives it back (R6, M22). May suspend while a checkpoint frees segments. kResourceExhausted when
  // full. `use` says how far into what is kept back it may go.
  virtual Task<absl::Status> Reserve(BlockCount blocks, uint64_t entries, RoomFor use) = 0;
  // As Reserve where that needs no waiting; false: call Reserve.
  virtual bool TryReserve(BlockCount blocks, uint64_t entries) = 0;
  virtual void Release(BlockCount blocks, uint64_t entries) = 0;

  // Logs one entry whose room was reserved. The entries of a volume are appended in Seq order: the
  // order in which these tasks are started. Returns when the entry is durable (or written, by
  // `durability`); after an error the replica has failed and takes nothing any more. `entry` and
  // `payload` outlive the call.
  virtual Task<absl::Status> Append(Generation generation, const LogEntry& entry,
                                    absl::Span<const std::byte> payload, Durability durability) = 0;

  // Everything of the volume up to `position` is complete on every in-sync replica (R2): apply it.
  // Goes with the next message to the replica; does not suspend.
  virtual void Commit(VolumeId volume, Position position) = 0;

  // Everything appended before is durable (R33).
  virtual Task<absl::Status> Flush() = 0;

  // Reads whole blocks of `timeline` as of `as_of` (kLastPosition: now) into `into` (range.count
  // blocks, aligned); unmapped and zero blocks are zero-filled. Returns which blocks are data, in
  // order, covering the range. Every block's CRC was checked: kDataLoss with the block where one
  // failed (P7).
  virtual Task<absl::StatusOr<std::vector<BlockExtent>>> Read(TimelineId timeline, Position as_of,
                                                              BlockRange range,
                                                              absl::Span<std::byte> into) = 0;

  // The same without data: at most `max_extents`, covering the range or a beginning of it.
  virtual Task<absl::StatusOr<std::vector<BlockExtent>>> Status(TimelineId timeline, Position as_of,
                                                                BlockRange range,
                                                                size_t max_extents) = 0;

  // The committed catalogue; for a local replica it is the store's own and changes with each
  // Commit.
  virtual const Catalogue& catalogue() const = 0;

  // The entries of the volume after `after`, up to the end of its log, for levelling; at most
  // `max_bytes` of payload (at least one entry when there is one).
  virtual Task<absl::StatusOr<std::vector<TailEntry>>> ReadTail(VolumeId volume, Position after,
                                                                size_t max_bytes) = 0;

  // ---- Bringing a stale replica level (pair/resync.h); kUnimplemented where a kind can't ----
  //
  // As the source. From Pin to Unpin the log is kept from its end of now on, and nothing that a
  // retained point of the map sees goes away, so that what is read is exact while clients write.
  // Where the store runs out of room the pin gives way: `resync_pin` is kUnavailable from then on,
  // and the resync has to begin again with a new one.
  virtual Task<absl::Status> PinForResync();
  virtual void UnpinForResync() {}
  virtual absl::Status resync_pin() const;
  // Puts in order what ReadSpan reads, after the retained points that spans end with are there.
  virtual Task<absl::Status> PrepareSpans();
  // A page of the runs that `span` consists of, chunk by chunk; data by their checksums alone.
  // `from`: empty, or `next` of the page before.
  virtual Task<absl::StatusOr<ResyncPage>> ReadSpan(ResyncSpan span, std::string from);
  // Up to where this replica may show unmapped blocks without saying since when they are zero: its
  // map was made from its log, which no longer had what was below them (M12). A target that ends
  // before that is told by what the ends of spans show (R19).
  virtual Position zeros_uncertain_up_to(VolumeId /*volume*/) const { return kFirstPosition; }
  // Which blocks of `range`, of one chunk, the end of `span` shows as data, in order, covering it.
  // Where another timeline has taken the span's over: which ones it shows of it, or itself.
  virtual Task<absl::StatusOr<std::vector<BlockExtent>>> StatusOfSpan(ResyncSpan span,
                                                                      BlockRange range);

  // As the target. Gives up what is logged of every volume and not committed (R3). Durable.
  virtual Task<absl::Status> VoidTails(Generation generation);
  // Takes the goal (R29), and pins the state that is there (R30) unless a resync is under way
  // already, which then goes on towards the new goal. Returns the spans that are to be filled, in
  // this order. Durable.
  virtual Task<absl::StatusOr<std::vector<ResyncSpan>>> BeginResync(Generation generation,
                                                                    Catalogue goal);
  // Of `runs`, which belong to `timeline`, the parts that it does not have yet.
  virtual Task<absl::StatusOr<std::vector<Run>>> Lacking(TimelineId timeline,
                                                         std::vector<Run> runs);
  // A page of the blocks that it shows as data in `timeline`, from `from` on.
  virtual Task<absl::StatusOr<ShownPage>> ReadShown(TimelineId timeline, BlockIndex from);
  // Logs runs of the span that is to be filled next, the blocks of data one after the other in
  // `payload` (at most kMaxEntryBlocks), and puts them into the map. Waits for room:
  // kResourceExhausted when full. Durable with the next EndSpan.
  virtual Task<absl::Status> Fill(Generation generation, TimelineId timeline, std::vector<Run> runs,
                                  absl::Span<const std::byte> payload);
  // The same for data whose bytes nobody has: each block is bad here from the beginning, as it is
  // at the source, with the position and the checksum of what was written. No read shows anything
  // for it; a write over it ends that, and repair where somebody has it after all. At most
  // kMaxEntryBlocks. docs/decisions/0024-a-resync-goes-on-without-what-is-lost.md
  virtual Task<absl::Status> FillLost(Generation generation, TimelineId timeline,
                                      std::vector<Run> runs);
  // That span is filled: its retained point is there from now on, and the replica is complete up to
  // it, so that an interrupted resync goes on from there. Durable, with all that was filled.
  virtual Task<absl::Status> EndSpan(Generation generation, ResyncSpan span);
  // All spans are: the catalogue is the goal's, and the replica is complete up to there (R4).
  // kDataLoss where what came of the replay is not the goal. Durable.
  virtual Task<absl::Status> EndResync(Generation generation);
  // Whether a resync was begun and not ended: the replica counts for nothing in attaching (R4).
  virtual bool resyncing() const { return false; }

  // ---- Healing what is damaged (pair/repair.h); kUnimplemented where a kind can't ----
  //
  // As the source: fills `into` with exactly that version of the block (R18), wherever it is still
  // shown: as of now, or at a retained point. Checked against `block.crc`. kNotFound: nothing shows
  // it any more. kDataLoss: it is bad here too, or has another checksum.
  virtual Task<absl::Status> ReadVersion(BlockIdentity block, absl::Span<std::byte> into);
  // As the target. The segments in which something is known to be bad, ascending.
  virtual std::vector<SegmentNumber> damaged_segments() const { return {}; }
  // Moves all that is needed out of a damaged segment, what is bad from `source` (BlockSource,
  // storage/store/cleaner.h), so that the segment is not needed any more. Yields to clients. Errors
  // as of Store::Clean; what was moved before stays moved, and it can be tried again.
  virtual Task<absl::StatusOr<CleanOutcome>> Repair(SegmentNumber segment, BlockSource source);
  // A repair that is under way ends soon, with kUnavailable, and none begins any more.
  virtual void CancelRepairs() {}

  // ---- Proving it whole; kUnimplemented where a kind can't ----
  //
  // Reads everything that it holds from its medium and checks it (storage/store/scrub.h). One pass
  // at a time: kFailedPrecondition while one is under way. kCancelled after StopScrub.
  virtual Task<absl::StatusOr<ScrubReport>> Scrub(ScrubOptions options);
  virtual void StopScrub() {}
  virtual void SetScrubRate(uint64_t /*bytes_per_second*/) {}
  // Of the pass under way.
  virtual std::optional<ScrubProgress> scrub_progress() const { return std::nullopt; }

  // For comparing maps (pair/compare.h). From Hold to LetGo nothing that a retained point of its
  // map sees goes away, and PrepareSpans and ReadSpan work as they do between Pin and Unpin. Where
  // the store runs out of room it gives way: `points_held` is kUnavailable from then on.
  virtual Task<absl::Status> HoldPoints();
  virtual void LetPointsGo() {}
  virtual absl::Status points_held() const;
  // What `timeline` shows at `range` as of `as_of`, block by block: in pieces that are in order and
  // cover the range, data by their positions and checksums alone.
  virtual Task<absl::StatusOr<std::vector<Piece>>> Describe(TimelineId timeline, Position as_of,
                                                            BlockRange range);

  // What is used by what, of one volume or of everything, as of now; counted beside clients, which
  // may take a while. `cancelled` is asked now and then. kNotFound: no such volume; kCancelled;
  // kUnimplemented where a kind can't.
  virtual Task<absl::StatusOr<UsageReport>> CountUsage(std::optional<VolumeId> volume,
                                                       UsageCancelled cancelled);

  virtual ReplicaStatus status() const = 0;
  // What its work has taken since it was opened, stage by stage, where it is known: "queue" and
  // "log" of each write, "read" of each read, then what holds up others.
  virtual std::vector<StageLatency> latencies() const { return {}; }
  // The reason of the failure, once it has failed.
  virtual absl::Status health() const = 0;
  // Looks whether what it stands on is still there; when not, it has failed. For what no write
  // would notice: writes into files that were deleted succeed.
  virtual Task<absl::Status> CheckPresence() = 0;

  // Covers the log's end (R12), checkpoints where it is healthy, and closes the devices.
  virtual Task<void> Stop() = 0;
};

}  // namespace twofold
