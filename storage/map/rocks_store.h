// The metadata store in RocksDB 7.8 (M5, M9, M11). Its calls block, so each runs on the offload
// threads.
//
// docs/formats/map.md says what is in it. How a commit is all or nothing stands in rocks_store.cc.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/map/metadata_store.h"
#include "storage/runtime/offload.h"
#include "storage/runtime/task.h"

namespace rocksdb {
class DB;
class Env;
class Snapshot;
}  // namespace rocksdb

namespace twofold {

class RocksStore final : public MetadataStore {
 public:
  enum class Mode {
    kCreate,    // makes a new, empty one; kAlreadyExists where there is one
    kOpen,      // never makes one: a lost map must not look like an empty one (M12)
    kReadOnly,  // for inspect: changes no file, and takes no lock
  };
  struct Options {
    Mode mode = Mode::kOpen;
    // Everything RocksDB keeps in memory is charged to it: blocks, indexes, filters, table readers
    // and the batch that is being written, which alone may pass it.
    size_t cache_bytes = size_t{32} << 20;
    int max_open_files = 256;
    // What compactions may read and write.
    uint64_t compaction_bytes_per_second = uint64_t{64} << 20;
    rocksdb::Env* env = nullptr;  // outlives the store; null: the real one. For tests of crashes
  };

  // `offload` outlives the store. The errors name the directory:
  //   kNotFound            there is no map here (kOpen, kReadOnly)
  //   kAlreadyExists       there is one (kCreate)
  //   kFailedPrecondition  another process has it open, or it was made by an unknown version of
  //   RocksDB kDataLoss            damaged, marked so, or parts are missing: rebuild it from the
  //   log (M12) kUnavailable, kResourceExhausted   I/O error, disk full
  static Task<absl::StatusOr<std::unique_ptr<RocksStore>>> Open(std::string directory,
                                                                Options options, Offload* offload);
  ~RocksStore() override;

  Task<absl::StatusOr<std::optional<std::string>>> Get(std::string key) override;
  Task<absl::StatusOr<std::optional<KeyValue>>> Seek(std::string from, std::string prefix) override;
  Task<absl::StatusOr<std::vector<KeyValue>>> Scan(std::string from, std::string to,
                                                   size_t limit) override;
  std::unique_ptr<MetadataView> View() override;
  // kFailedPrecondition in a store that was opened read-only. kResourceExhausted: the disk is full.
  Task<absl::Status> Commit(MetadataBatch batch) override;
  // Table by table, and then the manifest that names them (rocks_verify.cc).
  Task<absl::Status> Verify(std::function<Task<absl::Status>(uint64_t bytes)> before_read) override;
  // A file in its directory, which goes with it.
  Task<absl::Status> MarkDamaged(std::string why) override;
  uint64_t SizeBytes() const override { return size_bytes_.load(std::memory_order_relaxed); }
  // Its tables, those that compactions made included; the manifest's records are left out.
  uint64_t WrittenBytes() const override;
  Task<void> Close() override;

 private:
  class TableCounter;
  friend class RocksView;

  RocksStore(std::string directory, Mode mode, std::unique_ptr<rocksdb::DB> db,
             std::shared_ptr<TableCounter> counter, Offload* offload);

  // These block; on an offload thread.
  static absl::StatusOr<std::unique_ptr<rocksdb::DB>> OpenBlocking(
      const std::string& directory, const Options& options, std::shared_ptr<TableCounter> counter);
  // As of `snapshot`; null: of now.
  absl::StatusOr<std::optional<std::string>> GetBlocking(const std::string& key,
                                                         const rocksdb::Snapshot* snapshot) const;
  enum class ScanKind { kAll, kWithinChunk, kOnce };
  absl::StatusOr<std::vector<KeyValue>> ScanBlocking(const std::string& from, const std::string& to,
                                                     size_t limit, ScanKind kind,
                                                     const rocksdb::Snapshot* snapshot) const;
  absl::Status CommitBlocking(const MetadataBatch& batch);
  absl::Status MarkBlocking(const std::string& why) const;
  absl::Status VerifyTableBlocking(const std::string& name) const;
  absl::Status VerifyManifestBlocking() const;
  // Name and size of each table.
  std::vector<std::pair<std::string, uint64_t>> TablesBlocking() const;
  void MeasureSize();

  const std::string directory_;
  const Mode mode_;
  std::unique_ptr<rocksdb::DB> db_;  // null once closed
  const std::shared_ptr<TableCounter> counter_;
  Offload* const offload_;
  bool committing_ = false;
  size_t views_ = 0;
  absl::Status failed_;  // of the commit after which nothing is committed any more
  std::atomic<uint64_t> size_bytes_ = 0;
};

}  // namespace twofold
