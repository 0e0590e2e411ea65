// A live NBD server over a pool of two simulated replicas, and clients that send it raw bytes over
// the simulated network.
//
// Everything runs in virtual time on one executor. Calls here drive it: while one waits for
// something, the server, the pool and all the other clients go on.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage/runtime/task_scope.h"
#include "tests/nbd/client_bytes.h"
#include "tests/replication/test_pool.h"
#include "tests/sim/sim_network.h"
#include "tools/nbd/server.h"

namespace twofold::nbd {

constexpr uint64_t kVolumeBytes = uint64_t{1} << 20;

class SessionWorld {
 public:
  struct Options {
    uint64_t seed = 1;
    ServerOptions server;
    sim::SimReplicaOptions replica;
    sim::SimNetworkOptions network;
  };
  // With the volume "vol" of kVolumeBytes.
  SessionWorld() : SessionWorld(Options()) {}
  explicit SessionWorld(Options options);
  // Stops the server unless StopServer did. Clients go first.
  ~SessionWorld();

  TestPool& pool() { return pool_; }
  sim::SimNetwork& network() { return network_; }
  Server& server() { return *server_; }
  const Counters& counters() const { return server_->counters(); }
  uint64_t buffers_used_bytes() { return pool_.pool().Info().buffer_pool_used_bytes; }
  Position position(const std::string& volume = "vol");

  void MakeSnapshot(const std::string& volume, const std::string& name);
  void StopServer();

  void Sleep(int64_t nanos);
  // Lets time pass until it is true; false when it was not within the limit.
  bool WaitFor(const std::function<bool()>& condition, int64_t limit_nanos = 30 * kNanosPerSecond);
  MonoNanos Now() { return pool_.poller().Now(); }

  std::unique_ptr<Connection> Connect();

 private:
  TestPool pool_;
  sim::SimNetwork network_;
  std::unique_ptr<Server> server_;
};

class RawClient {
 public:
  // `reading`: takes what the server sends as it comes; otherwise only from StartReading on.
  explicit RawClient(SessionWorld& world, bool reading = true);
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  ~RawClient();

  void StartReading();
  // Sends behind what was given before; returns at once.
  void Send(const std::string& bytes);
  size_t unsent_bytes() const { return outgoing_.size(); }
  void Close();
  // Sends nothing more, but reads on.
  void CloseSending();

  // The server has closed; what it sent before is in received().
  bool closed() const { return closed_; }
  bool WaitClosed(int64_t limit_nanos = 30 * kNanosPerSecond);
  std::string& received() { return received_; }
  // Takes so many bytes; a test failure when they do not come.
  std::string Take(size_t bytes);

  // Takes the greeting and sends the client's flags.
  void Greet(uint32_t flags = 3);
  // Sends an option and takes the replies to it, up to the acknowledgement or the error.
  std::vector<OptionReplyMessage> Ask(uint32_t option, const std::string& data = "");
  std::vector<OptionReplyMessage> TakeAnswer();
  // From the greeting to the transmission phase.
  void Open(const std::string& name, bool structured = false, bool contexts = false);

  // Takes the next reply, with `data_bytes` where it is a successful simple one.
  ReplyMessage TakeOneReply(size_t data_bytes = 0);
  // A write and a read, to its end; false unless all is as it must be.
  bool WriteAndRead(uint64_t offset, char fill);

 private:
  Task<void> ReadAll();
  Task<void> WriteAll();

  SessionWorld& world_;
  std::unique_ptr<Connection> connection_;
  std::string outgoing_;
  bool sending_ = false;
  std::string received_;
  bool closed_ = false;
  uint64_t next_cookie_ = 1'000'000;
  TaskScope scope_;
};

// A new client opens `name`, writes, reads back, and leaves.
void ExpectServing(SessionWorld& world, const std::string& name = "vol");

}  // namespace twofold::nbd
