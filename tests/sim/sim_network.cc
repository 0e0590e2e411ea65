#include "tests/sim/sim_network.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/runtime/executor.h"

namespace twofold::sim {
namespace {

constexpr uint16_t kFirstFreePort = 40'000;
constexpr size_t kBacklog = 128;

// One direction of a connection.
struct Pipe {
  std::deque<std::byte> arrived;
  size_t on_the_way = 0;       // bytes
  MonoNanos last_arrival = 0;  // what is sent later arrives later
  bool closed = false;         // by the sender, and the reader knows
  bool reader_gone = false;    // and the sender may know
  bool refused = false;        // a write vanished because the reader has closed
  Event changed;
};

struct Link {
  Pipe pipes[2];
  bool broken = false;

  void Break() {
    broken = true;
    for (Pipe& pipe : pipes) pipe.changed.WakeAll();
  }
};

class SimListener;

}  // namespace

struct SimNetwork::State : std::enable_shared_from_this<SimNetwork::State> {
  State(SimPoller& poller_in, SimNetworkOptions options_in)
      : poller(poller_in), random(poller_in.random().Fork()), options(options_in) {}

  int64_t Delay() {
    const auto least = static_cast<uint64_t>(options.min_delay_nanos);
    const auto most = static_cast<uint64_t>(options.max_delay_nanos);
    return static_cast<int64_t>(random.Between(least, std::max(least, most)));
  }

  // Runs `delivery` at `when`, or once the network is released.
  void Deliver(MonoNanos when, std::function<void()> delivery) {
    poller.Schedule(when, [self = shared_from_this(), delivery = std::move(delivery)] {
      // Everything that comes behind something that is held is held too: the order stays.
      if (self->held || !self->kept.empty()) {
        self->kept.push_back(delivery);
      } else {
        delivery();
      }
    });
  }

  SimPoller& poller;
  Prng random;
  SimNetworkOptions options;
  Stats stats;
  std::map<std::string, SimListener*> listeners;  // by endpoint
  std::vector<std::weak_ptr<Link>> links;
  uint16_t next_port = kFirstFreePort;
  bool held = false;
  std::deque<std::function<void()>> kept;
  Event released;
};

namespace {

class SimConnection final : public Connection {
 public:
  // `end` 0 reads from pipe 0 and writes into pipe 1, end 1 the other way round.
  SimConnection(std::shared_ptr<SimNetwork::State> state, std::shared_ptr<Link> link, size_t end,
                std::string peer)
      : state_(std::move(state)), link_(std::move(link)), end_(end), peer_(std::move(peer)) {}

  ~SimConnection() override {
    TF_CHECK(!reading_ && !writing_) << peer_;
    Shutdown();
  }

  Task<absl::StatusOr<size_t>> Read(absl::Span<std::byte> into) override {
    TF_CHECK(!into.empty());
    TF_CHECK(!std::exchange(reading_, true)) << "two reads at a time";
    absl::StatusOr<size_t> result = 0;
    Pipe& pipe = in();
    while (true) {
      result = Lost();
      if (shut_down_ || link_->broken) break;
      result = 0;
      if (!pipe.arrived.empty()) {
        result = Take(pipe, into);
        break;
      }
      if (pipe.closed) break;
      co_await pipe.changed.Wait();
    }
    reading_ = false;
    co_return result;
  }

  Task<absl::Status> Write(absl::Span<iovec> pieces) override {
    TF_CHECK_LE(pieces.size(), kMaxIoPieces);
    TF_CHECK(!std::exchange(writing_, true)) << "two writes at a time";
    const uint64_t one_in = state_->options.cut_one_in;
    if (one_in != 0 && state_->random.OneIn(one_in)) Cut();
    absl::Status status;
    for (const iovec& piece : pieces) {
      const auto* data = static_cast<const std::byte*>(piece.iov_base);
      for (size_t sent = 0; sent < piece.iov_len;) {
        while (Room() == 0 && !shut_down_ && !link_->broken && !out().reader_gone) {
          co_await out().changed.Wait();
        }
        status = Writable();
        if (!status.ok()) break;
        sent += Send(data + sent, piece.iov_len - sent);
      }
      if (!status.ok()) break;
    }
    writing_ = false;
    co_return status;
  }

  bool PeerHungUp() override { return link_->broken || in().closed; }

  void Shutdown() override {
    if (std::exchange(shut_down_, true)) return;
    CloseDirections(/*both=*/true);
    // Those of this side that wait go on at once. As an event, since nobody may be running now.
    state_->poller.Schedule(state_->poller.Now(), [link = link_] {
      for (Pipe& each : link->pipes) each.changed.WakeAll();
    });
  }

  const std::string& peer() const override { return peer_; }

  void CloseSending() { CloseDirections(/*both=*/false); }

 private:
  void CloseDirections(bool both) {
    Pipe& pipe = out();
    state_->Deliver(NextArrival(pipe), [link = link_, &pipe, &other = in(), both] {
      pipe.closed = true;
      if (both) other.reader_gone = true;
      // Whoever reads it, and the same one if he waits for room in the other direction.
      for (Pipe& each : link->pipes) each.changed.WakeAll();
    });
  }

  Pipe& in() { return link_->pipes[end_]; }
  Pipe& out() { return link_->pipes[1 - end_]; }

  absl::Status Lost() const {
    if (shut_down_) {
      return absl::CancelledError(absl::StrCat("the connection to ", peer_, " was shut down"));
    }
    return absl::UnavailableError(absl::StrCat("the connection to ", peer_, " broke"));
  }

  absl::Status Writable() {
    if (shut_down_ || link_->broken) return Lost();
    if (out().reader_gone && (out().refused || state_->random.OneIn(2))) {
      return absl::UnavailableError(absl::StrCat("sending to ", peer_, ": it has closed"));
    }
    return absl::OkStatus();
  }

  size_t Room() {
    const size_t used = out().arrived.size() + out().on_the_way;
    return used < state_->options.capacity_bytes ? state_->options.capacity_bytes - used : 0;
  }

  MonoNanos NextArrival(Pipe& pipe) {
    pipe.last_arrival = std::max(pipe.last_arrival + 1, state_->poller.Now() + state_->Delay());
    return pipe.last_arrival;
  }

  // Sends a piece of at least one byte; returns its size.
  size_t Send(const std::byte* data, size_t available) {
    Pipe& pipe = out();
    if (pipe.reader_gone) {
      pipe.refused = true;
      return available;
    }
    const size_t most = std::min({available, Room(), state_->options.max_piece_bytes});
    // Whole pieces often, so that large transfers stay quick; otherwise cut anywhere.
    const size_t size =
        state_->random.OneIn(2) ? most : static_cast<size_t>(state_->random.Between(1, most));
    state_->stats.bytes_sent += size;
    pipe.on_the_way += size;
    state_->Deliver(NextArrival(pipe),
                    [link = link_, &pipe, bytes = std::vector<std::byte>(data, data + size)] {
                      pipe.on_the_way -= bytes.size();
                      pipe.arrived.insert(pipe.arrived.end(), bytes.begin(), bytes.end());
                      pipe.changed.WakeAll();
                    });
    return size;
  }

  size_t Take(Pipe& pipe, absl::Span<std::byte> into) {
    const size_t most = std::min(pipe.arrived.size(), into.size());
    const size_t size =
        state_->random.OneIn(2) ? most : static_cast<size_t>(state_->random.Between(1, most));
    const auto end = pipe.arrived.begin() + static_cast<ptrdiff_t>(size);
    std::copy(pipe.arrived.begin(), end, into.begin());
    pipe.arrived.erase(pipe.arrived.begin(), end);
    pipe.changed.WakeAll();
    return size;
  }

  void Cut() {
    ++state_->stats.cuts;
    link_->Break();
  }

  const std::shared_ptr<SimNetwork::State> state_;
  const std::shared_ptr<Link> link_;
  const size_t end_;
  const std::string peer_;
  bool reading_ = false;
  bool writing_ = false;
  bool shut_down_ = false;
};

class SimListener final : public Listener {
 public:
  SimListener(std::shared_ptr<SimNetwork::State> state, Endpoint endpoint)
      : state_(std::move(state)), endpoint_(std::move(endpoint)) {
    state_->listeners[endpoint_.ToString()] = this;
  }
  ~SimListener() override {
    TF_CHECK(!accepting_) << endpoint_.ToString();
    Close();
  }

  Task<absl::StatusOr<std::unique_ptr<Connection>>> Accept() override {
    TF_CHECK(!std::exchange(accepting_, true)) << "two accepts at a time";
    while (backlog_.empty() && !shut_down_) co_await arrived_->Wait();
    accepting_ = false;
    if (shut_down_) {
      co_return absl::CancelledError(absl::StrCat("no longer listening on ", endpoint_.ToString()));
    }
    std::unique_ptr<Connection> connection = std::move(backlog_.front());
    backlog_.pop_front();
    co_return connection;
  }

  void Shutdown() override {
    Close();
    state_->poller.Schedule(state_->poller.Now(), [arrived = arrived_] { arrived->WakeAll(); });
  }

  const Endpoint& endpoint() const override { return endpoint_; }

  bool Offer(std::unique_ptr<Connection> connection) {
    if (backlog_.size() >= kBacklog) return false;
    backlog_.push_back(std::move(connection));
    arrived_->WakeAll();
    return true;
  }

 private:
  void Close() {
    if (!std::exchange(shut_down_, true)) state_->listeners.erase(endpoint_.ToString());
    backlog_.clear();
  }

  const std::shared_ptr<SimNetwork::State> state_;
  const Endpoint endpoint_;
  std::deque<std::unique_ptr<Connection>> backlog_;
  std::shared_ptr<Event> arrived_ = std::make_shared<Event>();
  bool accepting_ = false;
  bool shut_down_ = false;
};

}  // namespace

SimNetwork::SimNetwork(SimPoller& poller, SimNetworkOptions options)
    : state_(std::make_shared<State>(poller, options)) {}
SimNetwork::~SimNetwork() = default;

SimNetworkOptions& SimNetwork::options() { return state_->options; }
const SimNetwork::Stats& SimNetwork::stats() const { return state_->stats; }

absl::StatusOr<std::unique_ptr<Listener>> SimNetwork::Listen(const Endpoint& endpoint) {
  Endpoint bound = endpoint;
  if (bound.kind == Endpoint::Kind::kTcp && bound.port == 0) bound.port = state_->next_port++;
  if (state_->listeners.contains(bound.ToString())) {
    return absl::AlreadyExistsError(absl::StrCat("listening on ", bound.ToString(),
                                                 ": another process listens there; stop it, or ",
                                                 "choose another address"));
  }
  return absl::make_unique<SimListener>(state_, std::move(bound));
}

Task<absl::StatusOr<std::unique_ptr<Connection>>> SimNetwork::Connect(Endpoint endpoint) {
  const std::shared_ptr<State> state = state_;
  const std::string name = endpoint.ToString();
  co_await state->poller.Delay(state->Delay());
  while (state->held) co_await state->released.Wait();
  const auto found = state->listeners.find(name);
  auto link = std::make_shared<Link>();
  const std::string peer = endpoint.kind == Endpoint::Kind::kUnix
                               ? "unix"
                               : absl::StrCat("127.0.0.1:", state->next_port++);
  if (found == state->listeners.end() ||
      !found->second->Offer(absl::make_unique<SimConnection>(state, link, 0, peer))) {
    co_return absl::UnavailableError(absl::StrCat("connecting to ", name, ": refused"));
  }
  ++state->stats.connections;
  std::erase_if(state->links, [](const auto& each) { return each.expired(); });
  state->links.push_back(link);
  auto connection = absl::make_unique<SimConnection>(state, link, 1, name);
  co_await state->poller.Delay(state->Delay());
  co_return connection;
}

void SimNetwork::CutAll() {
  for (const std::weak_ptr<Link>& each : state_->links) {
    const std::shared_ptr<Link> link = each.lock();
    if (link == nullptr || link->broken) continue;
    ++state_->stats.cuts;
    link->broken = true;
    state_->poller.Schedule(state_->poller.Now(), [link] { link->Break(); });
  }
  state_->links.clear();
}

void SimNetwork::CloseSending(Connection& connection) {
  static_cast<SimConnection&>(connection).CloseSending();
}

void SimNetwork::Hold() { state_->held = true; }

void SimNetwork::Release() {
  state_->held = false;
  state_->poller.Schedule(state_->poller.Now(), [state = state_] {
    state->released.WakeAll();
    while (!state->held && !state->kept.empty()) {
      const std::function<void()> delivery = std::move(state->kept.front());
      state->kept.pop_front();
      delivery();
    }
  });
}

}  // namespace twofold::sim
