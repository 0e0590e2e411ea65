#include "replication/volume/pool_resync.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "replication/volume/volume.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/map/catalogue_codec.h"
#include "storage/map/resync_plan.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

// So little is left that clients can wait for it: it is sent while nothing new gets a Seq.
constexpr uint64_t kJoinBytes = uint64_t{2} << 20;
constexpr uint64_t kJoinEntries = 1024;
// Rounds in which the tail may grow before the writers are made to wait for a round (R23: it ends).
constexpr int kRoundsBeforeSlowing = 4;
constexpr int kMaxPasses = 5;

// The volumes of the pool with their admission closed: nothing gets a Seq, and what is sent
// meanwhile is sent as fast as can be.
class ClosedPool {
 public:
  ClosedPool(PoolState* pool, ResyncPace* pace) : pool_(pool), pace_(pace) {}
  ClosedPool(const ClosedPool&) = delete;
  ClosedPool& operator=(const ClosedPool&) = delete;
  ~ClosedPool() {
    for (Volume* volume : closed_) volume->OpenAdmission();
    pace_->SetHurry(false);
    pool_->paused = false;
  }

  // The caller holds `admin`, so that volumes neither come nor go.
  Task<void> Close() {
    pool_->paused = true;
    pace_->SetHurry(true);
    for (const auto& [id, volume] : pool_->volumes) {
      co_await volume->CloseAdmission();
      closed_.push_back(volume.get());
    }
  }

 private:
  PoolState* const pool_;
  ResyncPace* const pace_;
  std::vector<Volume*> closed_;
};

LogEntry Record(EntryKind kind, TimelineId timeline, std::string body) {
  LogEntry entry;
  entry.kind = kind;
  entry.timeline = timeline;
  entry.body = std::move(body);
  return entry;
}

std::vector<VolumeId> VolumesOf(const PoolState& pool) {
  std::vector<VolumeId> ids;
  for (const auto& [id, volume] : pool.volumes) ids.push_back(id);
  return ids;
}

Task<absl::StatusOr<Catalogue>> Freeze(PoolState* pool, Replica* source) {
  const AsyncMutex::Guard lock = co_await pool->admin.Lock();
  if (pool->stopped) co_return absl::UnavailableError("the pool is being stopped");
  // Those of an earlier try: their Seqs stay, what they held goes.
  absl::Status status = co_await RemoveResyncSnapshots(pool);
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await source->PinForResync();
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await TakeResyncSnapshots(pool);
  TF_CO_RETURN_IF_ERROR(status);
  co_return MakeGoal(source->catalogue());
}

bool CanWaitForIt(const Resync::Sent& sent) {
  return sent.entries_left <= kJoinEntries && sent.bytes_left() <= kJoinBytes;
}

// Until so little is left that clients can wait for it. Where they write faster than it is sent it
// first yields no more; if that doesn't help they wait after each round until less is left than
// ever before, so that it ends.
Task<absl::Status> CatchUp(PoolState* pool, Resync* resync, Replica* source) {
  uint64_t least = ~uint64_t{0};
  for (int grown = 0;;) {
    absl::StatusOr<Resync::Sent> sent = co_await resync->SendTail();
    TF_CO_RETURN_IF_ERROR(sent);
    TF_CO_RETURN_IF_ERROR(source->resync_pin());
    if (pool->stopped) co_return absl::UnavailableError("the pool is being stopped");
    if (CanWaitForIt(*sent)) co_return absl::OkStatus();
    if (sent->entries_left >= least) {
      ++grown;
      resync->pace().SetYielding(false);
    }
    const uint64_t before = least;
    least = std::min(least, sent->entries_left);
    if (grown < kRoundsBeforeSlowing || sent->entries_left < before) continue;
    const AsyncMutex::Guard lock = co_await pool->admin.Lock();
    if (pool->stopped) co_return absl::UnavailableError("the pool is being stopped");
    ClosedPool closed(pool, &resync->pace());
    co_await closed.Close();
    uint64_t left = least;
    while (left >= least && left > 0) {
      sent = co_await resync->SendTail();
      TF_CO_RETURN_IF_ERROR(sent);
      left = sent->entries_left;
    }
    least = left;
  }
}

// R23. From the moment at which the last volume is closed nothing is in flight and nothing is
// given a Seq: `x` is where the streams end. When the target has all of it, durably, it may count.
Task<absl::StatusOr<bool>> Join(PoolState* pool, Resync* resync, Replica* target,
                                std::function<Task<absl::Status>()> admit) {
  const AsyncMutex::Guard lock = co_await pool->admin.Lock();
  if (pool->stopped) co_return absl::UnavailableError("the pool is being stopped");
  resync->SetPhase(ResyncProgress::Phase::kJoining, "clients wait for it");
  // Deletes are sent as well: it is level with them gone.
  absl::Status status = co_await RemoveResyncSnapshots(pool);
  TF_CO_RETURN_IF_ERROR(status);
  ClosedPool closed(pool, &resync->pace());
  co_await closed.Close();
  for (;;) {
    const absl::StatusOr<Resync::Sent> sent = co_await resync->SendTail();
    TF_CO_RETURN_IF_ERROR(sent);
    if (sent->entries == 0) break;
  }
  status = co_await target->Flush();
  TF_CO_RETURN_IF_ERROR(status);
  if (target->catalogue().Encode() != pool->catalogue().Encode()) co_return false;
  status = co_await admit();
  TF_CO_RETURN_IF_ERROR(status);
  co_return true;
}

// A volume that is deleted before its tail was sent takes with it which ids were given in it; they
// must never be given again (M3), so another pass, which has little to do, brings them.
Task<absl::Status> Bring(PoolState* pool, Resync* resync, Replica* source, Replica* target,
                         std::function<Task<absl::Status>()> admit) {
  for (int passes = 0; passes < kMaxPasses; ++passes) {
    resync->pace().SetYielding(true);
    absl::StatusOr<Catalogue> goal = co_await Freeze(pool, source);
    TF_CO_RETURN_IF_ERROR(goal);
    absl::Status status = co_await resync->FillTo(*std::move(goal));
    TF_CO_RETURN_IF_ERROR(status);
    status = co_await CatchUp(pool, resync, source);
    TF_CO_RETURN_IF_ERROR(status);
    const absl::StatusOr<bool> joined = co_await Join(pool, resync, target, admit);
    TF_CO_RETURN_IF_ERROR(joined);
    if (*joined) co_return absl::OkStatus();
  }
  co_return absl::DataLossError(absl::StrCat(
      "set ", target->set_name(), " was brought level, but its list of volumes and snapshots ",
      "differs; it does not count. Look at both sets with `twofold inspect --verify`"));
}

}  // namespace

Task<absl::Status> BringLevel(PoolState* pool, Resync* resync, Replica* source, Replica* target,
                              std::function<Task<absl::Status>()> admit) {
  absl::Status status = co_await Bring(pool, resync, source, target, std::move(admit));
  source->UnpinForResync();
  if (status.ok()) {
    resync->SetPhase(ResyncProgress::Phase::kDone, "");
    pool->NoteBroughtLevel(std::string(target->set_name()), *resync);
    co_return status;
  }
  resync->SetPhase(ResyncProgress::Phase::kFailed, std::string(status.message()));
  // They hold space, nothing else.
  const AsyncMutex::Guard lock = co_await pool->admin.Lock();
  if (pool->stopped) co_return status;
  const absl::Status removed = co_await RemoveResyncSnapshots(pool);
  if (!removed.ok()) TF_LOG(WARNING) << "after a resync that failed: " << removed;
  co_return status;
}

Task<absl::Status> TakeResyncSnapshots(PoolState* pool) {
  const std::vector<VolumeId> ids = VolumesOf(*pool);
  for (const VolumeId id : ids) {
    Volume* const volume = pool->volumes.at(id).get();
    SnapshotBody body;
    body.id = pool->catalogue().next_snapshot_id();
    body.name = absl::StrCat(kInternalSnapshotPrefix, body.id.value());
    std::vector<LogEntry> entries;
    entries.push_back(Record(EntryKind::kSnapshot, volume->timeline(), EncodeSnapshot(body)));
    absl::Status status =
        co_await volume->AppendRecords(std::move(entries), BlockRange(), RoomFor::kRecord);
    TF_CO_RETURN_IF_ERROR(status);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> RemoveResyncSnapshots(PoolState* pool) {
  std::vector<SnapshotRecord> left;
  for (const auto& [id, snapshot] : pool->catalogue().snapshots()) {
    if (IsInternalSnapshotName(snapshot.name)) left.push_back(snapshot);
  }
  for (const SnapshotRecord& snapshot : left) {
    const auto volume = pool->volumes.find(snapshot.volume);
    if (volume == pool->volumes.end()) continue;
    std::vector<LogEntry> entries;
    entries.push_back(
        Record(EntryKind::kSnapshotDelete, snapshot.timeline, EncodeSnapshotDelete({snapshot.id})));
    absl::Status status =
        co_await volume->second->AppendRecords(std::move(entries), BlockRange(), RoomFor::kDelete);
    TF_CO_RETURN_IF_ERROR(status);
  }
  co_return absl::OkStatus();
}

}  // namespace twofold
