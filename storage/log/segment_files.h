// The files of a segment log: which slot holds which segment, and slots made ready for new ones.
//
// A slot's life. Only a durable header moves it between lives (R16), so after a crash Open finds it
// in one of these states again:
//
//   not made --> blank --> ready --> in use --> free --> ready (under a new number, with a new
//   secret)
//
//   blank    a file without a header: of zeros, or not completely made
//   ready    has the header of a new segment and nothing of this life behind it
//   damaged  its header is, and its copy too: nobody can verify what it holds. Left alone until
//            ReuseDamaged
//
// A file that has another length than it should, or lies under the name of another one, is used as
// far as it goes, and listed as damage.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/types.h"
#include "storage/io/block_device.h"
#include "storage/log/codec.h"
#include "storage/log/logged_batch.h"
#include "storage/runtime/task.h"

namespace twofold {

// Where one segment lives.
struct SegmentFile {
  BlockDevice* device = nullptr;
  FileHandle handle;
  SegmentIdentity identity;
  std::string path;

  SegmentNumber number() const { return identity.segment; }
  uint32_t blocks() const { return static_cast<uint32_t>(SegmentBlocks(identity.segment_bytes)); }
  std::string Describe() const;  // for messages
};

class SegmentFiles {
 public:
  struct Options {
    format::RawId store_id{};
    uint64_t segment_bytes = 0;
    uint64_t max_segments = 0;
    SegmentNumber number_floor;        // new segments get higher numbers than this one
    std::function<uint64_t()> random;  // for secrets
  };

  // Opens the files that are there and reads their headers; changes nothing. The devices outlive
  // it. kFailedPrecondition: a file belongs to another store. Of two files that claim one number
  // the one whose name is right counts.
  static Task<absl::StatusOr<std::unique_ptr<SegmentFiles>>> Open(std::vector<BlockDevice*> devices,
                                                                  Options options);

  // The segment's file, from Use (or Open) until it is freed; null when there is none.
  const SegmentFile* Find(SegmentNumber segment) const;
  // The segments in use, ascending: after Open all that have a header.
  std::vector<SegmentNumber> Numbers() const;
  // What Open found broken.
  const std::vector<LogDamage>& damage() const { return damage_; }
  // Slots of which nobody knows what they hold, and that could hold a segment behind `end`: their
  // paths.
  std::vector<std::string> UnknownBehind(SegmentNumber end) const;
  // The highest incarnation that a header names (R11).
  Incarnation last_incarnation() const { return last_incarnation_; }
  // Whether the file ends before the segment does.
  bool IsShort(SegmentNumber segment) const { return short_.contains(segment); }

  // The files of the log that are gone, or of which nobody knows what they held. Slots are made in
  // order, each before the next: one without a file or a header below one with a header lost it.
  std::vector<std::string> LostFiles() const;

  // All segments but these are free.
  void Keep(const std::set<SegmentNumber>& in_use);
  // A segment in use becomes free.
  void Free(SegmentNumber segment);

  // Whether Prepare has a slot to work on.
  bool CanPrepare() const {
    return !free_.empty() || (!empty_slots_.empty() && !file_system_full_);
  }
  // Makes a slot ready for a new segment, durably: freed ones first, lowest number first, then
  // those without a segment, lowest slot first. One call at a time. kResourceExhausted: no slot is
  // left, or the file system is full; then slots that need its space don't count any more until
  // RetryNewFiles.
  Task<absl::StatusOr<SegmentNumber>> Prepare(Incarnation incarnation);
  void RetryNewFiles() { file_system_full_ = false; }
  // Makes the file of a freed segment anew, of zeros behind its header: whatever was wrong with it
  // is gone. The header tells it from a file that lost what was in it. Does nothing where it has
  // another life already, or is soon to have one since few slots are free.
  Task<absl::Status> Remake(SegmentNumber segment);
  // The paths of the slots that are damaged.
  std::vector<std::string> DamagedSlots() const;
  // Makes the files of damaged slots anew: nothing that they may hold is needed any more.
  Task<absl::Status> ReuseDamaged();
  // A ready segment is in use from now on.
  const SegmentFile& Use(SegmentNumber segment);

  // kUnavailable with its name where the file of a segment is not in its directory any more, though
  // it can still be written to.
  Task<absl::Status> CheckPresence() const;

  // Slots for new segments, ready ones included.
  uint64_t free_slots() const;
  // All but the damaged ones.
  uint64_t total_slots() const { return slots_.size() - damaged_.size(); }

 private:
  enum class State { kNotMade, kBlank, kPreparing, kReady, kInUse, kFree, kDamaged };
  struct Slot {
    State state = State::kNotMade;
    SegmentFile file;
  };

  SegmentFiles(std::vector<BlockDevice*> devices, Options options);

  // segment_files.cc: what is there
  Task<absl::Status> ScanDirectory(size_t device);
  Task<absl::Status> OpenSlot(uint64_t slot);
  Task<absl::StatusOr<SegmentIdentity>> ReadHeader(uint64_t slot, uint64_t size_bytes);
  Task<absl::StatusOr<SegmentIdentity>> ReadHeaderCopy(uint64_t slot, uint64_t size_bytes);
  absl::Status CheckIdentity(const SegmentFile& file, const SegmentIdentity& identity) const;
  absl::Status TakeHeader(uint64_t slot, const SegmentIdentity& identity, uint64_t size_bytes);
  Task<absl::Status> TakeUnknown(uint64_t slot, uint64_t size_bytes, absl::Status why);
  void SetDamaged(uint64_t slot, const std::string& why, SegmentNumber number);
  std::string Describe(uint64_t slot) const;
  void AddSlots(uint64_t count);

  // segment_preparation.cc: new lives
  uint64_t TakeSlot();
  Task<absl::Status> PrepareSlot(uint64_t slot, SegmentIdentity identity, bool recycled);
  Task<absl::Status> MakeFile(uint64_t slot);
  SegmentIdentity NewIdentity(uint64_t slot, Incarnation incarnation);

  const std::vector<BlockDevice*> devices_;
  const Options options_;
  std::vector<Slot> slots_;                 // does not change its size after Open
  std::map<SegmentNumber, uint64_t> held_;  // slots in use, by number
  std::map<SegmentNumber, uint64_t> ready_;
  std::map<SegmentNumber, uint64_t> free_;  // by their last number
  std::set<uint64_t> empty_slots_;          // blank or not made
  uint64_t preparing_ = 0;
  uint64_t remaking_ = 0;
  SegmentNumber last_number_;  // the highest ever given
  bool file_system_full_ = false;
  std::vector<LogDamage> damage_;
  // Damaged slots, with the highest number of a segment that they can hold.
  std::map<uint64_t, SegmentNumber> damaged_;
  std::set<SegmentNumber> wrong_length_;
  std::set<SegmentNumber> short_;
  Incarnation last_incarnation_;
};

// One piece of memory as a device takes it.
inline iovec Piece(absl::Span<std::byte> bytes) { return {bytes.data(), bytes.size()}; }
// For writing: the device does not change what it points to.
inline iovec Piece(absl::Span<const std::byte> bytes) {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

}  // namespace twofold
