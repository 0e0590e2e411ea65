// What network.h promises, held against both implementations, over TCP and Unix sockets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "storage/io/network.h"
#include "storage/io/uring_network.h"
#include "storage/io/uring_poller.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/offload.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task_scope.h"
#include "tests/io/temp_dir.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/sim_poller.h"

namespace twofold {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ConnectionOr = absl::StatusOr<std::unique_ptr<Connection>>;

class World {
 public:
  virtual ~World() = default;
  virtual Poller& poller() = 0;
  virtual Network& network() = 0;
};

class RealWorld final : public World {
 public:
  ~RealWorld() override { offload_.Stop(); }
  Poller& poller() override { return *poller_; }
  Network& network() override { return network_; }

 private:
  std::unique_ptr<UringPoller> poller_ = UringPoller::Create().value();
  Offload offload_{1};
  UringNetwork network_{*poller_, offload_};
};

class SimWorld final : public World {
 public:
  Poller& poller() override { return poller_; }
  Network& network() override { return network_; }

 private:
  sim::SimPoller poller_{1};
  sim::SimNetwork network_{poller_};
};

struct WorldKind {
  const char* name;
  Endpoint::Kind endpoint;
  std::function<std::unique_ptr<World>()> make;
};

class NetworkContract : public ::testing::TestWithParam<WorldKind> {
 protected:
  NetworkContract() : world_(GetParam().make()), executor_(world_->poller()) {}

  template <typename T>
  T Run(Task<T> task) {
    return executor_.Run(std::move(task));
  }
  Network& network() { return world_->network(); }

  Endpoint AnyEndpoint() {
    const bool unix = GetParam().endpoint == Endpoint::Kind::kUnix;
    return Endpoint::Parse(unix ? "unix:" + (dir_ / "socket") : "127.0.0.1:0").value();
  }

  struct Pair {
    std::unique_ptr<Connection> server;
    std::unique_ptr<Connection> client;
  };
  static Task<Pair> MakePair(Network* network, Listener* listener) {
    Pair pair;
    TaskScope scope;
    scope.Spawn(AcceptInto(listener, &pair.server));
    ConnectionOr client = co_await network->Connect(listener->endpoint());
    EXPECT_EQ(client.status(), absl::OkStatus());
    if (client.ok()) pair.client = *std::move(client);
    co_await scope.Join();
    co_return pair;
  }
  static Task<void> AcceptInto(Listener* listener, std::unique_ptr<Connection>* into) {
    ConnectionOr accepted = co_await listener->Accept();
    EXPECT_EQ(accepted.status(), absl::OkStatus());
    if (accepted.ok()) *into = *std::move(accepted);
  }

  TempDir dir_;
  std::unique_ptr<World> world_;
  Executor executor_;
};

Task<absl::Status> Send(Connection* connection, std::string text) {
  iovec piece{text.data(), text.size()};
  co_return co_await connection->Write(absl::MakeSpan(&piece, 1));
}

// Reads exactly `size` bytes, or what there is before the end.
Task<absl::StatusOr<std::string>> Receive(Connection* connection, size_t size) {
  std::string text;
  std::vector<std::byte> buffer(size);
  while (text.size() < size) {
    const absl::StatusOr<size_t> read =
        co_await connection->Read(absl::MakeSpan(buffer).first(size - text.size()));
    if (!read.ok()) co_return read.status();
    if (*read == 0) break;
    text.append(reinterpret_cast<const char*>(buffer.data()), *read);
  }
  co_return text;
}

TEST_P(NetworkContract, CarriesBytesBothWays) {
  const std::unique_ptr<Listener> listener = network().Listen(AnyEndpoint()).value();
  const Pair pair = Run(MakePair(&network(), listener.get()));
  EXPECT_EQ(Run(Send(pair.client.get(), "hello")), absl::OkStatus());
  EXPECT_EQ(Run(Receive(pair.server.get(), 5)).value(), "hello");
  EXPECT_EQ(Run(Send(pair.server.get(), "world!")), absl::OkStatus());
  EXPECT_EQ(Run(Receive(pair.client.get(), 6)).value(), "world!");
  EXPECT_FALSE(pair.client->peer().empty());
  EXPECT_FALSE(pair.server->peer().empty());
}

std::string RandomText(uint64_t seed, size_t size) {
  Prng random(seed);
  std::vector<uint64_t> words(size / sizeof(uint64_t) + 1);
  for (uint64_t& word : words) word = random.Next();
  return std::string(reinterpret_cast<const char*>(words.data()), size);
}

// Writes the text in as many pieces as are allowed.
Task<absl::Status> SendInPieces(Connection* connection, const std::string* text) {
  std::string copy = *text;
  std::vector<iovec> pieces(kMaxIoPieces);
  const size_t step = copy.size() / pieces.size();
  for (size_t i = 0; i < pieces.size(); ++i) {
    const size_t length = i + 1 == pieces.size() ? copy.size() - i * step : step;
    pieces[i] = {copy.data() + i * step, length};
  }
  pieces[1].iov_len = 0;  // empty pieces do no harm
  co_return co_await connection->Write(absl::MakeSpan(pieces));
}

Task<absl::Status> ReceiveAll(Connection* connection, size_t size, std::string* into) {
  absl::StatusOr<std::string> text = co_await Receive(connection, size);
  if (text.ok()) *into = *std::move(text);
  co_return text.status();
}

TEST_P(NetworkContract, CarriesMoreThanAnyBufferHoldsBothWaysAtOnce) {
  const std::unique_ptr<Listener> listener = network().Listen(AnyEndpoint()).value();
  const Pair pair = Run(MakePair(&network(), listener.get()));
  const std::string up = RandomText(1, 4'000'001);
  const std::string down = RandomText(2, 3'000'001);
  const size_t step = up.size() / kMaxIoPieces;
  const size_t down_step = down.size() / kMaxIoPieces;
  std::string got_up;
  std::string got_down;
  std::vector<Task<absl::Status>> tasks;
  tasks.push_back(SendInPieces(pair.client.get(), &up));
  tasks.push_back(SendInPieces(pair.server.get(), &down));
  tasks.push_back(ReceiveAll(pair.server.get(), up.size() - step, &got_up));
  tasks.push_back(ReceiveAll(pair.client.get(), down.size() - down_step, &got_down));
  EXPECT_EQ(FirstError(Run(WhenAll(std::move(tasks)))), absl::OkStatus());
  EXPECT_TRUE(got_up == up.substr(0, step) + up.substr(2 * step));
  EXPECT_TRUE(got_down == down.substr(0, down_step) + down.substr(2 * down_step));
}

TEST_P(NetworkContract, EndsWithWhatWasSentBeforeTheShutdown) {
  const std::unique_ptr<Listener> listener = network().Listen(AnyEndpoint()).value();
  const Pair pair = Run(MakePair(&network(), listener.get()));
  EXPECT_EQ(Run(Send(pair.client.get(), "last words")), absl::OkStatus());
  pair.client->Shutdown();
  pair.client->Shutdown();
  EXPECT_EQ(Run(Receive(pair.server.get(), 100)).value(), "last words");
  EXPECT_EQ(Run(Receive(pair.server.get(), 1)).value(), "");
}

Task<absl::Status> ReadOne(Connection* connection) {
  std::byte byte;
  const absl::StatusOr<size_t> read = co_await connection->Read(absl::MakeSpan(&byte, 1));
  co_return read.status();
}

Task<absl::Status> WriteUntilError(Connection* connection) {
  const std::string text(1 << 20, 'x');
  while (true) {
    const absl::Status status = co_await Send(connection, text);
    if (!status.ok()) co_return status;
  }
}

Task<absl::Status> ShutdownSoon(Connection* connection) {
  co_await SleepFor(20 * kNanosPerMilli);
  connection->Shutdown();
  co_return absl::OkStatus();
}

TEST_P(NetworkContract, ShutdownEndsPendingAndLaterCalls) {
  const std::unique_ptr<Listener> listener = network().Listen(AnyEndpoint()).value();
  const Pair pair = Run(MakePair(&network(), listener.get()));
  std::vector<Task<absl::Status>> tasks;
  tasks.push_back(ReadOne(pair.client.get()));
  tasks.push_back(WriteUntilError(pair.client.get()));
  tasks.push_back(ShutdownSoon(pair.client.get()));
  const std::vector<absl::Status> statuses = Run(WhenAll(std::move(tasks)));
  EXPECT_TRUE(absl::IsCancelled(statuses[0])) << statuses[0];
  EXPECT_TRUE(absl::IsCancelled(statuses[1])) << statuses[1];
  EXPECT_TRUE(absl::IsCancelled(Run(ReadOne(pair.client.get()))));
  EXPECT_TRUE(absl::IsCancelled(Run(Send(pair.client.get(), "x"))));
}

TEST_P(NetworkContract, WritingToAPeerThatIsGoneFailsSooner) {
  const std::unique_ptr<Listener> listener = network().Listen(AnyEndpoint()).value();
  Pair pair = Run(MakePair(&network(), listener.get()));
  pair.client = nullptr;
  const absl::Status status = Run(WriteUntilError(pair.server.get()));
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
}

Task<bool> SeesHangUp(Connection* connection) {
  for (int i = 0; i < 1000; ++i) {
    if (connection->PeerHungUp()) co_return true;
    co_await SleepFor(kNanosPerMilli);
  }
  co_return false;
}

TEST_P(NetworkContract, SeesThatThePeerHungUpBehindDataThatIsUnread) {
  const std::unique_ptr<Listener> listener = network().Listen(AnyEndpoint()).value();
  Pair pair = Run(MakePair(&network(), listener.get()));
  EXPECT_FALSE(Run([](Connection* connection) -> Task<bool> {
    co_return connection->PeerHungUp();
  }(pair.server.get())));
  EXPECT_EQ(Run(Send(pair.client.get(), "a request that must not run any more")), absl::OkStatus());
  pair.client = nullptr;
  EXPECT_TRUE(Run(SeesHangUp(pair.server.get())));
}

Task<absl::Status> AcceptStatus(Listener* listener) {
  const ConnectionOr connection = co_await listener->Accept();
  co_return connection.status();
}

Task<absl::Status> ShutdownListenerSoon(Listener* listener) {
  co_await SleepFor(20 * kNanosPerMilli);
  listener->Shutdown();
  listener->Shutdown();
  co_return absl::OkStatus();
}

TEST_P(NetworkContract, ShutdownEndsAnAcceptThatWaits) {
  const std::unique_ptr<Listener> listener = network().Listen(AnyEndpoint()).value();
  std::vector<Task<absl::Status>> tasks;
  tasks.push_back(AcceptStatus(listener.get()));
  tasks.push_back(ShutdownListenerSoon(listener.get()));
  EXPECT_TRUE(absl::IsCancelled(Run(WhenAll(std::move(tasks)))[0]));
  EXPECT_TRUE(absl::IsCancelled(Run(AcceptStatus(listener.get()))));
}

Task<absl::Status> ConnectStatus(Network* network, Endpoint endpoint) {
  const ConnectionOr connection = co_await network->Connect(endpoint);
  co_return connection.status();
}

TEST_P(NetworkContract, ConnectingWhereNobodyListensIsUnavailable) {
  Endpoint endpoint;
  {
    const std::unique_ptr<Listener> listener = network().Listen(AnyEndpoint()).value();
    endpoint = listener->endpoint();
  }
  const absl::Status status = Run(ConnectStatus(&network(), endpoint));
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(endpoint.ToString()));
}

TEST_P(NetworkContract, AnAddressIsListenedOnOnce) {
  const std::unique_ptr<Listener> listener = network().Listen(AnyEndpoint()).value();
  const auto second = network().Listen(listener->endpoint());
  EXPECT_TRUE(absl::IsAlreadyExists(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(listener->endpoint().ToString()));
}

TEST_P(NetworkContract, TakesThePortThatIsFree) {
  const std::unique_ptr<Listener> listener = network().Listen(AnyEndpoint()).value();
  if (listener->endpoint().kind == Endpoint::Kind::kTcp) {
    EXPECT_NE(listener->endpoint().port, 0);
  }
}

Task<void> EchoOnce(Listener* listener) {
  ConnectionOr connection = co_await listener->Accept();
  EXPECT_EQ(connection.status(), absl::OkStatus());
  if (!connection.ok()) co_return;
  const absl::StatusOr<std::string> text = co_await Receive(connection->get(), 4);
  EXPECT_EQ(text.status(), absl::OkStatus());
  if (!text.ok()) co_return;
  const absl::Status sent = co_await Send(connection->get(), *text);
  EXPECT_EQ(sent, absl::OkStatus());
}

Task<void> Ask(Network* network, Endpoint endpoint, std::string text) {
  ConnectionOr connection = co_await network->Connect(endpoint);
  EXPECT_EQ(connection.status(), absl::OkStatus());
  if (!connection.ok()) co_return;
  const absl::Status sent = co_await Send(connection->get(), text);
  EXPECT_EQ(sent, absl::OkStatus());
  const absl::StatusOr<std::string> answer = co_await Receive(connection->get(), 4);
  EXPECT_TRUE(answer.ok() && *answer == text);
}

Task<void> EchoMany(Network* network, Listener* listener, int count) {
  TaskScope scope;
  for (int i = 0; i < count; ++i) {
    scope.Spawn(Ask(network, listener->endpoint(), std::to_string(1000 + i)));
  }
  for (int i = 0; i < count; ++i) {
    co_await EchoOnce(listener);
  }
  co_await scope.Join();
}

TEST_P(NetworkContract, ServesManyConnections) {
  const std::unique_ptr<Listener> listener = network().Listen(AnyEndpoint()).value();
  Run(EchoMany(&network(), listener.get(), 100));
}

INSTANTIATE_TEST_SUITE_P(
    Of, NetworkContract,
    ::testing::Values(
        WorldKind{"UringTcp", Endpoint::Kind::kTcp, [] { return std::make_unique<RealWorld>(); }},
        WorldKind{"UringUnix", Endpoint::Kind::kUnix, [] { return std::make_unique<RealWorld>(); }},
        WorldKind{"SimTcp", Endpoint::Kind::kTcp, [] { return std::make_unique<SimWorld>(); }},
        WorldKind{"SimUnix", Endpoint::Kind::kUnix, [] { return std::make_unique<SimWorld>(); }}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace twofold
