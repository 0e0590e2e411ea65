// What the NBD server counts, for status and metrics. Since the start of the server.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "storage/base/histogram.h"
#include "tools/nbd/protocol.h"

namespace twofold::nbd {

struct CommandCounters {
  uint64_t requests = 0;  // answered
  uint64_t errors = 0;    // of them, with an error
  uint64_t bytes = 0;     // that the good ones covered
};

struct Counters {
  uint64_t connections = 0;          // that were admitted
  uint64_t refused_connections = 0;  // over the limit
  uint64_t accept_errors = 0;
  uint64_t failed_handshakes = 0;  // ended without an export or NBD_OPT_ABORT
  uint64_t timeouts = 0;           // in a handshake, or a client that took no replies
  uint64_t protocol_errors = 0;    // that ended a connection in the transmission phase

  std::array<CommandCounters, kCommands> commands{};
  CommandCounters unknown_commands;

  uint64_t receives = 0;  // reads from sockets in the transmission phase
  uint64_t sends = 0;     // writes to them: with `commands`, how well replies share a call

  CommandCounters& of(Command command) {
    const auto index = static_cast<size_t>(command);
    return index < commands.size() ? commands[index] : unknown_commands;
  }
};

// What requests that succeeded have taken, by the server's clock.
struct ServerLatency {
  LatencyHistogram receive;  // of a write: from the read that brought its header until it was whole
  LatencyHistogram reply;    // of a write: from its end until the network had taken the answer
  // From the read that brought the header until the network had taken the (last) answer.
  std::array<LatencyHistogram, kCommands> commands{};
};

}  // namespace twofold::nbd
