// A sequence of operations on a store, read from the input, against the plain model
// (store_driver.h): writes, zeros, snapshots, deletions, rollbacks, checkpoints, cleaning, crashes
// that keep, drop or tear what was not durable, clean stops, lost maps. The first byte is the seed
// of everything that the simulated machine draws; the second chooses how large the store is, so
// that some fill up. Then come three bytes for each operation: which, and two arguments.

#include <cstddef>
#include <cstdint>

#include "storage/base/log.h"
#include "tests/fuzz/store_driver.h"

namespace twofold {
namespace {

constexpr int kMaxOperations = 300;

// What happens to a store while it is closed.
enum class Closed : uint8_t {
  kNothing,
  kMapLost,
  kMapLostAndCrash,  // while it is made anew
};

Closed WhileClosed(uint8_t operation) {
  switch (operation / 16 % 4) {
    case 1:
      return Closed::kMapLost;
    case 2:
      return Closed::kMapLostAndCrash;
    default:
      return Closed::kNothing;
  }
}

Task<void> Reopen(StoreDriver* driver, bool inspect, Closed closed, uint8_t b) {
  if (inspect) co_await driver->Inspect();
  if (closed != Closed::kNothing) driver->LoseMap();
  if (closed == Closed::kMapLostAndCrash) {
    const auto kind = b % 2 == 0 ? sim::CrashKind::kPower : sim::CrashKind::kProcess;
    co_await driver->CutOpening(int64_t{100'000} * b, kind);
  }
  co_await driver->Open();
}

Task<void> Operation(StoreDriver* driver, ByteReader* input) {
  const uint8_t operation = input->ReadU8();
  const uint8_t a = input->ReadU8();
  const uint8_t b = input->ReadU8();
  switch (operation % 16) {
    case 0:
    case 1:
    case 2:
      co_return co_await driver->Write(a, b);
    case 3:
      co_return driver->StartCleaning(a);
    case 4:
      co_return co_await driver->Zero(a, b);
    case 5:
      co_return co_await driver->Snapshot();
    case 6:
      co_return co_await driver->DeleteSnapshot(a);
    case 7:
      co_return co_await driver->Rollback(a, b % 2 == 0);
    case 8:
      co_return co_await driver->Checkpoint();
    case 9:
      co_return co_await driver->Flush();
    case 10:
      if (a % 4 == 3) co_return driver->StartReferencePass();
      co_return co_await driver->Settle();
    case 11:
      co_return co_await driver->Pause(int64_t{10'000} * a + b);
    case 12:
      co_return co_await driver->CheckEverything();
    case 13:
      co_await driver->Stop();
      co_return co_await Reopen(driver, a % 4 == 0, WhileClosed(operation), b);
    default:
      co_await driver->Pause(int64_t{10'000} * a);
      co_await driver->Crash(b % 2 == 0 ? sim::CrashKind::kPower : sim::CrashKind::kProcess);
      co_return co_await Reopen(driver, b % 8 < 2, WhileClosed(operation), b);
  }
}

Task<void> Play(StoreDriver* driver, ByteReader input) {
  const uint64_t segments = kMinSegments + input.ReadU8() % 6;
  co_await driver->Format(segments);
  co_await driver->Open();
  for (int i = 0; i < kMaxOperations && input.remaining() >= 3; ++i) {
    co_await Operation(driver, &input);
  }
  co_await driver->CheckEverything();
  co_await driver->Stop();
  co_await driver->Inspect();
}

}  // namespace
}  // namespace twofold

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  twofold::SetLogLevel(twofold::LogLevel::kError);
  const absl::Span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  twofold::StoreDriver driver(data[0]);
  driver.executor().Run(twofold::Play(&driver, twofold::ByteReader(bytes.subspan(1))));
  return 0;
}
