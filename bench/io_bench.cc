// The ring, sockets and files: what an operation costs, with so many in flight (the argument).
// Files are made below /var/tmp, or TWOFOLD_TEST_DIR.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bench/machine.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "storage/io/buffer_pool.h"
#include "storage/io/uring_block_device.h"
#include "storage/io/uring_network.h"
#include "storage/io/uring_poller.h"
#include "storage/runtime/task_scope.h"
#include "tests/io/temp_dir.h"

namespace twofold {
namespace {

Task<void> NopWorker(UringPoller* poller, Meter* meter) {
  while (meter->Next()) {
    const int32_t result =
        co_await UringOp(*poller, [](io_uring_sqe* sqe) { io_uring_prep_nop(sqe); });
    TF_CHECK_EQ(result, 0);
  }
}

Task<void> Nops(Machine* machine, Meter* meter, int64_t depth) {
  TaskScope scope;
  for (int64_t i = 0; i < depth; ++i) scope.Spawn(NopWorker(machine->poller.get(), meter));
  co_await scope.Join();
}

void UringNop(benchmark::State& state) {
  Machine machine;
  Meter meter(state);
  machine.executor.Run(Nops(&machine, &meter, state.range(0)));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(UringNop)->Arg(1)->Arg(32)->UseRealTime();

// ---- A server that answers requests of 28 bytes with 16, as NBD writes without payload; both ends
// on one ring, so an item is four transfers and two tasks. ----

constexpr size_t kRequestBytes = 28;
constexpr size_t kReplyBytes = 16;

Task<void> Serve(Connection* connection) {
  std::vector<std::byte> buffer(64 << 10);
  std::vector<std::byte> replies(buffer.size());
  size_t unparsed = 0;
  while (true) {
    const absl::StatusOr<size_t> read = co_await connection->Read(absl::MakeSpan(buffer));
    if (!read.ok() || *read == 0) co_return;
    unparsed += *read;
    const size_t requests = unparsed / kRequestBytes;
    unparsed %= kRequestBytes;
    iovec piece{replies.data(), requests * kReplyBytes};
    if (piece.iov_len == 0) continue;
    const absl::Status sent = co_await connection->Write(absl::MakeSpan(&piece, 1));
    if (!sent.ok()) co_return;
  }
}

Task<void> AcceptOne(Listener* listener) {
  absl::StatusOr<std::unique_ptr<Connection>> connection = co_await listener->Accept();
  TF_CHECK_OK(connection);
  co_await Serve(connection->get());
}

// Keeps `depth` requests under way, sending as many as were answered.
Task<void> Echo(Machine* machine, benchmark::State* state, Endpoint endpoint) {
  UringNetwork network(*machine->poller, machine->offload);
  const std::unique_ptr<Listener> listener = network.Listen(endpoint).value();
  TaskScope scope;
  scope.Spawn(AcceptOne(listener.get()));
  absl::StatusOr<std::unique_ptr<Connection>> connection =
      co_await network.Connect(listener->endpoint());
  TF_CHECK_OK(connection);
  const auto depth = static_cast<size_t>(state->range(0));
  std::vector<std::byte> requests(depth * kRequestBytes);
  std::vector<std::byte> replies(depth * kReplyBytes);
  size_t to_send = depth;
  size_t unparsed = 0;
  int64_t answered = 0;
  while (state->KeepRunning()) {
    iovec piece{requests.data(), to_send * kRequestBytes};
    if (to_send > 0) {
      const absl::Status sent = co_await (*connection)->Write(absl::MakeSpan(&piece, 1));
      TF_CHECK_OK(sent);
    }
    const absl::StatusOr<size_t> read = co_await (*connection)->Read(absl::MakeSpan(replies));
    TF_CHECK_OK(read);
    unparsed += *read;
    to_send = unparsed / kReplyBytes;
    unparsed %= kReplyBytes;
    answered += static_cast<int64_t>(to_send);
  }
  state->SetItemsProcessed(answered);
  (*connection)->Shutdown();
  co_await scope.Join();
}

void EchoTcp(benchmark::State& state) {
  Machine machine;
  machine.executor.Run(Echo(&machine, &state, Endpoint::Parse("127.0.0.1:0").value()));
}
void EchoUnix(benchmark::State& state) {
  Machine machine;
  const TempDir dir;
  machine.executor.Run(Echo(&machine, &state, Endpoint::Parse("unix:" + (dir / "s")).value()));
}
BENCHMARK(EchoTcp)->Arg(1)->Arg(32)->UseRealTime();
BENCHMARK(EchoUnix)->Arg(1)->Arg(32)->UseRealTime();

// Asks at each item whether the peer has gone, in a turn of its own.
Task<void> HangUps(Machine* machine, benchmark::State* state) {
  UringNetwork network(*machine->poller, machine->offload);
  const std::unique_ptr<Listener> listener =
      network.Listen(Endpoint::Parse("127.0.0.1:0").value()).value();
  absl::StatusOr<std::unique_ptr<Connection>> connection =
      co_await network.Connect(listener->endpoint());
  TF_CHECK_OK(connection);
  for (auto _ : *state) {
    TF_CHECK(!(*connection)->PeerHungUp());
    co_await Yield();
  }
}
void PeerHungUp(benchmark::State& state) {
  Machine machine;
  machine.executor.Run(HangUps(&machine, &state));
}
BENCHMARK(PeerHungUp);

// ---- Files ----

constexpr uint64_t kFileBytes = uint64_t{64} << 20;

enum class Work { kRandomRead, kDurableWrite, kPlainWrite };

Task<void> FileWorker(BlockDevice* device, FileHandle file, Buffer* buffer, Work work,
                      uint64_t* next_offset, Prng* random, Meter* meter) {
  while (meter->Next()) {
    const iovec piece{buffer->data(), kBlockSize};
    uint64_t offset = random->Uniform(kFileBytes / kBlockSize) * kBlockSize;
    absl::Status status;
    if (work == Work::kRandomRead) {
      status = co_await device->Read(file, offset, absl::MakeSpan(&piece, 1));
    } else {
      offset = *next_offset;
      *next_offset = (offset + kBlockSize) % kFileBytes;
      status = co_await device->Write(
          file, offset, absl::MakeSpan(&piece, 1),
          work == Work::kDurableWrite ? Durability::kDurable : Durability::kWritten);
    }
    TF_CHECK_OK(status);
  }
}

Task<void> Files(Machine* machine, std::string dir, Work work, benchmark::State* state) {
  absl::StatusOr<std::unique_ptr<UringBlockDevice>> device =
      co_await UringBlockDevice::Open(*machine->poller, machine->offload, dir);
  TF_CHECK_OK(device);
  const absl::StatusOr<FileHandle> file = co_await (*device)->Open("bench", OpenMode::kCreate);
  TF_CHECK_OK(file);
  const absl::Status allocated = co_await (*device)->Allocate(*file, kFileBytes);
  TF_CHECK_OK(allocated);
  Meter meter(*state);
  Prng random(1);
  uint64_t next_offset = 0;
  BufferPool pool(size_t{1} << 20);
  std::vector<Buffer> buffers;
  {
    TaskScope scope;
    for (int64_t i = 0; i < state->range(0); ++i) buffers.push_back(pool.TryAllocate(kBlockSize));
    for (Buffer& buffer : buffers) {
      std::memset(buffer.data(), 1, kBlockSize);
      scope.Spawn(FileWorker(device->get(), *file, &buffer, work, &next_offset, &random, &meter));
    }
    co_await scope.Join();
  }
  co_await (*device)->Close();
}

template <Work kWork>
void File4k(benchmark::State& state) {
  Machine machine;
  const TempDir dir;
  machine.executor.Run(Files(&machine, dir.path(), kWork, &state));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(File4k<Work::kRandomRead>)->Name("File/RandomRead4k")->Arg(1)->Arg(32)->UseRealTime();
BENCHMARK(File4k<Work::kDurableWrite>)->Name("File/DurableWrite4k")->Arg(1)->Arg(32)->UseRealTime();
BENCHMARK(File4k<Work::kPlainWrite>)->Name("File/PlainWrite4k")->Arg(1)->Arg(32)->UseRealTime();

}  // namespace
}  // namespace twofold
