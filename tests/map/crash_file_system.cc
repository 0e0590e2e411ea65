#include "tests/map/crash_file_system.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "rocksdb/system_clock.h"
#include "storage/base/check.h"

namespace twofold {
namespace {

class SleeplessClock : public rocksdb::SystemClockWrapper {
 public:
  SleeplessClock() : SystemClockWrapper(rocksdb::SystemClock::Default()) {}
  const char* Name() const override { return "SleeplessClock"; }
  void SleepForMicroseconds(int micros) override {
    SystemClockWrapper::SleepForMicroseconds(std::min(micros, 100));
  }
};

class CrashEnv : public rocksdb::EnvWrapper {
 public:
  explicit CrashEnv(std::unique_ptr<rocksdb::Env> env) : EnvWrapper(std::move(env)) {
    system_clock_ = std::make_shared<SleeplessClock>();
  }
};

}  // namespace

std::unique_ptr<rocksdb::Env> NewCrashEnv(std::shared_ptr<CrashFileSystem> system) {
  return std::make_unique<CrashEnv>(rocksdb::NewCompositeEnv(std::move(system)));
}

using rocksdb::FSDirectory;
using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

class CrashFileSystem::File : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  File(CrashFileSystem* system, std::shared_ptr<Sizes> sizes, std::unique_ptr<FSWritableFile> file)
      : FSWritableFileOwnerWrapper(std::move(file)), system_(*system), sizes_(std::move(sizes)) {}

  IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                  IODebugContext* debug) override {
    std::lock_guard lock(system_.mutex_);
    IOStatus status = system_.Step();
    if (status.ok()) status = FSWritableFileOwnerWrapper::Append(data, options, debug);
    if (status.ok()) sizes_->written += data.size();
    return status;
  }
  IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo&, IODebugContext* debug) override {
    return Append(data, options, debug);
  }
  IOStatus Sync(const IOOptions&, IODebugContext*) override {
    std::lock_guard lock(system_.mutex_);
    const IOStatus status = system_.Step();
    if (status.ok()) sizes_->synced = sizes_->written;
    return status;
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    return Sync(options, debug);
  }
  IOStatus Truncate(uint64_t size, const IOOptions& options, IODebugContext* debug) override {
    std::lock_guard lock(system_.mutex_);
    // RocksDB cuts off what it allocated ahead, never what it wrote.
    TF_CHECK_EQ(size, sizes_->written);
    return system_.stopped_ ? system_.Step()
                            : FSWritableFileOwnerWrapper::Truncate(size, options, debug);
  }

 private:
  CrashFileSystem& system_;
  const std::shared_ptr<Sizes> sizes_;
};

class CrashFileSystem::Directory : public rocksdb::FSDirectoryWrapper {
 public:
  Directory(CrashFileSystem* system, std::unique_ptr<FSDirectory> directory)
      : FSDirectoryWrapper(std::move(directory)), system_(*system) {}

  IOStatus Fsync(const IOOptions&, IODebugContext*) override {
    std::lock_guard lock(system_.mutex_);
    IOStatus status = system_.Step();
    if (status.ok()) system_.name_changes_.clear();
    return status;
  }
  IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* debug,
                               const rocksdb::DirFsyncOptions&) override {
    return Fsync(options, debug);
  }

 private:
  CrashFileSystem& system_;
};

CrashFileSystem::CrashFileSystem(std::string aside, uint64_t seed)
    : FileSystemWrapper(rocksdb::FileSystem::Default()), aside_(std::move(aside)), random_(seed) {}

void CrashFileSystem::StopAfter(uint64_t operations) {
  std::lock_guard lock(mutex_);
  steps_left_ = operations;
}

bool CrashFileSystem::stopped() {
  std::lock_guard lock(mutex_);
  return stopped_;
}

IOStatus CrashFileSystem::Step() {
  if (stopped_ || --steps_left_ == 0) stopped_ = true;
  if (stopped_) return IOStatus::IOError("the machine has lost power");
  return IOStatus::OK();
}

IOStatus CrashFileSystem::NewWritableFile(const std::string& name,
                                          const rocksdb::FileOptions& options,
                                          std::unique_ptr<FSWritableFile>* result,
                                          IODebugContext* debug) {
  std::lock_guard lock(mutex_);
  IOStatus status = Step();
  if (!status.ok()) return status;
  // RocksDB gives each file a new name, or renames it into its place.
  TF_CHECK(!std::filesystem::exists(name)) << name;
  std::unique_ptr<FSWritableFile> file;
  status = FileSystemWrapper::NewWritableFile(name, options, &file, debug);
  if (!status.ok()) return status;
  files_[name] = std::make_shared<Sizes>();
  name_changes_.push_back({NameChange::Kind::kCreated, name, "", ""});
  *result = std::make_unique<File>(this, files_[name], std::move(file));
  return status;
}

IOStatus CrashFileSystem::NewDirectory(const std::string& name, const IOOptions& options,
                                       std::unique_ptr<FSDirectory>* result,
                                       IODebugContext* debug) {
  std::unique_ptr<FSDirectory> directory;
  IOStatus status = FileSystemWrapper::NewDirectory(name, options, &directory, debug);
  if (status.ok()) *result = std::make_unique<Directory>(this, std::move(directory));
  return status;
}

std::string CrashFileSystem::PutAside(const std::string& name) {
  if (!std::filesystem::exists(name)) return "";
  std::string aside = aside_ + "/" + std::to_string(++aside_count_);
  std::filesystem::rename(name, aside);
  return aside;
}

IOStatus CrashFileSystem::RenameFile(const std::string& from, const std::string& to,
                                     const IOOptions& options, IODebugContext* debug) {
  std::lock_guard lock(mutex_);
  IOStatus status = Step();
  if (!status.ok()) return status;
  NameChange change{NameChange::Kind::kRenamed, to, from, PutAside(to)};
  if (!change.aside.empty()) files_[change.aside] = std::exchange(files_[to], nullptr);
  status = FileSystemWrapper::RenameFile(from, to, options, debug);
  if (!status.ok()) return status;
  files_[to] = std::exchange(files_[from], nullptr);
  name_changes_.push_back(std::move(change));
  return status;
}

IOStatus CrashFileSystem::DeleteFile(const std::string& name, const IOOptions&, IODebugContext*) {
  std::lock_guard lock(mutex_);
  const IOStatus status = Step();
  if (!status.ok()) return status;
  NameChange change{NameChange::Kind::kDeleted, name, "", PutAside(name)};
  if (change.aside.empty()) return IOStatus::NotFound(name);
  files_[change.aside] = std::exchange(files_[name], nullptr);
  name_changes_.push_back(std::move(change));
  return status;
}

void CrashFileSystem::Undo(const NameChange& change) {
  switch (change.kind) {
    case NameChange::Kind::kCreated:
      std::filesystem::remove(change.name);
      files_[change.name] = nullptr;
      return;
    case NameChange::Kind::kRenamed:
      std::filesystem::rename(change.name, change.from);
      files_[change.from] = std::exchange(files_[change.name], nullptr);
      break;
    case NameChange::Kind::kDeleted:
      break;
  }
  if (change.aside.empty()) return;
  std::filesystem::rename(change.aside, change.name);
  files_[change.name] = std::exchange(files_[change.aside], nullptr);
}

uint64_t CrashFileSystem::Part(uint64_t whole) {
  switch (random_.Uniform(3)) {
    case 0:
      return 0;
    case 1:
      return whole;
    default:
      return random_.Uniform(whole + 1);
  }
}

void CrashFileSystem::LosePower() {
  std::lock_guard lock(mutex_);
  stopped_ = true;
  const uint64_t survive = Part(name_changes_.size());
  while (name_changes_.size() > survive) {
    Undo(name_changes_.back());
    name_changes_.pop_back();
  }
  for (const auto& [name, sizes] : files_) {
    if (sizes == nullptr || !std::filesystem::exists(name)) continue;
    std::filesystem::resize_file(name, sizes->synced + Part(sizes->written - sizes->synced));
  }
}

}  // namespace twofold
