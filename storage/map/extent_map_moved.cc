// Blocks that the cleaner has moved (M15, M16), and the pass that makes references to them new.
//
// The pass reads the chunk versions of the metadata store in the order of their keys and rewrites
// those that name a place from which a block was moved. Versions that are written meanwhile name
// the new places anyway (FreezeChunk), so at its end, with the checkpoint that holds the last
// rewrites, nothing in the metadata store names an old one. What is in memory follows; then the
// entries that were there when the pass began can go. A crash before that leaves them; the next
// pass begins anew.
//
// A rewrite is the version as the last commit left it. Nothing but the next commit changes that,
// and it holds the rewrites first: what the same commit deletes or merges comes on top.
#include <utility>

#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/map/extent_map_impl.h"
#include "storage/map/key_codec.h"
#include "storage/runtime/executor.h"

namespace twofold {

void ExtentMap::Impl::TakeMoved(const MovedBlocks& moved, LogAddress target,
                                const LiveBitmap& live) {
  for (const MovedPiece& piece : moved.pieces) {
    forwarding_.Add(moved.source, piece.source_block, piece.count, target);
    // What died while it was copied is dead there as well.
    for (uint32_t i = 0; i < piece.count;) {
      uint32_t end = i;
      while (end < piece.count && live.Test(piece.source_block + end)) ++end;
      if (end > i) {
        table_.MarkDead({moved.source, piece.source_block + i}, end - i);
        table_.MarkLive({target.segment, target.block + i}, end - i);
      }
      i = end + 1;
    }
    target.block += piece.count;
  }
}

void ExtentMap::Impl::TakeMovedZeros(SegmentNumber source, SegmentNumber target) {
  const auto found = table_.segments().find(source);
  if (found == table_.segments().end() || found->second.zero_blocks == 0) return;
  const uint64_t blocks = found->second.zero_blocks;
  table_.DropZeroBlocks(source, blocks);
  table_.AddZeroBlocks(target, blocks);
  forwarding_.MoveZeros(source, target);
}

// ---- The reference pass -------------------------------------------------------------------------

Task<absl::StatusOr<bool>> ExtentMap::Impl::ReferenceStep() {
  if (!reference_pass_.has_value()) {
    // Versions that are on their way to the store may be behind the pass when they get there.
    TF_CO_RETURN_IF_ERROR(RenewRewrites());
    reference_pass_ = {.serial = forwarding_.serial(), .from = TablePrefix(Table::kChunk)};
  }
  if (forwarding_.empty()) co_return true;
  const absl::StatusOr<std::vector<KeyValue>> page = co_await metadata_.Scan(
      reference_pass_->from, PrefixEnd(TablePrefix(Table::kChunk)), kReferencePageVersions);
  if (!page.ok()) co_return Annotate(page.status(), "renewing references");
  for (const auto& [key_bytes, value] : *page) {
    TF_CO_ASSIGN_OR_RETURN(const ChunkKey key, DecodeChunkKey(key_bytes));
    TF_CO_ASSIGN_OR_RETURN(RunList runs, RunList::Decode(key.chunk, value));
    // One that waits to be rewritten already has the new places.
    if (rewrites_.contains(key_bytes)) continue;
    if (forwarding_.Resolve(&runs)) rewrites_[key_bytes] = runs.Encode(key.chunk);
  }
  if (page->empty()) co_return true;
  reference_pass_->from = page->back().first + '\0';
  co_return page->size() < kReferencePageVersions;
}

absl::Status ExtentMap::Impl::RenewRewrites() {
  for (auto& [key_bytes, value] : rewrites_) {
    TF_ASSIGN_OR_RETURN(const ChunkKey key, DecodeChunkKey(key_bytes));
    TF_ASSIGN_OR_RETURN(RunList runs, RunList::Decode(key.chunk, value));
    if (forwarding_.Resolve(&runs)) value = runs.Encode(key.chunk);
  }
  return absl::OkStatus();
}

bool ExtentMap::Impl::reference_checkpoint_due() const {
  return rewrites_.size() >= kMaxReferenceRewrites;
}

void ExtentMap::Impl::FreezeRewrites(MetadataBatch* batch) {
  for (auto& [key, value] : rewrites_) {
    batch->push_back({.kind = MetadataWrite::Kind::kPut, .key = key, .value = std::move(value)});
  }
  rewrites_.clear();
}

Task<void> ExtentMap::Impl::FinishReferencePass() {
  TF_CHECK(reference_pass_.has_value());
  // Made since that checkpoint, of versions that name the new places.
  TF_CHECK_OK(RenewRewrites());
  tombstones_.Renew(forwarding_);
  size_t looked_at = 0;
  for (const ChunkId& id : cache_.Ids()) {
    Chunk* const chunk = cache_.Find(id);
    if (chunk != nullptr) ResolveCached(*chunk);
    if (++looked_at % kReferencePageVersions == 0) co_await Yield();
  }
  forwarding_.Drop(reference_pass_->serial);
  reference_pass_.reset();
}

void ExtentMap::Impl::ResolveCached(Chunk& chunk) {
  bool changed = false;
  for (ChunkVersion& version : chunk.versions) {
    changed = forwarding_.Resolve(&version.runs) || changed;
  }
  std::vector<Run> late;
  for (const Run& run : chunk.late) {
    for (Run& part : forwarding_.Resolve(run)) late.push_back(std::move(part));
  }
  chunk.late = std::move(late);
  if (changed) cache_.Changed(chunk);
}

}  // namespace twofold
