// A simulated network: byte streams between tasks of one simulated machine.
//
// The fault model, that of TCP over a bad line:
//
// - A stream keeps its order and loses nothing as long as it holds. Each piece of a write takes a
// time of its own
//   from the seed, cut into pieces anywhere; a read returns any part of what has arrived.
// - A stream holds a bounded number of bytes; who writes more waits until the reader has taken
// some.
// - Closing one side reaches the other after what was sent before. Who then writes may be told so,
// or his
//   bytes vanish, and the next write is told.
// - A cut connection is gone at both ends at once: what has arrived and was not read is lost too,
// and
//   everything that waits or comes returns kUnavailable.
// - On a held network nothing arrives any more, and nobody is told: neither bytes nor ends nor new
//   connections. Release delivers all that is due.
// - Connecting takes time; where nobody listens it is refused.
// - By chance: one in so many writes cuts its connection.
// - Not modelled: bytes that change on the way (TCP's checksum, and ours, see to that).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "storage/base/prng.h"
#include "storage/io/network.h"
#include "storage/runtime/sync.h"
#include "tests/sim/sim_poller.h"

namespace twofold::sim {

struct SimNetworkOptions {
  int64_t min_delay_nanos = 5'000;
  int64_t max_delay_nanos = 500'000;
  size_t max_piece_bytes = 16 << 10;  // of what arrives at once
  size_t capacity_bytes = 128 << 10;  // of one direction
  uint64_t cut_one_in = 0;            // writes; 0 = none
};

class SimNetwork final : public Network {
 public:
  explicit SimNetwork(SimPoller& poller, SimNetworkOptions options = {});
  // Its listeners and connections may outlive it.
  ~SimNetwork() override;

  absl::StatusOr<std::unique_ptr<Listener>> Listen(const Endpoint& endpoint) override;
  Task<absl::StatusOr<std::unique_ptr<Connection>>> Connect(Endpoint endpoint) override;

  SimNetworkOptions& options();
  // Cuts every connection that there is now.
  void CutAll();
  void Hold();
  void Release();
  // Ends one direction of a connection of this network, as shutdown(SHUT_WR): what was sent before
  // still arrives, and reading goes on.
  static void CloseSending(Connection& connection);

  struct Stats {
    uint64_t connections = 0;
    uint64_t cuts = 0;
    uint64_t bytes_sent = 0;
  };
  const Stats& stats() const;

  struct State;  // what connections and listeners share

 private:
  std::shared_ptr<State> state_;
};

}  // namespace twofold::sim
