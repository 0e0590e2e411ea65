// SHARED CONTRACT. The segment log of one store: appends batches, reads payload, recovers the tail.
//
// docs/formats/log.md is the format. One batch is in flight at a time, or two durable ones;
// entries that arrive meanwhile form the next one (group commit, docs/decisions/0002).
// Acknowledgements follow log order.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/base/histogram.h"
#include "storage/base/types.h"
#include "storage/io/block_device.h"
#include "storage/log/entry.h"
#include "storage/log/logged_batch.h"
#include "storage/log/segment_damage.h"
#include "storage/runtime/task.h"

namespace twofold {

// Whether opening found that the end of the log is lost or damaged: what it says of the rest is as
// true as ever.
bool IsLostEnd(const absl::Status& status);

class DepartureGroup;  // departure_group.h

class SegmentLog {
 public:
  struct Options {
    std::string store_id;  // 16 raw bytes
    uint64_t segment_bytes = 0;
    // Slots are made up to this number, over all devices; not more.
    uint64_t max_segments = 0;
    // New segments get numbers above this one: the highest that is remembered anywhere else (M2).
    SegmentNumber number_floor;
    // Where the segments' secrets come from (R14); SecureRandom64 when empty.
    std::function<uint64_t()> random;
    // Called for each batch in log order, when it is durable (or written), before its appenders
    // resume. Must not suspend.
    std::function<void(const LoggedBatch&)> on_logged;
    // Called when a batch is about to be sent: the commit marks it shall carry (those that moved).
    std::function<std::vector<CommitMark>()> take_commits;
    // Those whose batches leave together with this log's; outlives the log. Null: nobody's do.
    DepartureGroup* departures = nullptr;
    // Called once, when the log stops for good after a failed write.
    std::function<void(const absl::Status&)> on_failed;
    // Called when a segment is opened for writing and when it is sealed, to keep the SegmentTable.
    // StartAppending seals the segments that a crash left open, so all older ones are sealed then.
    std::function<void(SegmentNumber)> on_opened;
    std::function<void(SegmentNumber)> on_sealed;
  };

  // Looks at every slot's header on the devices (which outlive the log). Does not change anything.
  static Task<absl::StatusOr<std::unique_ptr<SegmentLog>>> Open(std::vector<BlockDevice*> devices,
                                                                Options options);
  ~SegmentLog();

  // The segments that hold batches, or may: before StartAppending all that have a valid header,
  // afterwards those in use, the open one included. Ascending.
  std::vector<SegmentNumber> Segments() const;

  // What is known of the log's end from elsewhere, so that an end that was lost is noticed (P6).
  struct Known {
    // The segment that the newest open began with; 0: not known, an open was under way.
    SegmentNumber opened;
    BatchNumber durable;  // all up to this one were durable
    // Says of an entry whether it is the store's own and goes without saying: whoever opens the
    // store says it again with the cut, or has it elsewhere. Asked in log order, of what begins a
    // segment that nobody knows to hold anything else. Segments at the end of the log that hold
    // nothing but such entries are cut off. Cut records are; empty: nothing else is.
    std::function<bool(const LogEntry&)> goes_without_saying;
    // Damage there does not keep the log from opening: it ends before it, and what comes behind is
    // given up. For a store that nobody counts on any more.
    bool give_up_end = false;
  };

  // Replays from `from` (batch 0: from the oldest segment there is) to the end of the log, calling
  // `on_batch` for each batch in order; stops at its first error. What it calls with is durable
  // (R13). `cut` is where the log ends; damage below what was known durable (R12) is kDataLoss
  // unless listed as healable in `damage` (a payload that fails its CRC is not looked at here).
  // Repeatable until StartAppending.
  struct Replayed {
    LogPosition cut;
    BatchNumber known_durable;
    Incarnation last_incarnation;  // the highest seen
    uint64_t batches = 0;
    std::vector<LogDamage> damage;
    // Where a replay after a crash would start: `from`, until the store moves it on, up to `cut`,
    // by a checkpoint that it makes before it starts appending.
    LogPosition needed_from;
    bool gave_up_end = false;  // as Known allows
    bool cut_off_own = false;  // entries that go without saying, beside cut records
  };
  Task<absl::StatusOr<Replayed>> Replay(LogPosition from,
                                        std::function<absl::Status(const LoggedBatch&)> on_batch,
                                        Known known);
  Task<absl::StatusOr<Replayed>> Replay(LogPosition from,
                                        std::function<absl::Status(const LoggedBatch&)> on_batch) {
    return Replay(from, std::move(on_batch), Known());
  }
  // The highest incarnation that a segment's header names.
  Incarnation last_incarnation() const;

  // Ends recovery (R11): durably overwrites the head of every batch found beyond the cut, declares
  // every slot that `in_use` does not name free, opens a new segment and logs the kCut record as
  // its first with `incarnation`, and `say` in the same batch: what was cut off and must be said
  // again (its batch is there as a whole, or not at all). Segments that the replay has passed from
  // `needed_from` on stay in use, named or not; what is named and has no file is damage that
  // somebody heals. From here on Append works; Stop is needed, also after an error.
  // kResourceExhausted: no segment is free.
  Task<absl::Status> StartAppending(Replayed replayed, Incarnation incarnation,
                                    std::vector<SegmentNumber> in_use, std::vector<LogEntry> say);
  Task<absl::Status> StartAppending(Replayed replayed, Incarnation incarnation,
                                    std::vector<SegmentNumber> in_use) {
    return StartAppending(std::move(replayed), incarnation, std::move(in_use), {});
  }

  // Adds the entry to the open batch, in the order of the calls (before the first suspension).
  // Returns where the payload lies when the batch is written with at least `durability` and every
  // batch before it is in. `entry`, `payload` (entry.range.count blocks, aligned to kBlockSize)
  // outlive the call. kUnavailable once the log has failed: what is on disk is unknown then, and it
  // takes nothing more. kResourceExhausted only when the caller did not reserve (see
  // free_segments).
  Task<absl::StatusOr<LogAddress>> Append(const LogEntry& entry,
                                          absl::Span<const std::byte> payload,
                                          Durability durability);

  // Makes everything logged before durable, and says so in the log (R12): afterwards a later batch,
  // or an empty one when nothing follows soon, carries it.
  Task<absl::Status> Flush();

  // Reads payload blocks; no CRC check (the caller has the CRCs). The segment must be pinned by the
  // caller while it runs. kDataLoss for a segment that is not there.
  Task<absl::Status> ReadPayload(LogAddress first, uint32_t count, absl::Span<const iovec> pieces);

  // For messages: the file, and the offset of the block in it.
  std::string Locate(LogAddress address) const;

  // Every batch of one segment, by its descriptors (or by the copies at its end, R15), for inspect
  // and rebuild.
  Task<absl::StatusOr<std::vector<LoggedBatch>>> ReadSegment(SegmentNumber segment);

  // The same, and whether it is certain that these are all of a sealed segment: they come from the
  // copies at its end. Else they are those whose descriptors verify, up to the first that doesn't.
  // kDataLoss, kUnavailable: nothing can be read.
  struct Records {
    std::vector<LoggedBatch> batches;
    bool complete = false;
  };
  Task<absl::StatusOr<Records>> ReadRecords(SegmentNumber segment);

  // The next batch goes to a new segment, if `segment` is the one that is being written: so that
  // this one is sealed soon. What room was left in it is lost, for the caller to have looked at.
  void LeaveSegment(SegmentNumber segment);

  // Reads and checks the whole segment, its payload as far as `needed` says by block; see
  // segment_check.h. `open`: it is being written. Pinned by the caller. kNotFound: it is not there.
  Task<absl::StatusOr<SegmentCheck>> CheckSegment(SegmentNumber segment, bool open,
                                                  std::vector<bool> needed, BeforeRead before_read);

  // The same, for a rebuild of the map before appending: kDataLoss where it can't be sure that
  // these are all. (One that is being recycled has lost its copies; nothing in it is needed.)
  Task<absl::StatusOr<std::vector<LoggedBatch>>> ReadWholeSegment(SegmentNumber segment);
  // Files that are gone or unreadable as a whole.
  std::vector<std::string> LostFiles() const;

  // The newest complete catalogue starts there: the batches that follow say so (R17).
  void SetCatalogue(CatalogueReference catalogue);

  // Gives segments back for reuse: their files get new numbers when they are opened again.
  void Free(const std::vector<SegmentNumber>& segments);

  // Makes the file of a freed segment anew, whatever was wrong with it, unless it has another
  // number already.
  Task<absl::Status> Remake(SegmentNumber segment);
  bool HasFile(SegmentNumber segment) const;
  // Files that are damaged so that nobody knows what they hold: their paths; and making them anew,
  // when nothing that they may hold is needed.
  std::vector<std::string> DamagedFiles() const;
  Task<absl::Status> ReuseDamagedFiles();

  // Where the next batch would start.
  LogPosition end() const;
  // The highest batch such that it and all before it are durable.
  BatchNumber known_durable() const;
  // Free slots (ready ones, recyclable files and slots not yet made), the open segment not counted.
  // Slots not yet made don't count while the file system refuses them room.
  uint64_t free_segments() const;
  uint64_t total_segments() const;
  // Blocks of a segment that so many entries take at worst, each alone in its batch. Used to turn a
  // reservation into space: see docs/formats/log.md, "Room".
  static uint64_t WorstCaseBlocks(uint64_t payload_blocks, uint64_t entries);
  // Blocks left in the open segment by the same measure.
  uint64_t open_segment_blocks_left() const;
  uint64_t usable_blocks_per_segment() const;

  absl::Status health() const;
  // kUnavailable where the file of a segment was deleted.
  Task<absl::Status> CheckPresence() const;

  struct Counters {
    uint64_t batches = 0;
    uint64_t second_batches = 0;        // that went beside another one
    uint64_t held_batches = 0;          // that waited for writers to come back
    uint64_t accompanying_batches = 0;  // that left because another log's did
    uint64_t entries = 0;
    uint64_t payload_blocks = 0;
    uint64_t descriptor_blocks = 0;
    uint64_t flushes = 0;
    uint64_t segments_opened = 0;
  };
  Counters counters() const;

  // Of each entry that was logged.
  struct Latency {
    LatencyHistogram queue;  // from Append until its batch was sent to the device
    LatencyHistogram write;  // from there until it was logged as its appender asked for
  };
  const Latency& latency() const;

  // Covers the last batch with an empty one where it is not yet known durable (R12), waits for the
  // background work, and ends.
  Task<void> Stop();

 private:
  class Impl;
  explicit SegmentLog(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace twofold
