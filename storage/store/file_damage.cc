// Damage that lies in no segment, or in files of which nobody can tell what they hold.
//
// The superblock is in memory, so what is damaged of it is written again, both slots of it, in
// every directory. A file of the log without a valid header holds nothing that anybody could
// verify; it is made anew. Only while a segment is lost it stays: its blocks may be in there, and
// the other set may not have them.
#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/log/superblock.h"
#include "storage/runtime/executor.h"
#include "storage/store/store.h"

namespace twofold {
namespace {

// Each write is of one of the two slots.
constexpr int kSlots = 2;

}  // namespace

void Store::NoteFileDamage(const std::string& where, const std::string& what) {
  if (stopping_ || !failed_.ok()) return;
  const auto number = static_cast<uint32_t>(damaged_files_.size());
  const auto known = damaged_files_.try_emplace(where, number).first;
  DamagedPlace place;
  place.first = {SegmentNumber(), known->second};
  place.where = where;
  place.what = what;
  AddDamage(std::move(place));
}

void Store::NoteSuperblockDamage(const std::vector<SuperblockDamage>& damage) {
  for (const SuperblockDamage& one : damage) {
    damage_.push_back({SegmentNumber(), 0, one.what, one.where});
  }
}

// What was found is healed when nothing of it is there any more.
Task<absl::Status> Store::RepairFiles() {
  absl::Status status = co_await RepairSuperblocks();
  const absl::Status files = co_await RepairLogFiles();
  if (status.ok()) status = files;
  if (status.ok()) {
    damage_list_.Heal(SegmentNumber(), Executor::Current().WallNow());
  } else {
    damage_list_.NoteFailure(SegmentNumber(), std::string(status.message()));
  }
  co_return status;
}

Task<absl::Status> Store::RepairSuperblocks() {
  absl::StatusOr<std::vector<SuperblockDamage>> damage =
      co_await CheckSuperblocks(devices_, superblock_);
  TF_CO_RETURN_IF_ERROR(damage);
  if (damage->empty()) co_return absl::OkStatus();
  for (int slot = 0; slot < kSlots; ++slot) {
    absl::StatusOr<Superblock> superblock = co_await UpdateSuperblock(devices_, superblock_);
    TF_CO_RETURN_IF_ERROR(superblock);
    superblock_ = *std::move(superblock);
  }
  damage = co_await CheckSuperblocks(devices_, superblock_);
  TF_CO_RETURN_IF_ERROR(damage);
  if (damage->empty()) {
    TF_LOG(INFO) << place_ << ": the superblock was written again";
    co_return absl::OkStatus();
  }
  co_return absl::DataLossError(
      absl::StrCat(damage->front().what, ", also after it was written again"));
}

Task<absl::Status> Store::RepairLogFiles() {
  const std::vector<std::string> files = log_->DamagedFiles();
  if (files.empty()) co_return absl::OkStatus();
  const std::vector<SegmentNumber> lost = LostSegments();
  if (!lost.empty()) {
    co_return absl::FailedPreconditionError(
        absl::StrCat(absl::StrJoin(files, ", "), ": kept until what segment ", lost.front().value(),
                     " has lost is healed"));
  }
  absl::Status status = co_await log_->ReuseDamagedFiles();
  if (status.ok()) {
    TF_LOG(INFO) << place_ << ": made anew, since nobody could tell what it holds: "
                 << absl::StrJoin(files, ", ");
  }
  co_return status;
}

std::vector<SegmentNumber> Store::LostSegments() const {
  std::vector<SegmentNumber> lost;
  for (const auto& [segment, info] : table_.segments()) {
    if (!log_->HasFile(segment)) lost.push_back(segment);
  }
  return lost;
}

}  // namespace twofold
