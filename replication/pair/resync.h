// Bringing a stale or an empty replica level with one that is in-sync, while clients write (R1-R4,
// R19, R23, R29-R32; docs/decisions/0020-resync-replays-history-compressed.md).
//
// The target's map is the state at its committed position `s` of each volume: a prefix of the
// history. The source is frozen at X by an ordinary snapshot of each volume. What happened between
// is replayed to the target in the order in which it happened, but compressed: of each span between
// two retained points only what is still visible at its end. So the target goes from one state that
// the source has had to the next, by the ways that its map is changed every day, and each point
// reached is a place from which an interrupted resync goes on. What came after X is then read from
// the source's log, until the target is close enough for the live stream to be joined.
//
// A block that is bad at the source, and that the target does not have from before, is lost: it is
// as bad at the target (Replica::FillLost), said with its place, and everything else goes on
// (docs/decisions/0024-a-resync-goes-on-without-what-is-lost.md).
//
//   void the dead tail -> goal (catalogue at X) -> fill, point after point -> end -> tail -> join
//
// Until it has joined the target is in no membership: it never serves and is never the only copy of
// anything, and its state before is pinned (R30).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "replication/pair/resync_pace.h"
#include "replication/replica.h"
#include "storage/base/types.h"
#include "storage/io/aligned_bytes.h"
#include "storage/map/resync_plan.h"
#include "storage/runtime/cancel.h"
#include "storage/runtime/task.h"

namespace twofold {

struct ResyncOptions {
  uint64_t rate_bytes_per_second = 0;  // of payload; 0: no limit
  // How many requests of clients were ever begun: while they come in the resync yields to them
  // (resync_pace.h). Empty: there are no clients.
  std::function<uint64_t()> client_requests;
  // Called once Resync::fits() is true.
  std::function<void()> on_fits;
};

// For status.
struct ResyncProgress {
  enum class Phase {
    kWaiting,  // to begin, or for its next try
    kFilling,  // what changed between the target's position and X
    kTail,     // what was written since X
    kJoining,  // acknowledgements wait for it
    kDone,
    kFailed,
  };
  Phase phase = Phase::kWaiting;
  std::string target_set;
  std::string what;               // a line for people: which volume is at it, or why it failed
  WallNanos started = 0;          // 0: not yet
  uint64_t bytes_done = 0;        // payload sent
  uint64_t lost_blocks = 0;       // that neither set has whole: an error on both from now on
  uint64_t bytes_total = 0;       // an estimate from above, which gets better as it goes
  uint64_t bytes_per_second = 0;  // over the last seconds
  uint64_t seconds_left = 0;      // 0: not known
};
const char* ResyncPhaseName(ResyncProgress::Phase phase);

// kInvalidArgument unless it is 0 (no limit) or at least kMinResyncRateBytes.
absl::Status CheckResyncRate(uint64_t bytes_per_second);

// One resync of one target from one source.
class Resync {
 public:
  // Both were sealed at `generation`, and outlive it.
  Resync(Replica* source, Replica* target, Generation generation, ResyncOptions options);

  // Brings the target from where it is to the state that `goal` describes: MakeGoal of the source's
  // catalogue, right after the snapshots X were taken and before anything else was changed than
  // blocks. The snapshots are there, and the source is pinned (Replica::PinForResync), until it
  // returns. Can be interrupted at any time by
  // an error of either side, and begun anew with a later goal (R4).
  // kUnavailable: source or target failed, or the source's pin gave way; try again.
  // kResourceExhausted: the target is full (R30). kFailedPrecondition: CheckNotParted (parted.h):
  // nothing of the target was changed, and an empty directory takes its place (R3).
  Task<absl::Status> FillTo(Catalogue goal);

  // After FillTo: sends what the source's log has beyond the target's, one round over all streams.
  // Returns the payload bytes sent and entries, both 0 when it was level with the ends of the
  // source's log as they were when the round began, and how many entries are still to be sent.
  struct Sent {
    uint64_t bytes = 0;
    uint64_t entries = 0;
    uint64_t entries_left = 0;
    // An estimate: as if they were as large as those that were sent.
    uint64_t bytes_left() const { return entries == 0 ? 0 : bytes / entries * entries_left; }
  };
  Task<absl::StatusOr<Sent>> SendTail();

  // From now on; 0: as fast as foreground I/O leaves room for.
  void SetRate(uint64_t bytes_per_second) { pace_.SetRate(bytes_per_second); }
  ResyncPace& pace() { return pace_; }

  // What is under way ends soon, with kUnavailable.
  void Cancel() { cancel_.Cancel(); }

  // The histories were compared, and the target's is a beginning of the source's: it is changed
  // from now on.
  bool fits() const { return fits_; }
  const ResyncProgress& progress() const { return progress_; }
  void SetPhase(ResyncProgress::Phase phase, std::string what);

 private:
  struct Rate {
    int64_t since_nanos = 0;
    uint64_t bytes = 0;
  };

  // `volume_blocks`: of its volume, 0: unknown; for the estimate.
  Task<absl::Status> FillSpan(ResyncSpan span, uint64_t volume_blocks);
  // R19, where the source's map does not say of all blocks since when they are zero: what the
  // target shows as data and the end of the span does not becomes zero.
  Task<absl::Status> FillUncertainZeros(ResyncSpan span, Position newest);
  // `shown`: where the source shows the runs.
  Task<absl::Status> FillPiece(ResyncSpan span, ResyncSpan shown, std::vector<Run> runs,
                               AlignedBytes* buffer);
  // The same where the source could not read all of them: block by block, without what is lost.
  Task<absl::Status> FillWhatIsWhole(ResyncSpan span, ResyncSpan shown, std::vector<Run> runs,
                                     AlignedBytes* buffer);
  // One block of the source, or of the target if that has the very same. kDataLoss: neither has it.
  Task<absl::Status> ReadBlock(ResyncSpan shown, Run block, absl::Span<std::byte> into);
  Task<absl::Status> FillAndCount(TimelineId timeline, std::vector<Run> runs,
                                  absl::Span<const std::byte> payload);
  Task<absl::Status> FillLost(ResyncSpan span, std::vector<Run> lost);
  // For people: which volume, where in it, and what shows it.
  Task<std::string> Describe(ResyncSpan span, Run block);
  Task<absl::StatusOr<Sent>> SendStream(VolumeId volume);
  void Count(uint64_t bytes);
  void Estimate(double within);

  Replica* const source_;
  Replica* const target_;
  const Generation generation_;
  std::map<VolumeId, Position> sent_;  // up to where the target has each stream
  int failures_in_a_row_ = 0;          // reads of the source's device
  const std::function<void()> on_fits_;
  bool fits_ = false;
  CancelSource cancel_;
  ResyncPace pace_;
  ResyncProgress progress_;
  double whole_ = 0;   // the history between the target and X, in Seqs
  double filled_ = 0;  // of it
  Rate rate_;
};

// How long to wait before a replica that failed while it was brought level is tried again: longer
// from time to time, so that a flapping one doesn't cost more than it is worth (R23).
class ResyncBackoff {
 public:
  int64_t NextDelayNanos();
  // It has been in-sync for a while.
  void Reset() { failures_ = 0; }

 private:
  unsigned failures_ = 0;
};

}  // namespace twofold
