// One client's connection, from the greeting to its end.
//
//   handshake -> transmission -> draining -> closed
//       \____________\_______________/
//
// In transmission one task receives: it parses and judges each request, takes its payload, and
// starts it; it stops reading while kMaxNbdRequestsPerConnection requests are in flight or no
// payload memory is to be had. Each request is a task; what it holds is held until its reply was
// sent. One more task sends (send_queue.h). Draining: nothing more is taken, requests in flight end
// and are answered, then the connection is closed. A client can drain with NBD_CMD_DISC; the server
// does when it stops, or when the mount is revoked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "replication/volume/mount.h"
#include "storage/base/limits.h"
#include "storage/io/buffer_pool.h"
#include "storage/io/network.h"
#include "storage/runtime/poller.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task.h"
#include "storage/runtime/task_scope.h"
#include "tools/nbd/counters.h"
#include "tools/nbd/handshake.h"
#include "tools/nbd/payload_budget.h"
#include "tools/nbd/receive_buffer.h"
#include "tools/nbd/reply.h"
#include "tools/nbd/request.h"
#include "tools/nbd/send_queue.h"

namespace twofold::nbd {

// Where sessions get their exports from; as Pool has it.
struct ExportSource {
  std::function<absl::StatusOr<std::unique_ptr<Mount>>(const std::string& name)> open;
  std::function<std::vector<std::string>()> names;
  size_t payload_bytes = 0;  // the capacity of the buffer pool that all mounts share
};

// What the sessions of a server share; outlives them.
struct SessionEnvironment {
  ExportSource exports;
  PayloadBudget& budget;
  Counters& counters;
  ServerLatency& latency;
};

struct SessionInfo {
  std::string peer;
  std::string export_name;  // empty during the handshake
  bool read_only = false;
  bool structured_replies = false;
  size_t requests_in_flight = 0;
  WallNanos connected = 0;
};

class Session {
 public:
  // `refusal`: the session only tells the client that, option by option, until it leaves.
  Session(std::unique_ptr<Connection> connection, SessionEnvironment& environment,
          std::optional<std::string> refusal);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Serves the client until it leaves or is let go. Destroy the session only afterwards.
  Task<void> Run();

  // Begins draining: requests that come from now on get NBD_ESHUTDOWN. Does not suspend.
  void Stop();
  // Ends the connection now, replies or not; requests in flight still end by themselves.
  void Abort();
  // To be called every second or so: lets go a client that for too long keeps the handshake open,
  // takes no replies, or sends no more of a payload.
  void CheckTimeouts(MonoNanos now);

  SessionInfo info() const;

 private:
  // A write whose payload came in several pieces; answered when the last of them is done.
  struct SplitWrite {
    Request request;
    size_t unfinished = 1;  // pieces, and the receiving of them
    absl::Status status;
    MonoNanos whole = 0;  // when the last piece that came was there
  };
  // The beginning of a request's range, as far as memory for it could be had.
  struct Piece {
    uint32_t length = 0;
    PayloadBudget::Grant grant;
  };

  ExportDirectory Directory();
  Task<absl::Status> Negotiate();
  Task<void> Transmit();

  // The receiving task. Returns when no request can follow.
  Task<void> Receive();
  // More bytes into input_; false when there are none.
  Task<bool> ReceiveMore();
  Task<bool> ReceivePayload(absl::Span<std::byte> into);
  // Drops a refused write's payload; false when it is too much, or the connection ends.
  Task<bool> DrainPayload(uint64_t length_bytes);
  // Starts a write whose payload was received already; false where it has to wait for something.
  bool StartReceivedWrite(const Request& request);
  Task<bool> ReceiveWrite(Request request);
  void Start(Task<void> request_task);
  RequestRules Rules() const;
  Task<Piece> TakePiece(uint64_t offset, uint32_t left);
  // All of it where the reply has to be one message.
  Task<Piece> TakeReadPiece(Request request, uint64_t offset, uint32_t left);

  Task<void> RunWrite(Request request, Buffer payload, PayloadBudget::Grant grant);
  Task<void> RunWritePiece(std::shared_ptr<SplitWrite> write, uint64_t offset, uint32_t length,
                           Buffer payload, PayloadBudget::Grant grant);
  Task<void> FinishSplitWrite(std::shared_ptr<SplitWrite> write);
  Task<void> RunRead(Request request);
  Task<void> RunBlockStatus(Request request);
  // The commands without data either way.
  Task<void> RunPlain(Request request);
  Task<absl::Status> DoPlain(Request request);
  Task<void> RunRefusal(Request request, Refusal refusal);

  // A task that was started has ended.
  void Ended();
  // Success without data, or the error.
  Error EncodeStatus(const Request& request, const absl::Status& status, Reply& reply);
  // Counts a request whose last reply was sent, and makes room for another.
  void Answered(const Request& request, Error error);
  void CloseWhenDrained();
  // R9: asked right before a write gets its Seq.
  bool Abandoned() const;

  SessionEnvironment& environment_;
  std::unique_ptr<Connection> connection_;
  std::optional<Handshake> handshake_;  // while it lasts
  std::unique_ptr<Mount> mount_;
  bool structured_replies_ = false;
  bool base_allocation_ = false;

  ReceiveBuffer input_{kNbdReceiveBufferBytes};
  bool disconnect_received_ = false;
  bool disconnect_ahead_ = false;  // the received bytes seem to end with NBD_CMD_DISC

  bool transmitting_ = false;
  bool stopping_ = false;
  size_t running_ = 0;  // tasks started, refusals not counted
  Semaphore slots_{kMaxNbdRequestsPerConnection};
  PayloadBudget::Share share_;
  TaskScope requests_;
  SendQueue replies_;
  TaskScope writer_;

  const MonoNanos connected_mono_;
  const WallNanos connected_wall_;
  // Whether something has been under way for too long without a step.
  class Watchdog {
   public:
    bool Stuck(bool under_way, uint64_t steps, MonoNanos now);

   private:
    uint64_t seen_steps_ = 0;   // at the last look
    MonoNanos since_ = kNever;  // until the first look
  };
  bool in_payload_ = false;  // a part of a write's payload is missing
  uint64_t receives_ = 0;
  MonoNanos received_ = 0;  // when the last bytes came
  Watchdog sending_;
  Watchdog receiving_;
};

}  // namespace twofold::nbd
