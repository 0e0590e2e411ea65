#include "storage/store/segment_content.h"

#include <algorithm>

#include "storage/base/status_macros.h"
#include "storage/store/resync_record.h"

namespace twofold {
namespace {

// The timeline that an entry at `position` was written to, of those that `timeline` shows; null
// where the catalogue does not have it.
const TimelineRecord* OwnerOf(const Catalogue& catalogue, TimelineId timeline, Position position) {
  for (;;) {
    const auto found = catalogue.timelines().find(timeline);
    if (found == catalogue.timelines().end()) return nullptr;
    const TimelineRecord& record = found->second;
    if (record.parent == TimelineId() || position >= record.opened) return &record;
    timeline = record.parent;
  }
}

}  // namespace

void SegmentContent::AddBlocks(const MovedPiece& piece, absl::Span<const uint32_t> crcs,
                               const LiveBitmap& live) {
  for (uint32_t i = 0; i < piece.count; ++i) {
    const uint32_t place = piece.source_block + i;
    if (!live.Test(place) || known_.Test(place)) continue;
    known_.Set(place, 1, true);
    ContentBlock& added = blocks_.emplace_back(ContentBlock{piece, crcs[i]});
    added.block.source_block = place;
    added.block.block = piece.block + BlockCount(i);
    added.block.count = 1;
  }
}

absl::Status SegmentContent::AddItem(const LoggedBatch::Item& item, const LiveBitmap& live) {
  const LogEntry& entry = item.entry;
  const absl::Span<const uint32_t> crcs = absl::MakeConstSpan(entry.block_crcs);
  switch (entry.kind) {
    case EntryKind::kWrite:
    case EntryKind::kFill:
      AddBlocks({.source_block = item.payload.block,
                 .count = static_cast<uint32_t>(crcs.size()),
                 .volume = entry.volume,
                 .timeline = entry.timeline,
                 .block = entry.range.first,
                 .position = entry.position,
                 .stamp = entry.stamp},
                crcs, live);
      return absl::OkStatus();
    case EntryKind::kMoved: {
      TF_ASSIGN_OR_RETURN(const MovedBlocks moved, DecodeMovedBlocks(entry.body));
      uint32_t done = 0;
      for (MovedPiece piece : moved.pieces) {
        piece.source_block = item.payload.block + done;
        AddBlocks(piece, crcs.subspan(done, piece.count), live);
        done += piece.count;
      }
      return absl::OkStatus();
    }
    case EntryKind::kZero:
      zeros_.push_back({entry.volume, entry.timeline, entry.range, entry.position, entry.stamp});
      return absl::OkStatus();
    case EntryKind::kFillZeros: {
      TF_ASSIGN_OR_RETURN(const std::vector<Run> filled, DecodeFillZeros(entry.body));
      for (const Run& zero : filled) {
        zeros_.push_back({entry.volume, entry.timeline, zero.range, zero.position, 0});
      }
      return absl::OkStatus();
    }
    case EntryKind::kMovedZeros: {
      TF_ASSIGN_OR_RETURN(const MovedZeros moved, DecodeMovedZeros(entry.body));
      zeros_.insert(zeros_.end(), moved.zeros.begin(), moved.zeros.end());
      return absl::OkStatus();
    }
    default:
      return absl::OkStatus();
  }
}

absl::Status SegmentContent::AddRecords(const std::vector<LoggedBatch>& batches,
                                        const LiveBitmap& live) {
  for (const LoggedBatch& batch : batches) {
    for (const LoggedBatch::Item& item : batch.items) TF_RETURN_IF_ERROR(AddItem(item, live));
  }
  return absl::OkStatus();
}

void SegmentContent::AddReferences(const std::vector<ExtentMap::Reference>& references,
                                   const Catalogue& catalogue, const LiveBitmap& live) {
  for (const ExtentMap::Reference& reference : references) {
    const Run& run = reference.run;
    const TimelineRecord* owner = OwnerOf(catalogue, reference.timeline, run.position);
    if (owner == nullptr) continue;
    if (run.kind == RunKind::kData) {
      AddBlocks({.source_block = run.address.block,
                 .count = static_cast<uint32_t>(run.range.count.value()),
                 .volume = owner->volume,
                 .timeline = owner->id,
                 .block = run.range.first,
                 .position = run.position,
                 .stamp = 0},
                absl::MakeConstSpan(run.block_crcs), live);
      continue;
    }
    const MovedZero zero{owner->volume, owner->id, run.range, run.position, 0};
    const auto [known, added] = mapped_zeros_.try_emplace({owner->id, run.position}, zero);
    if (added) continue;
    // Between two pieces of one record there is nothing that it did not make zero.
    BlockRange& range = known->second.range;
    const BlockIndex end = std::max(range.end(), run.range.end());
    range.first = std::min(range.first, run.range.first);
    range.count = Distance(range.first, end);
  }
}

std::vector<ContentBlock> SegmentContent::TakeBlocks() {
  std::sort(blocks_.begin(), blocks_.end(), [](const ContentBlock& a, const ContentBlock& b) {
    return a.block.source_block < b.block.source_block;
  });
  return std::move(blocks_);
}

std::vector<MovedZero> SegmentContent::TakeZeros() {
  for (const auto& [key, zero] : mapped_zeros_) zeros_.push_back(zero);
  mapped_zeros_.clear();
  return std::move(zeros_);
}

}  // namespace twofold
