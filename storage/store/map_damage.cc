// What happens when the map turns out to be damaged while the store is open (M12): it is never
// taken for empty, it is marked, so that opening the store again makes it anew from the log, and
// the store leaves the pool, so that this happens. The last copy stays: what its map still says is
// worth more than nothing.
#include "absl/strings/str_cat.h"
#include "storage/base/log.h"
#include "storage/store/store.h"

namespace twofold {

// Marked before it fails: whoever opens it again after that finds the mark.
Task<void> Store::NoteMapDamage(absl::Status status) {
  if (!absl::IsDataLoss(status) || map_damaged_ || stopping_ || options_.read_only) co_return;
  map_damaged_ = true;
  const std::string what = absl::StrCat("the map of set ", superblock_.set_name, " (", place_,
                                        ") is DAMAGED: ", status.message());
  const absl::Status marked = co_await parts_.metadata->MarkDamaged(std::string(status.message()));
  if (!marked.ok()) TF_LOG(ERROR) << place_ << ": " << marked.message();
  if (attach_.in_sync.size() > 1) {
    Fail(absl::DataLossError(
        absl::StrCat(what, "; it is rebuilt from the log when the set is opened again")));
  } else {
    TF_LOG(ERROR) << what << "; what it still says goes on being served, since there is no other "
                  << "copy. Start the daemon again: the map is rebuilt from the log then";
  }
}

}  // namespace twofold
