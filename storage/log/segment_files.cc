#include "storage/log/segment_files.h"

#include <algorithm>
#include <optional>
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
  if (!identity.ok() && !absl::IsNotFound(identity.status()) &&
      !absl::IsDataLoss(identity.status())) {
    co_return Annotate(identity.status(), Describe(slot));
  }
  if (!identity.ok()) {
    absl::Status taken = co_await TakeUnknown(slot, *size_bytes, identity.status());
    co_return taken;
  }
  co_return Annotate(TakeHeader(slot, *identity, *size_bytes), Describe(slot));
}

// kNotFound: the slot looks as if it never held anything. kDataLoss: it is damaged.
Task<absl::StatusOr<SegmentIdentity>> SegmentFiles::ReadHeader(uint64_t slot, uint64_t size_bytes) {
  const SegmentFile& file = slots_[slot].file;
  // A crash in the middle of making the file left it short; nothing was written into it yet.
  if (size_bytes < kBlockSize) co_return absl::NotFoundError("an empty file");
  AlignedBytes block(kBlockSize);
  const iovec piece = Piece(block.span());
  absl::Status read = co_await file.device->Read(file.handle, 0, absl::MakeConstSpan(&piece, 1));
  const absl::StatusOr<SegmentIdentity> identity =
      read.ok() ? DecodeHeaderBlock(block.span()) : absl::StatusOr<SegmentIdentity>(read);
  if (identity.ok()) co_return identity;
  absl::StatusOr<SegmentIdentity> copy = co_await ReadHeaderCopy(slot, size_bytes);
  // Another life of the file, or another file: what is wrong with block 0 says nothing of it.
  if (!copy.ok() || !CheckIdentity(file, *copy).ok()) co_return identity;
  damage_.push_back(
      {copy->segment, 0,
       absl::StrCat("the header of ", Describe(slot), " is damaged; its copy at the end is used"),
       ""});
  co_return copy;
}

// Recycling destroys every older trailer first, and a file that is being made has none: so it is of
// the life that block 0 is, or was, of; or of a segment that was freed, whose file was being made
// anew.
Task<absl::StatusOr<SegmentIdentity>> SegmentFiles::ReadHeaderCopy(uint64_t slot,
                                                                   uint64_t size_bytes) {
  if (size_bytes < options_.segment_bytes) co_return absl::NotFoundError("the end is cut off");
  const SegmentFile& file = slots_[slot].file;
  AlignedBytes block(kBlockSize);
  const iovec piece = Piece(block.span());
  absl::Status read = co_await file.device->Read(file.handle, options_.segment_bytes - kBlockSize,
                                                 absl::MakeConstSpan(&piece, 1));
  TF_CO_RETURN_IF_ERROR(read);
  co_return DecodeHeaderFromTrailer(block.span());
}

// Without a header that verifies: is it a slot that nothing lives in, or one of which that can't be
// told? Its first descriptor can't be verified either, but names the segment. Where a segment was
// made ready and not written yet there stands one of an earlier life of the file, or nothing.
Task<absl::Status> SegmentFiles::TakeUnknown(uint64_t slot, uint64_t size_bytes, absl::Status why) {
  const SegmentFile& file = slots_[slot].file;
  std::optional<SegmentNumber> number;
  bool blank = size_bytes < 2 * kBlockSize;
  if (!blank) {
    AlignedBytes block(kBlockSize);
    const iovec piece = Piece(block.span());
    const absl::Status read =
        co_await file.device->Read(file.handle, kBlockSize, absl::MakeConstSpan(&piece, 1));
    if (read.ok()) number = PeekSegment(block.span(), options_.store_id);
    blank = read.ok() && std::all_of(block.span().begin(), block.span().end(),
                                     [](std::byte byte) { return byte == std::byte{0}; });
  }
  if (absl::IsNotFound(why) && !number.has_value()) {
    slots_[slot].state = State::kBlank;
    co_return absl::OkStatus();
  }
  constexpr SegmentNumber kAny(~uint64_t{0});
  SetDamaged(slot,
             number.has_value() && absl::IsNotFound(why) ? std::string("its header is gone")
                                                         : std::string(why.message()),
             blank ? SegmentNumber() : number.value_or(kAny));
  co_return absl::OkStatus();
}

absl::Status SegmentFiles::CheckIdentity(const SegmentFile& file,
                                         const SegmentIdentity& identity) const {
  if (identity.store_id != options_.store_id) {
    return absl::FailedPreconditionError(
        "the file belongs to another store; put this store's own file back");
  }
  if (identity.segment_bytes != options_.segment_bytes) {
    return absl::FailedPreconditionError(absl::StrCat("segments of ", identity.segment_bytes,
                                                      " bytes in a store that has ",
                                                      options_.segment_bytes));
  }
  if (SlotPath(identity.slot.value()) != file.path) {
    return absl::DataLossError(
        absl::StrCat("what belongs into ", SlotPath(identity.slot.value()), " stands here"));
  }
  return absl::OkStatus();
}

// What is in a segment is known by its number: one that lies under the name of another is as good
// as it ever was, unless it is a copy of one that is where it belongs.
absl::Status SegmentFiles::TakeHeader(uint64_t slot, const SegmentIdentity& identity,
                                      uint64_t size_bytes) {
  SegmentFile& file = slots_[slot].file;
  const absl::Status right = CheckIdentity(file, identity);
  if (!right.ok() && !absl::IsDataLoss(right)) return right;
  last_number_ = std::max(last_number_, identity.segment);
  last_incarnation_ = std::max(last_incarnation_, identity.incarnation);
  const auto [held, inserted] = held_.try_emplace(identity.segment, slot);
  if (!inserted) {
    uint64_t copy = slot;
    if (right.ok()) {
      copy = std::exchange(held->second, slot);
      // What was said of the other file is not true of this one.
      std::erase_if(damage_,
                    [&identity](const LogDamage& one) { return one.segment == identity.segment; });
      wrong_length_.erase(identity.segment);
      short_.erase(identity.segment);
    }
    slots_[copy].file.identity = SegmentIdentity();
    SetDamaged(copy,
               absl::StrCat("a copy of segment ", identity.segment.value(), " (",
                            Describe(copy == slot ? held->second : slot), ") stands here"),
               SegmentNumber());
    if (copy == slot) return absl::OkStatus();
  }
  file.identity = identity;
  slots_[slot].state = State::kInUse;
  if (!right.ok()) {
    damage_.push_back(
        {identity.segment, 0, absl::StrCat(Describe(slot), ": ", right.message()), ""});
  }
  if (size_bytes != options_.segment_bytes) {
    damage_.push_back({identity.segment, 0,
                       absl::StrCat(Describe(slot), " is ", size_bytes, " bytes long instead of ",
                                    options_.segment_bytes),
                       ""});
    wrong_length_.insert(identity.segment);
    if (size_bytes < options_.segment_bytes) short_.insert(identity.segment);
  }
  return absl::OkStatus();
}

void SegmentFiles::SetDamaged(uint64_t slot, const std::string& why, SegmentNumber number) {
  slots_[slot].state = State::kDamaged;
  damaged_[slot] = number;
  damage_.push_back({SegmentNumber(), 0, absl::StrCat(Describe(slot), ": ", why), Describe(slot)});
}

std::string SegmentFiles::Describe(uint64_t slot) const {
  return absl::StrCat(slots_[slot].file.device->name(), "/", slots_[slot].file.path);
}

std::vector<std::string> SegmentFiles::UnknownBehind(SegmentNumber end) const {
  std::vector<std::string> paths;
  for (const auto& [slot, number] : damaged_) {
    if (number > end) paths.push_back(Describe(slot));
  }
  return paths;
}

std::vector<std::string> SegmentFiles::DamagedSlots() const {
  std::vector<std::string> paths;
  for (const auto& [slot, number] : damaged_) paths.push_back(Describe(slot));
  return paths;
}

std::vector<std::string> SegmentFiles::LostFiles() const {
  std::vector<std::string> lost = DamagedSlots();
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
