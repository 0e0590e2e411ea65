// Reading: map lookup, device reads, checksum, zeros for what is not mapped (P7).
#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/log/lost_block.h"
#include "storage/runtime/executor.h"
#include "storage/store/resync_record.h"
#include "storage/store/segment_pin.h"
#include "storage/store/store.h"

namespace twofold {
namespace {

bool IsData(const Piece& piece) { return piece.mapped && piece.run.kind == RunKind::kData; }

// Neighbours of one kind become one extent.
std::vector<BlockExtent> ToExtents(const std::vector<Piece>& pieces, size_t max_extents) {
  std::vector<BlockExtent> extents;
  for (const Piece& piece : pieces) {
    const bool data = IsData(piece);
    if (!extents.empty() && extents.back().data == data) {
      extents.back().range.count += piece.run.range.count;
      continue;
    }
    if (extents.size() == max_extents) break;
    extents.push_back({piece.run.range, data});
  }
  return extents;
}

}  // namespace

Task<absl::StatusOr<std::vector<Piece>>> Store::LookupPieces(TimelineId timeline, Position as_of,
                                                             BlockRange range) {
  ApplyAllCommitted();
  std::vector<Piece> pieces;
  if (map_->TryLookup(timeline, as_of, range, &pieces)) co_return pieces;
  absl::StatusOr<std::vector<Piece>> found = co_await map_->Lookup(timeline, as_of, range);
  if (!found.ok()) co_await NoteMapDamage(found.status());
  co_return found;
}

Task<absl::StatusOr<std::vector<BlockExtent>>> Store::Read(TimelineId timeline, Position as_of,
                                                           BlockRange range,
                                                           absl::Span<std::byte> into) {
  TF_CHECK_EQ(into.size(), range.count.value() * kBlockSize);
  ++reads_;
  const MonoNanos started = Executor::Current().LastTick();
  std::vector<Piece> pieces;
  absl::Status status;
  // A place may be given back between looking it up and reading it, but not again and again.
  for (int tries = 0; tries < 3; ++tries) {
    ApplyAllCommitted();
    if (!map_->TryLookup(timeline, as_of, range, &pieces)) {
      absl::StatusOr<std::vector<Piece>> found = co_await map_->Lookup(timeline, as_of, range);
      if (!found.ok()) co_await NoteMapDamage(found.status());
      TF_CO_RETURN_IF_ERROR(found);
      pieces = *std::move(found);
    }
    if (pieces.size() == 1 && IsData(pieces[0])) {
      status = co_await ReadRun(pieces[0].run, into);
    } else {
      status = co_await ReadPieces(pieces, range, into);
    }
    if (!absl::IsNotFound(status)) break;
  }
  if (absl::IsNotFound(status)) co_return absl::DataLossError(status.message());
  TF_CO_RETURN_IF_ERROR(status);
  latency_.read.Add(Executor::Current().LastTick() - started);
  co_return ToExtents(pieces, pieces.size());
}

Task<absl::Status> Store::ReadPieces(const std::vector<Piece>& pieces, BlockRange range,
                                     absl::Span<std::byte> into) {
  std::vector<Task<absl::Status>> reads;
  for (const Piece& piece : pieces) {
    const size_t offset = Distance(range.first, piece.run.range.first).value() * kBlockSize;
    const absl::Span<std::byte> part =
        into.subspan(offset, piece.run.range.count.value() * kBlockSize);
    if (IsData(piece)) {
      reads.push_back(ReadRun(piece.run, part));
    } else {
      std::memset(part.data(), 0, part.size());
    }
  }
  if (reads.empty()) co_return absl::OkStatus();
  const std::vector<absl::Status> statuses = co_await WhenAll(std::move(reads));
  co_return FirstError(statuses);
}

Task<absl::Status> Store::ReadRun(Run run, absl::Span<std::byte> into) {
  if (!map_->forwarding().Has(run.address.segment)) co_return co_await ReadPlaced(run, into);
  std::vector<Task<absl::Status>> reads;
  size_t done = 0;
  for (Run& part : map_->forwarding().Resolve(run)) {
    const size_t bytes = part.range.count.value() * kBlockSize;
    reads.push_back(ReadPlaced(std::move(part), into.subspan(done, bytes)));
    done += bytes;
  }
  const std::vector<absl::Status> statuses = co_await WhenAll(std::move(reads));
  co_return FirstError(statuses);
}

Task<absl::Status> Store::ReadPlaced(Run run, absl::Span<std::byte> into) {
  if (!table_.segments().contains(run.address.segment)) {
    co_return absl::NotFoundError(absl::StrCat("set ", superblock_.set_name, " (", place_,
                                               "): segment ", run.address.segment.value(),
                                               " is not there any more"));
  }
  const uint32_t count = static_cast<uint32_t>(run.range.count.value());
  TF_CHECK_EQ(run.block_crcs.size(), count);
  const SegmentPin pin(&table_, run.address.segment);
  const iovec piece{into.data(), into.size()};
  absl::Status status =
      co_await log_->ReadPayload(run.address, count, absl::MakeConstSpan(&piece, 1));
  if (!status.ok()) {
    NoteDamage(run.address, count, std::string(status.message()));
    co_return Annotate(status, place_);
  }
  absl::Status bad;
  for (uint32_t i = 0; i < count; ++i) {
    if (Crc32c(into.subspan(i * kBlockSize, kBlockSize)) == run.block_crcs[i]) continue;
    ++bad_blocks_seen_;
    const LogAddress at{run.address.segment, run.address.block + i};
    const absl::Span<const std::byte> block = into.subspan(i * kBlockSize, kBlockSize);
    const bool lost = IsLostBlock(run.block_crcs[i], block);
    NoteDamage(at, 1, std::string(lost ? kLostBlock : "a block fails its checksum"));
    if (!bad.ok()) continue;
    bad = absl::DataLossError(absl::StrCat(
        "set ", superblock_.set_name, ": block ", run.range.first.value() + i,
        lost ? " is lost, no set has it" : " fails its checksum", ", in ", log_->Locate(at)));
  }
  co_return bad;
}

Task<absl::StatusOr<std::vector<BlockExtent>>> Store::Status(TimelineId timeline, Position as_of,
                                                             BlockRange range, size_t max_extents) {
  // In steps: a range of terabytes is not looked up whole for an answer of a few extents.
  std::vector<BlockExtent> extents;
  const BlockCount step(kStatusStepBlocks);
  for (BlockRange left = range; !left.empty() && extents.size() <= max_extents;) {
    const BlockRange part{left.first, std::min(step, left.count)};
    absl::StatusOr<std::vector<Piece>> pieces = co_await LookupPieces(timeline, as_of, part);
    TF_CO_RETURN_IF_ERROR(pieces);
    for (const BlockExtent& extent : ToExtents(*pieces, pieces->size())) {
      if (!extents.empty() && extents.back().data == extent.data) {
        extents.back().range.count += extent.range.count;
      } else {
        extents.push_back(extent);
      }
    }
    left = BlockRange{part.end(), left.count - part.count};
  }
  // One more than asked for was gathered, so that the last one given is as long as it gets.
  if (extents.size() > max_extents) extents.resize(max_extents);
  co_return extents;
}

Task<absl::StatusOr<std::vector<TailEntry>>> Store::ReadTail(VolumeId volume, Position after,
                                                             size_t max_bytes) {
  // Usually the tail is uncommitted, and so in memory. After a loss of power under ack=written the
  // other copy may lack what was committed: that is still in the log while its segments are.
  struct Found {
    LogEntry entry;
    LogAddress payload;
    SegmentNumber segment;
  };
  std::vector<Found> found;
  const SegmentNumber first = FirstSegmentOfTail(volume, after);
  uint64_t found_blocks = 0;
  for (SegmentNumber segment : log_->Segments()) {
    if (segment < first || !table_.segments().contains(segment)) continue;
    // What is kept for a resync is read on and on: no further than this call can use.
    if (first != SegmentNumber() && found_blocks * kBlockSize > max_bytes) break;
    const SegmentPin pin(&table_, segment);
    absl::StatusOr<std::vector<LoggedBatch>> batches = co_await log_->ReadSegment(segment);
    TF_CO_RETURN_IF_ERROR(batches);
    for (const LoggedBatch& batch : *batches) {
      for (const LoggedBatch::Item& item : batch.items) {
        if (item.entry.volume != volume) continue;
        if (item.entry.kind == EntryKind::kVoid) {
          // What was given up is no part of the history (R3).
          TF_CO_ASSIGN_OR_RETURN(const VoidBody given_up, DecodeVoid(item.entry.body));
          std::erase_if(found, [&given_up](const Found& one) {
            return one.entry.position > given_up.common;
          });
        }
        if (!HasSeq(item.entry.kind) || item.entry.position <= after) continue;
        found.push_back({item.entry, item.payload, segment});
        found_blocks += item.entry.block_crcs.size();
      }
    }
  }
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    return std::tie(a.entry.position, a.payload) < std::tie(b.entry.position, b.payload);
  });

  std::vector<TailEntry> tail;
  Position last = after;
  size_t bytes = 0;
  for (auto& [entry, payload, segment] : found) {
    if (entry.position == last) continue;  // logged twice: a copy
    if (entry.position.seq.value() != last.seq.value() + 1) {
      co_return absl::DataLossError(
          absl::StrCat("set ", superblock_.set_name, ": the log of volume ", volume.value(),
                       " has ", entry.position.seq.value(), " after ", last.seq.value(),
                       ": what lies between was recycled; the other set is too far behind to be "
                       "levelled from the log"));
    }
    last = entry.position;
    AlignedBytes data(entry.block_crcs.size() * kBlockSize);
    if (data.size() > 0) {
      if (bytes + data.size() > max_bytes && !tail.empty()) break;
      bytes += data.size();
      const Run run{entry.range, RunKind::kData, entry.position, payload, entry.block_crcs};
      // Where it was logged, whatever the cleaner has made of it since.
      absl::Status status = co_await ReadPlaced(run, data.span());
      TF_CO_RETURN_IF_ERROR(status);
    }
    tail.push_back({std::move(entry), std::move(data)});
    if (first != SegmentNumber() && source_.status.ok()) source_.marks[volume] = {last, segment};
  }
  co_return tail;
}

}  // namespace twofold
