// Checking what RocksDB keeps on the disk, past its caches and past those of the kernel where the
// file system can: what is read from memory says nothing of the medium.
//
// RocksDB's own verification reads all tables in one go. Here each table is opened aside and
// verified alone, so that the caller sets the pace and the offload threads stay free for others.
// Tables come and go meanwhile: one that a compaction has removed is passed over, one that has come
// was written just now.
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "rocksdb/db.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/metadata.h"
#include "rocksdb/options.h"
#include "rocksdb/sst_file_reader.h"
#include "rocksdb/table.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/map/rocks_options.h"
#include "storage/map/rocks_store.h"

namespace twofold {
namespace {

// A manifest may be replaced while it is read; not again and again.
constexpr int kManifestTries = 3;

}  // namespace

Task<absl::Status> RocksStore::Verify(
    std::function<Task<absl::Status>(uint64_t bytes)> before_read) {
  TF_CHECK(db_ != nullptr);
  const auto list = [this] { return TablesBlocking(); };
  const std::vector<std::pair<std::string, uint64_t>> tables = co_await offload_->Run(list);
  for (const auto& [name, bytes] : tables) {
    absl::Status status = co_await before_read(bytes);
    TF_CO_RETURN_IF_ERROR(status);
    const auto verify = [this, &name] { return VerifyTableBlocking(name); };
    status = co_await offload_->Run(verify);
    TF_CO_RETURN_IF_ERROR(status);
  }
  const auto manifest = [this] { return VerifyManifestBlocking(); };
  co_return co_await offload_->Run(manifest);
}

std::vector<std::pair<std::string, uint64_t>> RocksStore::TablesBlocking() const {
  std::vector<rocksdb::LiveFileMetaData> files;
  db_->GetLiveFilesMetaData(&files);
  std::vector<std::pair<std::string, uint64_t>> tables;
  tables.reserve(files.size());
  for (const rocksdb::LiveFileMetaData& file : files) {
    tables.emplace_back(file.relative_filename, file.size);
  }
  return tables;
}

absl::Status RocksStore::VerifyTableBlocking(const std::string& name) const {
  rocksdb::Options options = db_->GetOptions();
  // A table factory of its own: nothing comes from the cache of the one that is in use.
  rocksdb::BlockBasedTableOptions table;
  table.no_block_cache = true;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  const std::string path = absl::StrCat(directory_, "/", name);
  rocksdb::Status status;
  for (const bool direct : {true, false}) {
    options.use_direct_reads = direct;
    rocksdb::SstFileReader reader(options);
    status = reader.Open(path);
    if (!status.ok() && !status.IsCorruption() && direct) continue;  // tmpfs can't, for one
    if (status.ok()) status = reader.VerifyChecksum();
    break;
  }
  if (status.ok()) return absl::OkStatus();
  const bool live = absl::c_any_of(
      TablesBlocking(), [&name](const auto& live_table) { return live_table.first == name; });
  if (!live) return absl::OkStatus();
  return FromRocksError(status, absl::StrCat("map in ", directory_, ": verifying ", name));
}

// Reads the manifest as the next start will.
absl::Status RocksStore::VerifyManifestBlocking() const {
  rocksdb::Status status;
  for (int tries = 0; tries < kManifestTries; ++tries) {
    std::vector<std::string> families;
    status = rocksdb::DB::ListColumnFamilies(db_->GetDBOptions(), directory_, &families);
    if (status.ok()) return absl::OkStatus();
  }
  return FromRocksError(status, absl::StrCat("map in ", directory_, ": verifying its manifest"));
}

}  // namespace twofold
