// Changing a volume. Everything that can refuse a change comes before its Seq (R6, R9, R10); from
// there on it is logged on every set, or the volume is offline.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/volume/block_split.h"
#include "replication/volume/volume.h"
#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/executor.h"

namespace twofold {
namespace {

// Payload of real zeros; never written to.
alignas(kBlockSize) std::byte zero_blocks[kMaxEntryBlocks * kBlockSize];

// One step of writing real zeros: what is in flight at once for one request.
constexpr uint64_t kZeroStepBytes = uint64_t{4} << 20;
static_assert(kZeroStepBytes % kBlockSize == 0);

absl::Span<std::byte> BlockOf(absl::Span<std::byte> bytes, uint64_t index) {
  return bytes.subspan(index * kBlockSize, kBlockSize);
}

}  // namespace

Durability Volume::durability() const {
  return ack_ == AckMode::kDurable ? Durability::kDurable : Durability::kWritten;
}

absl::Status Volume::CheckWritable(const Mount& mount) const {
  TF_RETURN_IF_ERROR(mount.revoked_);
  if (!parts_.set->health().ok()) return Annotate(parts_.set->health(), name_);
  return absl::OkStatus();
}

// R28: with on-set-loss=block writes are held, not failed, while a set is missing: those that come,
// and the answers of those that were under way when it went. The latter are committed on the sets
// that are left, where reads may see them; only their client does not hear of it before every set
// has them.
bool Volume::HeldBack(const Mount& mount) const {
  return on_set_loss_ == OnSetLoss::kBlock && parts_.set->degraded() && parts_.set->health().ok() &&
         mount.revoked_.ok();
}

// Whoever waits here has neither a slot nor room, so that reads and administration go on.
Task<absl::Status> Volume::WaitWhileHeldBack(const Mount& mount) {
  while (HeldBack(mount)) co_await parts_.set->Changed();
  co_return CheckWritable(mount);
}

absl::Status Volume::CheckChange(const Mount& mount, uint64_t offset, uint64_t length) const {
  if (mount.read_only()) {
    return absl::PermissionDeniedError(absl::StrCat(mount.name(), " is a snapshot: read-only"));
  }
  TF_RETURN_IF_ERROR(CheckRange(mount, offset, length));
  return CheckWritable(mount);
}

LogEntry Volume::NewEntry(EntryKind kind, const Mount& mount, BlockRange range) const {
  LogEntry entry;
  entry.kind = kind;
  entry.timeline = mount.timeline_;
  entry.range = range;
  return entry;
}

// `payload` holds the blocks of `range`.
void Volume::AddWrites(const Mount& mount, BlockRange range, absl::Span<const std::byte> payload,
                       Change* change) const {
  for (const BlockRange& piece : SplitIntoEntries(range)) {
    LogEntry entry = NewEntry(EntryKind::kWrite, mount, piece);
    const uint64_t first_byte = Distance(range.first, piece.first).value() * kBlockSize;
    const absl::Span<const std::byte> blocks =
        payload.subspan(first_byte, piece.count.value() * kBlockSize);
    entry.block_crcs.reserve(piece.count.value());
    for (uint64_t i = 0; i < piece.count.value(); ++i) {
      entry.block_crcs.push_back(Crc32c(blocks.subspan(i * kBlockSize, kBlockSize)));
    }
    change->Add(std::move(entry), blocks);
  }
}

Task<absl::Status> Volume::LockRange(BlockRange range, RangeLock::Hold* hold) {
  range_lock_.Queue(hold, range);
  if (!hold->granted()) co_await range_lock_.Granted(hold);
  co_return absl::OkStatus();
}

// Gives the change its place in the order and logs it. Between the last look at what could refuse
// it and its Seq nothing suspends. `again`: it is held back, or a replica has joined that has
// no room for it yet; nothing was done.
Task<absl::Status> Volume::Submit(const Mount& mount, Change* change, Reservation* room,
                                  RangeLock::Hold* hold, bool fua, bool* again) {
  while (true) {
    TF_CO_RETURN_IF_ERROR(CheckWritable(mount));
    if (HeldBack(mount) || !room->covers()) {
      *again = true;
      co_return absl::OkStatus();
    }
    if (admission_closed_) {
      co_await admission_opened_.Wait();
    } else if (!hold->queued() && range_lock_.Covers(change->range)) {
      // Somebody has read old bytes of it and not written them back yet.
      absl::Status status = co_await LockRange(change->range, hold);
      TF_CO_RETURN_IF_ERROR(status);
    } else {
      break;
    }
  }
  if (mount.abandoned_ && mount.abandoned_()) {
    co_return absl::CancelledError(absl::StrCat(mount.name(), ": the client has hung up"));
  }
  change->durability = durability();
  room->Use();
  absl::Status status = co_await stream_.Append(change, hold);
  TF_CO_RETURN_IF_ERROR(Annotate(status, name_));
  // FUA with ack=written: a log is a prefix, so what stands before this write must be made durable
  // with it, or a loss of power cuts it off together with that.
  if (fua && ack_ == AckMode::kWritten) {
    status = co_await parts_.set->Flush();
  }
  co_return Annotate(status, name_);
}

// Copies the old bytes around the range into the partial blocks at the ends of `payload`. The range
// is locked. An old block that fails its CRC on every set fails the write here (R10).
Task<absl::Status> Volume::FillPartialBlocks(const Mount& mount, uint64_t offset, uint64_t length,
                                             absl::Span<std::byte> payload) {
  Buffer old_block = co_await parts_.scratch->Allocate(kBlockSize);
  const BlockIndex first = CoveringBlocks(offset, length).first;
  for (const BlockIndex block : PartialBlocks(offset, length)) {
    absl::StatusOr<std::vector<BlockExtent>> extents = co_await ReadBlocks(
        mount.timeline_, kLastPosition, {block, BlockCount(1)}, old_block.span());
    TF_CO_RETURN_IF_ERROR(
        Annotate(extents.status(), absl::StrCat(mount.name(), ": old bytes of block ",
                                                block.value(), ", which a write covers in part")));
    KeepOldBytes(offset, length, block, old_block.span(),
                 BlockOf(payload, Distance(first, block).value()));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Volume::Write(const Mount& mount, uint64_t offset, uint64_t length,
                                 Buffer payload, bool fua) {
  TF_CO_RETURN_IF_ERROR(CheckChange(mount, offset, length));
  TF_CHECK_LE(length, kMaxNbdRequestBytes);
  const BlockRange range = CoveringBlocks(offset, length);
  const size_t bytes = range.count.value() * kBlockSize;
  TF_CHECK_GE(payload.size(), bytes);
  const absl::Span<std::byte> blocks = payload.span().subspan(0, bytes);
  const MonoNanos started = Executor::Current().LastTick();
  absl::Status status;
  bool again = true;
  while (again) {
    if (HeldBack(mount)) {
      status = co_await WaitWhileHeldBack(mount);
      TF_CO_RETURN_IF_ERROR(status);
    }
    again = false;
    co_await slots_.Acquire(1);
    const Slot slot(&slots_);

    const uint64_t entries = (range.count.value() + kMaxEntryBlocks - 1) / kMaxEntryBlocks;
    Reservation room(parts_.set);
    if (!room.TryTake(range.count, entries)) {
      status = co_await room.Take(range.count, entries, RoomFor::kWrite);
      TF_CO_RETURN_IF_ERROR(Annotate(status, name_));
    }
    RangeLock::Hold hold;
    if (offset % kBlockSize != 0 || length % kBlockSize != 0) {
      status = co_await LockRange(range, &hold);
      TF_CO_RETURN_IF_ERROR(status);
      status = co_await FillPartialBlocks(mount, offset, length, blocks);
      TF_CO_RETURN_IF_ERROR(status);
    }
    Change change;
    change.range = range;
    change.latency = parts_.writes;
    change.started = started;
    AddWrites(mount, range, blocks, &change);
    status = co_await Submit(mount, &change, &room, &hold, fua, &again);
  }
  if (status.ok() && HeldBack(mount)) co_return co_await WaitWhileHeldBack(mount);
  co_return status;
}

Task<absl::Status> Volume::WriteZeroes(const Mount& mount, uint64_t offset, uint64_t length,
                                       ZeroOptions options) {
  TF_CO_RETURN_IF_ERROR(CheckChange(mount, offset, length));
  if (!options.allocate) {
    co_return co_await ZeroPiece(mount, offset, length, options);
  }
  // Real zeros in steps, so that one request never has more than a step of entries in flight.
  const uint64_t end = offset + length;
  while (offset < end) {
    const uint64_t step_end = std::min(end, (offset / kZeroStepBytes + 1) * kZeroStepBytes);
    absl::Status status = co_await ZeroPiece(mount, offset, step_end - offset, options);
    TF_CO_RETURN_IF_ERROR(status);
    offset = step_end;
  }
  co_return absl::OkStatus();
}

// The partial blocks of the range with zeros where it says so, one after the other in `blocks`, and
// which they are in `changed`. One that is a hole is left as it is, unless it shall take space.
Task<absl::Status> Volume::ZeroPartialBlocks(const Mount& mount, uint64_t offset, uint64_t length,
                                             bool allocate, absl::Span<std::byte> blocks,
                                             absl::InlinedVector<BlockIndex, 2>* changed) {
  for (const BlockIndex block : PartialBlocks(offset, length)) {
    const absl::Span<std::byte> bytes = BlockOf(blocks, changed->size());
    absl::StatusOr<std::vector<BlockExtent>> extents =
        co_await ReadBlocks(mount.timeline_, kLastPosition, {block, BlockCount(1)}, bytes);
    TF_CO_RETURN_IF_ERROR(
        Annotate(extents.status(), absl::StrCat(mount.name(), ": old bytes of block ",
                                                block.value(), ", which zeros cover in part")));
    if (!allocate && !extents->front().data) continue;
    const uint64_t block_begin = block.value() << kBlockShift;
    const uint64_t begin = std::max(offset, block_begin);
    const uint64_t end = std::min(offset + length, block_begin + kBlockSize);
    std::memset(bytes.data() + (begin - block_begin), 0, end - begin);
    changed->push_back(block);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Volume::ZeroPiece(const Mount& mount, uint64_t offset, uint64_t length,
                                     ZeroOptions options) {
  absl::Status status;
  bool again = true;
  while (again) {
    if (HeldBack(mount)) {
      status = co_await WaitWhileHeldBack(mount);
      TF_CO_RETURN_IF_ERROR(status);
    }
    again = false;
    status = co_await ZeroPieceOnce(mount, offset, length, options, &again);
  }
  if (status.ok() && HeldBack(mount)) co_return co_await WaitWhileHeldBack(mount);
  co_return status;
}

Task<absl::Status> Volume::ZeroPieceOnce(const Mount& mount, uint64_t offset, uint64_t length,
                                         ZeroOptions options, bool* again) {
  co_await slots_.Acquire(1);
  const Slot slot(&slots_);
  const BlockRange covering = CoveringBlocks(offset, length);
  const BlockRange whole = WholeBlocks(offset, length);
  const uint64_t partial = PartialBlocks(offset, length).size();
  const bool real = options.allocate && !whole.empty();
  const BlockCount blocks = BlockCount(partial) + (real ? whole.count : BlockCount(0));
  const uint64_t whole_entries = real
                                     ? (whole.count.value() + kMaxEntryBlocks - 1) / kMaxEntryBlocks
                                 : whole.empty() ? 0
                                                 : 1;
  RangeLock::Hold hold;
  Buffer old_blocks;
  absl::InlinedVector<BlockIndex, 2> changed;
  Reservation room(parts_.set);
  if (!room.TryTake(blocks, partial + whole_entries)) {
    absl::Status status =
        co_await room.Take(blocks, partial + whole_entries,
                           blocks == BlockCount(0) ? RoomFor::kTrim : RoomFor::kWrite);
    TF_CO_RETURN_IF_ERROR(Annotate(status, name_));
  }
  if (partial > 0) {
    absl::Status status = co_await LockRange(covering, &hold);
    TF_CO_RETURN_IF_ERROR(status);
    old_blocks = co_await parts_.scratch->Allocate(2 * kBlockSize);
    status = co_await ZeroPartialBlocks(mount, offset, length, options.allocate, old_blocks.span(),
                                        &changed);
    TF_CO_RETURN_IF_ERROR(status);
  }

  Change change;
  change.range = covering;
  for (size_t i = 0; i < changed.size(); ++i) {
    AddWrites(mount, {changed[i], BlockCount(1)}, BlockOf(old_blocks.span(), i), &change);
  }
  if (real) {
    for (const BlockRange& piece : SplitIntoEntries(whole)) {
      AddWrites(mount, piece, absl::MakeSpan(zero_blocks, piece.count.value() * kBlockSize),
                &change);
    }
  } else if (!whole.empty()) {
    change.Add(NewEntry(EntryKind::kZero, mount, whole), {});
  }
  if (change.entries.empty()) co_return CheckWritable(mount);  // zeros already
  room.GiveBackAllBut(change.payload_blocks(), change.entries.size());
  co_return co_await Submit(mount, &change, &room, &hold, options.fua, again);
}

// A hint: blocks that it covers in part stay as they are, so that it never needs room for data.
Task<absl::Status> Volume::Trim(const Mount& mount, uint64_t offset, uint64_t length, bool fua) {
  TF_CO_RETURN_IF_ERROR(CheckChange(mount, offset, length));
  const BlockRange whole = WholeBlocks(offset, length);
  if (whole.empty()) co_return absl::OkStatus();
  co_return co_await ZeroPiece(mount, whole.first.value() << kBlockShift,
                               whole.count.value() << kBlockShift, {.fua = fua, .allocate = false});
}

// With ack=durable every answered write is durable already, whichever mount it came through.
Task<absl::Status> Volume::Flush(const Mount& mount) {
  TF_CO_RETURN_IF_ERROR(mount.revoked_);
  if (ack_ == AckMode::kDurable || mount.read_only()) co_return absl::OkStatus();
  if (HeldBack(mount)) {
    absl::Status status = co_await WaitWhileHeldBack(mount);
    TF_CO_RETURN_IF_ERROR(status);
  }
  co_await slots_.Acquire(1);
  const Slot slot(&slots_);
  absl::Status status = co_await parts_.set->Flush();
  co_return Annotate(status, name_);
}

}  // namespace twofold
