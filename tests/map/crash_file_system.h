// A file system for RocksDB that loses power: what was not synced when it stops is kept, lost or
// cut short by a seed.
//
// The fault model. From the operation at which it stops on, everything that writes fails. Then each
// file keeps what was synced and any part of what was appended since. Names (created, renamed,
// deleted files) are durable once their directory was synced; of those since, the first few in
// their order survive, as in a file system with a journal. It keeps to one directory, and puts
// deleted files aside to bring them back.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "rocksdb/env.h"
#include "rocksdb/file_system.h"
#include "storage/base/prng.h"

namespace twofold {

class CrashFileSystem : public rocksdb::FileSystemWrapper {
 public:
  // `aside`: a directory on the same file system, which exists.
  CrashFileSystem(std::string aside, uint64_t seed);

  const char* Name() const override { return "CrashFileSystem"; }

  // Stops at the `operations`-th write, sync or change of a name from now on.
  void StopAfter(uint64_t operations);
  bool stopped();
  // Stops if it hasn't, and makes the directory what a machine would find that starts again. Nobody
  // may have it open.
  void LosePower();

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus NewDirectory(const std::string& name, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* result,
                                 rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;
  rocksdb::IOStatus DeleteFile(const std::string& name, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;

 private:
  class File;
  class Directory;

  struct Sizes {
    uint64_t written = 0;
    uint64_t synced = 0;
  };
  struct NameChange {
    enum class Kind { kCreated, kRenamed, kDeleted } kind = Kind::kCreated;
    std::string name;
    std::string from;   // kRenamed
    std::string aside;  // what `name` was before, if it was: kRenamed, kDeleted
  };

  // One step towards the end; an error from there on. Holds the lock.
  rocksdb::IOStatus Step();
  std::string PutAside(const std::string& name);
  void Undo(const NameChange& change);
  // Nothing, all, or any part of it.
  uint64_t Part(uint64_t whole);

  const std::string aside_;
  std::mutex mutex_;  // guards everything below
  Prng random_;
  uint64_t steps_left_ = ~uint64_t{0};
  bool stopped_ = false;
  uint64_t aside_count_ = 0;
  std::map<std::string, std::shared_ptr<Sizes>> files_;  // that were written since the beginning
  std::vector<NameChange> name_changes_;                 // since the directory was last synced
};

// An environment on that file system, in which RocksDB doesn't sleep for a second after each error.
std::unique_ptr<rocksdb::Env> NewCrashEnv(std::shared_ptr<CrashFileSystem> system);

}  // namespace twofold
