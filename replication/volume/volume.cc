#include "replication/volume/volume.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/volume/block_split.h"
#include "storage/base/check.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"

namespace twofold {

Volume::Volume(const VolumeRecord& record, VolumeParts parts, Position end, WallNanos last_stamp)
    : name_(record.name),
      ack_(static_cast<AckMode>(record.ack)),
      on_set_loss_(static_cast<OnSetLoss>(record.on_set_loss)),
      parts_(parts),
      size_bytes_(record.size_bytes),
      timeline_(record.current_timeline),
      stream_(record.id, parts.set, end, last_stamp) {}

Volume::~Volume() {
  TF_CHECK(mounts_.empty()) << name_ << " still has clients";
  TF_CHECK_EQ(slots_.available(), kMaxInFlightPerVolume);
}

absl::Status Volume::CheckRange(const Mount& mount, uint64_t offset, uint64_t length) const {
  TF_RETURN_IF_ERROR(mount.revoked_);
  return Annotate(CheckByteRange(offset, length, mount.size_bytes()), mount.name());
}

absl::Status Volume::CheckNotBlocked() const {
  if (on_set_loss_ == OnSetLoss::kContinue || !parts_.set->degraded()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(
      name_,
      " has on-set-loss=block, and a set of the pool is missing: it opens again when that is "
      "back (`twofold status` says what to do). Its snapshots can be read"));
}

size_t Volume::head_mounts() const {
  return static_cast<size_t>(std::count_if(mounts_.begin(), mounts_.end(),
                                           [](const Mount* mount) { return !mount->read_only(); }));
}

size_t Volume::mounts_of(TimelineId timeline, Position as_of) const {
  return static_cast<size_t>(
      std::count_if(mounts_.begin(), mounts_.end(), [timeline, as_of](const Mount* mount) {
        return mount->timeline_ == timeline && mount->as_of_ == as_of;
      }));
}

void Volume::Revoke(Mount* mount, const std::string& why) {
  if (!mount->revoked_.ok()) return;
  mount->revoked_ = absl::AbortedError(absl::StrCat(mount->name(), ": ", why));
  // The callback may do what it likes, unregister the mount included.
  const std::function<void()> on_revoked = std::exchange(mount->on_revoked_, nullptr);
  if (on_revoked) on_revoked();
}

void Volume::RevokeHeadMounts(const std::string& why) {
  const std::vector<Mount*> mounts(mounts_.begin(), mounts_.end());
  for (Mount* mount : mounts) {
    if (mounts_.contains(mount) && !mount->read_only()) Revoke(mount, why);
  }
  admission_opened_.WakeAll();  // who waits for it looks at its mount again
  parts_.set->Wake();
}

void Volume::RevokeAllMounts(const std::string& why) {
  const std::vector<Mount*> mounts(mounts_.begin(), mounts_.end());
  for (Mount* mount : mounts) {
    if (mounts_.contains(mount)) Revoke(mount, why);
  }
  admission_opened_.WakeAll();
  parts_.set->Wake();
}

Task<void> Volume::CloseAdmission() {
  TF_CHECK(!admission_closed_);
  admission_closed_ = true;
  while (!stream_.sequencer().idle()) co_await stream_.sequencer().Drained();
}

void Volume::OpenAdmission() {
  TF_CHECK(admission_closed_);
  admission_closed_ = false;
  admission_opened_.WakeAll();
}

Task<absl::Status> Volume::AppendRecords(std::vector<LogEntry> entries, BlockRange range,
                                         RoomFor use) {
  Change change;
  change.range = range;
  for (LogEntry& entry : entries) change.Add(std::move(entry), {});
  Reservation room(parts_.set);
  absl::Status status = co_await room.Take(BlockCount(0), change.entries.size(), use);
  TF_CO_RETURN_IF_ERROR(status);
  TF_CO_RETURN_IF_ERROR(parts_.set->health());
  room.Use();
  status = co_await stream_.Append(&change, /*hold=*/nullptr);
  TF_CO_RETURN_IF_ERROR(status);
  co_return co_await MakeRecordsDurable();
}

// With ack=written the writes before a record may not be durable, and a log is a prefix.
Task<absl::Status> Volume::MakeRecordsDurable() {
  if (ack_ == AckMode::kDurable) co_return absl::OkStatus();
  co_return co_await parts_.set->Flush();
}

Task<void> Volume::WaitForCalls() {
  // Whoever has all slots is alone; those that queued behind find their mount revoked.
  co_await slots_.Acquire(kMaxInFlightPerVolume);
  slots_.Release(kMaxInFlightPerVolume);
}

}  // namespace twofold
