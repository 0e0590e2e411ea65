#include "tests/sim/sim_disk.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "storage/base/check.h"
#include "tests/sim/sim_block_device.h"

namespace twofold::sim {

SimDisk::SimDisk(std::string name, SimDiskOptions options)
    : name_(std::move(name)), options_(options) {}

SimDisk::SimDisk(const SimDisk& other)
    : name_(other.name_),
      options_(other.options_),
      files_(other.files_),
      faults_(other.faults_),
      next_write_(other.next_write_),
      next_order_(other.next_order_) {}

SimDisk::~SimDisk() { TF_CHECK(device_ == nullptr) << "a device is open on disk " << name_; }

// ---- Looking at it ----

SimDisk::File* SimDisk::Find(const std::string& path) {
  const auto found = files_.find(path);
  return found == files_.end() ? nullptr : &found->second;
}

SimDisk::File& SimDisk::Get(const std::string& path) {
  File* file = Find(path);
  TF_CHECK(file != nullptr) << "no file " << path << " on disk " << name_;
  return *file;
}

const SimDisk::File& SimDisk::Get(const std::string& path) const {
  const auto found = files_.find(path);
  TF_CHECK(found != files_.end()) << "no file " << path << " on disk " << name_;
  return found->second;
}

std::vector<std::string> SimDisk::Files() const {
  std::vector<std::string> paths;
  for (const auto& [path, file] : files_) paths.push_back(path);
  return paths;
}

uint64_t SimDisk::FileSize(const std::string& path) const { return Get(path).visible.size_bytes; }

std::vector<std::byte> SimDisk::Peek(const std::string& path, uint64_t offset,
                                     size_t length) const {
  const File& file = Get(path);
  TF_CHECK_LE(offset + length, file.visible.size_bytes);
  std::vector<std::byte> bytes(length);
  ReadInto(file, offset, absl::MakeSpan(bytes));
  return bytes;
}

uint64_t SimDisk::UsedBytes() const {
  uint64_t used = 0;
  for (const auto& [path, file] : files_) {
    used += std::max({file.visible.size_bytes, file.platter.size_bytes, file.allocating_bytes});
  }
  return used;
}

size_t SimDisk::PendingWrites() const {
  size_t count = 0;
  for (const auto& [path, file] : files_) count += file.pending.size();
  return count;
}

void SimDisk::ReadInto(const File& file, uint64_t offset, absl::Span<std::byte> into) {
  size_t done = 0;
  while (done < into.size()) {
    const uint64_t block = (offset + done) / kBlockSize;
    const size_t within = (offset + done) % kBlockSize;
    const size_t length = std::min(kBlockSize - within, into.size() - done);
    const auto found = file.visible.blocks.find(block);
    if (found == file.visible.blocks.end() || found->second == nullptr) {
      std::memset(&into[done], 0, length);
    } else {
      std::memcpy(&into[done], found->second->data() + within, length);
    }
    done += length;
  }
}

// ---- Writes ----

void SimDisk::CopySectors(Image& image, uint64_t block, const BlockRef& from, SectorMask sectors) {
  if (sectors.none()) return;
  if (sectors.all()) {
    image.blocks[block] = from;
    return;
  }
  const BlockRef& old = image.blocks[block];
  auto merged = std::make_shared<Block>();
  if (old != nullptr) *merged = *old;
  for (size_t i = 0; i < kSectorsPerBlock; ++i) {
    if (!sectors.test(i)) continue;
    std::byte* const sector = merged->data() + i * kSectorBytes;
    if (from == nullptr) {
      std::memset(sector, 0, kSectorBytes);
    } else {
      std::memcpy(sector, from->data() + i * kSectorBytes, kSectorBytes);
    }
  }
  image.blocks[block] = std::move(merged);
}

void SimDisk::ApplyWrite(Image& image, const PendingWrite& write) {
  for (size_t i = 0; i < write.blocks.size(); ++i) {
    CopySectors(image, write.first_block + i, write.blocks[i], write.live[i]);
  }
}

uint64_t SimDisk::BeginWrite(File& file, uint64_t first_block, std::vector<BlockRef> blocks) {
  PendingWrite write;
  write.first_block = first_block;
  write.live.assign(blocks.size(), SectorMask().set());
  write.blocks = std::move(blocks);
  file.pending.emplace(next_write_, std::move(write));
  return next_write_++;
}

void SimDisk::MakeVisible(File& file, uint64_t id) {
  PendingWrite& write = file.pending.at(id);
  write.visible_order = next_order_++;
  ApplyWrite(file.visible, write);
}

void SimDisk::CompleteWrite(File& file, uint64_t id, bool durable) {
  file.pending.at(id).completed_order = next_order_++;
  if (durable) Settle(file, id);
}

void SimDisk::FailWrite(File& file, uint64_t id, Prng& random) {
  Tear(file.pending.at(id), random);
  MakeVisible(file, id);
  CompleteWrite(file, id, /*durable=*/false);
}

void SimDisk::Settle(File& file, uint64_t id) {
  const PendingWrite write = std::move(file.pending.extract(id).mapped());
  ApplyWrite(file.platter, write);
  for (auto& [other_id, other] : file.pending) {
    if (other.visible_order == 0 || other.visible_order > write.visible_order) continue;
    for (size_t i = 0; i < write.blocks.size(); ++i) {
      const uint64_t block = write.first_block + i;
      if (block < other.first_block || block >= other.first_block + other.blocks.size()) continue;
      other.live[block - other.first_block] &= ~write.live[i];
    }
  }
}

void SimDisk::CompleteSync(File& file, uint64_t began_order, bool failed) {
  std::vector<std::pair<uint64_t, uint64_t>> covered;  // {visible order, id}
  for (auto& [id, write] : file.pending) {
    if (write.completed_order == 0 || write.completed_order >= began_order) continue;
    if (failed) write.doomed = true;
    if (!write.doomed) covered.emplace_back(write.visible_order, id);
  }
  std::sort(covered.begin(), covered.end());
  for (const auto& [order, id] : covered) Settle(file, id);
}

void SimDisk::Resize(Image& image, uint64_t size_bytes) {
  image.size_bytes = size_bytes;
  image.blocks.erase(image.blocks.lower_bound(size_bytes / kBlockSize), image.blocks.end());
}

// ---- Crash ----

void SimDisk::Tear(PendingWrite& write, Prng& random) {
  const uint64_t fate = random.Uniform(3);
  for (SectorMask& sectors : write.live) {
    if (fate == 1) sectors.reset();
    if (fate == 2) sectors &= SectorMask(random.Next());
  }
}

void SimDisk::TearAllocation(File& file, Image& image, Prng& random) {
  const uint64_t sizes[] = {image.size_bytes, file.allocating_bytes,
                            random.Uniform(file.allocating_bytes / kBlockSize + 1) * kBlockSize};
  std::erase_if(image.blocks, [&random](const auto&) { return random.OneIn(2); });
  Resize(image, sizes[random.Uniform(3)]);
}

void SimDisk::CrashFile(File& file, CrashKind kind, Prng& random) {
  // Writes that nobody has seen have no order yet: they land in one that chance decides.
  std::vector<uint64_t> unseen;
  std::vector<std::pair<uint64_t, uint64_t>> seen;  // {visible order, id}
  for (const auto& [id, write] : file.pending) {
    if (write.visible_order == 0) {
      unseen.push_back(id);
    } else {
      seen.emplace_back(write.visible_order, id);
    }
  }
  std::sort(seen.begin(), seen.end());
  std::shuffle(unseen.begin(), unseen.end(), random);

  if (kind == CrashKind::kProcess) {
    if (file.allocating) TearAllocation(file, file.visible, random);
    for (const uint64_t id : unseen) {
      Tear(file.pending.at(id), random);
      MakeVisible(file, id);
    }
    for (auto& [id, write] : file.pending) {
      if (write.completed_order == 0) write.completed_order = next_order_++;
    }
  } else {
    if (file.allocating) TearAllocation(file, file.platter, random);
    const auto land = [&](uint64_t id) {
      PendingWrite& write = file.pending.at(id);
      Tear(write, random);
      ApplyWrite(file.platter, write);
    };
    for (const auto& [order, id] : seen) land(id);
    for (const uint64_t id : unseen) land(id);
    Resize(file.platter, file.platter.size_bytes);
    file.visible = file.platter;
    file.pending.clear();
    file.entry_durable = true;
  }
  file.allocating = false;
  file.allocating_bytes = 0;
  file.removing = false;
}

void SimDisk::Crash(CrashKind kind, Prng& random) {
  if (device_ != nullptr) std::exchange(device_, nullptr)->Die();
  held_ = false;
  for (auto it = files_.begin(); it != files_.end();) {
    const bool in_doubt =
        it->second.removing || (kind == CrashKind::kPower && !it->second.entry_durable);
    if (in_doubt && random.OneIn(2)) {
      it = files_.erase(it);
      continue;
    }
    CrashFile(it->second, kind, random);
    ++it;
  }
}

// ---- Damage ----

void SimDisk::Overwrite(const std::string& path, uint64_t offset,
                        absl::Span<const std::byte> bytes) {
  File& file = Get(path);
  TF_CHECK_LE(offset + bytes.size(), file.visible.size_bytes);
  for (Image* image : {&file.visible, &file.platter}) {
    for (size_t done = 0; done < bytes.size();) {
      const uint64_t block = (offset + done) / kBlockSize;
      const size_t within = (offset + done) % kBlockSize;
      const size_t length = std::min(kBlockSize - within, bytes.size() - done);
      BlockRef& old = image->blocks[block];
      auto changed = std::make_shared<Block>();
      if (old != nullptr) *changed = *old;
      std::memcpy(changed->data() + within, &bytes[done], length);
      old = std::move(changed);
      done += length;
    }
  }
}

void SimDisk::FlipBit(const std::string& path, uint64_t offset, unsigned bit) {
  const std::byte flipped = Peek(path, offset, 1)[0] ^ static_cast<std::byte>(1u << (bit % 8));
  Overwrite(path, offset, absl::MakeSpan(&flipped, 1));
}

void SimDisk::ZeroBlock(const std::string& path, uint64_t block) {
  Overwrite(path, block * kBlockSize, std::vector<std::byte>(kBlockSize));
}

void SimDisk::CopyBlock(const std::string& from_path, uint64_t from, const std::string& to_path,
                        uint64_t to) {
  Overwrite(to_path, to * kBlockSize, Peek(from_path, from * kBlockSize, kBlockSize));
}

void SimDisk::SetLength(const std::string& path, uint64_t bytes) {
  File& file = Get(path);
  Resize(file.visible, bytes);
  Resize(file.platter, bytes);
}

void SimDisk::SwapFiles(const std::string& one, const std::string& other) {
  std::swap(Get(one), Get(other));
}

void SimDisk::CopyFile(const SimDisk& from, const std::string& path) {
  files_[path] = from.Get(path);
}

void SimDisk::Lose(const std::string& path) {
  TF_CHECK_EQ(files_.erase(path), 1u) << "no file " << path << " on disk " << name_;
}

void SimDisk::FailReads(std::string path, uint64_t offset, uint64_t length, uint64_t times) {
  faults_.push_back({FaultKind::kRead, std::move(path), offset, length, times});
}

void SimDisk::FailWrites(std::string path, uint64_t offset, uint64_t length, uint64_t times) {
  faults_.push_back({FaultKind::kWrite, std::move(path), offset, length, times});
}

void SimDisk::FailSyncs(std::string path, uint64_t times) {
  faults_.push_back({FaultKind::kSync, std::move(path), 0, kToTheEnd, times});
}

void SimDisk::LoseNextWrite(std::string path) {
  faults_.push_back({FaultKind::kLostWrite, std::move(path), 0, kToTheEnd, 1});
}

void SimDisk::MisdirectNextWrite(std::string path, uint64_t to_offset) {
  TF_CHECK_EQ(to_offset % kBlockSize, 0u);
  faults_.push_back({FaultKind::kMisdirectedWrite, std::move(path), 0, kToTheEnd, 1, to_offset});
}

std::optional<SimDisk::Fault> SimDisk::UseFault(FaultKind kind, const std::string& path,
                                                uint64_t offset, uint64_t length) {
  for (auto it = faults_.begin(); it != faults_.end(); ++it) {
    if (it->kind != kind || (!it->path.empty() && it->path != path)) continue;
    // Written so that a length "to the end" does not overflow.
    const bool overlaps =
        offset < it->offset ? it->offset - offset < length : offset - it->offset < it->length;
    if (!overlaps) continue;
    const Fault fault = *it;
    if (it->times != kToTheEnd && --it->times == 0) faults_.erase(it);
    return fault;
  }
  return std::nullopt;
}

void SimDisk::Hold() { held_ = true; }

void SimDisk::Release() {
  held_ = false;
  if (device_ != nullptr) device_->LetGo();
}

}  // namespace twofold::sim
