// Reading a volume, or one of its snapshots.
#include <utility>

#include "replication/volume/block_split.h"
#include "replication/volume/volume.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"

namespace twofold {

// Waits for the writes of `range` that have a Seq now; later ones are none of the caller's
// business.
Task<void> Volume::WaitForWrites(BlockRange range) {
  const Seq limit = stream_.sequencer().last_given();
  while (Sequencer::Request* request = stream_.sequencer().LatestOverlap(range, limit)) {
    co_await request->settled().Wait();
  }
}

// R7 twice over: before it reads it waits for the overlapping writes that have a Seq, and it holds
// what it read until those that got one meanwhile are complete on every set. So no reader has seen
// what a crash and the other set could take back. (Replicas show committed entries only, which is
// the same promise kept a second time.)
Task<absl::StatusOr<std::vector<BlockExtent>>> Volume::ReadBlocks(TimelineId timeline,
                                                                  Position as_of, BlockRange range,
                                                                  absl::Span<std::byte> into) {
  const Sequencer& sequencer = stream_.sequencer();
  if (as_of < kLastPosition) co_return co_await parts_.set->Read(timeline, as_of, range, into);
  if (sequencer.LatestOverlap(range, sequencer.last_given()) != nullptr) {
    co_await WaitForWrites(range);
  }
  absl::StatusOr<std::vector<BlockExtent>> extents =
      co_await parts_.set->Read(timeline, as_of, range, into);
  if (sequencer.LatestOverlap(range, sequencer.last_given()) != nullptr) {
    co_await WaitForWrites(range);
  }
  co_return extents;
}

Task<absl::StatusOr<ReadReply>> Volume::Read(const Mount& mount, uint64_t offset, uint64_t length) {
  TF_CO_RETURN_IF_ERROR(CheckRange(mount, offset, length));
  TF_CHECK_LE(length, kMaxNbdRequestBytes);
  const BlockRange range = CoveringBlocks(offset, length);
  const size_t bytes = range.count.value() * kBlockSize;
  ReadReply reply;
  reply.skip = offset % kBlockSize;
  // The buffer before the slot: whoever has a slot never waits for memory that others hold while
  // they wait for a slot.
  reply.buffer = parts_.buffers->TryAllocate(bytes);
  if (reply.buffer.empty()) reply.buffer = co_await parts_.buffers->Allocate(bytes);
  co_await slots_.Acquire(1);
  const Slot slot(&slots_);
  TF_CO_RETURN_IF_ERROR(mount.revoked_);
  absl::StatusOr<std::vector<BlockExtent>> extents = co_await ReadBlocks(
      mount.timeline_, mount.as_of_, range, reply.buffer.span().subspan(0, bytes));
  TF_CO_RETURN_IF_ERROR(mount.revoked_);
  TF_CO_RETURN_IF_ERROR(Annotate(extents.status(), mount.name()));
  reply.extents = ToByteExtents(offset, length, *extents, extents->size());
  co_return reply;
}

Task<absl::StatusOr<std::vector<ByteExtent>>> Volume::BlockStatus(const Mount& mount,
                                                                  uint64_t offset, uint64_t length,
                                                                  size_t max_extents) {
  TF_CO_RETURN_IF_ERROR(CheckRange(mount, offset, length));
  TF_CHECK_GE(max_extents, 1u);
  const BlockRange range = CoveringBlocks(offset, length);
  co_await slots_.Acquire(1);
  const Slot slot(&slots_);
  TF_CO_RETURN_IF_ERROR(mount.revoked_);
  const bool head = mount.as_of_ == kLastPosition;
  if (head) co_await WaitForWrites(range);
  absl::StatusOr<std::vector<BlockExtent>> extents =
      co_await parts_.set->Status(mount.timeline_, mount.as_of_, range, max_extents);
  if (head) co_await WaitForWrites(range);
  TF_CO_RETURN_IF_ERROR(mount.revoked_);
  TF_CO_RETURN_IF_ERROR(Annotate(extents.status(), mount.name()));
  co_return ToByteExtents(offset, length, *extents, max_extents);
}

}  // namespace twofold
