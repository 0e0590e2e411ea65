#include "storage/map/rocks_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rocksdb/env.h"
#include "rocksdb/perf_context.h"
#include "storage/base/prng.h"
#include "storage/map/key_codec.h"
#include "storage/map/run_list.h"
#include "tests/map/crash_file_system.h"
#include "tests/map/store_harness.h"

namespace twofold {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using Mode = RocksStore::Mode;

Task<absl::Status> Refuse() { co_return absl::CancelledError("enough"); }
// For Verify: at once.
Task<absl::Status> NoWait(uint64_t) { co_return absl::OkStatus(); }

class RocksStoreTest : public testing::Test {
 protected:
  std::string directory() const { return folder_.Sub("map"); }

  std::unique_ptr<RocksStore> MustOpen(Mode mode) {
    auto opened = harness_.OpenRocks(directory(), mode);
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened.ok() ? *std::move(opened) : nullptr;
  }
  absl::Status OpenStatus(Mode mode) {
    auto opened = harness_.OpenRocks(directory(), mode);
    if (opened.ok()) harness_.Run((*opened)->Close());
    return opened.status();
  }
  void Close(std::unique_ptr<RocksStore> store) { harness_.Run(store->Close()); }

  // A store with a few tables, closed.
  void MakeFilled() {
    auto store = MustOpen(Mode::kCreate);
    for (int i = 0; i < 3; ++i) {
      MetadataBatch batch;
      for (uint64_t job = 0; job < 500; ++job) {
        batch.push_back(Put(EncodeJobKey(job), std::string(50, static_cast<char>('a' + i))));
      }
      ASSERT_TRUE(harness_.Run(store->Commit(std::move(batch))).ok());
    }
    Close(std::move(store));
  }

  std::vector<fs::path> Files(const std::string& extension) const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(directory())) {
      if (entry.path().extension() == extension) files.push_back(entry.path());
    }
    return files;
  }
  fs::path Manifest() const {
    std::string name;
    std::ifstream(directory() + "/CURRENT") >> name;
    return fs::path(directory()) / name;
  }
  // Turns over `length` bytes in the middle.
  static void DamageMiddle(const fs::path& file, size_t length) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    const auto at = static_cast<std::streamoff>(fs::file_size(file) / 2);
    std::string bytes(length, '\0');
    stream.seekg(at);
    stream.read(bytes.data(), static_cast<std::streamsize>(length));
    for (char& c : bytes) c = static_cast<char>(~c);
    stream.seekp(at);
    stream.write(bytes.data(), static_cast<std::streamsize>(length));
    ASSERT_TRUE(stream.good());
  }

  TempFolder folder_{/*in_memory=*/true};
  StoreHarness harness_;
};

// ---- Opening ------------------------------------------------------------------------------------

TEST_F(RocksStoreTest, CreatesOnlyWhereThereIsNone) {
  Close(MustOpen(Mode::kCreate));
  const absl::Status status = OpenStatus(Mode::kCreate);
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(directory()));
}

TEST_F(RocksStoreTest, NeverOpensAnEmptyMapInThePlaceOfALostOneM12) {
  EXPECT_EQ(OpenStatus(Mode::kOpen).code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(fs::exists(directory())) << "looking made something";
  MakeFilled();
  fs::remove(directory() + "/CURRENT");
  for (const Mode mode : {Mode::kOpen, Mode::kReadOnly}) {
    const absl::Status status = OpenStatus(mode);
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rebuild the map"));
  }
}

TEST_F(RocksStoreTest, RefusesAMapThatThisProcessHasOpen) {
  auto store = MustOpen(Mode::kCreate);
  const absl::Status status = OpenStatus(Mode::kOpen);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(directory()));
  Close(std::move(store));
}

TEST_F(RocksStoreTest, RefusesAMapThatAnotherProcessHasOpen) {
  Close(MustOpen(Mode::kCreate));
  const std::string lock = directory() + "/LOCK";
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {  // Holds the lock until it is killed.
    const int file = open(lock.c_str(), O_RDWR | O_CLOEXEC);
    struct flock all = {};
    all.l_type = F_WRLCK;
    const bool locked = fcntl(file, F_SETLK, &all) == 0;
    if (write(ready[1], locked ? "y" : "n", 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char answer = 0;
  ASSERT_EQ(read(ready[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  const absl::Status status = OpenStatus(Mode::kOpen);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("another process"));
  EXPECT_TRUE(OpenStatus(Mode::kOpen).ok()) << "free again";
}

TEST_F(RocksStoreTest, ReadOnlyChangesNoFileAndTakesNoLock) {
  MakeFilled();
  const auto listing = [this] {
    std::map<std::string, std::pair<uintmax_t, fs::file_time_type>> files;
    for (const auto& entry : fs::directory_iterator(directory())) {
      files[entry.path().filename()] = {entry.file_size(), entry.last_write_time()};
    }
    return files;
  };
  const auto before = listing();
  auto reader = MustOpen(Mode::kReadOnly);
  auto second = MustOpen(Mode::kReadOnly);
  EXPECT_EQ(harness_.Run(reader->Get(EncodeJobKey(3)))->value(), std::string(50, 'c'));
  EXPECT_TRUE(harness_.Run(reader->Verify(NoWait)).ok());
  EXPECT_GT(reader->SizeBytes(), 0u);
  EXPECT_EQ(harness_.Run(reader->Commit({Put("Ma", "1")})).code(),
            absl::StatusCode::kFailedPrecondition);
  Close(std::move(second));
  Close(std::move(reader));
  EXPECT_EQ(listing(), before);
  reader = MustOpen(Mode::kReadOnly);
  EXPECT_TRUE(OpenStatus(Mode::kOpen).ok()) << "a reader holds no lock";
  Close(std::move(reader));
}

TEST_F(RocksStoreTest, WritesNoChatterIntoItsOwnLogM11) {
  MakeFilled();
  std::ifstream log(directory() + "/LOG");
  const std::string text{std::istreambuf_iterator<char>(log), {}};
  EXPECT_THAT(text, HasSubstr("RocksDB version")) << "the header, which is always written";
  EXPECT_THAT(text, testing::Not(HasSubstr("EVENT_LOG")));
  EXPECT_THAT(text, testing::Not(HasSubstr("[JOB")));
}

TEST_F(RocksStoreTest, FiltersSpareLookupsOfChunksThatAreNotThereM5) {
  StoreHarness one_thread(1);  // RocksDB counts per thread
  RocksStore::Options options;
  options.mode = Mode::kCreate;
  auto store = *one_thread.OpenRocks(directory(), options);
  MetadataBatch batch;
  for (uint64_t chunk = 0; chunk < 1000; chunk += 2) {
    batch.push_back(
        Put(EncodeChunkKey({TimelineId(1), chunk, kFirstPosition}), RunList().Encode(chunk)));
  }
  ASSERT_TRUE(one_thread.Run(store->Commit(std::move(batch))).ok());
  const auto on_thread = [&](auto function) {
    return one_thread.Run(one_thread.offload().Run(function));
  };
  on_thread([] {
    rocksdb::SetPerfLevel(rocksdb::PerfLevel::kEnableCount);
    rocksdb::get_perf_context()->Reset();
    return true;
  });
  for (uint64_t chunk = 1; chunk < 1000; chunk += 2) {
    const std::string prefix = ChunkPrefix(TimelineId(1), chunk);
    ASSERT_FALSE(one_thread.Run(store->Seek(prefix, prefix))->has_value());
  }
  const uint64_t spared =
      on_thread([] { return rocksdb::get_perf_context()->bloom_sst_miss_count; });
  EXPECT_GT(spared, 450u) << "of 500";
  one_thread.Run(store->Close());
}

// ---- Damage: M12 --------------------------------------------------------------------------------

TEST_F(RocksStoreTest, DamagedTablesAreDataLossAndNeverAbsenceM12) {
  MakeFilled();
  ASSERT_FALSE(Files(".sst").empty());
  for (const fs::path& table : Files(".sst")) DamageMiddle(table, 100);
  auto opened = harness_.OpenRocks(directory(), Mode::kOpen);
  if (!opened.ok()) {
    EXPECT_EQ(opened.status().code(), absl::StatusCode::kDataLoss) << opened.status();
    return;
  }
  std::unique_ptr<RocksStore> store = *std::move(opened);
  const auto scanned = harness_.Run(store->Scan("A", "Z", 100'000));
  EXPECT_EQ(scanned.status().code(), absl::StatusCode::kDataLoss) << scanned.status();
  EXPECT_THAT(std::string(scanned.status().message()), HasSubstr(directory()));
  int damaged = 0;
  for (uint64_t job = 0; job < 500; ++job) {
    const auto found = harness_.Run(store->Get(EncodeJobKey(job)));
    if (found.ok()) {
      EXPECT_TRUE(found->has_value()) << "damage taken for absence, at " << job;
    } else {
      EXPECT_EQ(found.status().code(), absl::StatusCode::kDataLoss) << found.status();
      ++damaged;
    }
  }
  EXPECT_GT(damaged, 0);
  EXPECT_EQ(harness_.Run(store->Verify(NoWait)).code(), absl::StatusCode::kDataLoss);
  Close(std::move(store));
}

TEST_F(RocksStoreTest, AMissingTableIsDataLossM12) {
  MakeFilled();
  fs::remove(Files(".sst").front());
  EXPECT_EQ(OpenStatus(Mode::kOpen).code(), absl::StatusCode::kDataLoss) << OpenStatus(Mode::kOpen);
}

TEST_F(RocksStoreTest, AMissingManifestIsDataLossM12) {
  MakeFilled();
  fs::remove(Manifest());
  EXPECT_EQ(OpenStatus(Mode::kOpen).code(), absl::StatusCode::kDataLoss) << OpenStatus(Mode::kOpen);
}

TEST_F(RocksStoreTest, ADamagedManifestIsDataLossM12) {
  MakeFilled();
  DamageMiddle(Manifest(), 20);
  EXPECT_EQ(OpenStatus(Mode::kOpen).code(), absl::StatusCode::kDataLoss) << OpenStatus(Mode::kOpen);
}

TEST_F(RocksStoreTest, ADamagedCurrentIsDataLossM12) {
  MakeFilled();
  std::ofstream(directory() + "/CURRENT") << "nonsense\n";
  EXPECT_EQ(OpenStatus(Mode::kOpen).code(), absl::StatusCode::kDataLoss) << OpenStatus(Mode::kOpen);
}

// What is in the caches of a map that is open hides nothing.
TEST_F(RocksStoreTest, AMapThatWasMarkedAsDamagedIsNotOpenedAgainM12) {
  MakeFilled();
  std::unique_ptr<RocksStore> store = MustOpen(Mode::kOpen);
  ASSERT_TRUE(harness_.Run(store->MarkDamaged("a table is bad")).ok());
  const auto found = harness_.Run(store->Get(EncodeJobKey(1)));
  EXPECT_TRUE(found.ok() && found->has_value()) << "it does not go on answering";
  Close(std::move(store));
  for (const Mode mode : {Mode::kOpen, Mode::kReadOnly}) {
    const absl::Status status = OpenStatus(mode);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("a table is bad"));
  }
  EXPECT_EQ(OpenStatus(Mode::kCreate).code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(RocksStoreTest, VerifyFindsDamageUnderAnOpenMap) {
  MakeFilled();
  auto store = MustOpen(Mode::kOpen);
  ASSERT_TRUE(harness_.Run(store->Scan("A", "Z", 100'000)).ok());
  ASSERT_TRUE(harness_.Run(store->Verify(NoWait)).ok());
  const fs::path table = Files(".sst").front();
  DamageMiddle(table, 100);
  const absl::Status found = harness_.Run(store->Verify(NoWait));
  EXPECT_EQ(found.code(), absl::StatusCode::kDataLoss) << found;
  EXPECT_THAT(std::string(found.message()), HasSubstr(table.filename().string()));
  Close(std::move(store));
}

TEST_F(RocksStoreTest, VerifyFindsADamagedManifestUnderAnOpenMap) {
  MakeFilled();
  auto store = MustOpen(Mode::kOpen);
  DamageMiddle(Manifest(), 20);
  const absl::Status found = harness_.Run(store->Verify(NoWait));
  EXPECT_EQ(found.code(), absl::StatusCode::kDataLoss) << found;
  EXPECT_THAT(std::string(found.message()), HasSubstr("manifest"));
  Close(std::move(store));
}

TEST_F(RocksStoreTest, VerifyEndsWithTheErrorOfItsPace) {
  MakeFilled();
  auto store = MustOpen(Mode::kOpen);
  const auto refuse = [](uint64_t) -> Task<absl::Status> { return Refuse(); };
  EXPECT_EQ(harness_.Run(store->Verify(refuse)).code(), absl::StatusCode::kCancelled);
  Close(std::move(store));
}

// ---- Commits: M9 --------------------------------------------------------------------------------

TEST_F(RocksStoreTest, CommitsNothingMoreAfterAFailedCommit) {
  auto store = MustOpen(Mode::kCreate);
  ASSERT_TRUE(harness_.Run(store->Commit({Put("Ma", "1")})).ok());
  fs::rename(directory(), directory() + ".away");  // there is nowhere to write a table
  const absl::Status failed = harness_.Run(store->Commit({Put("Ma", "2")}));
  EXPECT_FALSE(failed.ok());
  EXPECT_THAT(std::string(failed.message()), HasSubstr(directory()));
  fs::rename(directory() + ".away", directory());
  EXPECT_EQ(harness_.Run(store->Commit({Put("Mb", "3")})).code(),
            absl::StatusCode::kFailedPrecondition);
  Close(std::move(store));
  store = MustOpen(Mode::kOpen);
  EXPECT_EQ(harness_.Run(store->Get("Ma"))->value(), "1") << "written on closing";
  EXPECT_FALSE(harness_.Run(store->Get("Mb"))->has_value());
  Close(std::move(store));
}

// Loses power at any write, sync or change of a name in a series of commits, and opens again.
class PowerLoss {
 public:
  explicit PowerLoss(uint64_t seed)
      : random_(seed), system_(std::make_shared<CrashFileSystem>(MakeAside(), random_.Next())) {
    env_ = NewCrashEnv(system_);
  }

  enum class Outcome { kNothing, kAll, kNotReached };

  void Run(Outcome* outcome) {
    RocksStore::Options options;
    options.mode = Mode::kCreate;
    options.env = env_.get();
    auto opened = harness_.OpenRocks(directory(), options);
    ASSERT_TRUE(opened.ok()) << opened.status();
    std::unique_ptr<RocksStore> store = *std::move(opened);
    const uint64_t safe = random_.Uniform(8);
    for (uint64_t i = 0; i < safe; ++i) {
      ASSERT_TRUE(CommitOne(store.get()).ok());
    }
    system_->StopAfter(1 + random_.Uniform(60));
    absl::Status status;
    for (int i = 0; i < 12 && status.ok(); ++i) status = CommitOne(store.get());
    harness_.Run(store->Close());
    store.reset();
    system_->LosePower();
    Compare(status, outcome);
  }

 private:
  using Contents = std::map<std::string, std::string>;

  std::string MakeAside() const {
    fs::create_directory(folder_.Sub("aside"));
    return folder_.Sub("aside");
  }
  std::string directory() const { return folder_.Sub("map"); }

  // Many keys that change together: half of a batch would show.
  absl::Status CommitOne(RocksStore* store) {
    before_ = after_;
    const std::string mark = std::to_string(++commits_);
    MetadataBatch batch;
    for (int i = 0; i < 200; ++i) {
      const std::string key = MetaKey(std::to_string(random_.Uniform(300)));
      if (random_.Uniform(5) == 0) {
        batch.push_back(Delete(key));
        after_.erase(key);
      } else {
        batch.push_back(Put(key, mark + std::string(random_.Uniform(100), 'x')));
        after_[key] = batch.back().value;
      }
    }
    batch.push_back(Put(MetaKey("checkpoint"), mark));
    after_[MetaKey("checkpoint")] = mark;
    return harness_.Run(store->Commit(std::move(batch)));
  }

  void Compare(const absl::Status& status, Outcome* outcome) {
    auto opened = harness_.OpenRocks(directory(), Mode::kOpen);
    ASSERT_TRUE(opened.ok()) << opened.status();
    std::unique_ptr<RocksStore> store = *std::move(opened);
    const auto all = harness_.Run(store->Scan("M", "N", 100'000));
    harness_.Run(store->Close());
    ASSERT_TRUE(all.ok()) << all.status();
    const Contents found(all->begin(), all->end());
    if (status.ok()) {
      *outcome = Outcome::kNotReached;
      EXPECT_EQ(found, after_) << "a commit that succeeded is gone";
    } else if (found == after_) {
      *outcome = Outcome::kAll;
    } else {
      *outcome = Outcome::kNothing;
      EXPECT_EQ(found, before_) << "neither the failed commit nor the one before";
    }
  }

  TempFolder folder_{/*in_memory=*/true};
  StoreHarness harness_;
  Prng random_;
  std::shared_ptr<CrashFileSystem> system_;
  std::unique_ptr<rocksdb::Env> env_;
  Contents before_;
  Contents after_;
  uint64_t commits_ = 0;
};

TEST(RocksStorePowerLoss, LeavesAllOfACommitOrExactlyTheOneBeforeM9) {
  std::map<PowerLoss::Outcome, int> outcomes;
  for (uint64_t seed = 0; seed < 80; ++seed) {
    PowerLoss::Outcome outcome = PowerLoss::Outcome::kNotReached;
    PowerLoss(seed).Run(&outcome);
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
    ++outcomes[outcome];
  }
  EXPECT_GT(outcomes[PowerLoss::Outcome::kNothing], 10);
  EXPECT_GT(outcomes[PowerLoss::Outcome::kAll], 0)
      << "no crash between the manifest and the answer";
}

}  // namespace
}  // namespace twofold
