// TCP and Unix sockets through io_uring; see network.h.
#pragma once

#include <memory>

#include "storage/io/network.h"
#include "storage/io/uring_poller.h"
#include "storage/runtime/offload.h"

namespace twofold {

class UringNetwork final : public Network {
 public:
  // Host names are looked up on an offload thread. Both outlive the network, its connections and
  // listeners, which do not need the network itself.
  UringNetwork(UringPoller& poller, Offload& offload) : poller_(poller), offload_(offload) {}

  absl::StatusOr<std::unique_ptr<Listener>> Listen(const Endpoint& endpoint) override;
  Task<absl::StatusOr<std::unique_ptr<Connection>>> Connect(Endpoint endpoint) override;

 private:
  UringPoller& poller_;
  Offload& offload_;
};

}  // namespace twofold
