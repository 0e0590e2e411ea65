// Why a commit is all or nothing (M9), whenever the machine stops.
//
// A commit is one WriteBatch with the write-ahead log off, and a Flush that is waited for. Commits
// are one at a time, so:
//
//   1. DB::Write puts the whole batch into one memtable: RocksDB changes the memtable between
//   batches only.
//      Nothing is on disk. A crash leaves the previous checkpoint: the log files that RocksDB
//      still opens are empty.
//   2. DB::Flush switches the memtable and writes the old one, which holds exactly this batch (the
//   one
//      before was flushed and waited for), to one new table file, and syncs it and its directory.
//      No manifest names the file yet; a crash leaves the previous checkpoint, and the next open
//      removes it.
//   3. The flush then appends one record to the manifest, which names the table, and syncs it. It
//   has a
//      checksum: after a crash it is there as a whole, and with it the batch, or it is the torn end
//      of the manifest, which RocksDB drops, and the previous checkpoint is what is left.
//
// There is one column family, so that one record is all. Compactions rewrite what is committed, and
// take effect by such a record too. After a failed commit RocksDB may still hold the batch in its
// memtable and could write it with a later one, so nothing is committed any more, no flush is made
// on closing, and its own attempts to resume are off.
#include "storage/map/rocks_store.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "rocksdb/convenience.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "rocksdb/iterator.h"
#include "rocksdb/listener.h"
#include "rocksdb/snapshot.h"
#include "rocksdb/write_batch.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/map/key_codec.h"
#include "storage/map/merge.h"
#include "storage/map/rocks_options.h"

namespace twofold {
namespace {

std::string MarkOf(const std::string& directory) { return directory + "/DAMAGED"; }

rocksdb::Slice AsSlice(absl::string_view text) { return {text.data(), text.size()}; }
std::string AsString(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

std::string At(absl::string_view directory, absl::string_view operation, absl::string_view key) {
  return absl::StrCat("map in ", directory, ": ", operation, " at key ",
                      absl::BytesToHexString(key.substr(0, 80)));
}

rocksdb::WriteBatch MakeWriteBatch(const MetadataBatch& batch) {
  size_t bytes = 0;
  for (const MetadataWrite& write : batch) bytes += write.key.size() + write.value.size() + 16;
  rocksdb::WriteBatch rocks(bytes);
  for (const MetadataWrite& write : batch) {
    const rocksdb::Slice key = AsSlice(write.key);
    rocksdb::Status status;
    switch (write.kind) {
      case MetadataWrite::Kind::kPut:
        status = rocks.Put(key, AsSlice(write.value));
        break;
      case MetadataWrite::Kind::kMerge:
        TF_CHECK(HasMerge(write.key)) << absl::BytesToHexString(write.key);
        status = rocks.Merge(key, AsSlice(write.value));
        break;
      case MetadataWrite::Kind::kDelete:
        status = rocks.Delete(key);
        break;
      case MetadataWrite::Kind::kDeleteRange:
        TF_CHECK_LT(write.key, write.value) << "in a range to delete";
        status = rocks.DeleteRange(key, AsSlice(write.value));
        break;
    }
    TF_CHECK(status.ok()) << status.ToString();
  }
  return rocks;
}

}  // namespace

// RocksDB calls it on its own threads, when a flush or a compaction has written a table.
class RocksStore::TableCounter final : public rocksdb::EventListener {
 public:
  void OnTableFileCreated(const rocksdb::TableFileCreationInfo& info) override {
    bytes_.fetch_add(info.file_size, std::memory_order_relaxed);
  }
  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> bytes_ = 0;
};

RocksStore::RocksStore(std::string directory, Mode mode, std::unique_ptr<rocksdb::DB> db,
                       std::shared_ptr<TableCounter> counter, Offload* offload)
    : directory_(std::move(directory)),
      mode_(mode),
      db_(std::move(db)),
      counter_(std::move(counter)),
      offload_(offload) {}

RocksStore::~RocksStore() { TF_CHECK(db_ == nullptr) << "not closed: " << directory_; }

Task<absl::StatusOr<std::unique_ptr<RocksStore>>> RocksStore::Open(std::string directory,
                                                                   Options options,
                                                                   Offload* offload) {
  const auto counter = std::make_shared<TableCounter>();
  absl::StatusOr<std::unique_ptr<rocksdb::DB>> opened = co_await offload->Run(
      [&directory, &options, &counter] { return OpenBlocking(directory, options, counter); });
  TF_CO_ASSIGN_OR_RETURN(std::unique_ptr<rocksdb::DB> db, std::move(opened));
  std::unique_ptr<RocksStore> store(
      new RocksStore(std::move(directory), options.mode, std::move(db), counter, offload));
  const bool measured = co_await offload->Run([raw = store.get()] {
    raw->MeasureSize();
    return true;
  });
  TF_CHECK(measured);
  co_return store;
}

absl::StatusOr<std::unique_ptr<rocksdb::DB>> RocksStore::OpenBlocking(
    const std::string& directory, const Options& options, std::shared_ptr<TableCounter> counter) {
  const std::string what = absl::StrCat("opening the map in ", directory);
  rocksdb::Options rocks = MakeRocksOptions(options);
  rocks.listeners.push_back(std::move(counter));
  // CURRENT names the manifest, and is the last thing that creating a database makes.
  const rocksdb::Status current = rocks.env->FileExists(directory + "/CURRENT");
  if (!current.ok() && !current.IsNotFound()) return FromRocksError(current, what);
  if (options.mode == Mode::kCreate && current.ok()) {
    return absl::AlreadyExistsError(absl::StrCat(what, ": there is one already"));
  }
  if (options.mode != Mode::kCreate && current.IsNotFound()) {
    return absl::NotFoundError(
        absl::StrCat(what, ": there is none (no file CURRENT); rebuild the map from the log"));
  }

  std::string why;
  const rocksdb::Status mark = rocksdb::ReadFileToString(rocks.env, MarkOf(directory), &why);
  if (mark.ok()) {
    return absl::DataLossError(absl::StrCat(what, ": it was found damaged while it was in use (",
                                            why, "); rebuild the map from the log"));
  }
  if (!mark.IsNotFound() && !mark.IsPathNotFound()) return FromRocksError(mark, what);

  rocksdb::DB* db = nullptr;
  rocksdb::Status status;
  if (options.mode == Mode::kReadOnly) {
    status = rocksdb::DB::OpenForReadOnly(rocks, directory, &db);
  } else {
    status = rocksdb::DB::Open(rocks, directory, &db);
  }
  if (!status.ok()) return FromRocksError(status, what);
  return std::unique_ptr<rocksdb::DB>(db);
}

Task<absl::StatusOr<std::optional<std::string>>> RocksStore::Get(std::string key) {
  TF_CHECK(db_ != nullptr);
  co_return co_await offload_->Run([this, &key] { return GetBlocking(key, nullptr); });
}

absl::StatusOr<std::optional<std::string>> RocksStore::GetBlocking(
    const std::string& key, const rocksdb::Snapshot* snapshot) const {
  std::string value;
  rocksdb::ReadOptions read;
  read.snapshot = snapshot;
  const rocksdb::Status status = db_->Get(read, key, &value);
  if (status.ok()) return std::optional<std::string>(std::move(value));
  // A table file that is missing is damage, and has a code of its own.
  if (status.IsNotFound()) return std::optional<std::string>();
  return FromRocksError(status, At(directory_, "reading", key));
}

Task<absl::StatusOr<std::optional<KeyValue>>> RocksStore::Seek(std::string from,
                                                               std::string prefix) {
  TF_CHECK(db_ != nullptr);
  TF_CHECK(absl::StartsWith(from, prefix));
  const bool within_chunk =
      prefix.size() >= kChunkPrefixBytes && prefix[0] == static_cast<char>(Table::kChunk);
  const ScanKind kind = within_chunk ? ScanKind::kWithinChunk : ScanKind::kAll;
  const std::string to = PrefixEnd(std::move(prefix));
  absl::StatusOr<std::vector<KeyValue>> found = co_await offload_->Run(
      [this, &from, &to, kind] { return ScanBlocking(from, to, 1, kind, nullptr); });
  TF_CO_ASSIGN_OR_RETURN(std::vector<KeyValue> values, std::move(found));
  if (values.empty()) co_return std::optional<KeyValue>();
  co_return std::optional<KeyValue>(std::move(values[0]));
}

Task<absl::StatusOr<std::vector<KeyValue>>> RocksStore::Scan(std::string from, std::string to,
                                                             size_t limit) {
  TF_CHECK(db_ != nullptr);
  co_return co_await offload_->Run(
      [this, &from, &to, limit] { return ScanBlocking(from, to, limit, ScanKind::kAll, nullptr); });
}

absl::StatusOr<std::vector<KeyValue>> RocksStore::ScanBlocking(
    const std::string& from, const std::string& to, size_t limit, ScanKind kind,
    const rocksdb::Snapshot* snapshot) const {
  std::vector<KeyValue> found;
  const rocksdb::Slice upper_bound(to);
  rocksdb::ReadOptions read;
  read.iterate_upper_bound = &upper_bound;
  // Within a chunk the filters tell which tables have it; elsewhere they would hide keys.
  read.prefix_same_as_start = kind == ScanKind::kWithinChunk;
  read.total_order_seek = kind != ScanKind::kWithinChunk;
  // Who goes through all of it once leaves the cache to others.
  read.fill_cache = kind != ScanKind::kOnce;
  read.snapshot = snapshot;
  const std::unique_ptr<rocksdb::Iterator> iterator(db_->NewIterator(read));
  for (iterator->Seek(from); found.size() < limit && iterator->Valid(); iterator->Next()) {
    found.emplace_back(AsString(iterator->key()), AsString(iterator->value()));
  }
  // Not valid is the end, or an error, which must not pass for the end.
  if (!iterator->status().ok()) {
    return FromRocksError(iterator->status(), At(directory_, "scanning", from));
  }
  return found;
}

// A snapshot of RocksDB: it costs nothing but what it keeps compactions from dropping.
class RocksView final : public MetadataView {
 public:
  explicit RocksView(RocksStore* store) : store_(*store), snapshot_(store->db_->GetSnapshot()) {
    ++store_.views_;
  }
  ~RocksView() override {
    store_.db_->ReleaseSnapshot(snapshot_);
    --store_.views_;
  }

  absl::StatusOr<std::optional<std::string>> GetBlocking(const std::string& key) const override {
    return store_.GetBlocking(key, snapshot_);
  }
  absl::StatusOr<std::vector<KeyValue>> ScanBlocking(const std::string& from, const std::string& to,
                                                     size_t limit) const override {
    return store_.ScanBlocking(from, to, limit, RocksStore::ScanKind::kOnce, snapshot_);
  }
  Task<absl::Status> Run(std::function<absl::Status()> work) const override {
    co_return co_await store_.offload_->Run(work);
  }

 private:
  RocksStore& store_;
  const rocksdb::Snapshot* const snapshot_;
};

std::unique_ptr<MetadataView> RocksStore::View() {
  TF_CHECK(db_ != nullptr);
  return std::make_unique<RocksView>(this);
}

Task<absl::Status> RocksStore::Commit(MetadataBatch batch) {
  TF_CHECK(db_ != nullptr);
  TF_CHECK(!committing_) << "one commit at a time";
  if (mode_ == Mode::kReadOnly) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("map in ", directory_, ": committing: it is open read-only"));
  }
  if (!failed_.ok()) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("map in ", directory_, ": committing: an earlier commit failed (",
                     failed_.message(), "); open the store again"));
  }
  committing_ = true;
  const absl::Status status =
      co_await offload_->Run([this, &batch] { return CommitBlocking(batch); });
  committing_ = false;
  if (!status.ok()) failed_ = status;
  co_return status;
}

absl::Status RocksStore::CommitBlocking(const MetadataBatch& batch) {
  const std::string what = absl::StrCat("map in ", directory_, ": committing");
  rocksdb::WriteBatch rocks = MakeWriteBatch(batch);
  rocksdb::WriteOptions write;
  write.disableWAL = true;
  rocksdb::Status status = db_->Write(write, &rocks);
  if (!status.ok()) return FromRocksError(status, what);
  rocks.Clear();
  rocksdb::FlushOptions flush;
  flush.wait = true;
  flush.allow_write_stall = true;  // Nobody else writes: there is nothing to be delayed.
  status = db_->Flush(flush);
  if (!status.ok()) return FromRocksError(status, what);
  MeasureSize();
  return absl::OkStatus();
}

Task<absl::Status> RocksStore::MarkDamaged(std::string why) {
  TF_CHECK(db_ != nullptr);
  if (mode_ == Mode::kReadOnly) co_return absl::OkStatus();
  co_return co_await offload_->Run([this, &why] { return MarkBlocking(why); });
}

// One that is torn by a crash is a mark too: it is there.
absl::Status RocksStore::MarkBlocking(const std::string& why) const {
  const std::string what = absl::StrCat("map in ", directory_, ": marking it damaged");
  rocksdb::Env* const env = db_->GetEnv();
  const rocksdb::Status written =
      rocksdb::WriteStringToFile(env, why, MarkOf(directory_), /*should_sync=*/true);
  if (!written.ok()) return FromRocksError(written, what);
  std::unique_ptr<rocksdb::Directory> directory;
  rocksdb::Status synced = env->NewDirectory(directory_, &directory);
  if (synced.ok()) synced = directory->Fsync();
  return synced.ok() ? absl::OkStatus() : FromRocksError(synced, what);
}

uint64_t RocksStore::WrittenBytes() const { return counter_->bytes(); }

void RocksStore::MeasureSize() {
  uint64_t bytes = 0;
  if (db_->GetIntProperty(rocksdb::DB::Properties::kLiveSstFilesSize, &bytes)) {
    size_bytes_.store(bytes, std::memory_order_relaxed);
  }
}

Task<void> RocksStore::Close() {
  TF_CHECK(!committing_);
  TF_CHECK_EQ(views_, 0);
  if (db_ == nullptr) co_return;
  const bool closed = co_await offload_->Run([this] {
    rocksdb::CancelAllBackgroundWork(db_.get(), /*wait=*/true);
    // What it could report is of a batch that was not committed: nothing else is unwritten.
    db_->Close().PermitUncheckedError();
    db_.reset();
    return true;
  });
  TF_CHECK(closed);
}

}  // namespace twofold
