#include "tests/replication/test_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

namespace twofold {
namespace {

Task<void> CallOnExecutor(std::function<void()> function) {
  function();
  co_return;
}

}  // namespace

void TestPool::Call(std::function<void()> function) { Run(CallOnExecutor(std::move(function))); }

TestPool::TestPool(uint64_t seed, sim::SimReplicaOptions options)
    : poller_(seed), executor_(poller_), options_(options) {
  const std::string pool_id(32, '9');
  for (size_t i = 0; i < disks_.size(); ++i) {
    disks_[i].set_name = std::string(1, static_cast<char>('a' + i));
    disks_[i].store_id = std::string(32, static_cast<char>('a' + i));
    disks_[i].pool_id = pool_id;
  }
  sim::SimWitness witness(&stored_);
  const absl::Status status =
      Run(Pool::Format(&witness, pool_id, {disks_[0].store_id, disks_[1].store_id}));
  EXPECT_TRUE(status.ok()) << status;
}

TestPool::~TestPool() {
  if (pool_ != nullptr) Stop();
}

absl::Status TestPool::Attach() {
  Pool::Parts parts;
  dead_ = false;
  parts.attach = attach_options_;
  parts.directories = Directories();
  for (size_t i = 0; i < disks_.size(); ++i) {
    if (std::find(absent_.begin(), absent_.end(), i) != absent_.end()) {
      parts.attach.absent.push_back(
          {disks_[i].set_name, "/sim/" + disks_[i].set_name, "no disk", /*gone=*/true});
      disks_[i].gone = true;
      continue;
    }
    disks_[i].gone = false;
    parts.replicas.push_back(std::make_unique<sim::SimReplica>(&disks_[i], &poller_, options_));
  }
  auto witness = std::make_unique<sim::SimWitness>(&stored_, &poller_);
  live_witness_ = witness.get();
  if (std::exchange(witness_damaged_, false)) witness->Damage();
  parts.witness = std::move(witness);
  parts.buffer_pool_bytes = kDefaultBufferPoolBytes;
  absl::StatusOr<std::unique_ptr<Pool>> pool = Run(Pool::Attach(std::move(parts)));
  if (!pool.ok()) return pool.status();
  pool_ = *std::move(pool);
  return absl::OkStatus();
}

bool TestPool::AttachOrCrashAfter(int64_t nanos, bool power_loss) {
  // The replicas may be gone when the time comes.
  const auto armed = std::make_shared<bool>(true);
  poller_.Schedule(poller_.Now() + nanos, [this, armed, power_loss] {
    if (!*armed) return;
    CrashMachines(power_loss);
  });
  const absl::Status status = Attach();
  *armed = false;
  // It may have died when all was done but what an attach does not wait for.
  if (status.ok() && dead_) Stop();
  return status.ok() && !dead_;
}

void TestPool::MustAttach() {
  const absl::Status status = Attach();
  ASSERT_TRUE(status.ok()) << status;
}

void TestPool::Stop() {
  Run(pool_->Stop());
  pool_.reset();
}

void TestPool::Crash(bool power_loss) {
  Call([this, power_loss] { CrashMachines(power_loss); });
  Stop();
}

void TestPool::CrashMachines(bool power_loss) {
  live_witness_->Crash();
  dead_ = true;
  for (sim::SimDisk& disk : disks_) {
    if (disk.open != nullptr) disk.open->Crash(poller_.random().OneIn(2), power_loss);
  }
}

Task<absl::StatusOr<std::unique_ptr<Replica>>> TestPool::Open(sim::SimDisk* disk) {
  co_await poller_.Delay(static_cast<int64_t>(poller_.random().Uniform(1'000'000)));
  if (dead_) co_return absl::UnavailableError("the machine died");
  if (disk->gone) co_return absl::NotFoundError("no disk");
  co_return std::make_unique<sim::SimReplica>(disk, &poller_, options_);
}

Task<bool> TestPool::IsBack(sim::SimDisk* disk) {
  co_await poller_.Delay(static_cast<int64_t>(poller_.random().Uniform(1'000'000)));
  co_return !disk->gone;
}

Task<absl::StatusOr<std::unique_ptr<Replica>>> TestPool::MakeEmpty(sim::SimDisk* disk,
                                                                   std::string store_id) {
  if (disk->open != nullptr) co_return absl::FailedPreconditionError("not empty");
  sim::SimDisk made;
  made.set_name = disk->set_name;
  made.pool_id = disk->pool_id;
  made.store_id = std::move(store_id);
  *disk = std::move(made);
  co_return std::make_unique<sim::SimReplica>(disk, &poller_, options_);
}

SetDirectories TestPool::Directories() {
  const auto find = [this](const std::string& set) { return &disks_[set == "a" ? 0 : 1]; };
  SetDirectories directories;
  directories.open = [this, find](const std::string& set) { return Open(find(set)); };
  directories.is_back = [this, find](const std::string& set, WallNanos) {
    return IsBack(find(set));
  };
  directories.make = [this, find](const std::string& set, std::vector<std::string> names) {
    return MakeEmpty(find(set), names.front());
  };
  return directories;
}

bool TestPool::InSync(size_t index) const {
  const std::vector<std::string>& ids = stored_->in_sync;
  return std::find(ids.begin(), ids.end(), disks_[index].store_id) != ids.end();
}

void TestPool::MakeVolume(const std::string& name, uint64_t size_bytes, AckMode ack,
                          OnSetLoss on_set_loss) {
  const absl::StatusOr<VolumeInfo> info =
      Run(pool_->CreateVolume(name, size_bytes, ack, on_set_loss));
  ASSERT_TRUE(info.ok()) << info.status();
}

std::unique_ptr<Mount> TestPool::Open(const std::string& name) {
  absl::StatusOr<std::unique_ptr<Mount>> mount = pool_->OpenMount(name);
  EXPECT_TRUE(mount.ok()) << mount.status();
  return *std::move(mount);
}

Buffer TestPool::Payload(Mount& mount, uint64_t offset, uint64_t length, char fill) {
  const uint64_t skip = offset % kBlockSize;
  Buffer buffer = mount.buffers().TryAllocate(skip + length + kBlockSize);
  EXPECT_FALSE(buffer.empty());
  std::memset(buffer.data(), '!', buffer.size());  // what must not get through
  std::memset(buffer.data() + skip, fill, length);
  return buffer;
}

absl::Status TestPool::Write(Mount& mount, uint64_t offset, uint64_t length, char fill, bool fua) {
  return Run(mount.Write(offset, length, Payload(mount, offset, length, fill), fua));
}

std::string TestPool::Read(Mount& mount, uint64_t offset, uint64_t length) {
  absl::StatusOr<ReadReply> reply = Run(mount.Read(offset, length));
  EXPECT_TRUE(reply.ok()) << reply.status();
  if (!reply.ok()) return "";
  uint64_t covered = 0;
  for (const ByteExtent& extent : reply->extents) covered += extent.length;
  EXPECT_EQ(covered, length);
  return std::string(reinterpret_cast<const char*>(reply->buffer.data()) + reply->skip, length);
}

std::vector<ByteExtent> TestPool::Extents(Mount& mount, uint64_t offset, uint64_t length) {
  const absl::StatusOr<std::vector<ByteExtent>> extents =
      Run(mount.BlockStatus(offset, length, 100));
  EXPECT_TRUE(extents.ok()) << extents.status();
  return extents.value_or(std::vector<ByteExtent>());
}

}  // namespace twofold
