// Runs metadata stores of both kinds in tests: real threads, real clocks, a folder of their own.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "storage/map/metadata_store.h"
#include "storage/map/rocks_store.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/offload.h"
#include "tests/runtime/test_poller.h"

namespace twofold {

// A new folder that goes with the object.
class TempFolder {
 public:
  // `in_memory`: where syncing costs nothing, if the machine has such a place.
  explicit TempFolder(bool in_memory = false) {
    const bool shm = in_memory && access("/dev/shm", W_OK) == 0;
    std::string name = shm ? "/dev/shm" : std::filesystem::temp_directory_path().string();
    name += "/twofold-map-XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string Sub(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// An executor with offload threads, and the calls of a store as plain functions.
class StoreHarness {
 public:
  explicit StoreHarness(size_t threads = 2) : executor_(poller_), offload_(threads) {}
  StoreHarness(const StoreHarness&) = delete;
  StoreHarness& operator=(const StoreHarness&) = delete;
  ~StoreHarness() { offload_.Stop(); }

  Executor& executor() { return executor_; }
  Offload& offload() { return offload_; }
  template <typename T>
  T Run(Task<T> task) {
    return executor_.Run(std::move(task));
  }

  absl::StatusOr<std::unique_ptr<RocksStore>> OpenRocks(const std::string& directory,
                                                        RocksStore::Options options) {
    return Run(RocksStore::Open(directory, options, &offload_));
  }
  absl::StatusOr<std::unique_ptr<RocksStore>> OpenRocks(const std::string& directory,
                                                        RocksStore::Mode mode) {
    RocksStore::Options options;
    options.mode = mode;
    return OpenRocks(directory, options);
  }

 private:
  TestPoller poller_;
  Executor executor_;
  Offload offload_;
};

inline MetadataWrite Put(std::string key, std::string value) {
  return {MetadataWrite::Kind::kPut, std::move(key), std::move(value)};
}
inline MetadataWrite Merge(std::string key, std::string value) {
  return {MetadataWrite::Kind::kMerge, std::move(key), std::move(value)};
}
inline MetadataWrite Delete(std::string key) {
  return {MetadataWrite::Kind::kDelete, std::move(key), {}};
}
inline MetadataWrite DeleteRange(std::string from, std::string to) {
  return {MetadataWrite::Kind::kDeleteRange, std::move(from), std::move(to)};
}

}  // namespace twofold
