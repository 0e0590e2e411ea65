#include "replication/pair/replica_set.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/sync.h"

namespace twofold {
namespace {

using Extents = std::vector<BlockExtent>;

static_assert(kMaxReplicas <= 32, "PickReader keeps what it tried in 32 bits");

std::string Describe(const Replica& replica) {
  return absl::StrCat("set ", replica.set_name(), " (", replica.place(), ")");
}

// What a person reads when writes are refused.
absl::Status OfflineStatus(const Replica& replica, const absl::Status& reason) {
  if (absl::IsAborted(reason)) {
    return absl::AbortedError(absl::StrCat(
        Describe(replica), " is sealed by another head, this one has ended: ", reason.message()));
  }
  return absl::UnavailableError(absl::StrCat(
      Describe(replica), " failed, writes are refused so that no set falls behind: ",
      reason.message(), ". Repair it, then restart the daemon; reads go on from the other set"));
}

}  // namespace

ReplicaSet::ReplicaSet(std::vector<Replica*> in_sync, Generation generation)
    : in_sync_(std::move(in_sync)), generation_(generation) {
  TF_CHECK(!in_sync_.empty() && in_sync_.size() <= kMaxReplicas);
  for (Replica* replica : in_sync_) members_.push_back({replica});
}

const Catalogue& ReplicaSet::catalogue() const {
  for (const Member& member : members_) {
    if (!member.failed) return member.replica->catalogue();
  }
  return in_sync_.front()->catalogue();
}

void ReplicaSet::Fail(const Replica* replica, const absl::Status& reason) {
  for (Member& member : members_) {
    if (member.replica != replica || member.failed) continue;
    member.failed = true;
    const absl::Status status = OfflineStatus(*replica, reason);
    TF_LOG(ERROR) << status.message();
    if (health_.ok()) health_ = status;
  }
}

const absl::Status& ReplicaSet::CheckHealth() {
  for (const Member& member : members_) {
    if (member.failed) continue;
    const absl::Status health = member.replica->health();
    if (!health.ok()) Fail(member.replica, health);
  }
  return health_;
}

bool ReplicaSet::TryReserve(BlockCount blocks, uint64_t entries) {
  if (!health_.ok()) return false;
  for (size_t i = 0; i < members_.size(); ++i) {
    if (members_[i].replica->TryReserve(blocks, entries)) continue;
    while (i > 0) members_[--i].replica->Release(blocks, entries);
    return false;
  }
  return true;
}

Task<absl::Status> ReplicaSet::Reserve(BlockCount blocks, uint64_t entries, RoomFor use) {
  TF_CO_RETURN_IF_ERROR(health_);
  // One after the other and always in the same order, so that two that wait for room can't wait for
  // each other.
  for (size_t i = 0; i < members_.size(); ++i) {
    Replica* replica = members_[i].replica;
    absl::Status status = co_await replica->Reserve(blocks, entries, use);
    if (status.ok()) continue;
    while (i > 0) members_[--i].replica->Release(blocks, entries);
    if (absl::IsResourceExhausted(status)) co_return status;
    Fail(replica, status);
    co_return health_;
  }
  co_return absl::OkStatus();
}

void ReplicaSet::Release(BlockCount blocks, uint64_t entries) {
  for (const Member& member : members_) member.replica->Release(blocks, entries);
}

void ReplicaSet::Commit(VolumeId volume, Position position) {
  for (const Member& member : members_) member.replica->Commit(volume, position);
}

Task<absl::Status> ReplicaSet::Flush() {
  TF_CO_RETURN_IF_ERROR(health_);
  std::vector<Task<absl::Status>> tasks;
  for (const Member& member : members_) tasks.push_back(member.replica->Flush());
  const std::vector<absl::Status> results = co_await WhenAll(std::move(tasks));
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i].ok()) Fail(members_[i].replica, results[i]);
  }
  co_return health_;
}

ReplicaSet::Member* ReplicaSet::PickReader(uint32_t* tried) {
  Member* best = nullptr;
  for (size_t i = 0; i < members_.size(); ++i) {
    const size_t index = (turn_ + i) % members_.size();
    Member& member = members_[index];
    if (member.failed || (*tried & (uint32_t{1} << index)) != 0) continue;
    if (best == nullptr || member.reading < best->reading) best = &member;
  }
  if (best == nullptr) return nullptr;
  const size_t index = static_cast<size_t>(best - members_.data());
  *tried |= uint32_t{1} << index;
  turn_ = (index + 1) % members_.size();
  // It may have failed on its own since it was last used, and not applied what was committed then:
  // it would show the past (P6).
  const absl::Status health = best->replica->health();
  if (health.ok()) return best;
  Fail(best->replica, health);
  return PickReader(tried);
}

void ReplicaSet::NoteReadError(const Member& member, TimelineId timeline, BlockRange range,
                               const absl::Status& error, absl::Status* worst) const {
  TF_LOG(WARNING) << Describe(*member.replica) << ": reading " << range.count
                  << " blocks from block " << range.first << " of timeline " << timeline
                  << " failed, trying another set: " << error;
  if (worst->ok() || absl::IsDataLoss(error)) *worst = error;
}

Task<absl::StatusOr<Extents>> ReplicaSet::Read(TimelineId timeline, Position as_of,
                                               BlockRange range, absl::Span<std::byte> into) {
  uint32_t tried = 0;
  absl::Status worst;
  while (Member* member = PickReader(&tried)) {
    ++member->reading;
    absl::StatusOr<Extents> extents = co_await member->replica->Read(timeline, as_of, range, into);
    --member->reading;
    if (extents.ok()) co_return extents;
    NoteReadError(*member, timeline, range, extents.status(), &worst);
  }
  if (worst.ok()) co_return health_;  // nobody could be asked
  // Each set may have lost another block of it.
  if (absl::IsDataLoss(worst) && range.count > BlockCount(1)) {
    co_return co_await ReadBlockwise(timeline, as_of, range, into);
  }
  co_return worst;
}

Task<absl::StatusOr<Extents>> ReplicaSet::ReadBlockwise(TimelineId timeline, Position as_of,
                                                        BlockRange range,
                                                        absl::Span<std::byte> into) {
  Extents all;
  for (uint64_t i = 0; i < range.count.value(); ++i) {
    const BlockRange block{range.first + BlockCount(i), BlockCount(1)};
    absl::StatusOr<Extents> extents =
        co_await Read(timeline, as_of, block, into.subspan(i * kBlockSize, kBlockSize));
    TF_CO_RETURN_IF_ERROR(extents);
    for (const BlockExtent& extent : *extents) {
      if (!all.empty() && all.back().data == extent.data) {
        all.back().range.count += extent.range.count;
      } else {
        all.push_back(extent);
      }
    }
  }
  co_return all;
}

Task<absl::StatusOr<Extents>> ReplicaSet::Status(TimelineId timeline, Position as_of,
                                                 BlockRange range, size_t max_extents) {
  uint32_t tried = 0;
  absl::Status worst;
  while (Member* member = PickReader(&tried)) {
    ++member->reading;
    absl::StatusOr<Extents> extents =
        co_await member->replica->Status(timeline, as_of, range, max_extents);
    --member->reading;
    if (extents.ok()) co_return extents;
    NoteReadError(*member, timeline, range, extents.status(), &worst);
  }
  if (worst.ok()) co_return health_;
  co_return worst;
}

}  // namespace twofold
