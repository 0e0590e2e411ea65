// Bytes of one set rot while the daemon is stopped, on simulated disks: what opening meets (P6, P7,
// R10-R16).
//
// A pool over two real stores. A client writes, trims, takes and deletes snapshots; the pool ends,
// in good order or with a crash; then blocks and files of one set are damaged: bits flip, blocks
// become zero, change places or are what they were before, files vanish, are cut off or longer,
// have each other's name, or are an older copy of themselves. The pool opens again, every block is
// what was written, and without anybody's help the pool becomes healthy, nothing is known to be
// bad, a scrub of both sets finds nothing, each set is whole by itself, and all is the same after
// one more restart. A seed replays a run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "replication/local_replica.h"
#include "replication/volume/mount.h"
#include "replication/volume/pool.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/prng.h"
#include "storage/base/status_macros.h"
#include "storage/log/departure_group.h"
#include "storage/runtime/executor.h"
#include "storage/store/store.h"
#include "tests/replication/sim_witness.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_metadata_store.h"
#include "tests/sim/sim_poller.h"
#include "tests/sim/store_world.h"

namespace twofold {
namespace {

constexpr uint64_t kVolumeBlocks = 512;
constexpr uint64_t kSegments = 24;
constexpr char kSuperblockPath[] = "SUPERBLOCK";

// What each block holds; one that is not here holds zeros.
using Content = std::map<uint64_t, uint64_t>;

void FillBlock(uint64_t value, std::byte* block) {
  for (size_t i = 0; i < kBlockSize; i += sizeof(value)) {
    std::memcpy(block + i, &value, sizeof(value));
  }
}

struct Side {
  Side(std::string name, uint64_t seed) : disk(std::move(name)), metadata(seed, {}) {}
  sim::SimDisk disk;
  sim::SimMetadataDisk metadata;
  Store* store = nullptr;  // while the pool has it
};

class RotWorld {
 public:
  explicit RotWorld(uint64_t seed) : random_(seed), poller_(seed), executor_(poller_) {
    SetLogLevel(LogLevel::kError);
    for (const char* name : {"a", "b"}) {
      sides_.push_back(std::make_unique<Side>(name, seed ^ static_cast<uint64_t>(name[0])));
    }
  }

  Executor& executor() { return executor_; }
  Prng& random() { return random_; }
  Side& side(size_t index) { return *sides_[index]; }
  Pool& pool() { return *pool_; }

  Task<void> Format() {
    std::vector<std::string> ids;
    for (auto& side : sides_) {
      const absl::Status formatted =
          co_await sim::FormatStoreOn(&poller_, &side->disk, {.segments = kSegments});
      EXPECT_TRUE(formatted.ok()) << formatted;
      ids.push_back(std::string(32, side->disk.name()[0]));
    }
    sim::SimWitness witness(&stored_);
    const absl::Status made = co_await Pool::Format(&witness, std::string(32, '1'), std::move(ids));
    EXPECT_TRUE(made.ok()) << made;
  }

  // As the daemon does: what can't be opened is absent.
  Task<bool> Start() {
    Pool::Parts parts;
    for (auto& side : sides_) {
      StoreOptions options = sim::RandomStoreOptions(random_, /*read_only=*/false);
      options.departures = &departures_;
      auto store = co_await sim::OpenStoreOn(&poller_, &side->disk, &side->metadata, options);
      if (!store.ok()) {
        refused_ = store.status();
        parts.attach.absent.push_back({side->disk.name(), "/sim/" + side->disk.name(),
                                       std::string(store.status().message()), /*gone=*/false,
                                       absl::IsDataLoss(store.status())});
        continue;
      }
      side->store = store->get();
      parts.replicas.push_back(std::make_unique<LocalReplica>(*std::move(store)));
    }
    auto witness = std::make_unique<sim::SimWitness>(&stored_);
    witness_ = witness.get();
    parts.witness = std::move(witness);
    parts.buffer_pool_bytes = kDefaultBufferPoolBytes;
    parts.directories.open = [this](const std::string& set) { return OpenAgain(set); };
    auto pool = co_await Pool::Attach(std::move(parts));
    EXPECT_TRUE(pool.ok()) << pool.status();
    if (!pool.ok()) co_return false;
    pool_ = *std::move(pool);
    if (pool_->Volumes().empty()) {
      const auto volume = co_await pool_->CreateVolume("vol", kVolumeBlocks * kBlockSize,
                                                       AckMode::kDurable, OnSetLoss::kContinue);
      EXPECT_TRUE(volume.ok()) << volume.status();
    }
    mount_ = Open("vol");
    co_return mount_ != nullptr;
  }

  Task<void> Stop() {
    mount_.reset();
    co_await pool_->Stop();
    pool_.reset();
    for (auto& side : sides_) side->store = nullptr;
  }

  // Everything dies, with nothing of the client's under way.
  Task<void> Crash() {
    witness_->Crash();
    const auto kind = random_.OneIn(2) ? sim::CrashKind::kPower : sim::CrashKind::kProcess;
    for (auto& side : sides_) {
      side->disk.Crash(kind, random_);
      side->metadata.Crash();
    }
    co_await Stop();
  }

  // ---- The client -------------------------------------------------------------------------------

  std::unique_ptr<Mount> Open(const std::string& name) {
    auto mount = pool_->OpenMount(name);
    EXPECT_TRUE(mount.ok()) << mount.status();
    return mount.ok() ? *std::move(mount) : nullptr;
  }

  Task<void> Write(uint64_t first, uint64_t count) {
    Buffer payload = mount_->buffers().TryAllocate(count * kBlockSize);
    EXPECT_FALSE(payload.empty());
    for (uint64_t i = 0; i < count; ++i) {
      now_[first + i] = ++value_;
      FillBlock(value_, payload.data() + i * kBlockSize);
    }
    const absl::Status status = co_await mount_->Write(first * kBlockSize, count * kBlockSize,
                                                       std::move(payload), /*fua=*/false);
    EXPECT_TRUE(status.ok()) << status;
  }

  Task<void> Zero(uint64_t first, uint64_t count) {
    const absl::Status status =
        co_await mount_->Trim(first * kBlockSize, count * kBlockSize, /*fua=*/false);
    EXPECT_TRUE(status.ok()) << status;
    now_.erase(now_.lower_bound(first), now_.lower_bound(first + count));
  }

  Task<void> Snapshot() {
    const std::string name = absl::StrCat("s", ++value_);
    std::vector<SnapshotName> names;
    names.push_back({"vol", name});
    const auto made = co_await pool_->CreateSnapshots(std::move(names));
    EXPECT_TRUE(made.ok()) << made.status();
    snapshots_[name] = now_;
    if (snapshots_.size() <= 3) co_return;
    const std::string gone = snapshots_.begin()->first;
    SnapshotName deleted{"vol", gone};
    const absl::Status status = co_await pool_->DeleteSnapshot(std::move(deleted));
    EXPECT_TRUE(status.ok()) << status;
    snapshots_.erase(gone);
  }

  Task<void> Change(uint64_t times) {
    for (uint64_t i = 0; i < times && !::testing::Test::HasFailure(); ++i) {
      const uint64_t first = random_.Uniform(kVolumeBlocks);
      const uint64_t most = std::min<uint64_t>(kVolumeBlocks - first, random_.OneIn(5) ? 48 : 6);
      const uint64_t count = 1 + random_.Uniform(most);
      const uint64_t choice = random_.Uniform(100);
      if (choice < 85) {
        co_await Write(first, count);
      } else if (choice < 96) {
        co_await Zero(first, count);
      } else {
        co_await Snapshot();
      }
    }
  }

  Task<void> ReadAll() {
    co_await ReadView("vol", now_);
    for (const auto& [name, content] : snapshots_) co_await ReadView("vol@" + name, content);
  }

  Task<void> ReadView(std::string name, const Content& content) {
    const std::unique_ptr<Mount> mount = Open(name);
    if (mount == nullptr) co_return;
    constexpr uint64_t kStep = 16;
    for (uint64_t first = 0; first < kVolumeBlocks; first += kStep) {
      const auto reply = co_await mount->Read(first * kBlockSize, kStep * kBlockSize);
      EXPECT_TRUE(reply.ok()) << name << ": " << reply.status();
      if (!reply.ok()) co_return;
      std::vector<std::byte> wanted(kStep * kBlockSize);
      for (uint64_t i = 0; i < kStep; ++i) {
        const auto value = content.find(first + i);
        if (value != content.end()) FillBlock(value->second, wanted.data() + i * kBlockSize);
      }
      const bool same =
          std::memcmp(wanted.data(), reply->buffer.data() + reply->skip, wanted.size()) == 0;
      EXPECT_TRUE(same) << name << " is wrong in the blocks from " << first << " on";
      if (!same) co_return;
    }
  }

  // ---- Damage -----------------------------------------------------------------------------------

  std::vector<std::string> SegmentPaths(size_t index) {
    std::vector<std::string> paths = side(index).disk.Files();
    std::erase_if(paths, [](const std::string& path) { return !absl::StartsWith(path, "log/"); });
    return paths;
  }

  // What is there now, to be put back later.
  void KeepCopy(size_t index) { older_[index] = std::make_unique<sim::SimDisk>(side(index).disk); }

  const sim::SimDisk& older(size_t index) { return *older_.at(index); }

  void KeepMap(size_t index) { older_maps_[index] = side(index).metadata.contents(); }
  void PutOlderMapBack(size_t index) { side(index).metadata.Restore(older_maps_.at(index)); }

  // Mostly where something is.
  uint64_t SomeBlock(sim::SimDisk& disk, const std::string& path) {
    const uint64_t blocks = disk.FileSize(path) / kBlockSize;
    if (random_.OneIn(6)) return 0;
    if (random_.OneIn(6)) return blocks - 1;
    uint64_t block = 0;
    for (int tries = 0; tries < 20; ++tries) {
      block = random_.Uniform(blocks);
      const std::vector<std::byte> bytes = disk.Peek(path, block * kBlockSize, 64);
      const bool zeros = std::all_of(bytes.begin(), bytes.end(),
                                     [](std::byte byte) { return byte == std::byte{0}; });
      if (!zeros) break;
    }
    return block;
  }

  std::string DamageOnce(size_t index) {
    sim::SimDisk& disk = side(index).disk;
    const sim::SimDisk* const older = older_[index].get();
    const std::vector<std::string> paths = SegmentPaths(index);
    const std::string path = paths[random_.Uniform(paths.size())];
    const std::string other = paths[random_.Uniform(paths.size())];
    const uint64_t blocks = disk.FileSize(path) / kBlockSize;
    const uint64_t kind = random_.Uniform(10);
    if (kind >= 4 && blocks != kMinSegmentBytes / kBlockSize) return "nothing";
    switch (kind) {
      case 0: {
        // One slot of the superblock: the other one stays.
        const uint64_t slot = random_.Uniform(2);
        if (disk.FileSize(kSuperblockPath) != 2 * kBlockSize || superblock_damaged_)
          return "nothing";
        superblock_damaged_ = true;
        if (random_.OneIn(3) && older != nullptr) {
          disk.CopyFile(*older, kSuperblockPath);
          return "an older superblock";
        }
        if (random_.OneIn(4)) {
          disk.SetLength(kSuperblockPath, random_.OneIn(2) ? kBlockSize : 5 * kBlockSize);
          return "a superblock of another length";
        }
        disk.FlipBit(kSuperblockPath, slot * kBlockSize + random_.Uniform(800), 3);
        return absl::StrCat("copy ", slot, " of the superblock");
      }
      case 1:
        disk.Lose(path);
        return absl::StrCat("lost ", path);
      case 2:
        if (older == nullptr || !older->Exists(path)) return "nothing";
        disk.CopyFile(*older, path);
        return absl::StrCat("an older copy of ", path);
      case 3:
        disk.SwapFiles(path, other);
        return absl::StrCat("swapped ", path, " and ", other);
      case 4: {
        const uint64_t length = random_.OneIn(4) ? blocks + 8 : random_.Uniform(blocks);
        disk.SetLength(path, length * kBlockSize);
        return absl::StrCat(path, " is ", length, " blocks long");
      }
      case 5: {
        const uint64_t block = SomeBlock(disk, path);
        if (older == nullptr || !older->Exists(path) ||
            older->FileSize(path) < (block + 1) * kBlockSize) {
          return "nothing";
        }
        disk.Overwrite(path, block * kBlockSize, older->Peek(path, block * kBlockSize, kBlockSize));
        return absl::StrCat("an older block ", block, " of ", path);
      }
      case 6: {
        const uint64_t from = SomeBlock(disk, path);
        const uint64_t to = SomeBlock(disk, path);
        const std::vector<std::byte> kept = disk.Peek(path, to * kBlockSize, kBlockSize);
        disk.CopyBlock(path, from, path, to);
        disk.Overwrite(path, from * kBlockSize, kept);
        return absl::StrCat("swapped blocks ", from, " and ", to, " of ", path);
      }
      case 7: {
        const uint64_t first = SomeBlock(disk, path);
        const uint64_t end = std::min(blocks, first + 1 + random_.Uniform(4));
        for (uint64_t block = first; block < end; ++block) disk.ZeroBlock(path, block);
        return absl::StrCat("zeroed ", first, " to ", end, " of ", path);
      }
      default: {
        const uint64_t block = SomeBlock(disk, path);
        disk.FlipBit(path, block * kBlockSize + random_.Uniform(kBlockSize), 5);
        return absl::StrCat("flipped a bit of block ", block, " of ", path);
      }
    }
  }

  std::string Damage(size_t index, uint64_t times) {
    superblock_damaged_ = false;
    std::string text = absl::StrCat("set ", side(index).disk.name(), ":");
    for (uint64_t i = 0; i < times; ++i) absl::StrAppend(&text, " ", DamageOnce(index), ";");
    return text;
  }

  // ---- Healing ----------------------------------------------------------------------------------

  uint64_t Bad() {
    uint64_t bad = 0;
    for (const ReplicaInfo& replica : pool_->Info().replicas) bad += replica.damage.bad();
    return bad;
  }
  uint64_t Found() {
    uint64_t found = 0;
    for (const ReplicaInfo& replica : pool_->Info().replicas) found += replica.damage.found;
    return found;
  }

  Task<void> WaitUntilHealthy() {
    for (int tries = 0; tries < 600; ++tries) {
      if (pool_->Info().state == "healthy" && Bad() == 0) co_return;
      co_await poller_.Delay(kNanosPerSecond);
    }
    const PoolInfo info = pool_->Info();
    ADD_FAILURE() << "not healed: " << info.state;
    for (const ReplicaInfo& replica : info.replicas) {
      ADD_FAILURE() << replica.set << " is " << replica.state << ": " << replica.reason;
      for (const DamagedPlace& place : replica.damage.places) {
        if (place.healed == 0) {
          ADD_FAILURE() << place.where << ": " << place.what << "; " << place.why_not;
        }
      }
    }
  }

  Task<void> ScrubBoth(bool clean) {
    EXPECT_TRUE(pool_->StartScrub(std::nullopt, 0).ok());
    bool running = true;
    while (running) {
      co_await poller_.Delay(100 * kNanosPerMilli);
      running = false;
      for (const ScrubInfo& info : pool_->Scrubs().sets)
        running = running || info.state == "running";
    }
    for (const ScrubInfo& info : pool_->Scrubs().sets) {
      EXPECT_EQ(info.state, "whole") << info.set << ": " << info.what;
      for (const ScrubFinding& finding : info.findings) ADD_FAILURE() << finding.what;
      if (clean && info.proof.has_value()) {
        EXPECT_EQ(info.proof->healed_places, 0u) << info.set;
      }
    }
  }

  // Each by itself, closed.
  Task<void> Inspect() {
    for (auto& side : sides_) {
      StoreOptions options;
      options.read_only = true;
      auto store = co_await sim::OpenStoreOn(&poller_, &side->disk, &side->metadata, options);
      EXPECT_TRUE(store.ok()) << store.status();
      if (!store.ok()) continue;
      const std::vector<std::string> problems = co_await sim::ProblemsOf(store->get());
      for (const std::string& problem : problems) {
        ADD_FAILURE() << side->disk.name() << ": " << problem;
      }
      co_await (*store)->Stop();
    }
  }

  const absl::Status& refused() const { return refused_; }
  void ForgetRefused() { refused_ = absl::OkStatus(); }
  sim::SimPoller& poller() { return poller_; }

 private:
  Task<absl::StatusOr<std::unique_ptr<Replica>>> OpenAgain(std::string set) {
    Side& side = *sides_[set == "a" ? 0 : 1];
    StoreOptions options = sim::RandomStoreOptions(random_, /*read_only=*/false);
    options.departures = &departures_;
    options.give_up_end_of_pool = std::string(32, '1');
    auto store = co_await sim::OpenStoreOn(&poller_, &side.disk, &side.metadata, options);
    TF_CO_RETURN_IF_ERROR(store);
    side.store = store->get();
    co_return std::make_unique<LocalReplica>(*std::move(store));
  }

  Prng random_;
  sim::SimPoller poller_;
  Executor executor_;
  DepartureGroup departures_;
  std::vector<std::unique_ptr<Side>> sides_;
  std::map<size_t, std::unique_ptr<sim::SimDisk>> older_;
  std::map<size_t, std::map<std::string, std::string>> older_maps_;
  std::optional<Membership> stored_;
  sim::SimWitness* witness_ = nullptr;
  std::unique_ptr<Pool> pool_;
  std::unique_ptr<Mount> mount_;
  absl::Status refused_;
  bool superblock_damaged_ = false;
  Content now_;
  std::map<std::string, Content> snapshots_;
  uint64_t value_ = 0;
};

// How many openings gave up a damaged end, so that a campaign shows that both ways were gone.
uint64_t refusals = 0;
uint64_t damages = 0;

// A pool that has been written to.
Task<bool> Begin(RotWorld* world) {
  co_await world->Format();
  const bool started = co_await world->Start();
  if (started) co_await world->Change(40 + world->random().Uniform(200));
  co_return started;
}

Task<void> PlaySeed(RotWorld* world) {
  Prng& random = world->random();
  bool started = co_await Begin(world);
  if (!started) co_return;
  for (int round = 0; round < 3 && !::testing::Test::HasFailure(); ++round) {
    const size_t victim = random.Uniform(2);
    co_await world->Change(random.Uniform(40));
    if (random.OneIn(2)) world->KeepCopy(victim);
    co_await world->Change(40 + random.Uniform(200));
    if (random.OneIn(2)) {
      co_await world->poller().Delay(static_cast<int64_t>(random.Uniform(400)) * kNanosPerMilli);
      co_await world->Crash();
    } else {
      co_await world->Stop();
    }
    const std::string damage = world->Damage(victim, 1 + random.Uniform(4));
    SCOPED_TRACE(damage);
    ++damages;
    world->ForgetRefused();
    started = co_await world->Start();
    if (!started) co_return;
    if (!world->refused().ok()) ++refusals;
    SCOPED_TRACE(world->refused().ToString());
    co_await world->ReadAll();
    if (random.OneIn(2)) co_await world->Change(30);
    co_await world->WaitUntilHealthy();
    co_await world->ScrubBoth(/*clean=*/false);
    co_await world->ReadAll();
    co_await world->WaitUntilHealthy();
    co_await world->Stop();
    if (::testing::Test::HasFailure()) co_return;
    co_await world->Inspect();
    world->ForgetRefused();
    started = co_await world->Start();
    if (!started) co_return;
    EXPECT_TRUE(world->refused().ok()) << world->refused();
    EXPECT_EQ(world->pool().Info().state, "healthy");
    co_await world->ReadAll();
    co_await world->ScrubBoth(/*clean=*/true);
    EXPECT_EQ(world->Found(), 0u) << "damage that was healed is there again";
  }
  co_await world->Stop();
}

TEST(RotStopped, IsHealedWithoutAWrongByte) {
  const uint64_t first = sim::FromEnvironment("TWOFOLD_SEED", 1);
  const uint64_t count = sim::FromEnvironment("TWOFOLD_SEEDS", 15);
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    RotWorld world(seed);
    world.executor().Run(PlaySeed(&world));
  }
  if (count >= 10) {
    EXPECT_GT(refusals, 0u) << "no set had to give up the end of its log";
    EXPECT_GT(damages, refusals) << "none could be opened with its damage";
  }
}

// A damaged segment of which nothing is needed but what was pending when the catalogue was logged,
// and a pool in which nobody writes.
TEST(RotStopped, IsHealedWhereTheCatalogueAloneHeldTheSegment) {
  RotWorld world(740005);
  world.executor().Run(PlaySeed(&world));
}

// What an older map leads to: segments that it takes for live may hold other things now, and what
// it has not seen may stand in segments that were freed since.
struct OlderMaps {
  uint64_t caught_up = 0;  // what came after it was still in the log
  uint64_t refused = 0;
};

// `map/` of one set is a copy from before: everything is as it was, in the head and in every
// snapshot, and stays so.
Task<void> PutBackAnOlderMap(RotWorld* world, OlderMaps* outcomes) {
  Prng& random = world->random();
  bool started = co_await Begin(world);
  if (!started) co_return;
  for (int round = 0; round < 3 && !::testing::Test::HasFailure(); ++round) {
    const size_t victim = random.Uniform(2);
    co_await world->Change(random.Uniform(40));
    world->KeepMap(victim);
    // From a little to several times the store's size.
    co_await world->Change(random.OneIn(2) ? random.Uniform(60) : 300 + random.Uniform(1500));
    if (random.OneIn(2)) {
      co_await world->Crash();
    } else {
      co_await world->Stop();
    }
    world->PutOlderMapBack(victim);
    world->ForgetRefused();
    started = co_await world->Start();
    if (!started) co_return;
    SCOPED_TRACE(world->refused().ToString());
    ++(world->refused().ok() ? outcomes->caught_up : outcomes->refused);
    co_await world->ReadAll();
    co_await world->Change(30);
    co_await world->WaitUntilHealthy();
    co_await world->ScrubBoth(/*clean=*/false);
    co_await world->ReadAll();
    co_await world->Stop();
    if (::testing::Test::HasFailure()) co_return;
    co_await world->Inspect();
    world->ForgetRefused();
    started = co_await world->Start();
    if (!started) co_return;
    EXPECT_TRUE(world->refused().ok()) << world->refused();
    co_await world->ReadAll();
  }
  co_await world->Stop();
}

TEST(RotStopped, AnOlderMapIsCaughtUpOrNotBelieved) {
  const uint64_t first = sim::FromEnvironment("TWOFOLD_SEED", 1);
  const uint64_t count = sim::FromEnvironment("TWOFOLD_SEEDS", 15);
  OlderMaps outcomes;
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    RotWorld world(seed);
    world.executor().Run(PutBackAnOlderMap(&world, &outcomes));
  }
  if (count >= 10) {
    EXPECT_GT(outcomes.caught_up, 0u) << "no older map was of use";
    EXPECT_GT(outcomes.refused, 0u) << "the log had always kept all that an older map lacked";
  }
}

// ---- The superblock, kind by kind. One whole slot is enough. ----

enum class SuperblockDamage {
  kFlipInTheFirst,
  kFlipInTheSecond,
  kZeroTheFirst,
  kZeroTheSecond,
  kSwapSlots,
  kCutOff,
  kLonger,
  kOlderCopy,
  // From here on nothing of it is left.
  kFlipInBoth,
  kZeroBoth,
  kEmpty,
  kLost,
  kEnd,
};

void DamageSuperblock(RotWorld* world, SuperblockDamage damage) {
  sim::SimDisk& disk = world->side(0).disk;
  const std::string path = kSuperblockPath;
  using enum SuperblockDamage;
  if (damage == kFlipInTheFirst || damage == kFlipInBoth) disk.FlipBit(path, 100, 2);
  if (damage == kFlipInTheSecond || damage == kFlipInBoth) disk.FlipBit(path, kBlockSize + 100, 2);
  if (damage == kZeroTheFirst || damage == kZeroBoth) disk.ZeroBlock(path, 0);
  if (damage == kZeroTheSecond || damage == kZeroBoth) disk.ZeroBlock(path, 1);
  if (damage == kSwapSlots) {
    const std::vector<std::byte> first = disk.Peek(path, 0, kBlockSize);
    disk.CopyBlock(path, 1, path, 0);
    disk.Overwrite(path, kBlockSize, first);
  }
  if (damage == kCutOff) disk.SetLength(path, kBlockSize);
  if (damage == kLonger) disk.SetLength(path, 5 * kBlockSize);
  if (damage == kOlderCopy) disk.CopyFile(world->older(0), path);
  if (damage == kEmpty) disk.SetLength(path, 0);
  if (damage == kLost) disk.Lose(path);
}

Task<void> RotTheSuperblock(RotWorld* world, SuperblockDamage damage) {
  co_await world->Format();
  bool started = co_await world->Start();
  if (!started) co_return;
  co_await world->Change(60);
  world->KeepCopy(0);
  co_await world->Change(60);
  co_await world->Stop();
  // The copy is older by an incarnation.
  started = co_await world->Start();
  if (!started) co_return;
  co_await world->Change(20);
  co_await world->Stop();
  DamageSuperblock(world, damage);
  world->ForgetRefused();
  started = co_await world->Start();
  if (!started) co_return;
  co_await world->ReadAll();
  co_await world->Change(20);
  if (damage >= SuperblockDamage::kFlipInBoth) {
    // Nobody knows what else of this set to believe: it is replaced, or repaired by a person.
    EXPECT_FALSE(world->refused().ok());
    EXPECT_EQ(world->pool().Info().state, "degraded");
    co_await world->ReadAll();
    co_await world->Stop();
    co_return;
  }
  EXPECT_TRUE(world->refused().ok()) << world->refused();
  co_await world->WaitUntilHealthy();
  co_await world->ScrubBoth(/*clean=*/false);
  co_await world->Stop();
  co_await world->Inspect();
  started = co_await world->Start();
  if (!started) co_return;
  EXPECT_EQ(world->Found(), 0u) << "damage that was healed is there again";
  co_await world->ReadAll();
  co_await world->Stop();
}

TEST(RotStopped, ASuperblockIsHealedFromOneSlotAndRefusedWithoutAny) {
  for (int damage = 0; damage < static_cast<int>(SuperblockDamage::kEnd); ++damage) {
    SCOPED_TRACE(absl::StrCat("damage ", damage));
    RotWorld world(3);
    world.executor().Run(RotTheSuperblock(&world, static_cast<SuperblockDamage>(damage)));
  }
}

// The file with the end of the log is gone, blank, cut off, or without a header: what it held was
// acknowledged, and the set is not taken for up to date (P6).
Task<void> LoseTheEnd(RotWorld* world, int kind) {
  co_await world->Format();
  bool started = co_await world->Start();
  if (!started) co_return;
  co_await world->Change(150);
  co_await world->poller().Delay(kNanosPerSecond);
  Store* const store = world->side(0).store;
  const std::string where = store->log().Locate({store->log().end().segment, 0});
  const std::string path = where.substr(2, where.find(" at byte") - 2);
  co_await world->Crash();
  sim::SimDisk& disk = world->side(0).disk;
  if (kind == 0) disk.Lose(path);
  if (kind == 1) disk.SetLength(path, 0);
  if (kind == 2) disk.SetLength(path, 3 * kBlockSize);
  if (kind == 3) disk.ZeroBlock(path, 0);
  if (kind == 4) disk.FlipBit(path, kBlockSize + 20, 1);
  world->ForgetRefused();
  started = co_await world->Start();
  if (!started) co_return;
  EXPECT_TRUE(absl::IsDataLoss(world->refused())) << world->refused();
  co_await world->ReadAll();
  co_await world->WaitUntilHealthy();
  co_await world->ScrubBoth(/*clean=*/false);
  co_await world->Stop();
  co_await world->Inspect();
}

TEST(RotStopped, ALogThatHasLostItsEndIsNotTakenForUpToDateP6) {
  for (int kind = 0; kind < 5; ++kind) {
    SCOPED_TRACE(absl::StrCat("kind ", kind));
    RotWorld world(1);
    world.executor().Run(LoseTheEnd(&world, kind));
  }
}

}  // namespace
}  // namespace twofold
