// A metadata store in memory, over a disk that outlives it: what RocksStore promises, with its
// delays, its crashes and its damage drawn from a seed.
//
// The fault model. A commit first becomes visible to reads and later, all of it at one instant,
// durable; a crash in between keeps all of it or nothing, by the seed, and one that comes before it
// is visible keeps nothing. A read looks at the contents at some instant of the time it takes. A
// failed commit is as if the machine had gone on without knowing: kept or lost, by the seed, which
// shows after the next open. Damage is a key whose bytes can't be trusted: every read that meets it
// is kDataLoss; whatever writes the key anew, a put or a delete, heals it, a merge doesn't.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "storage/base/prng.h"
#include "storage/map/metadata_store.h"
#include "storage/runtime/task.h"

namespace twofold::sim {

struct SimMetadataOptions {
  // The longest that a read, or each half of a commit, takes; 0: done without suspending.
  int64_t max_read_delay_ns = 0;
  int64_t max_commit_delay_ns = 0;
};

// What is stored. Belongs to one executor; outlives the stores that are opened on it.
class SimMetadataDisk {
 public:
  using Options = SimMetadataOptions;

  explicit SimMetadataDisk(uint64_t seed, Options options = {});
  SimMetadataDisk(const SimMetadataDisk&) = delete;
  SimMetadataDisk& operator=(const SimMetadataDisk&) = delete;

  // One store at a time: the one before was closed, or ended by Crash.
  std::unique_ptr<MetadataStore> Open();

  // Ends the open store: what is under way and all later calls give kUnavailable. They still must
  // be awaited to their end, as ever.
  void Crash();

  // Everything that is stored is gone, as if somebody had removed its directory. None may be open.
  void Lose();

  // It is what it once was, as from an old copy of its directory. None may be open.
  void Restore(std::map<std::string, std::string> contents);

  // Faults, which stay until they happen or are healed.
  void Damage(const std::string& key);
  void FailNextCommit(absl::Status error);  // and every later one, until the next Open
  void FailNextReads(int count, absl::Status error);

  // The contents as reads see them, and a way to change them behind the store's back.
  const std::map<std::string, std::string>& contents() const { return contents_; }
  void Overwrite(const std::string& key, std::string value);

  // Why it was marked as damaged; empty: it was not. It can be opened all the same.
  const std::string& marked() const { return marked_; }

  uint64_t commits() const { return commits_; }
  uint64_t reads() const { return reads_; }

 private:
  friend class SimMetadataStore;
  friend class SimMetadataView;
  // What a key was before the commit that is visible and not yet durable.
  struct Before {
    std::optional<std::string> value;
    bool damaged = false;
  };

  void Apply(const MetadataBatch& batch);
  void ApplyOne(const MetadataWrite& write);
  void Remember(const std::string& key);
  void MakeDurable() { undo_.clear(); }
  void SettleUndo();
  int64_t Delay(int64_t max_ns);

  Prng random_;
  const Options options_;
  std::map<std::string, std::string> contents_;
  std::set<std::string> damaged_;
  std::string marked_;
  std::map<std::string, Before> undo_;
  uint64_t boot_ = 0;  // counts opens and crashes: a store of another boot is dead
  bool open_ = false;
  std::optional<absl::Status> commit_error_;
  int failing_reads_ = 0;
  absl::Status read_error_;
  uint64_t commits_ = 0;
  uint64_t reads_ = 0;
};

}  // namespace twofold::sim
