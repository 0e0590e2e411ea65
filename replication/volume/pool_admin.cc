// What an operator changes: volumes, snapshots, rollback. One call at a time; clients' I/O goes on
// beside it unless a call says otherwise.
#include <deque>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "replication/volume/pool_state.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/map/catalogue_codec.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

absl::Status CheckSize(uint64_t size_bytes) {
  if (size_bytes > 0 && size_bytes <= kMaxVolumeBytes && size_bytes % kBlockSize == 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("a volume can't have ", size_bytes,
                                                 " bytes: give a multiple of ", kBlockSize,
                                                 ", at most ", kMaxVolumeBytes));
}

// Opens the admission again however a call ends, unless told to leave it closed.
class ClosedAdmission {
 public:
  explicit ClosedAdmission(Volume* volume) : volume_(volume) {}
  ClosedAdmission(const ClosedAdmission&) = delete;
  ClosedAdmission& operator=(const ClosedAdmission&) = delete;
  ~ClosedAdmission() {
    if (volume_ != nullptr) volume_->OpenAdmission();
  }
  void LeaveClosed() { volume_ = nullptr; }

 private:
  Volume* volume_;
};

LogEntry Record(EntryKind kind, TimelineId timeline, std::string body) {
  LogEntry entry;
  entry.kind = kind;
  entry.timeline = timeline;
  entry.body = std::move(body);
  return entry;
}

absl::Status ClientsConnected(const std::string& what, size_t count) {
  return absl::FailedPreconditionError(
      absl::StrCat(count, " client", count == 1 ? " is" : "s are", " connected to ", what));
}

// "before-rollback-20261122T104207Z", with a number where that is taken.
std::string RollbackSnapshotName(const Catalogue& catalogue, VolumeId volume) {
  const std::string base = absl::StrCat(
      "before-rollback-", std::string(absl::FormatTime(
                              "%Y%m%dT%H%M%SZ", absl::FromUnixNanos(Executor::Current().WallNow()),
                              absl::UTCTimeZone())));
  std::string name = base;
  for (int number = 2; catalogue.FindSnapshot(volume, name) != nullptr; ++number) {
    name = absl::StrCat(base, "-", number);
  }
  return name;
}

}  // namespace

// ---- Volumes ------------------------------------------------------------------------------------

Task<absl::StatusOr<VolumeInfo>> CreateVolume(PoolState* pool, std::string name,
                                              uint64_t size_bytes, AckMode ack,
                                              OnSetLoss on_set_loss) {
  TF_CO_RETURN_IF_ERROR(CheckName(name));
  TF_CO_RETURN_IF_ERROR(CheckSize(size_bytes));
  if (pool->catalogue().FindVolume(name) != nullptr) {
    co_return absl::AlreadyExistsError(absl::StrCat("there is a volume ", name, " already"));
  }
  if (pool->catalogue().volumes().size() >= kMaxVolumes) {
    co_return absl::ResourceExhaustedError(
        absl::StrCat("a pool has at most ", kMaxVolumes, " volumes; delete one first"));
  }
  VolumeCreateBody body;
  body.id = pool->catalogue().next_volume_id();
  body.name = name;
  body.size_bytes = size_bytes;
  body.ack = static_cast<uint8_t>(ack);
  body.on_set_loss = static_cast<uint8_t>(on_set_loss);
  body.first_timeline = pool->catalogue().next_timeline_id();
  LogEntry entry = Record(EntryKind::kVolumeCreate, body.first_timeline, EncodeVolumeCreate(body));
  absl::Status status = co_await pool->AppendToCatalogue(std::move(entry), RoomFor::kRecord);
  TF_CO_RETURN_IF_ERROR(status);

  const VolumeRecord& record = pool->catalogue().volumes().at(body.id);
  pool->volumes[body.id] =
      std::make_unique<Volume>(record, pool->volume_parts(), kFirstPosition, /*last_stamp=*/0);
  TF_LOG(INFO) << "volume " << name << " created, id " << body.id << ", " << size_bytes << " bytes";
  co_return pool->Describe(record);
}

// Blocks beyond the new end get a zero record, so that a later grow does not bring them back (R37).
// The zeros come first: a crash between the two leaves the old size, and zeros where they were
// asked for.
static Task<absl::Status> Shrink(Volume* volume, uint64_t size_bytes) {
  LogEntry zero = Record(EntryKind::kZero, volume->timeline(), "");
  const BlockIndex new_end(size_bytes >> kBlockShift);
  zero.range = {new_end, Distance(new_end, BlockIndex(volume->size_bytes() >> kBlockShift))};
  const BlockRange range = zero.range;
  std::vector<LogEntry> entries;
  entries.push_back(std::move(zero));
  entries.push_back(Record(EntryKind::kResize, volume->timeline(), EncodeResize({size_bytes})));
  co_await volume->CloseAdmission();
  const ClosedAdmission closed(volume);
  absl::Status status = co_await volume->AppendRecords(std::move(entries), range, RoomFor::kDelete);
  if (status.ok()) volume->SetSize(size_bytes);
  co_return status;
}

static Task<absl::Status> Grow(Volume* volume, uint64_t size_bytes) {
  std::vector<LogEntry> entries;
  entries.push_back(Record(EntryKind::kResize, volume->timeline(), EncodeResize({size_bytes})));
  absl::Status status =
      co_await volume->AppendRecords(std::move(entries), BlockRange(), RoomFor::kRecord);
  if (status.ok()) volume->SetSize(size_bytes);
  co_return status;
}

Task<absl::StatusOr<VolumeInfo>> ResizeVolume(PoolState* pool, std::string name,
                                              uint64_t size_bytes, bool force) {
  TF_CO_RETURN_IF_ERROR(CheckSize(size_bytes));
  TF_CO_ASSIGN_OR_RETURN(Volume* const volume, pool->FindVolume(name));
  absl::Status status;
  if (size_bytes > volume->size_bytes()) {
    status = co_await Grow(volume, size_bytes);
  } else if (size_bytes < volume->size_bytes()) {
    if (!force) {
      co_return absl::FailedPreconditionError(
          absl::StrCat("shrinking ", name, " from ", volume->size_bytes(), " to ", size_bytes,
                       " bytes gives up what lies beyond; say --force if that is meant"));
    }
    if (volume->head_mounts() > 0) co_return ClientsConnected(name, volume->head_mounts());
    status = co_await Shrink(volume, size_bytes);
  }
  TF_CO_RETURN_IF_ERROR(status);
  co_return pool->Describe(pool->catalogue().volumes().at(volume->id()));
}

Task<absl::Status> DeleteVolume(PoolState* pool, std::string name, bool force) {
  pool->Reap();
  TF_CO_ASSIGN_OR_RETURN(Volume* const volume, pool->FindVolume(name));
  const VolumeInfo info = pool->Describe(pool->catalogue().volumes().at(volume->id()));
  if (!force && info.mounts > 0) co_return ClientsConnected(name, info.mounts);
  if (!force && info.snapshots > 0) {
    co_return absl::FailedPreconditionError(
        absl::StrCat(name, " has ", info.snapshots,
                     " snapshots, which would go with it; say --force if that is meant"));
  }
  volume->RevokeAllMounts("the volume is being deleted");
  co_await volume->CloseAdmission();
  ClosedAdmission closed(volume);
  // Reads too: once the record is committed their blocks may be reused.
  co_await volume->WaitForCalls();
  LogEntry entry =
      Record(EntryKind::kVolumeDelete, TimelineId(), EncodeVolumeDelete({volume->id()}));
  absl::Status status = co_await pool->AppendToCatalogue(std::move(entry), RoomFor::kDelete);
  TF_CO_RETURN_IF_ERROR(status);
  closed.LeaveClosed();
  TF_LOG(INFO) << "volume " << name << " deleted, id " << volume->id();
  const auto it = pool->volumes.find(volume->id());
  pool->deleted.push_back(std::move(it->second));
  pool->volumes.erase(it);
  pool->Reap();
  co_return absl::OkStatus();
}

// ---- Snapshots ----------------------------------------------------------------------------------

namespace {

struct GroupMember {
  Volume* volume = nullptr;
  SnapshotId id;
  Change change;
  Sequencer::Request request;
};

absl::Status CheckGroup(PoolState* pool, const std::vector<SnapshotName>& names) {
  if (names.empty()) return absl::InvalidArgumentError("no snapshot was named");
  if (names.size() > kMaxGroupMembers) {
    return absl::InvalidArgumentError(
        absl::StrCat("at most ", kMaxGroupMembers, " snapshots at once, not ", names.size()));
  }
  std::set<std::string> volumes;
  for (const SnapshotName& name : names) {
    TF_RETURN_IF_ERROR(CheckName(name.snapshot));
    TF_ASSIGN_OR_RETURN(Volume* const volume, pool->FindVolume(name.volume));
    if (pool->catalogue().FindSnapshot(volume->id(), name.snapshot) != nullptr) {
      return absl::AlreadyExistsError(
          absl::StrCat("there is a snapshot ", name.ToString(), " already"));
    }
    if (!volumes.insert(name.volume).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(name.volume, " is named twice; one instant has one state"));
    }
  }
  return absl::OkStatus();
}

// Gives the ids: one after the other from what the catalogue has next (M3).
void PrepareGroup(PoolState* pool, const std::vector<SnapshotName>& names,
                  std::deque<GroupMember>* members) {
  SnapshotBody body;
  for (const SnapshotName& name : names) {
    GroupMember& member = members->emplace_back();
    member.volume = *pool->FindVolume(name.volume);
    body.group_members.push_back(member.volume->id());
  }
  if (members->size() == 1) {
    body.group_members.clear();
  } else {
    body.group = pool->catalogue().next_group_id();
  }
  body.id = pool->catalogue().next_snapshot_id();
  for (size_t i = 0; i < members->size(); ++i) {
    GroupMember& member = (*members)[i];
    member.id = body.id;
    body.name = names[i].snapshot;
    member.change.Add(Record(EntryKind::kSnapshot, member.volume->timeline(), EncodeSnapshot(body)),
                      {});
    body.id = body.id.Next();
  }
}

// R34: no member gives a Seq between the first snapshot's and the last one's, because nothing
// suspends while they are given: that is the one instant (P4). No member is committed before every
// member is in every log, so that after a crash a group is either complete or wholly uncommitted.
Task<absl::Status> AppendGroup(PoolState* pool, std::deque<GroupMember>* members) {
  Reservation room(&pool->set);
  absl::Status status = co_await room.Take(BlockCount(0), members->size(), RoomFor::kRecord);
  TF_CO_RETURN_IF_ERROR(status);
  TF_CO_RETURN_IF_ERROR(pool->set.health());
  room.Use();
  const ReplicaSet::InFlight replicas(&pool->set);
  std::vector<Task<absl::Status>> appends;
  for (GroupMember& member : *members) {
    Stream& stream = member.volume->stream();
    stream.Begin(&member.change, &member.request);
    for (size_t i = 0; i < replicas.size(); ++i) {
      appends.push_back(stream.Send(&member.change, 0, *replicas[i]));
    }
  }
  const std::vector<absl::Status> results = co_await WhenAll(std::move(appends));
  ReplicaSet::Members failed;
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i].ok()) continue;
    ReplicaSet::Member* const replica = replicas[i % replicas.size()];
    pool->set.Fail(replica, results[i]);
    failed.push_back(replica);
  }
  bool ok = true;
  if (!failed.empty()) ok = co_await pool->set.WaitUntilOut(std::move(failed));
  for (GroupMember& member : *members) member.volume->stream().Finish(&member.request, ok);
  for (GroupMember& member : *members) {
    absl::Status settled = co_await member.volume->stream().Settled(&member.request);
    if (status.ok()) status = settled;
  }
  for (GroupMember& member : *members) {
    if (!status.ok()) break;
    status = co_await member.volume->MakeRecordsDurable();
  }
  co_return status;
}

}  // namespace

Task<absl::StatusOr<std::vector<SnapshotInfo>>> CreateSnapshots(PoolState* pool,
                                                                std::vector<SnapshotName> names) {
  TF_CO_RETURN_IF_ERROR(CheckGroup(pool, names));
  std::deque<GroupMember> members;
  PrepareGroup(pool, names, &members);
  absl::Status status = co_await AppendGroup(pool, &members);
  TF_CO_RETURN_IF_ERROR(status);
  std::vector<SnapshotInfo> infos;
  for (const GroupMember& member : members) {
    infos.push_back(pool->Describe(pool->catalogue().snapshots().at(member.id)));
  }
  co_return infos;
}

Task<absl::Status> DeleteSnapshot(PoolState* pool, SnapshotName name) {
  TF_CO_ASSIGN_OR_RETURN(Volume* const volume, pool->FindVolume(name.volume));
  TF_CO_ASSIGN_OR_RETURN(const SnapshotRecord* const found, pool->FindSnapshot(name));
  const SnapshotRecord snapshot = *found;
  const size_t mounts = volume->mounts_of(snapshot.timeline, snapshot.position);
  if (mounts > 0) co_return ClientsConnected(name.ToString(), mounts);
  std::vector<LogEntry> entries;
  entries.push_back(
      Record(EntryKind::kSnapshotDelete, snapshot.timeline, EncodeSnapshotDelete({snapshot.id})));
  pool->snapshot_in_deletion = snapshot.id;  // nobody can mount it from here on
  absl::Status status =
      co_await volume->AppendRecords(std::move(entries), BlockRange(), RoomFor::kDelete);
  pool->snapshot_in_deletion.reset();
  co_return status;
}

// ---- Rollback -----------------------------------------------------------------------------------

// R37. A crash leaves the volume where it was, with or without the snapshot of where it was, or on
// the new timeline.
Task<absl::StatusOr<SnapshotInfo>> Rollback(PoolState* pool, SnapshotName name, bool force) {
  TF_CO_ASSIGN_OR_RETURN(Volume* const volume, pool->FindVolume(name.volume));
  TF_CO_ASSIGN_OR_RETURN(const SnapshotRecord* const found, pool->FindSnapshot(name));
  const SnapshotRecord target = *found;
  if (!force && volume->head_mounts() > 0) {
    co_return Annotate(ClientsConnected(name.volume, volume->head_mounts()),
                       "a rollback takes the volume away under its clients; disconnect them, or "
                       "say --force");
  }
  volume->RevokeHeadMounts(absl::StrCat("the volume is being rolled back to ", name.snapshot));
  co_await volume->CloseAdmission();
  const ClosedAdmission closed(volume);

  SnapshotBody kept;
  kept.id = pool->catalogue().next_snapshot_id();
  kept.name = RollbackSnapshotName(pool->catalogue(), volume->id());
  kept.before_rollback = true;
  TimelineStartBody start;
  start.id = pool->catalogue().next_timeline_id();
  start.parent = target.timeline;
  start.fork = target.position;
  start.size_bytes = target.size_bytes;
  std::vector<LogEntry> entries;
  entries.push_back(Record(EntryKind::kSnapshot, volume->timeline(), EncodeSnapshot(kept)));
  entries.push_back(Record(EntryKind::kTimelineStart, start.id, EncodeTimelineStart(start)));
  absl::Status status =
      co_await volume->AppendRecords(std::move(entries), BlockRange(), RoomFor::kRecord);
  TF_CO_RETURN_IF_ERROR(status);
  volume->SetTimeline(start.id);
  volume->SetSize(target.size_bytes);
  TF_LOG(INFO) << name.volume << " rolled back to " << name.snapshot
               << ", its state before is kept as " << name.volume << "@" << kept.name;
  co_return pool->Describe(pool->catalogue().snapshots().at(kept.id));
}

}  // namespace twofold
