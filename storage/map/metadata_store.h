// SHARED CONTRACT. The seam to the ordered key-value store that keeps the extent map between
// checkpoints.
//
// Two implementations: RocksStore (RocksDB on the offload threads) and sim::SimMetadataStore
// (tests/sim). The keys and values are docs/formats/map.md; what a merge does is fixed by the key's
// table (key_codec.h) and the same in both (merge.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/runtime/task.h"

namespace twofold {

struct MetadataWrite {
  enum class Kind { kPut, kMerge, kDelete, kDeleteRange } kind = Kind::kPut;
  std::string key;
  std::string value;  // kDeleteRange: the end, exclusive
};
using MetadataBatch = std::vector<MetadataWrite>;
using KeyValue = std::pair<std::string, std::string>;

// A metadata store as it was at one moment: what was committed until then, whatever comes later.
// Keeps that from being given back, so it should not live for hours.
class MetadataView {
 public:
  virtual ~MetadataView() = default;

  // As MetadataStore's, but they block: for work that Run runs. Any thread.
  virtual absl::StatusOr<std::optional<std::string>> GetBlocking(const std::string& key) const = 0;
  virtual absl::StatusOr<std::vector<KeyValue>> ScanBlocking(const std::string& from,
                                                             const std::string& to,
                                                             size_t limit) const = 0;

  // Does a piece of work where it may block, while the executor goes on: some milliseconds of it,
  // since reads of others may wait behind it.
  virtual Task<absl::Status> Run(std::function<absl::Status()> work) const = 0;
};

class MetadataStore {
 public:
  virtual ~MetadataStore() = default;

  // Reads see what was committed, nothing less. kDataLoss: damaged; the map is then rebuilt (M12),
  // it is never taken for empty. kUnavailable: I/O error.
  virtual Task<absl::StatusOr<std::optional<std::string>>> Get(std::string key) = 0;

  // The first key at or after `from` that begins with `prefix` (`from` does too), where there is
  // one.
  virtual Task<absl::StatusOr<std::optional<KeyValue>>> Seek(std::string from,
                                                             std::string prefix) = 0;

  // Keys in [from, to), ascending, at most `limit`.
  virtual Task<absl::StatusOr<std::vector<KeyValue>>> Scan(std::string from, std::string to,
                                                           size_t limit) = 0;

  // Of now. Destroyed before the store is closed. Does not block.
  virtual std::unique_ptr<MetadataView> View() = 0;

  // All or nothing, and durable when it returns OK (one WriteBatch, WAL off, flushed: M9). One at a
  // time.
  virtual Task<absl::Status> Commit(MetadataBatch batch) = 0;

  // Reads everything that is stored from the medium, past every cache, and checks it against its
  // checksums; `before_read` is called before each piece, and its error ends the work. kDataLoss:
  // damaged, with the place. What is committed meanwhile need not be read.
  virtual Task<absl::Status> Verify(
      std::function<Task<absl::Status>(uint64_t bytes)> before_read) = 0;

  // Durably: what is stored is damaged, `why`, and opening it again is kDataLoss until it was made
  // anew. It goes on answering. Nothing where it was opened read-only.
  virtual Task<absl::Status> MarkDamaged(std::string why) = 0;

  // Bytes on disk, about. Does not block.
  virtual uint64_t SizeBytes() const = 0;

  // What commits, and the work that keeps it in order, have written since it was opened, about.
  // Does not block.
  virtual uint64_t WrittenBytes() const = 0;

  // Ends it; no other call may be under way. Before destruction, unless the machine crashed
  // (simulated).
  virtual Task<void> Close() = 0;
};

}  // namespace twofold
