// Replies on their way out of one connection. A single writer sends everything that is ready in one
// go: at depth, many replies share a system call.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "storage/io/network.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task.h"
#include "tools/nbd/counters.h"
#include "tools/nbd/reply.h"

namespace twofold::nbd {

class SendQueue {
 public:
  // Both outlive the queue; nobody else writes to the connection while Run is active.
  SendQueue(Connection& connection, Counters& counters);
  SendQueue(const SendQueue&) = delete;
  SendQueue& operator=(const SendQueue&) = delete;

  // The writer: runs until Close was called and nothing is left.
  Task<void> Run();
  void Close();

  struct SendAwaiter {
    SendQueue& queue;
    Reply& reply;
    bool await_ready() const noexcept { return queue.broken_; }
    void await_suspend(std::coroutine_handle<> handle);
    bool await_resume() const noexcept { return !queue.broken_; }
  };
  // Suspends until the network has taken the whole reply, and then `reply` and its data may go.
  // False when the connection is broken: what was not sent never will be.
  SendAwaiter Send(Reply& reply) { return SendAwaiter{*this, reply}; }

  // For a watchdog: a write that is under way is stuck while its number stays the same.
  bool writing() const { return writing_; }
  uint64_t writes() const { return writes_; }

 private:
  // Fills pieces_ with what comes next, as far as one write goes.
  void GatherWrite();
  void GatherHead(const char* bytes, size_t length_bytes);
  // Wakes the senders of what was gathered, or of everything when the connection broke.
  void WakeSenders();

  Connection& connection_;
  Counters& counters_;
  Event ready_;
  bool closing_ = false;
  bool broken_ = false;
  bool writing_ = false;
  uint64_t writes_ = 0;

  Reply* first_ = nullptr;  // the first that is not wholly sent
  Reply* last_ = nullptr;
  // Where the next write starts in first_.
  size_t part_ = 0;
  size_t head_at_ = 0;
  uint32_t data_sent_ = 0;  // of the part; the head is gone when it is not zero

  size_t gathered_replies_ = 0;  // that end in the write under way
  std::vector<iovec> pieces_;
  std::vector<char> heads_;  // copies, so that neighbours are one piece
};

}  // namespace twofold::nbd
