// What only the simulated network does on request.
#include "tests/sim/sim_network.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "storage/runtime/executor.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task_scope.h"
#include "tests/sim/sim_poller.h"

namespace twofold::sim {
namespace {

using ConnectionOr = absl::StatusOr<std::unique_ptr<Connection>>;

class SimNetworkTest : public ::testing::Test {
 protected:
  SimNetworkTest() { Connect(); }

  template <typename T>
  T Run(Task<T> task) {
    return executor_.Run(std::move(task));
  }

  static Task<void> AcceptInto(Listener* listener, std::unique_ptr<Connection>* into) {
    ConnectionOr accepted = co_await listener->Accept();
    if (accepted.ok()) *into = *std::move(accepted);
  }
  static Task<void> MakePair(SimNetwork* network, Listener* listener,
                             std::unique_ptr<Connection>* server,
                             std::unique_ptr<Connection>* client) {
    TaskScope scope;
    scope.Spawn(AcceptInto(listener, server));
    ConnectionOr connected = co_await network->Connect(listener->endpoint());
    if (connected.ok()) *client = *std::move(connected);
    co_await scope.Join();
  }
  void Connect() { Run(MakePair(&network_, listener_.get(), &server_, &client_)); }

  static Task<absl::Status> Send(Connection* connection, std::string text) {
    iovec piece{text.data(), text.size()};
    co_return co_await connection->Write(absl::MakeSpan(&piece, 1));
  }
  // The sizes of the reads that it took to get `size` bytes.
  static Task<std::vector<size_t>> Receive(Connection* connection, size_t size) {
    std::vector<size_t> reads;
    std::vector<std::byte> buffer(size);
    while (size > 0) {
      const absl::StatusOr<size_t> read =
          co_await connection->Read(absl::MakeSpan(buffer).first(size));
      if (!read.ok() || *read == 0) break;
      reads.push_back(*read);
      size -= *read;
    }
    co_return reads;
  }
  static Task<absl::Status> ReadOne(Connection* connection) {
    std::byte byte;
    const absl::StatusOr<size_t> read = co_await connection->Read(absl::MakeSpan(&byte, 1));
    co_return read.status();
  }

  SimPoller poller_{1};
  Executor executor_{poller_};
  SimNetwork network_{poller_};
  std::unique_ptr<Listener> listener_ =
      network_.Listen(Endpoint::Parse("127.0.0.1:0").value()).value();
  std::unique_ptr<Connection> server_;
  std::unique_ptr<Connection> client_;
};

TEST_F(SimNetworkTest, CutsWhatIsSentAnywhere) {
  EXPECT_EQ(Run(Send(client_.get(), std::string(50'000, 'x'))), absl::OkStatus());
  const std::vector<size_t> reads = Run(Receive(server_.get(), 50'000));
  EXPECT_GT(reads.size(), 3u);
}

Task<absl::Status> CutSoon(SimNetwork* network) {
  co_await SleepFor(kNanosPerMilli);
  network->CutAll();
  co_return absl::OkStatus();
}

TEST_F(SimNetworkTest, ACutIsToldToBothEnds) {
  std::vector<Task<absl::Status>> tasks;
  tasks.push_back(ReadOne(client_.get()));
  tasks.push_back(ReadOne(server_.get()));
  tasks.push_back(Send(server_.get(), std::string(10'000'000, 'x')));  // waits for room
  tasks.push_back(CutSoon(&network_));
  // The client reads a byte before the cut; the rest of what was sent is lost.
  const std::vector<absl::Status> statuses = Run(WhenAll(std::move(tasks)));
  EXPECT_TRUE(absl::IsUnavailable(statuses[1])) << statuses[1];
  EXPECT_TRUE(absl::IsUnavailable(statuses[2])) << statuses[2];
  EXPECT_TRUE(absl::IsUnavailable(Run(ReadOne(client_.get()))));
  EXPECT_TRUE(absl::IsUnavailable(Run(Send(client_.get(), "x"))));
  EXPECT_EQ(network_.stats().cuts, 1u);
  Connect();
  EXPECT_EQ(Run(Send(client_.get(), "x")), absl::OkStatus());
  EXPECT_EQ(Run(ReadOne(server_.get())), absl::OkStatus());
}

Task<absl::Status> ReleaseLate(SimNetwork* network, bool* released) {
  co_await SleepFor(3600 * kNanosPerSecond);
  *released = true;
  network->Release();
  co_return absl::OkStatus();
}

Task<absl::Status> ReadAfterRelease(Connection* connection, const bool* released) {
  std::byte byte;
  const absl::StatusOr<size_t> read = co_await connection->Read(absl::MakeSpan(&byte, 1));
  EXPECT_TRUE(*released);
  co_return read.status();
}

TEST_F(SimNetworkTest, NothingArrivesWhileItIsHeld) {
  network_.Hold();
  EXPECT_EQ(Run(Send(client_.get(), "late")), absl::OkStatus());
  bool released = false;
  std::vector<Task<absl::Status>> tasks;
  tasks.push_back(ReadAfterRelease(server_.get(), &released));
  tasks.push_back(ReleaseLate(&network_, &released));
  EXPECT_EQ(FirstError(Run(WhenAll(std::move(tasks)))), absl::OkStatus());
  EXPECT_EQ(Run(Receive(server_.get(), 3)).empty(), false);
}

TEST_F(SimNetworkTest, CutsByChance) {
  network_.options().cut_one_in = 5;
  int cuts = 0;
  for (int i = 0; i < 50; ++i) {
    if (Run(Send(client_.get(), "x")).ok()) continue;
    ++cuts;
    Connect();
  }
  EXPECT_GT(cuts, 2);
  EXPECT_LT(cuts, 30);
}

}  // namespace
}  // namespace twofold::sim
