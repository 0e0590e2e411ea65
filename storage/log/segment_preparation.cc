// The half of SegmentFiles that gives slots new lives (R16).
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/segment_files.h"

namespace twofold {

Task<absl::StatusOr<SegmentNumber>> SegmentFiles::Prepare(Incarnation incarnation) {
  if (!CanPrepare()) {
    co_return absl::ResourceExhaustedError(file_system_full_
                                               ? "no segment is free, and the file system is full"
                                               : "no segment is free");
  }
  TF_CHECK_EQ(preparing_, 0u);
  // A file of another length is made anew.
  const bool recycled = !free_.empty() && wrong_length_.erase(free_.begin()->first) == 0;
  const uint64_t slot = TakeSlot();
  preparing_ = 1;
  const SegmentIdentity identity = NewIdentity(slot, incarnation);
  absl::Status prepared = co_await PrepareSlot(slot, identity, recycled);
  preparing_ = 0;
  if (!prepared.ok()) {
    // A file that could not be made is tried again; after any other failure the log stops.
    if (slots_[slot].state == State::kPreparing) slots_[slot].state = State::kBlank;
    empty_slots_.insert(slot);
    if (absl::IsResourceExhausted(prepared)) file_system_full_ = true;
    co_return Annotate(prepared, absl::StrCat("making ", slots_[slot].file.device->name(), "/",
                                              slots_[slot].file.path, " ready"));
  }
  slots_[slot].file.identity = identity;
  slots_[slot].state = State::kReady;
  ready_.emplace(identity.segment, slot);
  co_return identity.segment;
}

const SegmentFile& SegmentFiles::Use(SegmentNumber segment) {
  const auto found = ready_.find(segment);
  TF_CHECK(found != ready_.end()) << "segment " << segment;
  const uint64_t slot = found->second;
  ready_.erase(found);
  held_.emplace(segment, slot);
  slots_[slot].state = State::kInUse;
  return slots_[slot].file;
}

Task<absl::Status> SegmentFiles::Remake(SegmentNumber segment) {
  const auto found = free_.find(segment);
  // The writer does not wait for it.
  if (found == free_.end() || free_.size() + ready_.size() <= kReadySegments) {
    co_return absl::OkStatus();
  }
  const uint64_t slot = found->second;
  free_.erase(found);
  slots_[slot].state = State::kPreparing;
  ++remaking_;
  SegmentFile& file = slots_[slot].file;
  absl::Status made = co_await file.device->Allocate(file.handle, options_.segment_bytes);
  if (made.ok()) {
    AlignedBytes block(kBlockSize);
    const iovec piece = Piece(block.span());
    file.identity.slot = SlotIndex(slot);  // It may have come from another one.
    EncodeHeaderBlock(file.identity, block.span());
    made = co_await file.device->Write(file.handle, 0, absl::MakeConstSpan(&piece, 1),
                                       Durability::kDurable);
  }
  wrong_length_.erase(segment);
  --remaking_;
  if (made.ok()) {
    slots_[slot].state = State::kFree;
    free_.emplace(segment, slot);
  } else {
    // Made again before it is used, also after a crash.
    slots_[slot].state = State::kBlank;
    empty_slots_.insert(slot);
  }
  co_return Annotate(made, absl::StrCat("making ", file.device->name(), "/", file.path, " anew"));
}

// The log goes on without what may be in them, so a crash in the middle finds them damaged still,
// or blank. With a header they are told from files that have lost what was in them.
Task<absl::Status> SegmentFiles::ReuseDamaged() {
  while (!damaged_.empty()) {
    const uint64_t slot = damaged_.begin()->first;
    SegmentFile& file = slots_[slot].file;
    const SegmentIdentity identity = NewIdentity(slot, last_incarnation_);
    absl::Status made = co_await PrepareSlot(slot, identity, /*recycled=*/false);
    // Until it is done it is not used.
    slots_[slot].state = made.ok() ? State::kFree : State::kDamaged;
    TF_CO_RETURN_IF_ERROR(
        Annotate(made, absl::StrCat("making ", file.device->name(), "/", file.path, " anew")));
    damaged_.erase(slot);
    file.identity = identity;
    free_.emplace(identity.segment, slot);
  }
  co_return absl::OkStatus();
}

uint64_t SegmentFiles::TakeSlot() {
  uint64_t slot = 0;
  if (!free_.empty()) {
    slot = free_.begin()->second;
    free_.erase(free_.begin());
  } else {
    slot = *empty_slots_.begin();
    empty_slots_.erase(empty_slots_.begin());
  }
  return slot;
}

SegmentIdentity SegmentFiles::NewIdentity(uint64_t slot, Incarnation incarnation) {
  SegmentIdentity identity;
  identity.store_id = options_.store_id;
  // Given once, whatever becomes of it: numbers may be left out, never repeated.
  last_number_ = last_number_.Next();
  identity.segment = last_number_;
  identity.slot = SlotIndex(slot);
  identity.incarnation = incarnation;
  for (size_t i = 0; i < sizeof(identity.secret); i += sizeof(uint64_t)) {
    const uint64_t random = options_.random();
    std::memcpy(identity.secret.data() + i, &random, sizeof(random));
  }
  identity.segment_bytes = options_.segment_bytes;
  return identity;
}

Task<absl::Status> SegmentFiles::PrepareSlot(uint64_t slot, SegmentIdentity identity,
                                             bool recycled) {
  SegmentFile& file = slots_[slot].file;
  AlignedBytes block(kBlockSize);
  const iovec piece = Piece(block.span());
  absl::Status done;
  if (recycled) {
    slots_[slot].state = State::kPreparing;
    // The old trailer goes first, so that the header copy in a last block is always of the life
    // that block 0 is, or was, of. A crash after this leaves the segment free, without its copies.
    done = co_await file.device->Write(file.handle, options_.segment_bytes - kBlockSize,
                                       absl::MakeConstSpan(&piece, 1), Durability::kDurable);
  } else {
    // A crash in the middle leaves a blank slot: no header, or no file.
    done = co_await MakeFile(slot);
  }
  TF_CO_RETURN_IF_ERROR(done);
  EncodeHeaderBlock(identity, block.span());
  // A crash in the middle leaves the slot under its old number or under the new one; either is
  // free.
  done = co_await file.device->Write(file.handle, 0, absl::MakeConstSpan(&piece, 1),
                                     Durability::kDurable);
  co_return done;
}

Task<absl::Status> SegmentFiles::MakeFile(uint64_t slot) {
  SegmentFile& file = slots_[slot].file;
  if (slots_[slot].state == State::kNotMade) {
    absl::StatusOr<FileHandle> handle = co_await file.device->Open(file.path, OpenMode::kCreate);
    TF_CO_RETURN_IF_ERROR(handle);
    file.handle = *handle;
  }
  slots_[slot].state = State::kPreparing;
  // A blank file is made again too: a crash may have left it full-sized, but not written.
  absl::Status allocated = co_await file.device->Allocate(file.handle, options_.segment_bytes);
  co_return allocated;
}

}  // namespace twofold
