#include "storage/log/segment_files.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/io/aligned_bytes.h"
#include "storage/runtime/sync.h"

namespace twofold {
namespace {

constexpr char kFolder[] = "log";
constexpr char kSuffix[] = ".seg";
constexpr size_t kSlotDigits = 8;
constexpr uint64_t kMaxSlots = 100'000'000;
// Headers that are read at the same time.
constexpr size_t kOpenAtOnce = 32;

std::string SlotPath(uint64_t slot) { return absl::StrFormat("%s/%08d%s", kFolder, slot, kSuffix); }

// The slot in a file's name; nothing for a file that is none of ours.
std::optional<uint64_t> ParseSlot(absl::string_view name) {
  uint64_t slot = 0;
  if (!absl::EndsWith(name, kSuffix)) return std::nullopt;
  name.remove_suffix(sizeof(kSuffix) - 1);
  if (name.size() != kSlotDigits ||
      name.find_first_not_of("0123456789") != absl::string_view::npos ||
      !absl::SimpleAtoi(name, &slot)) {
    return std::nullopt;
  }
  return slot;
}

}  // namespace

std::string SegmentFile::Describe() const {
  return absl::StrCat("segment ", identity.segment.value(), " (", device->name(), "/", path, ")");
}

SegmentFiles::SegmentFiles(std::vector<BlockDevice*> devices, Options options)
    : devices_(std::move(devices)), options_(std::move(options)) {
  TF_CHECK(!devices_.empty());
  TF_CHECK_LE(options_.max_segments, kMaxSlots);
  last_number_ = options_.number_floor;
  AddSlots(options_.max_segments);
}

Task<absl::StatusOr<std::unique_ptr<SegmentFiles>>> SegmentFiles::Open(
    std::vector<BlockDevice*> devices, Options options) {
  auto files =
      std::unique_ptr<SegmentFiles>(new SegmentFiles(std::move(devices), std::move(options)));
  for (size_t device = 0; device < files->devices_.size(); ++device) {
    absl::Status scanned = co_await files->ScanDirectory(device);
    TF_CO_RETURN_IF_ERROR(scanned);
  }
  for (uint64_t slot = 0; slot < files->slots_.size(); ++slot) {
    const State state = files->slots_[slot].state;
    if (state == State::kNotMade || state == State::kBlank) files->empty_slots_.insert(slot);
  }
  co_return files;
}

void SegmentFiles::AddSlots(uint64_t count) {
  for (uint64_t slot = slots_.size(); slot < count; ++slot) {
    Slot& added = slots_.emplace_back();
    added.file.device = devices_[slot % devices_.size()];
    added.file.path = SlotPath(slot);
  }
}

Task<absl::Status> SegmentFiles::ScanDirectory(size_t device) {
  absl::StatusOr<std::vector<std::string>> names = co_await devices_[device]->List(kFolder);
  TF_CO_RETURN_IF_ERROR(names);
  std::vector<uint64_t> found;
  for (const std::string& name : *names) {
    const std::optional<uint64_t> slot = ParseSlot(name);
    if (!slot.has_value()) continue;
    if (*slot % devices_.size() != device) {
      co_return absl::FailedPreconditionError(
          absl::StrCat(devices_[device]->name(), "/", kFolder, "/", name, " belongs into ",
                       devices_[*slot % devices_.size()]->name(),
                       ": files of the log were moved between directories; move them back"));
    }
    found.push_back(*slot);
    AddSlots(*slot + 1);
  }
  while (!found.empty()) {
    std::vector<Task<absl::Status>> tasks;
    for (size_t i = 0; i < kOpenAtOnce && !found.empty(); ++i) {
      tasks.push_back(OpenSlot(found.back()));
      found.pop_back();
    }
    const std::vector<absl::Status> opened = co_await WhenAll(std::move(tasks));
    TF_CO_RETURN_IF_ERROR(FirstError(opened));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> SegmentFiles::OpenSlot(uint64_t slot) {
  SegmentFile& file = slots_[slot].file;
  absl::StatusOr<FileHandle> handle = co_await file.device->Open(file.path, OpenMode::kExisting);
  TF_CO_RETURN_IF_ERROR(handle);
  file.handle = *handle;
  absl::StatusOr<uint64_t> size_bytes = co_await file.device->Size(file.handle);
  TF_CO_RETURN_IF_ERROR(size_bytes);
  absl::StatusOr<SegmentIdentity> identity = co_await ReadHeader(slot, *size_bytes);
  if (absl::IsNotFound(identity.status())) {
    slots_[slot].state = State::kBlank;
    co_return absl::OkStatus();
  }
  absl::Status checked =
      identity.ok() ? CheckIdentity(file, *identity, *size_bytes) : identity.status();
  if (absl::IsDataLoss(checked)) {
    SetDamaged(slot, checked);
    co_return absl::OkStatus();
  }
  if (!checked.ok()) {
    co_return Annotate(checked, absl::StrCat(file.device->name(), "/", file.path));
  }
  const auto [other, inserted] = held_.try_emplace(identity->segment, slot);
  if (!inserted) {
    co_return absl::DataLossError(
        absl::StrCat("segment ", identity->segment.value(), " is claimed by ", file.path, " and ",
                     slots_[other->second].file.path, " in ", file.device->name(),
                     ": remove the one that was copied here"));
  }
  file.identity = *identity;
  slots_[slot].state = State::kInUse;
  last_number_ = std::max(last_number_, identity->segment);
  co_return absl::OkStatus();
}

Task<absl::StatusOr<SegmentIdentity>> SegmentFiles::ReadHeader(uint64_t slot, uint64_t size_bytes) {
  const SegmentFile& file = slots_[slot].file;
  // A crash in the middle of making the file left it short; nothing was written into it yet.
  if (size_bytes < kBlockSize) co_return absl::NotFoundError("an empty file");
  AlignedBytes block(kBlockSize);
  const iovec piece = Piece(block.span());
  absl::Status read = co_await file.device->Read(file.handle, 0, absl::MakeConstSpan(&piece, 1));
  TF_CO_RETURN_IF_ERROR(read);
  absl::StatusOr<SegmentIdentity> identity = DecodeHeaderBlock(block.span());
  // Recycling overwrites the copy first: beside one that verifies also a block of zeros is damage.
  if (identity.ok() || size_bytes != options_.segment_bytes) co_return identity;
  if (!absl::IsDataLoss(identity.status()) && !absl::IsNotFound(identity.status())) {
    co_return identity;
  }
  read = co_await file.device->Read(file.handle, size_bytes - kBlockSize,
                                    absl::MakeConstSpan(&piece, 1));
  TF_CO_RETURN_IF_ERROR(read);
  absl::StatusOr<SegmentIdentity> copy = DecodeHeaderFromTrailer(block.span());
  if (!copy.ok()) co_return identity;
  damage_.push_back({copy->segment, 0,
                     absl::StrCat("the header of ", file.device->name(), "/", file.path,
                                  " is damaged; its copy at the end is used")});
  co_return copy;
}

absl::Status SegmentFiles::CheckIdentity(const SegmentFile& file, const SegmentIdentity& identity,
                                         uint64_t size_bytes) const {
  if (identity.store_id != options_.store_id) {
    return absl::FailedPreconditionError("the file belongs to another store; move it away");
  }
  if (SlotPath(identity.slot.value()) != file.path) {
    return absl::FailedPreconditionError(absl::StrCat("the file was copied or renamed from ",
                                                      SlotPath(identity.slot.value()),
                                                      "; undo that, or remove the copy"));
  }
  if (identity.segment_bytes != options_.segment_bytes) {
    return absl::FailedPreconditionError(absl::StrCat("segments of ", identity.segment_bytes,
                                                      " bytes in a store that has ",
                                                      options_.segment_bytes));
  }
  if (size_bytes != identity.segment_bytes) {
    return absl::DataLossError(absl::StrCat("segment ", identity.segment.value(), " is ",
                                            size_bytes, " bytes long instead of ",
                                            identity.segment_bytes));
  }
  return absl::OkStatus();
}

void SegmentFiles::SetDamaged(uint64_t slot, const absl::Status& why) {
  const SegmentFile& file = slots_[slot].file;
  slots_[slot].state = State::kDamaged;
  unknown_slots_.push_back(absl::StrCat(file.device->name(), "/", file.path));
  damage_.push_back(
      {SegmentNumber(), 0, absl::StrCat(unknown_slots_.back(), ": ", std::string(why.message()))});
}

std::vector<std::string> SegmentFiles::LostFiles() const {
  std::vector<std::string> lost = unknown_slots_;
  const auto lacks_header = [](const Slot& slot) {
    return slot.state == State::kNotMade || slot.state == State::kBlank;
  };
  size_t made = slots_.size();
  while (made > 0 && lacks_header(slots_[made - 1])) --made;
  for (size_t slot = 0; slot < made; ++slot) {
    if (!lacks_header(slots_[slot])) continue;
    const SegmentFile& file = slots_[slot].file;
    lost.push_back(absl::StrCat(file.device->name(), "/", file.path));
  }
  return lost;
}

const SegmentFile* SegmentFiles::Find(SegmentNumber segment) const {
  const auto found = held_.find(segment);
  return found == held_.end() ? nullptr : &slots_[found->second].file;
}

std::vector<SegmentNumber> SegmentFiles::Numbers() const {
  std::vector<SegmentNumber> numbers;
  numbers.reserve(held_.size());
  for (const auto& [number, slot] : held_) numbers.push_back(number);
  return numbers;
}

Task<absl::Status> SegmentFiles::CheckPresence() const {
  // Noted before the listings: files come meanwhile, and none is ever removed.
  std::vector<const SegmentFile*> files;
  for (const Slot& slot : slots_) {
    if (slot.state == State::kReady || slot.state == State::kInUse || slot.state == State::kFree) {
      files.push_back(&slot.file);
    }
  }
  for (BlockDevice* device : devices_) {
    absl::StatusOr<std::vector<std::string>> names = co_await device->List(kFolder);
    TF_CO_RETURN_IF_ERROR(names);
    for (const SegmentFile* file : files) {
      const std::string name = file->path.substr(sizeof(kFolder));
      if (file->device != device || std::binary_search(names->begin(), names->end(), name)) {
        continue;
      }
      co_return absl::NotFoundError(
          absl::StrCat(device->name(), "/", file->path, " is gone: it was deleted"));
    }
  }
  co_return absl::OkStatus();
}

void SegmentFiles::Keep(const std::set<SegmentNumber>& in_use) {
  for (SegmentNumber number : Numbers()) {
    if (!in_use.contains(number)) Free(number);
  }
}

void SegmentFiles::Free(SegmentNumber segment) {
  const auto found = held_.find(segment);
  TF_CHECK(found != held_.end()) << "segment " << segment;
  slots_[found->second].state = State::kFree;
  free_.emplace(segment, found->second);
  held_.erase(found);
}

uint64_t SegmentFiles::free_slots() const {
  const uint64_t empty = file_system_full_ ? 0 : empty_slots_.size();
  return free_.size() + empty + preparing_ + remaking_ + ready_.size();
}

}  // namespace twofold
