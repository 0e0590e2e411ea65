// The way back from a place in the log to the blocks that lie there, where the log itself does not
// say it any more (R15): every chunk version that is kept, what waits over bases that were not read
// yet, and the large trims. All of it is in the metadata store right after a checkpoint; a segment
// that is sealed and lies before its replay position gets no new reference afterwards but by copies
// of versions that are there.
#include <utility>

#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/map/extent_map_impl.h"
#include "storage/map/key_codec.h"
#include "storage/map/value_codec.h"

namespace twofold {
namespace {

// In this order; a page is of one of them.
constexpr Table kTables[] = {Table::kChunk, Table::kPartial, Table::kTombstone};

// The table that `from` belongs to, and the one after it.
size_t TableIndex(const std::string& from) {
  size_t index = 0;
  while (index + 1 < std::size(kTables) && from.front() != static_cast<char>(kTables[index])) {
    ++index;
  }
  return index;
}

}  // namespace

Task<absl::StatusOr<ExtentMap::ReferencePage>> ExtentMap::Impl::ReadReferences(
    SegmentNumber segment, std::string from) {
  if (from.empty()) from = TablePrefix(kTables[0]);
  const size_t index = TableIndex(from);
  const Table table = kTables[index];
  const absl::StatusOr<std::vector<KeyValue>> page =
      co_await metadata_.Scan(from, PrefixEnd(TablePrefix(table)), kReferencePageVersions);
  if (!page.ok()) co_return Annotate(page.status(), "looking for what lies in a segment");
  ReferencePage found;
  for (const auto& [key_bytes, value] : *page) {
    if (table == Table::kTombstone) {
      TF_CO_ASSIGN_OR_RETURN(const TombstoneKey key, DecodeTombstoneKey(key_bytes));
      TF_CO_ASSIGN_OR_RETURN(const Tombstone tombstone, DecodeTombstone(value));
      if (forwarding_.ResolveZeros(tombstone.segment) != segment) continue;
      const LogAddress where{.segment = segment, .block = 0};
      found.references.push_back(
          {key.timeline, Run{tombstone.range, RunKind::kZero, key.position, where, {}}});
      continue;
    }
    absl::StatusOr<ChunkKey> key =
        table == Table::kChunk ? DecodeChunkKey(key_bytes) : DecodePartialKey(key_bytes);
    if (!key.ok()) co_return key.status();
    TF_CO_ASSIGN_OR_RETURN(const RunList runs, RunList::Decode(key->chunk, value));
    AppendReferences(key->timeline, runs, segment, &found.references);
  }
  if (page->size() == kReferencePageVersions) {
    found.next = page->back().first + '\0';
  } else if (index + 1 < std::size(kTables)) {
    found.next = TablePrefix(kTables[index + 1]);
  }
  co_return found;
}

void ExtentMap::Impl::AppendReferences(TimelineId timeline, const RunList& runs,
                                       SegmentNumber segment,
                                       std::vector<Reference>* references) const {
  for (const Run& run : runs.runs()) {
    if (run.kind == RunKind::kZero) {
      if (forwarding_.ResolveZeros(run.address.segment) != segment) continue;
      references->push_back({timeline, run});
      continue;
    }
    for (Run& part : forwarding_.Resolve(run)) {
      if (part.address.segment == segment) references->push_back({timeline, std::move(part)});
    }
  }
}

}  // namespace twofold
