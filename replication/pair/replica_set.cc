#include "replication/pair/replica_set.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

using Extents = std::vector<BlockExtent>;

static_assert(kMaxReplicas <= 32, "PickReader keeps what it tried in 32 bits");

std::string Describe(const Replica& replica) {
  return absl::StrCat("set ", replica.set_name(), " (", replica.place(), ")");
}

// Counts a read for as long as it runs.
class Reading {
 public:
  explicit Reading(ReplicaSet::Member* member) : member_(member) {
    ++member_->users;
    ++member_->begun;
    ++member_->reading;
  }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;
  ~Reading() {
    --member_->users;
    --member_->reading;
  }

 private:
  ReplicaSet::Member* const member_;
};

}  // namespace

ReplicaSet::ReplicaSet(std::vector<Replica*> in_sync, Membership membership, Witness* witness)
    : membership_(std::move(membership)), witness_(witness), last_version_(membership_.version) {
  TF_CHECK(!in_sync.empty() && in_sync.size() <= kMaxReplicas);
  for (Replica* replica : in_sync) {
    members_.push_back(std::make_unique<Member>());
    members_.back()->replica = replica;
    members_.back()->slot = static_cast<uint32_t>(in_sync_.size());
    members_.back()->joined = Executor::Current().WallNow();
    in_sync_.push_back(members_.back().get());
  }
}

ReplicaSet::~ReplicaSet() {
  TF_CHECK(stopping_) << "Stop() was not called";
  for (const auto& member : members_) TF_CHECK_EQ(member->users, 0u);
}

Task<void> ReplicaSet::Stop() {
  stopping_ = true;
  stop_.Cancel();
  co_await scope_.Join();
}

const Catalogue& ReplicaSet::catalogue() const {
  for (const Member* member : in_sync_) {
    if (!member->failed) return member->replica->catalogue();
  }
  return in_sync_.front()->replica->catalogue();
}

const absl::Status& ReplicaSet::CheckHealth() {
  for (Member* member : in_sync_) {
    if (member->failed) continue;
    const absl::Status health = member->replica->health();
    if (!health.ok()) Fail(member, health);
  }
  return health_;
}

bool ReplicaSet::TryReserve(BlockCount blocks, uint64_t entries) {
  if (!health_.ok() || dropping_) return false;
  for (size_t i = 0; i < in_sync_.size(); ++i) {
    if (in_sync_[i]->replica->TryReserve(blocks, entries)) continue;
    while (i > 0) in_sync_[--i]->replica->Release(blocks, entries);
    return false;
  }
  return true;
}

Task<absl::Status> ReplicaSet::Reserve(BlockCount blocks, uint64_t entries, RoomFor use) {
  while (true) {
    while (changing()) co_await changed_.Wait();
    TF_CO_RETURN_IF_ERROR(health_);
    const InFlight members(this);
    // One after the other and always in the same order, so that two that wait for room can't wait
    // for each other.
    absl::Status status;
    size_t reserved = 0;
    while (reserved < members.size()) {
      status = co_await members[reserved]->replica->Reserve(blocks, entries, use);
      if (!status.ok()) break;
      ++reserved;
    }
    if (status.ok()) co_return status;
    Member* const refused = members[reserved];
    while (reserved > 0) members[--reserved]->replica->Release(blocks, entries);
    if (absl::IsResourceExhausted(status)) co_return status;
    Fail(refused, status);
  }
}

void ReplicaSet::Release(BlockCount blocks, uint64_t entries, uint64_t epoch) {
  for (const Member* member : in_sync_) {
    if (member->since <= epoch) member->replica->Release(blocks, entries);
  }
}

void ReplicaSet::Commit(VolumeId volume, Position position) {
  for (const Member* member : in_sync_) member->replica->Commit(volume, position);
}

Task<absl::Status> ReplicaSet::Flush() {
  TF_CO_RETURN_IF_ERROR(health_);
  const InFlight members(this);
  std::vector<Task<absl::Status>> tasks;
  for (size_t i = 0; i < members.size(); ++i) tasks.push_back(members[i]->replica->Flush());
  const std::vector<absl::Status> results = co_await WhenAll(std::move(tasks));
  Members failed;
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i].ok()) continue;
    Fail(members[i], results[i]);
    failed.push_back(members[i]);
  }
  if (failed.empty()) co_return absl::OkStatus();
  const bool out = co_await WaitUntilOut(std::move(failed));
  if (out) co_return absl::OkStatus();
  co_return health_;
}

// Of the healthy members not in `tried` the one with the fewest reads under way, in turn where
// there are several; null when none is left. Puts it into `tried`.
ReplicaSet::Member* ReplicaSet::PickReader(uint32_t* tried) {
  Member* best = nullptr;
  for (size_t i = 0; i < in_sync_.size(); ++i) {
    Member* member = in_sync_[(turn_ + i) % in_sync_.size()];
    if (member->failed || (*tried & (uint32_t{1} << member->slot)) != 0) continue;
    if (best == nullptr || member->reading < best->reading) best = member;
  }
  if (best == nullptr) return nullptr;
  *tried |= uint32_t{1} << best->slot;
  turn_ = best->slot + 1;
  // It may have failed on its own since it was last used, and not applied what was committed then:
  // it would show the past (P6).
  const absl::Status health = best->replica->health();
  if (health.ok()) return best;
  Fail(best, health);
  return PickReader(tried);
}

// Keeps the error to report, should no replica have the blocks; writes each to the log.
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
    const Reading reading(member);
    absl::StatusOr<Extents> extents = co_await member->replica->Read(timeline, as_of, range, into);
    if (extents.ok()) co_return extents;
    NoteReadError(*member, timeline, range, extents.status(), &worst);
  }
  if (worst.ok()) {
    // Nobody could be asked: each has failed, and it will be known soon what comes of that.
    while (changing()) co_await changed_.Wait();
    TF_CO_RETURN_IF_ERROR(health_);
    co_return co_await Read(timeline, as_of, range, into);
  }
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
    const Reading reading(member);
    absl::StatusOr<Extents> extents =
        co_await member->replica->Status(timeline, as_of, range, max_extents);
    if (extents.ok()) co_return extents;
    NoteReadError(*member, timeline, range, extents.status(), &worst);
  }
  if (worst.ok()) {
    // Nobody could be asked: each has failed, and it will be known soon what comes of that.
    while (changing()) co_await changed_.Wait();
    TF_CO_RETURN_IF_ERROR(health_);
    co_return co_await Status(timeline, as_of, range, max_extents);
  }
  co_return worst;
}

}  // namespace twofold
