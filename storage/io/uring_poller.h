// The kernel's side of an executor: one io_uring, real clocks.
//
// What coroutines queue during a turn of the loop is submitted by the next Poll in one system call,
// which also waits; what a device should not wait for until the turn has ended is submitted at
// once. Completions only push their waiters on the executor's FIFO. The ring belongs to the thread
// that first polls (IORING_SETUP_SINGLE_ISSUER); Create may run on another one.
//
//   const int32_t result = co_await UringOp(poller, [&](io_uring_sqe* sqe) {
//     io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
//   });                                                     // >= 0, or a negative errno
//
// Source: io_uring_setup(2), io_uring_enter(2). Needs Linux 6.1.
#pragma once

#include <liburing.h>

#include <atomic>
#include <cerrno>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/poller.h"

namespace twofold {

class UringPoller final : public Poller {
 public:
  // kFailedPrecondition names the kernel feature or setting that is missing, kResourceExhausted the
  // limit.
  static absl::StatusOr<std::unique_ptr<UringPoller>> Create();

  UringPoller(const UringPoller&) = delete;
  UringPoller& operator=(const UringPoller&) = delete;
  // Nothing may be under way.
  ~UringPoller() override;

  void Poll(MonoNanos deadline) override;
  void Submit() override;
  void Wake() noexcept override;
  MonoNanos Now() const override;
  WallNanos WallNow() const override;

  struct Stats {
    uint64_t submits = 0;      // system calls that submitted something
    uint64_t submitted = 0;    // operations in them
    uint64_t waits = 0;        // system calls that could block
    uint64_t completions = 0;  // wakes included
    uint64_t wakes = 0;        // by Wake
  };
  const Stats& stats() const { return stats_; }
  uint64_t operations_in_flight() const { return in_flight_; }

 private:
  template <typename Prepare>
  friend class UringOp;

  // What the kernel hands back with a completion; lives in the awaiter of the operation.
  struct Operation {
    std::coroutine_handle<> waiter;
    int32_t result = 0;
  };

  UringPoller(io_uring ring, int wake_fd);

  // A free submission entry. Null when the kernel takes none, though it was asked several times.
  io_uring_sqe* NextSqe();
  void Track(io_uring_sqe* sqe, Operation* operation);

  void EnableOnThisThread();
  void ArmWake();
  void SubmitWithEvents();  // has the kernel post completions, too
  void SubmitAndWait(MonoNanos deadline);
  void NoteSubmission(uint64_t ready);
  void Harvest();  // pushes the waiters of everything that has completed

  io_uring ring_;
  const int wake_fd_;
  bool enabled_ = false;
  Operation wake_operation_;             // no waiter: handled in Harvest
  bool wake_armed_ = false;              // wake_operation_ is in the ring
  bool wake_harvested_ = false;          // since the last Poll: the next one does not block
  std::atomic<bool> wake_sent_ = false;  // wake_fd_ is readable, or about to be
  uint64_t in_flight_ = 0;
  Stats stats_;
};

// When an operation goes to the kernel: with all others of its turn in one system call; at once,
// because something big waits for it; or soon, the same for what comes in pairs
// (Executor::SubmitSoon).
enum class Submission { kWithTurn, kSoon, kAtOnce };

// One operation of the ring: awaiting it queues it and returns its result, or -EAGAIN when the
// kernel has no room for it now. `prepare` fills the entry (io_uring_prep_*) and runs inside the
// await; what the entry points to stays untouched until the await returns.
template <typename Prepare>
class [[nodiscard]] UringOp {
 public:
  UringOp(UringPoller& poller, Prepare prepare, Submission submission = Submission::kWithTurn)
      : poller_(poller), prepare_(std::move(prepare)), submission_(submission) {}
  UringOp(const UringOp&) = delete;
  UringOp& operator=(const UringOp&) = delete;

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> waiter) {
    io_uring_sqe* sqe = poller_.NextSqe();
    if (sqe == nullptr) {
      operation_.result = -EAGAIN;
      return false;
    }
    prepare_(sqe);
    operation_.waiter = waiter;
    poller_.Track(sqe, &operation_);
    if (submission_ == Submission::kAtOnce) poller_.Submit();
    if (submission_ == Submission::kSoon) Executor::Current().SubmitSoon();
    return true;
  }
  int32_t await_resume() const noexcept { return operation_.result; }

 private:
  UringPoller& poller_;
  Prepare prepare_;
  const Submission submission_;
  UringPoller::Operation operation_;
};

namespace internal {
// Why a ring could not be set up, and what to do about it; `error` is positive. For Create and its
// test.
absl::Status RingSetupStatus(int error);
}  // namespace internal

}  // namespace twofold
