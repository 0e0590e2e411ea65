// Each kind of damage to each file of a map, while it is closed: it opens with a state that it once
// had, whole, or says that it can't be believed; it is never wrong in part (P7, M12). An older
// state is for the log to tell: what it lacks is replayed, or the set is refused
// (sim/RotStopped.AnOlderMapIsCaughtUpOrNotBelieved).
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "storage/map/key_codec.h"
#include "storage/map/rocks_store.h"
#include "tests/map/store_harness.h"

namespace twofold {
namespace {

namespace fs = std::filesystem;
using Contents = std::map<std::string, std::string>;

constexpr size_t kSector = 512;

std::string ReadFile(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}
void WriteFile(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// What can happen to a file. False where it changes nothing.
struct Kind {
  const char* name;
  bool (*apply)(const fs::path& file, const fs::path& older);
};

template <int kPercent>
bool FlipABit(const fs::path& file, const fs::path&) {
  std::string bytes = ReadFile(file);
  if (bytes.empty()) return false;
  bytes[std::min(bytes.size() - 1, bytes.size() * kPercent / 100)] ^= 0x10;
  WriteFile(file, bytes);
  return true;
}
bool ZeroASector(const fs::path& file, const fs::path&) {
  std::string bytes = ReadFile(file);
  const size_t at = bytes.size() / 2 / kSector * kSector;
  const std::string before = bytes;
  std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(at), std::min(kSector, bytes.size() - at),
              '\0');
  WriteFile(file, bytes);
  return bytes != before;
}
bool SwapSectors(const fs::path& file, const fs::path&) {
  std::string bytes = ReadFile(file);
  if (bytes.size() < 2 * kSector) return false;
  const auto other = static_cast<ptrdiff_t>((bytes.size() / kSector - 1) * kSector);
  std::swap_ranges(bytes.begin(), bytes.begin() + kSector, bytes.begin() + other);
  WriteFile(file, bytes);
  return true;
}
template <int kPercent>
bool CutOff(const fs::path& file, const fs::path&) {
  const uint64_t size = fs::file_size(file);
  if (size == 0) return false;
  fs::resize_file(file, std::min(size - 1, size * kPercent / 100));
  return true;
}
bool Lengthen(const fs::path& file, const fs::path&) {
  fs::resize_file(file, fs::file_size(file) + 8 * kSector);
  return true;
}
bool PutBackOlder(const fs::path& file, const fs::path& older) {
  if (!fs::exists(older) || ReadFile(file) == ReadFile(older)) return false;
  WriteFile(file, ReadFile(older));
  return true;
}
bool Lose(const fs::path& file, const fs::path&) { return fs::remove(file); }

constexpr Kind kKinds[] = {
    {"a bit flips at its beginning", FlipABit<0>},
    {"a bit flips in its middle", FlipABit<50>},
    {"a bit flips at its end", FlipABit<100>},
    {"a sector is zeros", ZeroASector},
    {"two sectors change places", SwapSectors},
    {"it is empty", CutOff<0>},
    {"half of it is gone", CutOff<50>},
    {"its last byte is gone", CutOff<100>},
    {"zeros follow it", Lengthen},
    {"it is an older copy", PutBackOlder},
    {"it is gone", Lose},
};

class RocksDamageTest : public testing::Test {
 protected:
  // Three lives, so that the manifest has a history, and of each the state that it left. No more:
  // compaction, which begins at four tables, waits a second after each that it can't read.
  void MakeHistory() {
    Contents contents;
    for (int life = 0; life < 3; ++life) {
      auto opened = harness_.OpenRocks(
          whole(), life == 0 ? RocksStore::Mode::kCreate : RocksStore::Mode::kOpen);
      ASSERT_TRUE(opened.ok()) << opened.status();
      states_.push_back(contents);
      MetadataBatch batch;
      for (uint64_t job = 0; job < 200; ++job) {
        const std::string value(60, static_cast<char>('a' + life));
        batch.push_back(Put(EncodeJobKey(job), value));
        contents[EncodeJobKey(job)] = value;
      }
      ASSERT_TRUE(harness_.Run((*opened)->Commit(std::move(batch))).ok());
      states_.push_back(contents);
      harness_.Run((*opened)->Close());
      if (life == 1) fs::copy(whole(), older());
    }
  }

  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(whole())) {
      const std::string name = entry.path().filename();
      if (name != "LOCK" && !absl::StartsWith(name, "LOG")) names.push_back(name);
    }
    return names;
  }

  bool OnceHad(const Contents& contents) const {
    return std::find(states_.begin(), states_.end(), contents) != states_.end();
  }

  // Opens it and reads all of it.
  void Look(const std::string& directory) {
    auto opened = harness_.OpenRocks(directory, RocksStore::Mode::kOpen);
    if (!opened.ok()) {
      ++refused_;
      // What makes opening a set rebuild its map (directory_store.cc).
      EXPECT_TRUE(absl::IsDataLoss(opened.status()) || absl::IsNotFound(opened.status()))
          << opened.status();
      return;
    }
    const auto scanned = harness_.Run((*opened)->Scan("", "\xff", 100'000));
    if (scanned.ok()) {
      const Contents contents(scanned->begin(), scanned->end());
      EXPECT_TRUE(OnceHad(contents)) << contents.size() << " keys, which it never had";
      ++(contents == states_.back() ? unharmed_ : older_);
    } else {
      ++refused_;
      EXPECT_TRUE(absl::IsDataLoss(scanned.status())) << scanned.status();
      for (const auto& [key, value] : states_.back()) {
        const auto found = harness_.Run((*opened)->Get(key));
        EXPECT_TRUE(absl::IsDataLoss(found.status()) || (found.ok() && **found == value))
            << "a value is wrong or taken for absent";
        if (testing::Test::HasFailure()) break;
      }
    }
    harness_.Run((*opened)->Close());
  }

  std::string whole() const { return folder_.Sub("whole"); }
  std::string older() const { return folder_.Sub("older"); }

  TempFolder folder_{/*in_memory=*/true};
  StoreHarness harness_;
  std::vector<Contents> states_;
  int refused_ = 0;
  int unharmed_ = 0;
  int older_ = 0;
};

TEST_F(RocksDamageTest, WhateverHappensToAFileNothingWrongIsReadM12) {
  MakeHistory();
  if (HasFailure()) return;
  const std::string damaged = folder_.Sub("damaged");
  for (const std::string& name : Files()) {
    for (const Kind& kind : kKinds) {
      SCOPED_TRACE(absl::StrCat(name, ": ", kind.name));
      fs::remove_all(damaged);
      fs::copy(whole(), damaged);
      if (!kind.apply(fs::path(damaged) / name, fs::path(older()) / name)) continue;
      Look(damaged);
      if (HasFailure()) return;
    }
  }
  // Tables, the manifest and CURRENT are looked at; what only helps people is not.
  EXPECT_GT(refused_, 25);
  EXPECT_GT(unharmed_, 0);
}

TEST_F(RocksDamageTest, AnOlderCopyOfAllOfItIsWhatItWas) {
  MakeHistory();
  if (HasFailure()) return;
  Look(older());
  EXPECT_EQ(older_, 1);
}

}  // namespace
}  // namespace twofold
