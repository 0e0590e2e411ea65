// When segments are cleaned, and how writers and the cleaner make way for each other (M22, M23).
//
// The cleaner works when free segments run low, in rounds: it moves what lives in the segments that
// give most, as many as its room allows, and writes the checkpoint that frees them. Each round
// gives more than it takes, so a store with dead space always gets on, also a full one right after
// opening: the last segment above what opening and levelling need is the cleaner's alone.
//
// Between two moves it leaves the device to others for as long as its last one took, unless
// somebody waits for room. Writers are slowed down as the room that checkpoints have released runs
// out, so that they come down to what the cleaner gains instead of running into a wall.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/executor.h"
#include "storage/store/cleaning_policy.h"
#include "storage/store/store.h"

namespace twofold {
namespace {

constexpr int kSegmentsPerRound = 8;

}  // namespace

// Blocks that writers may still be promised.
uint64_t Store::Headroom() const {
  const Room::Space space = Space();
  const uint64_t taken = room_.promised_blocks() + Room::KeptBlocks(space, RoomFor::kWrite);
  return space.free_blocks > taken ? space.free_blocks - taken : 0;
}

uint64_t Store::CleaningStartsAtBlocks() const {
  return CleaningStartsAt(log_->total_segments()) * log_->usable_blocks_per_segment();
}

// Whether a checkpoint would free something.
bool Store::HasReleasable() const {
  const SegmentNumber before = streams_.OldestPendingBatch().value_or(log_->end()).segment;
  for (const auto& [segment, info] : table_.segments()) {
    if (segment >= before) break;
    if (info.state == SegmentState::kSealed && info.live_blocks == 0 && info.zero_blocks == 0 &&
        !table_.IsPinned(segment)) {
      return true;
    }
  }
  return false;
}

std::optional<SegmentNumber> Store::NextToClean(RoomFor use) const {
  const Room::Space space = Space();
  const uint64_t taken = room_.promised_blocks() + Room::KeptBlocks(space, use);
  CleaningChoice choice;
  choice.before =
      std::min(last_checkpoint_.replay_from.segment, last_checkpoint_.catalogue_segment);
  choice.newest = log_->end().segment;
  choice.usable_blocks = space.blocks_per_segment;
  choice.room_blocks = space.free_blocks > taken ? space.free_blocks - taken : 0;
  choice.left_alone = &left_alone_;
  return ChooseSegmentToClean(table_, choice);
}

// One round: whether it freed anything. Those that come while one is under way share it.
Task<absl::StatusOr<bool>> Store::CleanRound() {
  const uint64_t round = clean_rounds_;
  const AsyncMutex::Guard lock = co_await clean_round_mutex_.Lock();
  if (clean_rounds_ != round && last_round_gained_) co_return true;
  TF_CO_RETURN_IF_ERROR(failed_);
  const uint64_t freed_before = segments_freed_;
  int cleaned = 0;
  while (cleaned < kSegmentsPerRound && !stopping_) {
    clean_use_ = RoomFor::kCleaning;
    std::optional<SegmentNumber> segment = NextToClean(clean_use_);
    if (!segment.has_value() && cleaned == 0 && !HasReleasable() && waiting_for_room_ > 0) {
      // What levelling would need after a crash is lent for as long as this takes: nothing else can
      // give any room.
      clean_use_ = RoomFor::kLevelling;
      segment = NextToClean(clean_use_);
    }
    if (!segment.has_value()) break;
    co_await WaitForForwardingRoom();
    const absl::StatusOr<CleanOutcome> outcome = co_await Clean(*segment, nullptr);
    ++cleaned;
    if (outcome.ok()) continue;
    TF_CO_RETURN_IF_ERROR(failed_);
    if (absl::IsResourceExhausted(outcome.status()) || stopping_) break;
    TF_LOG(ERROR) << outcome.status().message() << "; it is left as it is";
    left_alone_.insert(*segment);
  }
  clean_use_ = RoomFor::kCleaning;
  if ((cleaned > 0 || HasReleasable()) && !stopping_) {
    absl::Status status = co_await Checkpoint();
    TF_CO_RETURN_IF_ERROR(status);
  }
  ++clean_rounds_;
  last_round_gained_ = segments_freed_ > freed_before;
  co_return last_round_gained_;
}

bool Store::CleaningDue() const {
  if (waits_for_tail()) return false;
  const uint64_t starts_at = CleaningStartsAtBlocks();
  return Headroom() < (cleaning_up_ ? 2 * starts_at : starts_at);
}

Task<void> Store::CleanLoop() {
  while (!stopping_ && failed_.ok()) {
    co_await clean_work_.Wait();
    clean_work_.Reset();
    while (!stopping_ && failed_.ok() && CleaningDue()) {
      cleaning_up_ = true;
      const absl::StatusOr<bool> gained = co_await CleanRound();
      if (!gained.ok() && failed_.ok()) {
        TF_LOG(ERROR) << place_ << ": cleaning: " << gained.status();
      }
      if (!gained.ok() || !*gained) break;
    }
    cleaning_up_ = false;
  }
}

// ---- References ---------------------------------------------------------------------------------

Task<absl::Status> Store::RenewReferences() {
  const AsyncMutex::Guard one_pass = co_await references_mutex_.Lock();
  for (bool done = false; !done;) {
    TF_CO_RETURN_IF_ERROR(failed_);
    if (stopping_) co_return absl::UnavailableError("the store is being stopped");
    const MonoNanos began = Executor::Current().Now();
    {
      const AsyncMutex::Guard no_checkpoint = co_await checkpoint_mutex_.Lock();
      const absl::StatusOr<bool> last = co_await map_->ReferenceStep();
      TF_CO_RETURN_IF_ERROR(last);
      done = *last;
    }
    if (done || map_->reference_checkpoint_due()) {
      absl::Status status = co_await Checkpoint();
      TF_CO_RETURN_IF_ERROR(status);
    }
    if (!done) co_await MakeWay(Executor::Current().Now() - began);
  }
  const AsyncMutex::Guard no_checkpoint = co_await checkpoint_mutex_.Lock();
  co_await map_->FinishReferencePass();
  references_renewed_.WakeAll();
  co_return absl::OkStatus();
}

Task<void> Store::ReferenceLoop() {
  while (!stopping_ && failed_.ok()) {
    co_await references_work_.Wait();
    references_work_.Reset();
    if (stopping_ || map_->forwarding().MemoryBytes() < kMaxForwardingBytes / 4) continue;
    const absl::Status status = co_await RenewReferences();
    if (!status.ok() && failed_.ok() && !stopping_) {
      TF_LOG(ERROR) << place_ << ": renewing references: " << status;
      co_await NoteMapDamage(status);
    }
    references_renewed_.WakeAll();
  }
}

// At the bound of what forwarding entries may take in memory the cleaner waits for the pass.
Task<void> Store::WaitForForwardingRoom() {
  if (map_->forwarding().MemoryBytes() >= kMaxForwardingBytes / 4) references_work_.Set();
  while (!stopping_ && failed_.ok() && map_->forwarding().MemoryBytes() >= kMaxForwardingBytes) {
    co_await references_renewed_.Wait();
    if (map_->forwarding().MemoryBytes() >= kMaxForwardingBytes) references_work_.Set();
  }
}

// ---- Making way ---------------------------------------------------------------------------------

// Called in the middle of a segment: others have the device for as long as the last move had it.
Task<void> Store::MakeWay(MonoNanos busy) {
  if (waiting_for_room_ > 0 || Headroom() < CleaningStartsAtBlocks() / 4) co_return;
  const bool ignored = co_await pauses_.SleepFor(busy);
  static_cast<void>(ignored);
}

// A writer that has its promise waits its turn: the less room there is, the longer each block.
Task<void> Store::SlowDown(BlockCount blocks) {
  if (!cleaning_up_) co_return;
  const int64_t nanos = SlowDownNanosPerBlock(Headroom(), CleaningStartsAtBlocks()) *
                        static_cast<int64_t>(std::max<uint64_t>(blocks.value(), 1));
  if (nanos == 0) co_return;
  const MonoNanos now = Executor::Current().Now();
  next_write_at_ = std::max(next_write_at_, now) + nanos;
  const bool ignored = co_await pauses_.SleepUntil(next_write_at_);
  static_cast<void>(ignored);
}

}  // namespace twofold
