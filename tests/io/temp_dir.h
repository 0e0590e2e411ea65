// A directory of its own for a test, on a disk (not on tmpfs, which older kernels give no
// O_DIRECT), gone with its object. TWOFOLD_TEST_DIR names another place for all of them.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "storage/base/check.h"

namespace twofold {

class TempDir {
 public:
  TempDir() {
    const char* place = getenv("TWOFOLD_TEST_DIR");
    path_ = std::string(place != nullptr ? place : "/var/tmp") + "/twofold-test-XXXXXX";
    TF_CHECK(mkdtemp(path_.data()) != nullptr) << path_;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace twofold
