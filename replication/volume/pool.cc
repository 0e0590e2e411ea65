#include "replication/volume/pool.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/pair/membership.h"
#include "replication/volume/pool_resync.h"
#include "replication/volume/pool_state.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"

namespace twofold {
namespace {

// Old blocks of read-modify-writes under way in all volumes; further ones wait.
constexpr size_t kScratchBytes = size_t{1} << 20;

std::vector<Replica*> Pointers(const std::vector<std::unique_ptr<Replica>>& replicas) {
  std::vector<Replica*> pointers;
  for (const auto& replica : replicas) pointers.push_back(replica.get());
  return pointers;
}

StreamEnd EndOf(const Attached& attached, VolumeId volume) {
  const auto it = attached.streams.find(volume);
  return it == attached.streams.end() ? StreamEnd() : it->second;
}

absl::Status NoVolume(const std::string& name) {
  return absl::NotFoundError(absl::StrCat("there is no volume ", name));
}

Task<void> CloseParts(Pool::Parts* parts) {
  for (const auto& replica : parts->replicas) co_await replica->Stop();
  co_await parts->witness->Close();
}

}  // namespace

// ---- PoolState ----------------------------------------------------------------------------------

PoolState::PoolState(Pool::Parts parts_in, const Attached& attached)
    : parts(std::move(parts_in)),
      set(attached.in_sync, attached.membership, parts.witness.get()),
      buffers(parts.buffer_pool_bytes),
      scratch(kScratchBytes),
      catalogue_stream(kCatalogueVolume, &set, EndOf(attached, kCatalogueVolume).position,
                       EndOf(attached, kCatalogueVolume).last_stamp),
      away(this, parts.directories) {
  for (const auto& [id, record] : catalogue().volumes()) {
    const StreamEnd end = EndOf(attached, id);
    volumes[id] = std::make_unique<Volume>(record, volume_parts(), end.position, end.last_stamp);
  }
  for (Replica* replica : attached.stale) away.AddStale(replica);
  for (const AbsentSet& absent : parts.attach.absent) away.AddAbsent(absent);
  away.SetRate(parts.resync_bytes_per_second);
}

absl::StatusOr<Volume*> PoolState::FindVolume(const std::string& name) {
  const VolumeRecord* record = catalogue().FindVolume(name);
  if (record == nullptr) return NoVolume(name);
  const auto it = volumes.find(record->id);
  if (it == volumes.end()) return NoVolume(name);  // its creation is just coming to an end
  return it->second.get();
}

absl::StatusOr<const SnapshotRecord*> PoolState::FindSnapshot(const SnapshotName& name) const {
  const VolumeRecord* volume = catalogue().FindVolume(name.volume);
  if (volume == nullptr) return NoVolume(name.volume);
  const SnapshotRecord* snapshot = catalogue().FindSnapshot(volume->id, name.snapshot);
  if (snapshot != nullptr && !IsInternalSnapshotName(snapshot->name)) return snapshot;
  return absl::NotFoundError(absl::StrCat("there is no snapshot ", name.ToString()));
}

VolumeInfo PoolState::Describe(const VolumeRecord& record) const {
  VolumeInfo info;
  info.name = record.name;
  info.id = record.id;
  info.size_bytes = record.size_bytes;
  info.ack = static_cast<AckMode>(record.ack);
  info.timeline = record.current_timeline;
  info.created = record.created;
  info.on_set_loss = static_cast<OnSetLoss>(record.on_set_loss);
  info.state = set.health().ok() ? "online" : std::string(set.health().message());
  if (set.health().ok() && set.degraded() && info.on_set_loss == OnSetLoss::kBlock) {
    info.state = "blocked: its writes are held until every set is back (on-set-loss=block)";
  }
  for (const auto& [id, snapshot] : catalogue().snapshots()) {
    if (snapshot.volume == record.id && !IsInternalSnapshotName(snapshot.name)) ++info.snapshots;
  }
  const auto it = volumes.find(record.id);
  if (it != volumes.end()) {
    info.position = it->second->position();
    info.mounts = it->second->head_mounts() + it->second->snapshot_mounts();
  }
  return info;
}

SnapshotInfo PoolState::Describe(const SnapshotRecord& record) const {
  SnapshotInfo info;
  const auto volume = catalogue().volumes().find(record.volume);
  if (volume != catalogue().volumes().end()) info.volume = volume->second.name;
  info.name = record.name;
  info.id = record.id;
  info.group = record.group;
  info.timeline = record.timeline;
  info.position = record.position;
  info.created = record.created;
  info.size_bytes = record.size_bytes;
  info.before_rollback = record.before_rollback;
  return info;
}

Task<absl::Status> PoolState::AppendToCatalogue(LogEntry entry, RoomFor use) {
  Change change;
  change.Add(std::move(entry), {});
  Reservation room(&set);
  absl::Status status = co_await room.Take(BlockCount(0), 1, use);
  TF_CO_RETURN_IF_ERROR(status);
  TF_CO_RETURN_IF_ERROR(set.health());
  room.Use();
  co_return co_await catalogue_stream.Append(&change, /*hold=*/nullptr);
}

Task<void> PoolState::CheckReplicas() {
  set.CheckHealth();
  scrub.Look(parts.scrub);
  const ReplicaSet::InFlight members(&set);
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i]->failed) continue;
    absl::Status status = co_await members[i]->replica->CheckPresence();
    if (!status.ok()) {
      set.Fail(members[i], status);
      continue;
    }
    const std::string& name = members[i]->replica->set_name();
    const uint64_t version = members[i]->replica->status().superblock_version;
    const uint64_t seen = std::exchange(superblocks[name], version);
    if (seen != 0 && seen < version && parts.directories.rewritten != nullptr) {
      parts.directories.rewritten(name);
    }
  }
}

// Nobody but this head changes it, who knows what it holds; a change that is under way finds
// another generation or version, or has not been made yet.
Task<void> PoolState::CheckWitness() {
  const absl::StatusOr<Membership> stored = co_await parts.witness->Read();
  if (!absl::IsDataLoss(stored.status()) && !absl::IsNotFound(stored.status())) co_return;
  const absl::Status restored = co_await parts.witness->Restore(set.membership());
  if (restored.ok()) {
    TF_LOG(ERROR) << "the witness (" << parts.witness->name()
                  << ") is DAMAGED: " << stored.status().message() << "; it was written again";
  }
}

void PoolState::Reap() {
  std::erase_if(deleted, [](const std::unique_ptr<Volume>& volume) {
    return volume->head_mounts() + volume->snapshot_mounts() == 0;
  });
}

// ---- Pool: opening and stopping -----------------------------------------------------------------

Pool::Pool(std::unique_ptr<PoolState> state) : state_(std::move(state)) {}

// Some failures nobody meets in passing: a checkpoint that failed, files that were deleted.
static Task<void> Watch(PoolState* pool) {
  while (true) {
    const bool go_on =
        co_await pool->stopping.SleepFor(static_cast<int64_t>(kReplicaCheckMs) * kNanosPerMilli);
    if (!go_on) co_return;
    co_await pool->CheckReplicas();
    co_await pool->CheckWitness();
    co_await pool->away.Look();
  }
}

// A set that was dropped is closed at once.
static Task<void> CloseDropped(PoolState* pool) {
  while (!pool->stopped) {
    co_await pool->set.Changed();
    pool->away.Kick();
  }
}

Pool::~Pool() { TF_CHECK(state_->stopped) << "Stop() was not called"; }

Task<absl::Status> Pool::Format(Witness* witness, std::string pool_id,
                                std::vector<std::string> store_ids) {
  absl::StatusOr<Membership> first = FirstMembership(std::move(pool_id), std::move(store_ids));
  TF_CO_RETURN_IF_ERROR(first);
  co_return co_await witness->CompareAndSwap(Generation(0), 0, *std::move(first));
}

Task<absl::StatusOr<std::unique_ptr<Pool>>> Pool::Attach(Parts parts) {
  absl::Status status;
  // An unaligned request of the largest size takes the next power of two.
  if (parts.buffer_pool_bytes < 2 * kMaxNbdRequestBytes) {
    status = absl::InvalidArgumentError(
        absl::StrCat("the buffer pool has ", parts.buffer_pool_bytes, " bytes, it needs at least ",
                     2 * kMaxNbdRequestBytes));
  } else {
    absl::StatusOr<Attached> attached =
        co_await AttachReplicas(parts.witness.get(), Pointers(parts.replicas), parts.attach);
    if (attached.ok()) {
      auto state = std::make_unique<PoolState>(std::move(parts), *attached);
      const absl::Status removed = co_await RemoveResyncSnapshots(state.get());
      if (!removed.ok()) TF_LOG(WARNING) << "what a resync had frozen: " << removed;
      state->watch.Spawn(Watch(state.get()));
      state->watch.Spawn(CloseDropped(state.get()));
      state->watch.Spawn(state->repairer.Run());
      state->away.Kick();
      co_return std::unique_ptr<Pool>(new Pool(std::move(state)));
    }
    status = attached.status();
  }
  co_await CloseParts(&parts);
  co_return status;
}

Task<void> Pool::Stop() {
  TF_CHECK(!state_->stopped);
  state_->stopped = true;
  state_->stopping.Cancel();
  state_->repairer.Cancel();
  // Before the lock, which a resync needs for its end.
  state_->away.Stop();
  state_->set.Wake();
  const absl::Status stopping = state_->scrub.Stop(std::nullopt);
  TF_CHECK(stopping.ok()) << stopping;
  co_await state_->watch.Join();
  const AsyncMutex::Guard lock = co_await state_->admin.Lock();
  for (const auto& [id, volume] : state_->volumes) {
    volume->RevokeAllMounts("the daemon is stopping");
    if (!volume->admission_closed()) co_await volume->CloseAdmission();
    co_await volume->WaitForCalls();
  }
  for (const auto& volume : state_->deleted) co_await volume->WaitForCalls();
  co_await state_->set.Stop();
  co_await CloseParts(&state_->parts);
}

absl::Status Pool::StartScrub(const std::optional<std::string>& set,
                              std::optional<uint64_t> bytes_per_second) {
  return state_->scrub.Start(set, bytes_per_second);
}

absl::Status Pool::StartComparison() { return state_->scrub.StartComparison(); }

absl::Status Pool::StopScrub(const std::optional<std::string>& set) {
  return state_->scrub.Stop(set);
}

ScrubStatus Pool::Scrubs() const { return state_->scrub.Status(); }

Task<absl::StatusOr<UsageInfo>> Pool::CountUsage(std::optional<std::string> volume) {
  return state_->usage.Count(std::move(volume));
}

void Pool::CancelUsage() { state_->usage.Cancel(); }

std::optional<UsageInfo> Pool::LastUsage() const { return state_->usage.last(); }

Task<void> Pool::CheckReplicas() { co_await state_->CheckReplicas(); }

// ---- Pool: looking ------------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<Mount>> Pool::OpenMount(const std::string& export_name) {
  if (state_->stopped) return absl::UnavailableError("the daemon is stopping");
  const size_t at = export_name.find('@');
  TF_ASSIGN_OR_RETURN(Volume* const volume, state_->FindVolume(export_name.substr(0, at)));
  if (volume->admission_closed() && !state_->paused) {
    return absl::UnavailableError(
        absl::StrCat(volume->name(), " is just being changed; connect again"));
  }
  if (at == std::string::npos) {
    TF_RETURN_IF_ERROR(volume->CheckNotBlocked());
    return std::make_unique<Mount>(volume, export_name, volume->timeline(), kLastPosition, 0);
  }
  TF_ASSIGN_OR_RETURN(const SnapshotRecord* const snapshot,
                      state_->FindSnapshot({volume->name(), export_name.substr(at + 1)}));
  if (state_->snapshot_in_deletion == snapshot->id) {
    return absl::NotFoundError(absl::StrCat(export_name, " is just being deleted"));
  }
  return std::make_unique<Mount>(volume, export_name, snapshot->timeline, snapshot->position,
                                 snapshot->size_bytes);
}

std::vector<std::string> Pool::ExportNames() const {
  std::vector<std::string> names;
  const Catalogue& catalogue = state_->catalogue();
  for (const auto& [id, volume] : catalogue.volumes()) names.push_back(volume.name);
  for (const auto& [id, snapshot] : catalogue.snapshots()) {
    const auto volume = catalogue.volumes().find(snapshot.volume);
    if (volume == catalogue.volumes().end() || IsInternalSnapshotName(snapshot.name)) continue;
    names.push_back(SnapshotName{volume->second.name, snapshot.name}.ToString());
  }
  return names;
}

std::vector<VolumeInfo> Pool::Volumes() const {
  std::vector<VolumeInfo> infos;
  for (const auto& [id, record] : state_->catalogue().volumes()) {
    infos.push_back(state_->Describe(record));
  }
  return infos;
}

absl::StatusOr<VolumeInfo> Pool::FindVolume(const std::string& name) const {
  const VolumeRecord* record = state_->catalogue().FindVolume(name);
  if (record == nullptr) return NoVolume(name);
  return state_->Describe(*record);
}

absl::StatusOr<std::vector<SnapshotInfo>> Pool::Snapshots(
    const std::optional<std::string>& volume) const {
  const VolumeRecord* only = nullptr;
  if (volume.has_value()) {
    only = state_->catalogue().FindVolume(*volume);
    if (only == nullptr) return NoVolume(*volume);
  }
  std::vector<SnapshotInfo> infos;
  for (const auto& [id, record] : state_->catalogue().snapshots()) {
    if (IsInternalSnapshotName(record.name)) continue;
    if (only == nullptr || record.volume == only->id) infos.push_back(state_->Describe(record));
  }
  return infos;
}

// ---- Pool: changing -----------------------------------------------------------------------------

Task<absl::StatusOr<VolumeInfo>> Pool::CreateVolume(std::string name, uint64_t size_bytes,
                                                    AckMode ack, OnSetLoss on_set_loss) {
  const AsyncMutex::Guard lock = co_await state_->admin.Lock();
  co_return co_await twofold::CreateVolume(state_.get(), std::move(name), size_bytes, ack,
                                           on_set_loss);
}

Task<absl::StatusOr<VolumeInfo>> Pool::ResizeVolume(std::string name, uint64_t size_bytes,
                                                    bool force) {
  const AsyncMutex::Guard lock = co_await state_->admin.Lock();
  co_return co_await twofold::ResizeVolume(state_.get(), std::move(name), size_bytes, force);
}

Task<absl::Status> Pool::DeleteVolume(std::string name, bool force) {
  const AsyncMutex::Guard lock = co_await state_->admin.Lock();
  co_return co_await twofold::DeleteVolume(state_.get(), std::move(name), force);
}

Task<absl::StatusOr<std::vector<SnapshotInfo>>> Pool::CreateSnapshots(
    std::vector<SnapshotName> names) {
  const AsyncMutex::Guard lock = co_await state_->admin.Lock();
  co_return co_await twofold::CreateSnapshots(state_.get(), std::move(names));
}

Task<absl::Status> Pool::DeleteSnapshot(SnapshotName name) {
  const AsyncMutex::Guard lock = co_await state_->admin.Lock();
  co_return co_await twofold::DeleteSnapshot(state_.get(), std::move(name));
}

Task<absl::Status> Pool::ReplaceSet(std::unique_ptr<Replica> newcomer) {
  return state_->away.PutInPlace(std::move(newcomer));
}

Task<absl::StatusOr<ReplicaInfo>> Pool::AttachSet(std::string set) {
  absl::Status status = co_await state_->away.Attach(set);
  TF_CO_RETURN_IF_ERROR(status);
  co_return FindReplica(set);
}

Task<absl::StatusOr<ReplicaInfo>> Pool::DetachSet(std::string set) {
  absl::Status status = co_await state_->away.Detach(set);
  TF_CO_RETURN_IF_ERROR(status);
  co_return FindReplica(set);
}

Task<absl::StatusOr<ReplicaInfo>> Pool::ReplaceSet(std::string set,
                                                   std::vector<std::string> directories) {
  absl::Status status = co_await state_->away.Replace(set, std::move(directories));
  TF_CO_RETURN_IF_ERROR(status);
  co_return FindReplica(set);
}

void Pool::SetResyncRate(uint64_t bytes_per_second) { state_->away.SetRate(bytes_per_second); }

Task<absl::StatusOr<SnapshotInfo>> Pool::Rollback(SnapshotName name, bool force) {
  const AsyncMutex::Guard lock = co_await state_->admin.Lock();
  co_return co_await twofold::Rollback(state_.get(), std::move(name), force);
}

}  // namespace twofold
