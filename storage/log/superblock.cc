#include "storage/log/superblock.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/superblock_codec.h"

namespace twofold {
namespace {

constexpr char kPath[] = "SUPERBLOCK";

// What a file system, or the lock of the directory, puts into a directory that is empty to us.
bool IsForeign(const std::string& name) { return name == "lost+found" || name == "LOCK"; }

std::string PathOn(const BlockDevice* device) { return absl::StrCat(device->name(), "/", kPath); }

SuperblockDamage WrongSize(const BlockDevice* device, uint64_t size_bytes) {
  return {PathOn(device), absl::StrCat(PathOn(device), " is ", size_bytes,
                                       " bytes long instead of ", format::kSuperblockFileBytes)};
}

SuperblockDamage BadSlot(const BlockDevice* device, size_t slot, absl::string_view why) {
  return {absl::StrCat(PathOn(device), " at byte ", slot * kBlockSize),
          absl::StrCat("copy ", slot, " in ", PathOn(device), ": ", why)};
}

// Writes the slot that does not hold the newest version. A crash in the middle leaves the other
// one.
Task<absl::Status> WriteSlot(BlockDevice* device, FileHandle file, SuperblockCopy copy) {
  AlignedBytes block(kBlockSize);
  EncodeSuperblock(copy, block.span());
  const iovec piece{block.data(), block.size()};
  const uint64_t slot = copy.superblock.version % format::kSuperblockSlots;
  absl::Status written = co_await device->Write(
      file, slot * kBlockSize, absl::MakeConstSpan(&piece, 1), Durability::kDurable);
  co_return Annotate(written, absl::StrCat("writing ", device->name(), "/", kPath));
}

// A file of another length was damaged: it is made anew, and what was left of it is gone until its
// slots are written. A crash in between leaves the directory without a superblock, which the other
// directories or the other set make good.
Task<absl::Status> WriteCopy(BlockDevice* device, SuperblockCopy copy) {
  absl::StatusOr<FileHandle> file = co_await device->Open(kPath, OpenMode::kExisting);
  if (absl::IsNotFound(file.status())) file = co_await device->Open(kPath, OpenMode::kCreate);
  TF_CO_RETURN_IF_ERROR(file);
  absl::StatusOr<uint64_t> size_bytes = co_await device->Size(*file);
  TF_CO_RETURN_IF_ERROR(size_bytes);
  absl::Status status;
  if (*size_bytes != format::kSuperblockFileBytes) {
    status = co_await device->Allocate(*file, format::kSuperblockFileBytes);
    TF_CO_RETURN_IF_ERROR(status);
  }
  status = co_await WriteSlot(device, *file, std::move(copy));
  co_return status;
}

// The newest valid copy in one directory. kNotFound: no file. kDataLoss: damaged. What is wrong
// with it is added to `damage`.
Task<absl::StatusOr<SuperblockCopy>> ReadCopy(BlockDevice* device,
                                              std::vector<SuperblockDamage>* damage) {
  absl::StatusOr<FileHandle> file = co_await device->Open(kPath, OpenMode::kExisting);
  TF_CO_RETURN_IF_ERROR(file);
  absl::StatusOr<uint64_t> size_bytes = co_await device->Size(*file);
  TF_CO_RETURN_IF_ERROR(size_bytes);
  absl::StatusOr<SuperblockCopy> newest = absl::DataLossError(
      absl::StrCat("both copies in ", device->name(), "/", kPath, " are damaged"));
  if (*size_bytes != format::kSuperblockFileBytes)
    damage->push_back(WrongSize(device, *size_bytes));
  absl::Status unreadable;
  for (size_t slot = 0; slot < format::kSuperblockSlots; ++slot) {
    if ((slot + 1) * kBlockSize > *size_bytes) break;
    AlignedBytes bytes(kBlockSize);
    const iovec piece{bytes.data(), bytes.size()};
    const absl::Status read =
        co_await device->Read(*file, slot * kBlockSize, absl::MakeConstSpan(&piece, 1));
    // Of what can't be read the other slot is a copy, as of what does not verify.
    absl::StatusOr<SuperblockCopy> copy =
        read.ok() ? DecodeSuperblock(bytes.span()) : absl::StatusOr<SuperblockCopy>(read);
    if (!read.ok()) unreadable = read;
    if (absl::IsFailedPrecondition(copy.status())) {
      co_return Annotate(copy.status(), absl::StrCat(device->name(), "/", kPath));
    }
    if (!copy.ok()) {
      damage->push_back(BadSlot(device, slot, copy.status().message()));
      continue;
    }
    if (!newest.ok() || copy->superblock.version > newest->superblock.version) newest = copy;
  }
  if (!newest.ok() && !unreadable.ok()) co_return unreadable;
  // A new store has written one slot so far.
  if (newest.ok() && newest->superblock.version == 1) damage->clear();
  co_return newest;
}

// The copies of all directories, in the order of `devices`.
using Copies = std::vector<absl::StatusOr<SuperblockCopy>>;

const SuperblockCopy* NewestOf(const Copies& copies) {
  const SuperblockCopy* newest = nullptr;
  for (const absl::StatusOr<SuperblockCopy>& copy : copies) {
    if (!copy.ok()) continue;
    if (newest == nullptr || copy->superblock.version > newest->superblock.version) {
      newest = &*copy;
    }
  }
  return newest;
}

absl::Status CheckSameStore(const std::vector<BlockDevice*>& devices, const Copies& copies,
                            const Superblock& newest) {
  for (size_t i = 0; i < devices.size(); ++i) {
    const std::string& name = devices[i]->name();
    if (absl::IsNotFound(copies[i].status())) {
      return absl::FailedPreconditionError(
          absl::StrCat(name, " holds no part of store ", newest.store_id,
                       ", which the other directories belong to: is its disk mounted?"));
    }
    if (copies[i].ok() && (copies[i]->superblock.store_id != newest.store_id ||
                           copies[i]->superblock.disk_ids != newest.disk_ids)) {
      return absl::FailedPreconditionError(
          absl::StrCat(name, " belongs to store ", copies[i]->superblock.store_id, ", not to ",
                       newest.store_id, ": name the directories of one store"));
    }
  }
  if (devices.size() != newest.disk_ids.size()) {
    return absl::FailedPreconditionError(
        absl::StrCat("store ", newest.store_id, " has ", newest.disk_ids.size(), " directories, ",
                     devices.size(), " were given: name all of them"));
  }
  return absl::OkStatus();
}

// The devices in the order of the superblock's list. A directory whose copy is damaged is the one
// that is missing there, if it is the only one.
absl::StatusOr<std::vector<BlockDevice*>> InOrder(const std::vector<BlockDevice*>& devices,
                                                  const Copies& copies) {
  std::vector<BlockDevice*> ordered(devices.size(), nullptr);
  std::vector<BlockDevice*> damaged;
  for (size_t i = 0; i < devices.size(); ++i) {
    if (!copies[i].ok()) {
      damaged.push_back(devices[i]);
      continue;
    }
    BlockDevice*& place = ordered[copies[i]->place];
    if (place != nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat(devices[i]->name(), " and ", place->name(),
                       " are the same disk of the store: one was copied from the other"));
    }
    place = devices[i];
  }
  if (damaged.size() > 1) {
    return absl::DataLossError(absl::StrCat("the superblocks in ", damaged[0]->name(), " and ",
                                            damaged[1]->name(),
                                            " are damaged: which disk is which "
                                            "can't be told. Heal this set from the other one"));
  }
  if (!damaged.empty()) {
    *std::find(ordered.begin(), ordered.end(), nullptr) = damaged.front();
  }
  return ordered;
}

}  // namespace

Task<absl::Status> FormatSuperblock(std::vector<BlockDevice*> devices, Superblock superblock) {
  TF_CHECK_EQ(devices.size(), superblock.disk_ids.size());
  superblock.version = 1;
  TF_CO_RETURN_IF_ERROR(CheckSuperblock(superblock));
  for (BlockDevice* device : devices) {
    absl::StatusOr<std::vector<std::string>> names = co_await device->List("");
    TF_CO_RETURN_IF_ERROR(names);
    const auto found = std::find_if_not(names->begin(), names->end(), IsForeign);
    if (found != names->end()) {
      co_return absl::AlreadyExistsError(absl::StrCat(device->name(), " is not empty (", *found,
                                                      "): a new store needs an empty directory"));
    }
  }
  for (size_t place = 0; place < devices.size(); ++place) {
    // Named: g++ 12 copies a braced temporary in an awaited call bit by bit.
    SuperblockCopy copy{superblock, place};
    absl::Status written = co_await WriteCopy(devices[place], std::move(copy));
    TF_CO_RETURN_IF_ERROR(written);
  }
  co_return absl::OkStatus();
}

Task<absl::StatusOr<Superblock>> ReadSuperblock(std::vector<BlockDevice*>& devices,
                                                std::vector<SuperblockDamage>* damage) {
  Copies copies;
  bool some_file = false;
  for (BlockDevice* device : devices) {
    std::vector<SuperblockDamage> found;
    absl::StatusOr<SuperblockCopy> copy = co_await ReadCopy(device, &found);
    if (damage != nullptr) damage->insert(damage->end(), found.begin(), found.end());
    if (!copy.ok() && !absl::IsNotFound(copy.status()) && !absl::IsDataLoss(copy.status())) {
      co_return copy.status();
    }
    some_file = some_file || !absl::IsNotFound(copy.status());
    copies.push_back(std::move(copy));
  }
  if (!some_file) {
    co_return absl::NotFoundError(
        absl::StrCat("there is no store in ", devices.front()->name(), ": make one with init"));
  }
  const SuperblockCopy* newest = NewestOf(copies);
  if (newest == nullptr) {
    co_return absl::DataLossError(
        absl::StrCat("the superblock in ", devices.front()->name(),
                     " is damaged in all copies, so it can't be told what this set is: fill it ",
                     "anew from the other one. Move what is in its directory away and put the ",
                     "empty directory in its place with `twofold replica replace SET DIR`"));
  }
  TF_CO_RETURN_IF_ERROR(CheckSameStore(devices, copies, newest->superblock));
  absl::StatusOr<std::vector<BlockDevice*>> ordered = InOrder(devices, copies);
  TF_CO_RETURN_IF_ERROR(ordered);
  devices = *std::move(ordered);
  co_return newest->superblock;
}

Task<absl::StatusOr<Superblock>> UpdateSuperblock(std::vector<BlockDevice*> devices,
                                                  Superblock superblock) {
  TF_CHECK_EQ(devices.size(), superblock.disk_ids.size());
  TF_CO_RETURN_IF_ERROR(CheckSuperblock(superblock));
  ++superblock.version;
  for (size_t place = 0; place < devices.size(); ++place) {
    // Named: g++ 12 copies a braced temporary in an awaited call bit by bit.
    SuperblockCopy copy{superblock, place};
    absl::Status written = co_await WriteCopy(devices[place], std::move(copy));
    TF_CO_RETURN_IF_ERROR(written);
  }
  co_return superblock;
}

Task<absl::StatusOr<std::vector<SuperblockDamage>>> CheckSuperblocks(
    std::vector<BlockDevice*> devices, Superblock superblock) {
  std::vector<SuperblockDamage> damage;
  for (size_t place = 0; place < devices.size(); ++place) {
    BlockDevice* const device = devices[place];
    absl::StatusOr<FileHandle> file = co_await device->Open(kPath, OpenMode::kExisting);
    if (absl::IsNotFound(file.status())) {
      damage.push_back({PathOn(device), absl::StrCat(PathOn(device), " is gone")});
      continue;
    }
    TF_CO_RETURN_IF_ERROR(file);
    const absl::StatusOr<uint64_t> size_bytes = co_await device->Size(*file);
    TF_CO_RETURN_IF_ERROR(size_bytes);
    if (*size_bytes != format::kSuperblockFileBytes) {
      damage.push_back(WrongSize(device, *size_bytes));
      continue;
    }
    for (size_t slot = 0; slot < format::kSuperblockSlots; ++slot) {
      AlignedBytes bytes(kBlockSize);
      const iovec piece{bytes.data(), bytes.size()};
      const absl::Status read =
          co_await device->Read(*file, slot * kBlockSize, absl::MakeConstSpan(&piece, 1));
      const absl::StatusOr<SuperblockCopy> copy =
          read.ok() ? DecodeSuperblock(bytes.span()) : absl::StatusOr<SuperblockCopy>(read);
      const bool newest = superblock.version % format::kSuperblockSlots == slot;
      // The other one is of an earlier version, and says the same of who the store is.
      const bool right =
          copy.ok() && copy->place == place && copy->superblock.store_id == superblock.store_id &&
          copy->superblock.disk_ids == superblock.disk_ids &&
          (newest ? copy->superblock == superblock : copy->superblock.version < superblock.version);
      if (right) continue;
      damage.push_back(BadSlot(
          device, slot, copy.ok() ? "it is not what was written there" : copy.status().message()));
    }
  }
  co_return damage;
}

}  // namespace twofold
