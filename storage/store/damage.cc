// Remembering what is damaged (P7): damage_list.h.
#include "absl/strings/str_cat.h"
#include "storage/base/log.h"
#include "storage/runtime/executor.h"
#include "storage/store/store.h"

namespace twofold {

void Store::NoteDamage(LogAddress first, uint32_t count, const std::string& what) {
  // A device that is gone, or being closed, says nothing of what is on it.
  if (stopping_ || !failed_.ok()) return;
  DamagedPlace place;
  place.first = first;
  place.count = count;
  place.where = log_->Locate(first);
  place.what = what;
  AddDamage(std::move(place));
}

void Store::AddDamage(DamagedPlace place) {
  place.seen = Executor::Current().WallNow();
  const std::string text = place.first.segment == SegmentNumber()
                               ? place.where
                               : absl::StrCat("segment ", place.first.segment.value(), ", block ",
                                              place.first.block, " (", place.where, ")");
  const std::string what = place.what;
  if (!damage_list_.Note(std::move(place))) return;
  TF_LOG(ERROR) << "set " << superblock_.set_name << " is DAMAGED: " << text << ": " << what;
}

// What opening has found.
void Store::NoteDamageFound() {
  for (const LogDamage& damage : damage_) {
    if (damage.segment == SegmentNumber()) {
      NoteFileDamage(damage.where.empty() ? place_ : damage.where, damage.what);
    } else {
      NoteDamage({damage.segment, damage.block}, 0, damage.what);
    }
  }
}

// After cleaning: blocks that are not needed there any more are healed. The segment as a whole is
// once its file is not needed either (Repair).
void Store::SettleDamage(SegmentNumber segment, const absl::Status& cleaned) {
  if (!damage_list_.Has(segment)) return;
  damage_list_.HealDead(segment, Executor::Current().WallNow(),
                        [this](uint32_t block) { return cleaning_->live.Test(block); });
  if (!cleaned.ok()) damage_list_.NoteFailure(segment, std::string(cleaned.message()));
}

}  // namespace twofold
