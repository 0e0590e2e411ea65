#include "tests/sim/sim_block_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/executor.h"

namespace twofold::sim {
namespace {

constexpr std::byte kRubbish{0xdb};

uint64_t CheckedLength(uint64_t offset, absl::Span<const iovec> pieces) {
  TF_CHECK(!pieces.empty());
  TF_CHECK_LE(pieces.size(), kMaxIoPieces);
  TF_CHECK_EQ(offset % kBlockSize, 0u);
  uint64_t length = 0;
  for (const iovec& piece : pieces) {
    TF_CHECK_EQ(piece.iov_len % kBlockSize, 0u);
    TF_CHECK_EQ(reinterpret_cast<uintptr_t>(piece.iov_base) % kBlockSize, 0u);
    length += piece.iov_len;
  }
  return length;
}

void CheckPath(const std::string& path) {
  TF_CHECK(!path.empty() && path.front() != '/' && path.find("..") == std::string::npos &&
           std::count(path.begin(), path.end(), '/') <= 1)
      << path;
}

class Counted {
 public:
  explicit Counted(uint64_t& count) : count_(count) { ++count_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --count_; }

 private:
  uint64_t& count_;
};

// Calls `visit` with each whole block of the pieces in turn.
template <typename Visit>
void ForEachBlock(absl::Span<const iovec> pieces, Visit visit) {
  for (const iovec& piece : pieces) {
    for (size_t offset = 0; offset < piece.iov_len; offset += kBlockSize) {
      visit(static_cast<std::byte*>(piece.iov_base) + offset);
    }
  }
}

}  // namespace

Task<absl::StatusOr<std::unique_ptr<SimBlockDevice>>> SimBlockDevice::Open(SimPoller& poller,
                                                                           SimDisk& disk) {
  co_await poller.Delay(disk.options_.min_latency_nanos);
  if (disk.device_ != nullptr) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("directory ", disk.name(), " is in use by another device, which holds its ",
                     "lock; stop that, or name another directory"));
  }
  co_return absl::WrapUnique(new SimBlockDevice(poller, disk));
}

SimBlockDevice::SimBlockDevice(SimPoller& poller, SimDisk& disk)
    : poller_(poller), disk_(disk), disk_name_(disk.name()), random_(poller.random().Fork()) {
  disk_.device_ = this;
}

SimBlockDevice::~SimBlockDevice() {
  TF_CHECK_EQ(operations_, 0u) << "operations on " << disk_name_ << " outlive the device";
  if (!dead_ && !closed_) disk_.device_ = nullptr;
}

void SimBlockDevice::Die() {
  dead_ = true;
  LetGo();
}

void SimBlockDevice::LetGo() {
  // As an event, because this may be called outside the executor.
  poller_.Schedule(poller_.Now(), [gate = gate_] { gate->opened.WakeAll(); });
}

SimBlockDevice::OpenFile& SimBlockDevice::Get(FileHandle file) {
  TF_CHECK(!closed_) << disk_name_ << " is closed";
  TF_CHECK_LT(file.index, files_.size());
  TF_CHECK(files_[file.index]->open) << Describe(files_[file.index]->path) << " is closed";
  return *files_[file.index];
}

bool SimBlockDevice::IsOpen(const std::string& path) const {
  return std::any_of(files_.begin(), files_.end(),
                     [&](const auto& file) { return file->open && file->path == path; });
}

std::string SimBlockDevice::Describe(const std::string& path) const {
  return absl::StrCat(disk_name_, "/", path);
}

absl::Status SimBlockDevice::Dead() const {
  return absl::UnavailableError(absl::StrCat(disk_name_, ": the device is gone"));
}

SimPoller::DelayAwaiter SimBlockDevice::Delay() {
  // Half of an operation's time, drawn by itself, so that the halves of several interleave.
  const auto least = static_cast<uint64_t>(disk_.options_.min_latency_nanos) / 2;
  const auto most = static_cast<uint64_t>(disk_.options_.max_latency_nanos) / 2;
  return poller_.Delay(static_cast<int64_t>(random_.Between(least, std::max(least, most))));
}

Task<void> SimBlockDevice::Finish() {
  co_await Delay();
  while (!dead_ && disk_.held_) {
    co_await gate_->opened.Wait();
  }
}

Task<absl::StatusOr<std::vector<std::string>>> SimBlockDevice::List(std::string folder) {
  TF_CHECK(!closed_);
  const Counted counted(operations_);
  co_await Finish();
  if (dead_) co_return Dead();
  std::vector<std::string> names;
  const std::string prefix = folder.empty() ? "" : folder + "/";
  for (const auto& [path, file] : disk_.files_) {
    if (!absl::StartsWith(path, prefix)) continue;
    const std::string name = path.substr(prefix.size());
    if (name.find('/') == std::string::npos) names.push_back(name);
  }
  co_return names;
}

Task<absl::StatusOr<FileHandle>> SimBlockDevice::Open(std::string path, OpenMode mode) {
  TF_CHECK(!closed_);
  CheckPath(path);
  const Counted counted(operations_);
  co_await Finish();
  if (dead_) co_return Dead();
  const bool exists = disk_.Exists(path);
  if (mode == OpenMode::kCreate) {
    if (exists) co_return absl::AlreadyExistsError(absl::StrCat("creating ", Describe(path)));
    disk_.files_.emplace(path, SimDisk::File());
  } else if (!exists) {
    co_return absl::NotFoundError(absl::StrCat("opening ", Describe(path)));
  }
  for (size_t i = 0; i < files_.size(); ++i) {
    if (files_[i]->open && files_[i]->path == path) co_return FileHandle{static_cast<uint32_t>(i)};
  }
  files_.push_back(std::make_unique<OpenFile>(OpenFile{std::move(path)}));
  co_return FileHandle{static_cast<uint32_t>(files_.size() - 1)};
}

Task<absl::StatusOr<uint64_t>> SimBlockDevice::Size(FileHandle file) {
  const OpenFile& open = Get(file);
  if (dead_) co_return Dead();
  co_return disk_.FileSize(open.path);
}

Task<absl::Status> SimBlockDevice::Allocate(FileHandle handle, uint64_t bytes) {
  TF_CHECK_EQ(bytes % kBlockSize, 0u);
  OpenFile& open = Get(handle);
  TF_CHECK_EQ(open.writes, 0u) << "allocating " << Describe(open.path) << " under writes";
  const Counted counted(operations_);
  const Counted writes(open.writes);
  const std::string what = absl::StrCat("allocating ", bytes, " bytes for ", Describe(open.path));
  if (dead_) co_return Dead();
  const uint64_t old_bytes = disk_.FileSize(open.path);
  if (bytes > old_bytes &&
      disk_.UsedBytes() + (bytes - old_bytes) > disk_.options_.capacity_bytes) {
    co_return absl::ResourceExhaustedError(absl::StrCat(what, ": no space left"));
  }
  SimDisk::File* file = &disk_.Get(open.path);
  file->allocating = true;
  file->allocating_bytes = bytes;

  co_await Delay();
  if (dead_) co_return Dead();
  const bool failed =
      disk_.UseFault(SimDisk::FaultKind::kWrite, open.path, 0, SimDisk::kToTheEnd).has_value();
  file = &disk_.Get(open.path);
  file->pending.clear();  // what a crash leaves of them is what it leaves of the old content
  if (failed) {
    SimDisk::TearAllocation(*file, file->visible, random_);
    file->allocating = false;
    file->allocating_bytes = 0;
    co_return absl::UnavailableError(absl::StrCat(what, ": simulated write error"));
  }
  file->visible = SimDisk::Image{bytes, {}};
  written_bytes_ += bytes;

  co_await Finish();
  if (dead_) co_return Dead();
  file = &disk_.Get(open.path);
  file->platter = file->visible;
  file->entry_durable = true;
  file->allocating = false;
  file->allocating_bytes = 0;
  co_return absl::OkStatus();
}

Task<absl::Status> SimBlockDevice::Read(FileHandle handle, uint64_t offset,
                                        absl::Span<const iovec> pieces) {
  OpenFile& open = Get(handle);
  const uint64_t length = CheckedLength(offset, pieces);
  const Counted counted(operations_);
  const std::string what =
      absl::StrCat("reading ", length, " bytes at ", offset, " of ", Describe(open.path));
  ++stats_.reads;
  ForEachBlock(
      pieces, [](std::byte* block) { std::memset(block, static_cast<int>(kRubbish), kBlockSize); });
  co_await Finish();
  if (dead_) co_return Dead();
  const SimDisk::File* file = disk_.Find(open.path);
  if (file == nullptr) co_return absl::UnavailableError(absl::StrCat(what, ": the file is gone"));
  if (offset + length > file->visible.size_bytes) {
    co_return absl::OutOfRangeError(
        absl::StrCat(what, ": the file ends at ", file->visible.size_bytes));
  }
  const uint64_t one_in = disk_.options_.read_error_one_in;
  if (disk_.UseFault(SimDisk::FaultKind::kRead, open.path, offset, length).has_value() ||
      (one_in != 0 && random_.OneIn(one_in))) {
    co_return absl::UnavailableError(absl::StrCat(what, ": simulated read error"));
  }
  uint64_t position = offset;
  ForEachBlock(pieces, [&](std::byte* block) {
    SimDisk::ReadInto(*file, position, absl::MakeSpan(block, kBlockSize));
    position += kBlockSize;
  });
  co_return absl::OkStatus();
}

Task<absl::Status> SimBlockDevice::Write(FileHandle handle, uint64_t offset,
                                         absl::Span<const iovec> pieces, Durability durability) {
  OpenFile& open = Get(handle);
  const uint64_t length = CheckedLength(offset, pieces);
  const Counted counted(operations_);
  const Counted writes(open.writes);
  if (dead_) co_return Dead();
  const uint64_t size_bytes = disk_.FileSize(open.path);
  if (offset + length > size_bytes) {
    co_return absl::OutOfRangeError(absl::StrCat("writing ", length, " bytes at ", offset, " of ",
                                                 Describe(open.path), ": the file ends at ",
                                                 size_bytes));
  }
  std::vector<SimDisk::BlockRef> blocks;
  ForEachBlock(pieces, [&](const std::byte* block) {
    auto copy = std::make_shared<SimDisk::Block>();
    std::memcpy(copy->data(), block, kBlockSize);
    blocks.push_back(std::move(copy));
  });
  const absl::Status status = co_await WriteTo(open, offset, blocks, durability);
  size_t index = 0;
  ForEachBlock(pieces, [&](const std::byte* block) {
    TF_CHECK_EQ(std::memcmp(block, blocks[index]->data(), kBlockSize), 0)
        << "block " << index << " of a write to " << Describe(open.path) << " at " << offset
        << " was changed while it was under way";
    ++index;
  });
  co_return status;
}

Task<absl::Status> SimBlockDevice::WriteTo(OpenFile& open, uint64_t offset,
                                           std::vector<SimDisk::BlockRef> blocks,
                                           Durability durability) {
  const bool durable = durability == Durability::kDurable;
  const uint64_t length = blocks.size() * kBlockSize;
  ++stats_.writes;
  if (durable) ++stats_.durable_writes;
  const bool lost =
      disk_.UseFault(SimDisk::FaultKind::kLostWrite, open.path, offset, length).has_value();
  const std::optional<SimDisk::Fault> misdirected =
      disk_.UseFault(SimDisk::FaultKind::kMisdirectedWrite, open.path, offset, length);
  const uint64_t one_in = disk_.options_.write_error_one_in;
  const bool failed =
      disk_.UseFault(SimDisk::FaultKind::kWrite, open.path, offset, length).has_value() ||
      (one_in != 0 && random_.OneIn(one_in));
  if (misdirected.has_value()) {
    TF_CHECK_LE(misdirected->to_offset + length, disk_.FileSize(open.path));
  }
  const uint64_t landing = misdirected.has_value() ? misdirected->to_offset : offset;
  const uint64_t id =
      lost ? 0 : disk_.BeginWrite(disk_.Get(open.path), landing / kBlockSize, std::move(blocks));

  co_await Delay();
  if (dead_) co_return Dead();
  SimDisk::File* file = disk_.Find(open.path);
  if (file != nullptr && !lost) {
    if (failed) {
      disk_.FailWrite(*file, id, random_);
    } else {
      disk_.MakeVisible(*file, id);
    }
  }

  co_await Finish();
  if (dead_) co_return Dead();
  file = disk_.Find(open.path);
  if (failed || file == nullptr) {
    co_return absl::UnavailableError(absl::StrCat("writing ", length, " bytes at ", offset, " of ",
                                                  Describe(open.path), ": simulated write error"));
  }
  if (!lost) disk_.CompleteWrite(*file, id, durable);
  written_bytes_ += length;
  co_return absl::OkStatus();
}

Task<absl::Status> SimBlockDevice::Sync(FileHandle handle) {
  OpenFile& open = Get(handle);
  const Counted counted(operations_);
  ++stats_.syncs;
  const uint64_t began = disk_.next_order_;
  co_await Finish();
  if (dead_) co_return Dead();
  const bool failed =
      disk_.UseFault(SimDisk::FaultKind::kSync, open.path, 0, SimDisk::kToTheEnd).has_value();
  SimDisk::File* file = disk_.Find(open.path);
  if (file != nullptr) SimDisk::CompleteSync(*file, began, failed);
  if (failed || file == nullptr) {
    co_return absl::UnavailableError(
        absl::StrCat("syncing ", Describe(open.path), ": simulated sync error"));
  }
  co_return absl::OkStatus();
}

Task<void> SimBlockDevice::CloseFile(FileHandle handle) {
  OpenFile& open = Get(handle);
  TF_CHECK_EQ(open.writes, 0u) << "closing " << Describe(open.path) << " under writes";
  open.open = false;
  co_return;
}

Task<absl::Status> SimBlockDevice::Remove(std::string path) {
  TF_CHECK(!closed_);
  CheckPath(path);
  const Counted counted(operations_);
  if (dead_) co_return Dead();
  if (IsOpen(path)) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("removing ", Describe(path), ": it is open"));
  }
  SimDisk::File* file = disk_.Find(path);
  if (file == nullptr) co_return absl::NotFoundError(absl::StrCat("removing ", Describe(path)));
  file->removing = true;
  co_await Finish();
  if (dead_) co_return Dead();
  disk_.files_.erase(path);
  co_return absl::OkStatus();
}

Task<absl::StatusOr<uint64_t>> SimBlockDevice::FreeBytes() {
  TF_CHECK(!closed_);
  const Counted counted(operations_);
  co_await Finish();
  if (dead_) co_return Dead();
  const uint64_t used = disk_.UsedBytes();
  const uint64_t capacity = disk_.options_.capacity_bytes;
  co_return used < capacity ? capacity - used : 0;
}

Task<void> SimBlockDevice::Close() {
  TF_CHECK_EQ(operations_, 0u) << "operations on " << disk_name_ << " under way";
  if (!dead_ && !closed_) disk_.device_ = nullptr;
  closed_ = true;
  co_return;
}

}  // namespace twofold::sim
