#include "storage/map/map_check.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "storage/base/status_macros.h"
#include "storage/map/forwarding.h"
#include "storage/map/key_codec.h"
#include "storage/map/lineage.h"
#include "storage/map/live_bitmap.h"
#include "storage/map/reclaim_plan.h"
#include "storage/map/run_list.h"
#include "storage/map/value_codec.h"

namespace twofold {
namespace {

constexpr size_t kPage = 256;
constexpr Table kTables[] = {Table::kChunk,     Table::kVersion, Table::kDead,
                             Table::kLive,      Table::kUsage,   Table::kForwarding,
                             Table::kTombstone, Table::kPartial, Table::kJob,
                             Table::kLineage,   Table::kSortRun, Table::kSortZero};

absl::Status CheckOne(Table table, const KeyValue& entry) {
  const std::string& value = entry.second;
  switch (table) {
    case Table::kMeta:
      return absl::OkStatus();
    case Table::kChunk: {
      TF_ASSIGN_OR_RETURN(const ChunkKey key, DecodeChunkKey(entry.first));
      return RunList::Decode(key.chunk, value).status();
    }
    case Table::kPartial: {
      TF_ASSIGN_OR_RETURN(const ChunkKey key, DecodePartialKey(entry.first));
      return RunList::Decode(key.chunk, value).status();
    }
    case Table::kVersion:
      TF_RETURN_IF_ERROR(DecodeVersionKey(entry.first).status());
      return value.empty() ? absl::OkStatus()
                           : absl::DataLossError("a value where there should be none");
    case Table::kDead:
      TF_RETURN_IF_ERROR(DecodeDeadKey(entry.first).status());
      return DecodeDeadCount(value).status();
    case Table::kLive:
      TF_RETURN_IF_ERROR(DecodeSegmentKey(entry.first).status());
      return LiveBitmap::Decode(value).status();
    case Table::kUsage: {
      TF_ASSIGN_OR_RETURN(const SegmentNumber segment, DecodeSegmentKey(entry.first));
      return DecodeUsage(segment, value).status();
    }
    case Table::kForwarding: {
      TF_ASSIGN_OR_RETURN(const SegmentNumber segment, DecodeSegmentKey(entry.first));
      return DecodeForwarding(segment, value).status();
    }
    case Table::kTombstone:
      TF_RETURN_IF_ERROR(DecodeTombstoneKey(entry.first).status());
      return DecodeTombstone(value).status();
    case Table::kJob:
      TF_RETURN_IF_ERROR(DecodeJobKey(entry.first).status());
      return DecodeReclaimJob(value).status();
    case Table::kLineage:
      TF_RETURN_IF_ERROR(DecodeLineageKey(entry.first).status());
      return DecodeLineage(value).status();
    case Table::kSortRun:
    case Table::kSortZero:
      return absl::DataLossError("what a rebuild sorts, in a map that is in use");
  }
  return absl::DataLossError("an unknown table");
}

}  // namespace

Task<absl::StatusOr<MapCheck>> CheckMap(
    MetadataStore* metadata, std::function<Task<absl::Status>(uint64_t bytes)> before_read) {
  MapCheck check;
  uint64_t last_bytes = 0;
  for (const Table table : kTables) {
    std::string from = TablePrefix(table);
    const std::string to = PrefixEnd(from);
    for (;;) {
      absl::Status status = co_await before_read(last_bytes);
      TF_CO_RETURN_IF_ERROR(status);
      const absl::StatusOr<std::vector<KeyValue>> page = co_await metadata->Scan(from, to, kPage);
      if (absl::IsDataLoss(page.status())) {
        // What lies behind it can't be reached; Verify says which file it is.
        check.damage.emplace_back(page.status().message());
        break;
      }
      TF_CO_RETURN_IF_ERROR(page);
      if (page->empty()) break;
      last_bytes = 0;
      for (const KeyValue& entry : *page) {
        last_bytes += entry.first.size() + entry.second.size();
        const absl::Status whole = CheckOne(table, entry);
        if (whole.ok()) continue;
        check.damage.push_back(absl::StrCat("the map at key ", absl::BytesToHexString(entry.first),
                                            ": ", whole.message()));
      }
      check.bytes_read += last_bytes;
      check.keys += page->size();
      from = page->back().first + '\0';
    }
  }
  co_return check;
}

}  // namespace twofold
