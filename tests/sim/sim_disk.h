// What a simulated disk holds: the files of one directory, on the platter and on the way there. It
// outlives the devices that are opened on it (sim_block_device.h), so a store can be opened again
// after a crash. A copy is a disk of its own with the same content, for "what if it crashed now".
//
// The fault model, after FoundationDB's non-durable files and TigerBeetle's storage:
//
// - A write is in flight from its start to its completion. It becomes visible to reads as a whole
// at
//   some instant in between. Unless it was durable, it stays *pending* after completion until a
//   Sync of its file that began after the completion has ended, or a later durable write has
//   covered it.
// - Loss of power: each write that is pending or in flight is kept, dropped, or torn, which means
// that
//   each of its 512-byte sectors is kept or not by itself. Of several writes to one sector any may
//   be the one that remains. What was durable stays.
// - Death of the process: what completed stays, in any case; what is in flight is kept, dropped or
//   torn.
// - A file that was created but not allocated, or whose Allocate is under way, survives or not,
// with
//   any length up to the new one; its old content is old or zeros, block by block. A removal under
//   way has happened or not.
// - A durable write makes nothing durable but itself: neither other ranges nor other files.
// - A failed write leaves any subset of its sectors, not durable. A failed Sync makes nothing
// durable, and
//   what it should have covered is in doubt for good: a later Sync does not cover it.
// - Damage on request, at chosen places: flipped bits, zeroed blocks, blocks that hold what belongs
//   elsewhere (misdirected), writes that were acknowledged and lost or went elsewhere, places that
//   cannot be read or written, syncs that fail, a hung device; and read and write errors by chance.
// - Not modelled: sectors of one visible write that appear one after the other, and damage to
// names.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "storage/runtime/poller.h"

namespace twofold::sim {

class SimBlockDevice;

enum class CrashKind {
  kProcess,  // kill -9: the kernel and the disk live on
  kPower,
};

struct SimDiskOptions {
  uint64_t capacity_bytes = uint64_t{1} << 30;
  // Each operation takes a time in between.
  int64_t min_latency_nanos = 20'000;
  int64_t max_latency_nanos = 2 * kNanosPerMilli;
  // One in so many operations fails with kUnavailable; 0 = none.
  uint64_t read_error_one_in = 0;
  uint64_t write_error_one_in = 0;
};

class SimDisk {
 public:
  explicit SimDisk(std::string name, SimDiskOptions options = {});
  // The copy has what is visible and what is pending, writes in flight included, and no device.
  SimDisk(const SimDisk& other);
  SimDisk& operator=(const SimDisk&) = delete;
  // No device may be open on it.
  ~SimDisk();

  const std::string& name() const { return name_; }
  SimDiskOptions& options() { return options_; }

  // Now: what was not safe is kept, dropped or torn by `random`. An open device dies: every
  // operation on it, under way or later, returns kUnavailable, so that those above unwind; its lock
  // is free, and the disk can be opened again at once.
  void Crash(CrashKind kind, Prng& random);

  // ---- Looking at it (what a read would return now) ----
  std::vector<std::string> Files() const;  // whole paths, sorted
  bool Exists(const std::string& path) const { return files_.contains(path); }
  uint64_t FileSize(const std::string& path) const;
  std::vector<std::byte> Peek(const std::string& path, uint64_t offset, size_t length) const;
  uint64_t UsedBytes() const;
  // Writes that a loss of power could undo, those in flight included.
  size_t PendingWrites() const;

  // ---- Damage. Offsets in bytes, blocks by index. The file must be there and long enough. ----
  void FlipBit(const std::string& path, uint64_t offset, unsigned bit);
  void ZeroBlock(const std::string& path, uint64_t block);
  // As a misdirected write leaves it: `to` holds what belongs into `from`.
  void CopyBlock(const std::string& from_path, uint64_t from, const std::string& to_path,
                 uint64_t to);
  void Overwrite(const std::string& path, uint64_t offset, absl::Span<const std::byte> bytes);
  // It has another length: its end goes, or zeros follow it.
  void SetLength(const std::string& path, uint64_t bytes);
  // Two files have each other's name.
  void SwapFiles(const std::string& one, const std::string& other);
  // It is what it is on another disk, as an old copy.
  void CopyFile(const SimDisk& from, const std::string& path);
  // The file vanishes.
  void Lose(const std::string& path);

  // The next `times` operations that touch the range fail with kUnavailable. "" is every file.
  static constexpr uint64_t kToTheEnd = ~uint64_t{0};
  void FailReads(std::string path, uint64_t offset, uint64_t length, uint64_t times = kToTheEnd);
  void FailWrites(std::string path, uint64_t offset, uint64_t length, uint64_t times = kToTheEnd);
  void FailSyncs(std::string path, uint64_t times = kToTheEnd);
  // The next write to the file is acknowledged and not done, or done at another offset of the file.
  void LoseNextWrite(std::string path);
  void MisdirectNextWrite(std::string path, uint64_t to_offset);
  void ClearFaults() { faults_.clear(); }

  // A hung device: operations that are under way or begin now do not complete until Release (or a
  // crash); writes become visible or not as before.
  void Hold();
  void Release();

 private:
  friend class SimBlockDevice;

  static constexpr size_t kSectorBytes = 512;
  static constexpr size_t kSectorsPerBlock = kBlockSize / kSectorBytes;
  using Block = std::array<std::byte, kBlockSize>;
  using BlockRef = std::shared_ptr<const Block>;  // null: zeros. Never changed once it is shared
  using SectorMask = std::bitset<kSectorsPerBlock>;

  struct Image {
    uint64_t size_bytes = 0;
    std::map<uint64_t, BlockRef> blocks;  // those that are not zeros
  };

  // A write that the platter does not have for sure.
  struct PendingWrite {
    uint64_t first_block = 0;
    std::vector<BlockRef> blocks;
    std::vector<SectorMask> live;  // sectors that a later durable write has not settled
    uint64_t visible_order = 0;    // 0: not yet
    uint64_t completed_order = 0;  // 0: not yet
    bool doomed = false;           // covered by a failed sync: no later sync makes it durable
  };

  struct File {
    Image visible;
    Image platter;
    std::map<uint64_t, PendingWrite> pending;  // by id, in the order of their start
    bool entry_durable = false;
    bool removing = false;
    bool allocating = false;
    uint64_t allocating_bytes = 0;
  };

  enum class FaultKind { kRead, kWrite, kSync, kLostWrite, kMisdirectedWrite };
  struct Fault {
    FaultKind kind;
    std::string path;
    uint64_t offset = 0;
    uint64_t length = 0;
    uint64_t times = 1;
    uint64_t to_offset = 0;
  };

  File& Get(const std::string& path);
  const File& Get(const std::string& path) const;
  File* Find(const std::string& path);

  // Uses up one turn of the first fault that matches, and returns it.
  std::optional<Fault> UseFault(FaultKind kind, const std::string& path, uint64_t offset,
                                uint64_t length);

  // The life of a write: pending, visible, completed, settled on the platter.
  uint64_t BeginWrite(File& file, uint64_t first_block, std::vector<BlockRef> blocks);
  void MakeVisible(File& file, uint64_t id);
  void CompleteWrite(File& file, uint64_t id, bool durable);
  void FailWrite(File& file, uint64_t id, Prng& random);  // instead of MakeVisible
  // Onto the platter for good: earlier writes of the same sectors no longer matter.
  static void Settle(File& file, uint64_t id);

  // A sync that began at `began_order` (next_order_ then) ends.
  static void CompleteSync(File& file, uint64_t began_order, bool failed);

  static void ReadInto(const File& file, uint64_t offset, absl::Span<std::byte> into);
  static void CopySectors(Image& image, uint64_t block, const BlockRef& from, SectorMask sectors);
  static void ApplyWrite(Image& image, const PendingWrite& write);
  static void Resize(Image& image, uint64_t size_bytes);
  static void TearAllocation(File& file, Image& image, Prng& random);
  static void Tear(PendingWrite& write, Prng& random);
  void CrashFile(File& file, CrashKind kind, Prng& random);

  const std::string name_;
  SimDiskOptions options_;
  std::map<std::string, File> files_;
  std::vector<Fault> faults_;
  uint64_t next_write_ = 1;
  uint64_t next_order_ = 1;
  bool held_ = false;
  SimBlockDevice* device_ = nullptr;  // the open one
};

}  // namespace twofold::sim
