#include "storage/map/rocks_options.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "rocksdb/cache.h"
#include "rocksdb/convenience.h"
#include "rocksdb/env.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/merge_operator.h"
#include "rocksdb/options.h"
#include "rocksdb/rate_limiter.h"
#include "rocksdb/slice_transform.h"
#include "rocksdb/status.h"
#include "rocksdb/table.h"
#include "rocksdb/write_buffer_manager.h"
#include "storage/map/key_codec.h"
#include "storage/map/merge.h"

namespace twofold {
namespace {

absl::string_view View(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

// merge.h, for RocksDB. A merge that fails makes reads and compactions fail with Corruption; the
// value is never taken for empty.
class MapMerge final : public rocksdb::MergeOperator {
 public:
  bool FullMergeV2(const MergeOperationInput& in, MergeOperationOutput* out) const override {
    std::optional<absl::string_view> base;
    if (in.existing_value != nullptr) base = View(*in.existing_value);
    std::vector<absl::string_view> operands;
    operands.reserve(in.operand_list.size());
    for (const rocksdb::Slice& operand : in.operand_list) operands.push_back(View(operand));
    return Take(MergeFull(View(in.key), base, operands), &out->new_value);
  }

  bool PartialMergeMulti(const rocksdb::Slice& key, const std::deque<rocksdb::Slice>& operands,
                         std::string* result, rocksdb::Logger*) const override {
    std::vector<absl::string_view> views;
    views.reserve(operands.size());
    for (const rocksdb::Slice& operand : operands) views.push_back(View(operand));
    return Take(MergeOperands(View(key), views), result);
  }

  const char* Name() const override { return "twofold.Merge.1"; }

 private:
  static bool Take(absl::StatusOr<std::string> merged, std::string* result) {
    if (!merged.ok()) return false;
    *result = *std::move(merged);
    return true;
  }
};

// The prefix of a chunk version: table, timeline, chunk (M5). Other tables have none; they are
// scanned in total order.
class ChunkPrefixTransform final : public rocksdb::SliceTransform {
 public:
  const char* Name() const override { return "twofold.ChunkPrefix.1"; }
  rocksdb::Slice Transform(const rocksdb::Slice& key) const override {
    return {key.data(), kChunkPrefixBytes};
  }
  bool InDomain(const rocksdb::Slice& key) const override {
    return key.size() >= kChunkPrefixBytes && key[0] == static_cast<char>(Table::kChunk);
  }
};

rocksdb::BlockBasedTableOptions TableOptions(const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  table.block_size = 16 << 10;
  table.checksum = rocksdb::kXXH3;
  table.format_version = 5;
  table.cache_index_and_filter_blocks = true;
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  for (const auto role :
       {rocksdb::CacheEntryRole::kBlockBasedTableReader,
        rocksdb::CacheEntryRole::kFilterConstruction, rocksdb::CacheEntryRole::kFileMetadata}) {
    table.cache_usage_options.options_overrides[role].charged =
        rocksdb::CacheEntryRoleOptions::Decision::kEnabled;
  }
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  // Chunks are looked up by prefix: the filter tells whether a table has any version of a chunk.
  table.whole_key_filtering = false;
  return table;
}

// Versions of one chunk repeat each other's runs, and lie side by side.
rocksdb::CompressionType BestCompression() {
  const std::vector<rocksdb::CompressionType> supported = rocksdb::GetSupportedCompressions();
  const bool lz4 =
      std::find(supported.begin(), supported.end(), rocksdb::kLZ4Compression) != supported.end();
  return lz4 ? rocksdb::kLZ4Compression : rocksdb::kNoCompression;
}

}  // namespace

rocksdb::Options MakeRocksOptions(const RocksStore::Options& options) {
  rocksdb::Options rocks;
  rocks.env = options.env != nullptr ? options.env : rocksdb::Env::Default();
  rocks.create_if_missing = options.mode == RocksStore::Mode::kCreate;
  rocks.error_if_exists = options.mode == RocksStore::Mode::kCreate;
  rocks.paranoid_checks = true;

  // What the keys and values are.
  rocks.merge_operator = std::make_shared<MapMerge>();
  rocks.prefix_extractor = std::make_shared<ChunkPrefixTransform>();

  // Memory: one cache, and everything charged to it.
  const std::shared_ptr<rocksdb::Cache> cache = rocksdb::NewLRUCache(options.cache_bytes);
  rocks.table_factory.reset(rocksdb::NewBlockBasedTableFactory(TableOptions(cache)));
  rocks.write_buffer_manager = std::make_shared<rocksdb::WriteBufferManager>(0, cache);
  rocks.max_open_files = options.max_open_files;

  // Writing: one batch a memtable, flushed by Commit alone.
  rocks.write_buffer_size = size_t{256} << 20;
  rocks.max_write_buffer_number = 2;
  rocks.allow_concurrent_memtable_write = false;
  rocks.avoid_flush_during_shutdown = true;
  rocks.max_bgerror_resume_count = 0;
  rocks.compression = BestCompression();
  rocks.target_file_size_base = uint64_t{32} << 20;
  rocks.level_compaction_dynamic_level_bytes = true;
  rocks.bytes_per_sync = 1 << 20;

  // Background: one flush, and one compaction that yields to everything else.
  rocks.max_background_jobs = 2;
  rocks.max_subcompactions = 1;
  rocks.env->SetBackgroundThreads(1, rocksdb::Env::HIGH);
  rocks.env->SetBackgroundThreads(1, rocksdb::Env::LOW);
  rocks.env->LowerThreadPoolCPUPriority(rocksdb::Env::LOW);
  rocks.env->LowerThreadPoolIOPriority(rocksdb::Env::LOW);
  rocks.rate_limiter.reset(
      rocksdb::NewGenericRateLimiter(static_cast<int64_t>(options.compaction_bytes_per_second),
                                     100 * 1000, 10, rocksdb::RateLimiter::Mode::kAllIo));

  // Its own log: warnings, in little space; Debian's build would log DEBUG.
  rocks.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  rocks.keep_log_file_num = 2;
  rocks.max_log_file_size = size_t{1} << 20;
  rocks.stats_dump_period_sec = 0;
  rocks.stats_persist_period_sec = 0;
  return rocks;
}

absl::Status FromRocksError(const rocksdb::Status& status, absl::string_view what) {
  const std::string text = status.ToString();
  const auto message = [&](absl::string_view advice) {
    return absl::StrCat(what, ": ", text, advice);
  };
  // RocksDB has no code for it.
  if (absl::StrContains(text, "While lock file: ") ||
      absl::StrContains(text, "lock hold by current process")) {
    return absl::FailedPreconditionError(
        message("; another process has this map open: stop it first"));
  }
  if (status.IsNoSpace()) {
    return absl::ResourceExhaustedError(message("; free space on the map's file system"));
  }
  if (status.IsCorruption() || status.IsPathNotFound() || status.IsNotFound()) {
    return absl::DataLossError(message("; rebuild the map from the log"));
  }
  if (status.IsInvalidArgument() || status.IsNotSupported()) {
    return absl::FailedPreconditionError(message(
        "; was it written by another version of RocksDB? Else rebuild the map from the log"));
  }
  return absl::UnavailableError(message(""));
}

}  // namespace twofold
