// When segments are cleaned, and how writers and the cleaner make way for each other (M22, M23).
//
// The cleaner works when free segments run low, in rounds: it moves what lives in the segments that
// give most, as many as its room allows, and writes the checkpoint that frees them; earlier, where
// that pays (CheckpointPays). Each round gives more than it takes, so a store with dead space
// always gets on, also a full one right after opening: the last segments above what opening and
// levelling need are the cleaner's alone.
//
// What it has used of them is lent to writers until the checkpoint (docs/decisions/0018), so that
// they need not wait for it. The crash argument: free space less all promises stays above what is
// kept from the cleaner, as it always did, since nobody is lent more than the cleaner's step over
// writes. So a crash at any moment finds what opening and levelling need: what was promised above
// four kept segments fits above three after it (docs/decisions/0003). Nothing is reused before the
// checkpoint: M14 is untouched. Nor can writers end up with more than there is: the checkpoint
// gives a whole segment for each that was emptied, which cost less, and what the one under way has
// yet to take is not lent. One that can't be emptied, or that something pins when the checkpoint
// comes, lends nothing any more: writers wait.
//
// Between two moves it leaves the device to others, for as long as its last one took or longer, as
// far as there is room (CleanerPauseNanos). Writers are slowed down when that is not enough: as the
// room runs out that checkpoints have released, so that they come down to what the cleaner gains
// instead of running into a wall.
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

// Segments before `before` that hold nothing live.
uint64_t ReleasableSegments(const SegmentTable& table, SegmentNumber before) {
  uint64_t segments = 0;
  for (const auto& [segment, info] : table.segments()) {
    if (segment >= before) break;
    if (info.state == SegmentState::kSealed && info.live_blocks == 0 && info.zero_blocks == 0 &&
        !table.IsPinned(segment)) {
      ++segments;
    }
  }
  return segments;
}

}  // namespace

// Blocks that writers may still be promised.
uint64_t Store::Headroom() const {
  const Room::Space space = Space();
  const uint64_t taken = room_.promised_blocks() + Room::KeptBlocks(space, RoomFor::kWrite);
  return space.free_blocks > taken ? space.free_blocks - taken : 0;
}

uint64_t Store::CleaningStartsAtBlocks() const {
  return CleaningStartsAt(log_->total_segments(), log_->usable_blocks_per_segment());
}

// Whether a checkpoint would free something.
bool Store::HasReleasable() const {
  return ReleasableSegments(table_, streams_.OldestPendingBatch().value_or(log_->end()).segment) >
         0;
}

// Blocks that writers would have more after a checkpoint: what it frees, less what is lent already.
uint64_t Store::GainAtCheckpoint() const {
  const Room::Space space = Space();
  Room::Space unlent = space;
  unlent.lent_blocks = 0;
  const uint64_t lent =
      Room::KeptBlocks(unlent, RoomFor::kWrite) - Room::KeptBlocks(space, RoomFor::kWrite);
  const SegmentNumber before = streams_.OldestPendingBatch().value_or(log_->end()).segment;
  const uint64_t freed = ReleasableSegments(table_, before) * space.blocks_per_segment;
  return freed > lent ? freed - lent : 0;
}

// What was moved out of a segment so far, of all that lives in it.
void Store::NoteEmptied(SegmentNumber segment, const CleanOutcome& outcome) {
  if (!table_.segments().contains(segment)) return;  // Freed by a checkpoint meanwhile.
  if (segment >= last_checkpoint_.catalogue_segment) return;
  const uint64_t cost = std::min(CleaningCost(outcome.moved_blocks, outcome.moved_zero_records),
                                 log_->usable_blocks_per_segment());
  if (emptied_.empty() || emptied_.back().segment != segment) emptied_.push_back({segment, 0});
  emptied_.back().cost_blocks = cost;
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
    // After a round that brought nothing it is not left to a checkpoint alone.
    if ((cleaned > 0 || last_round_gained_) &&
        CheckpointPays(Headroom(), GainAtCheckpoint(), CleaningStartsAtBlocks(),
                       log_->usable_blocks_per_segment())) {
      break;
    }
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
    if (outcome.ok()) {
      NoteEmptied(*segment, *outcome);
      continue;
    }
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
  return Headroom() < (cleaning_up_ ? CleaningStopsAt(starts_at) : starts_at);
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

// Called in the middle of a segment: others have the device for as long as the last move had it,
// for longer where there is room, for less the less there is.
Task<void> Store::MakeWay(MonoNanos busy) {
  if (waiting_for_room_ > 0) co_return;
  // Without what the round has gained so far the pace would fall and rise with each checkpoint.
  uint64_t room = Headroom();
  for (const Emptied& emptied : emptied_) {
    if (cleaning_.has_value() && cleaning_->segment == emptied.segment) continue;
    room += log_->usable_blocks_per_segment() - emptied.cost_blocks;
  }
  const MonoNanos pause = CleanerPauseNanos(busy, room, CleaningStartsAtBlocks());
  if (pause == 0) co_return;
  const bool ignored = co_await pauses_.SleepFor(pause);
  static_cast<void>(ignored);
}

// A writer that has its promise waits its turn: the less room there is, the longer each block.
Task<void> Store::SlowDown(BlockCount blocks) {
  if (!cleaning_up_) co_return;
  const int64_t nanos =
      SlowDownNanosPerBlock(Headroom(), SlowingStartsAt(CleaningStartsAtBlocks())) *
      static_cast<int64_t>(std::max<uint64_t>(blocks.value(), 1));
  if (nanos == 0) co_return;
  const MonoNanos now = Executor::Current().Now();
  next_write_at_ = std::max(next_write_at_, now) + nanos;
  const bool ignored = co_await pauses_.SleepUntil(next_write_at_);
  static_cast<void>(ignored);
}

}  // namespace twofold
