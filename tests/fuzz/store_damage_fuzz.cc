// Damage to the files of a store, read from the input: flipped, overwritten, zeroed and misplaced
// blocks, in segments and in the superblock, anywhere; in some, the map is lost as well, and the
// damaged log must not be taken for whole by what makes a new one of it (M12). The store must open
// with a prefix of what was sent, or say what is wrong; what it shows must be right (P7), in the
// head and in every snapshot, also after it has gone on and was opened once more.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "storage/base/log.h"
#include "tests/fuzz/store_driver.h"

namespace twofold {
namespace {

// A history with everything in it, cut by a crash. `life`: how much of it.
Task<void> MakeHistory(StoreDriver* driver, uint8_t life) {
  co_await driver->Format(kMinSegments);
  co_await driver->Open();
  for (uint64_t i = 0; i < 40u + life % 64; ++i) {
    co_await driver->Write(i * 37, i * 5);
    if (i % 9 == 2) co_await driver->Zero(i * 11, i);
    if (i % 13 == 4) co_await driver->Snapshot();
    if (i == 30) co_await driver->Rollback(0, true);
    if (i % 17 == 16 && life % 2 == 0) co_await driver->Checkpoint();
    if (i % 23 == 22) {
      if (life % 4 < 2) co_await driver->Settle();
      co_await driver->Crash(sim::CrashKind::kPower);
      co_await driver->Open();
    }
  }
  if (life % 8 < 4) {
    co_await driver->Settle();
    co_await driver->Crash(sim::CrashKind::kProcess);
  } else {
    co_await driver->Stop();
  }
}

// One act of damage. Offsets are mostly small, since that is where batches are.
void Damage(StoreDriver* driver, ByteReader* input) {
  sim::SimDisk& disk = driver->disk();
  const std::vector<std::string> files = disk.Files();
  const uint8_t kind = input->ReadU8();
  const std::string& path = files[input->ReadU8() % files.size()];
  const uint64_t blocks = disk.FileSize(path) / kBlockSize;
  const uint16_t place = input->ReadU16Le();
  const uint8_t value = input->ReadU8();
  if (blocks == 0) return;
  // The last blocks have trailers and copies.
  const uint64_t block = place >= 0xff00 ? blocks - 1 - (place & 0xff) % blocks : place % blocks;
  const uint64_t offset = block * kBlockSize + uint64_t{value} * 16;
  switch (kind % 6) {
    case 0:
      return disk.FlipBit(path, offset + kind / 6 % 16, value % 8);
    case 1:
      return disk.ZeroBlock(path, block);
    case 2: {
      const std::string& other = files[value % files.size()];
      const uint64_t from = (block + kind / 6) % blocks;
      if (from < disk.FileSize(other) / kBlockSize) disk.CopyBlock(other, from, path, block);
      return;
    }
    case 3: {
      const size_t length = std::min<size_t>({input->remaining(), size_t{1} + value % 64,
                                              static_cast<size_t>(kBlockSize - value * 16)});
      return disk.Overwrite(path, offset, input->ReadBytes(length));
    }
    case 4:
      return disk.CopyBlock(path, (block + 1 + value) % blocks, path, block);
    default:
      // Whole files vanish rarely.
      if (kind % 32 == 5) return disk.Lose(path);
      return disk.ZeroBlock(path, value % blocks);
  }
}

Task<void> Play(StoreDriver* driver, ByteReader input) {
  const uint8_t life = input.ReadU8();
  const bool lose_map = life >= 128;
  co_await MakeHistory(driver, life);
  driver->SetDamaged();
  for (int i = 0; i < 20 && input.remaining() >= 5; ++i) Damage(driver, &input);
  if (lose_map) {
    driver->LoseMap();
  } else {
    co_await driver->Inspect();
  }
  co_await driver->Open();
  if (!driver->open()) co_return;
  for (uint64_t i = 0; i < 10; ++i) co_await driver->Write(i * 7, i);
  co_await driver->Checkpoint();
  co_await driver->CheckEverything();
  co_await driver->Crash(sim::CrashKind::kPower);
  co_await driver->Open();
  if (driver->open()) co_await driver->Stop();
}

}  // namespace
}  // namespace twofold

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  twofold::SetLogLevel(twofold::LogLevel::kError);
  const absl::Span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  twofold::StoreDriver driver(1);
  driver.executor().Run(twofold::Play(&driver, twofold::ByteReader(bytes)));
  return 0;
}
