#include "storage/io/uring_poller.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/io/errno_status.h"
#include "storage/runtime/task.h"

namespace twofold {
namespace {

// Completions may pile up while the executor runs; what does not fit the queue the kernel keeps
// aside (IORING_FEAT_NODROP), at a cost.
constexpr unsigned kCompletionEntries = 4 * kRingEntries;
constexpr int kSubmitAttempts = 16;
constexpr unsigned long kTimerSlackNanos = 1000;
constexpr int64_t kUnarmedPollNanos = 10 * kNanosPerMilli;  // while Wake could go unseen

struct NamedOpcode {
  int opcode;
  const char* name;
};
constexpr NamedOpcode kOpcodes[] = {
    {IORING_OP_READV, "READV"},       {IORING_OP_WRITEV, "WRITEV"},
    {IORING_OP_READ, "READ"},         {IORING_OP_WRITE, "WRITE"},
    {IORING_OP_FSYNC, "FSYNC"},       {IORING_OP_FALLOCATE, "FALLOCATE"},
    {IORING_OP_POLL_ADD, "POLL_ADD"}, {IORING_OP_ACCEPT, "ACCEPT"},
    {IORING_OP_CONNECT, "CONNECT"},   {IORING_OP_RECV, "RECV"},
    {IORING_OP_SENDMSG, "SENDMSG"},
};

MonoNanos ReadClock(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * kNanosPerSecond + time.tv_nsec;
}

absl::Status CheckOpcodes(io_uring* ring) {
  io_uring_probe* probe = io_uring_get_probe_ring(ring);
  if (probe == nullptr) {
    return absl::FailedPreconditionError(
        "io_uring: the kernel does not answer IORING_REGISTER_PROBE; Linux 6.1 or newer is needed");
  }
  std::vector<std::string> missing;
  for (const NamedOpcode& named : kOpcodes) {
    if (!io_uring_opcode_supported(probe, named.opcode)) {
      missing.push_back(absl::StrCat("IORING_OP_", named.name));
    }
  }
  io_uring_free_probe(probe);
  if (missing.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("io_uring: the kernel lacks ",
                                                    absl::StrJoin(missing, ", "),
                                                    "; Linux 6.1 or newer is needed"));
}

}  // namespace

namespace internal {

absl::Status RingSetupStatus(int error) {
  switch (error) {
    case ENOSYS:
      return absl::FailedPreconditionError(
          "io_uring: this kernel has none; Linux 6.1 or newer built with CONFIG_IO_URING is "
          "needed");
    case EINVAL:
      return absl::FailedPreconditionError(
          "io_uring: the kernel refuses IORING_SETUP_SINGLE_ISSUER or IORING_SETUP_DEFER_TASKRUN; "
          "Linux 6.1 or newer is needed");
    case EPERM:
    case EACCES:
      return absl::FailedPreconditionError(
          "io_uring: forbidden here; allow it with `sysctl kernel.io_uring_disabled=0`, and in a "
          "container with a seccomp profile that permits io_uring_setup, io_uring_enter and "
          "io_uring_register");
    case ENOMEM:
      return absl::ResourceExhaustedError(
          "io_uring: no memory for the ring; raise the limit of locked memory (ulimit -l, "
          "LimitMEMLOCK=)");
    default:
      return ErrnoStatus(error, "io_uring: setting up the ring");
  }
}

}  // namespace internal

absl::StatusOr<std::unique_ptr<UringPoller>> UringPoller::Create() {
  io_uring_params params{};
  // Disabled until the first Poll, whose thread becomes the only one that submits.
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE;
  params.cq_entries = kCompletionEntries;
  io_uring ring{};
  const int error = io_uring_queue_init_params(kRingEntries, &ring, &params);
  if (error < 0) return internal::RingSetupStatus(-error);
  const absl::Status opcodes = CheckOpcodes(&ring);
  if (!opcodes.ok()) {
    io_uring_queue_exit(&ring);
    return opcodes;
  }
  const int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd < 0) {
    const int wake_error = errno;
    io_uring_queue_exit(&ring);
    return ErrnoStatus(wake_error, "io_uring: making the event descriptor");
  }
  return absl::WrapUnique(new UringPoller(ring, wake_fd));
}

UringPoller::UringPoller(io_uring ring, int wake_fd) : ring_(ring), wake_fd_(wake_fd) {}

UringPoller::~UringPoller() {
  TF_CHECK_EQ(in_flight_, 0u) << "operations of the ring outlive it";
  io_uring_queue_exit(&ring_);
  close(wake_fd_);
}

MonoNanos UringPoller::Now() const { return ReadClock(CLOCK_BOOTTIME); }
WallNanos UringPoller::WallNow() const { return ReadClock(CLOCK_REALTIME); }

void UringPoller::Wake() noexcept {
  // Who comes between the first Wake and its harvest has nothing to add: the poll returns after
  // both.
  if (wake_sent_.exchange(true)) return;
  const uint64_t one = 1;
  // It cannot fail: the counter is far from its end.
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
}

void UringPoller::EnableOnThisThread() {
  enabled_ = true;
  // A timer of the loop may be due in 50 us, and that is how late the kernel's default would be.
  prctl(PR_SET_TIMERSLACK, kTimerSlackNanos);
  // What io_uring_enable_rings does, which liburing 2.3 declares and does not export.
  const int error = io_uring_register(static_cast<unsigned>(ring_.ring_fd),
                                      IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  TF_CHECK_EQ(error, 0) << "IORING_REGISTER_ENABLE_RINGS";
}

void UringPoller::ArmWake() {
  io_uring_sqe* sqe = NextSqe();
  wake_armed_ = sqe != nullptr;
  if (!wake_armed_) return;  // the next Poll tries again
  // A poll and not a read: its completion writes nothing, so the ring can be closed at any time.
  io_uring_prep_poll_add(sqe, wake_fd_, POLLIN);
  io_uring_sqe_set_data(sqe, &wake_operation_);
}

io_uring_sqe* UringPoller::NextSqe() {
  if (!enabled_) EnableOnThisThread();
  for (int attempt = 0; attempt < kSubmitAttempts; ++attempt) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe != nullptr) return sqe;
    // Full: make room now. Harvesting too lets the kernel go on when it waits for us (EBUSY).
    SubmitWithEvents();
    Harvest();
  }
  return nullptr;
}

void UringPoller::Track(io_uring_sqe* sqe, Operation* operation) {
  io_uring_sqe_set_data(sqe, operation);
  ++in_flight_;
}

void UringPoller::NoteSubmission(uint64_t ready) {
  const uint64_t left = io_uring_sq_ready(&ring_);
  if (left == ready) return;
  ++stats_.submits;
  stats_.submitted += ready - left;
}

void UringPoller::SubmitWithEvents() {
  const uint64_t ready = io_uring_sq_ready(&ring_);
  const int result = io_uring_submit_and_get_events(&ring_);
  // Anything else is a bug: a ring of another thread, a closed ring.
  TF_CHECK(result >= 0 || result == -EAGAIN || result == -EBUSY || result == -EINTR ||
           result == -ENOMEM)
      << "io_uring_enter: " << result;
  NoteSubmission(ready);
}

// A kernel that takes nothing now gets it with the turn.
void UringPoller::Submit() {
  const uint64_t ready = io_uring_sq_ready(&ring_);
  const int result = io_uring_submit(&ring_);
  TF_CHECK(result >= 0 || result == -EAGAIN || result == -EBUSY || result == -EINTR ||
           result == -ENOMEM)
      << "io_uring_enter: " << result;
  NoteSubmission(ready);
}

void UringPoller::SubmitAndWait(MonoNanos deadline) {
  __kernel_timespec timeout{};
  __kernel_timespec* timeout_or_null = nullptr;
  if (deadline != kNever) {
    const int64_t nanos = deadline - Now();
    if (nanos <= 0) return SubmitWithEvents();
    timeout.tv_sec = nanos / kNanosPerSecond;
    timeout.tv_nsec = nanos % kNanosPerSecond;
    timeout_or_null = &timeout;
  }
  const uint64_t ready = io_uring_sq_ready(&ring_);
  io_uring_cqe* unused = nullptr;
  ++stats_.waits;
  const int result = io_uring_submit_and_wait_timeout(&ring_, &unused, 1, timeout_or_null, nullptr);
  TF_CHECK(result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN ||
           result == -EBUSY || result == -ENOMEM)
      << "io_uring_enter: " << result;
  NoteSubmission(ready);
}

void UringPoller::Poll(MonoNanos deadline) {
  if (!enabled_) EnableOnThisThread();
  if (!wake_armed_) ArmWake();
  if (!wake_armed_) deadline = std::min(deadline, Now() + kUnarmedPollNanos);
  // Completions that are there already are a reason not to block, but no reason not to submit.
  if (deadline != 0 && !wake_harvested_ && io_uring_cq_ready(&ring_) == 0) {
    SubmitAndWait(deadline);
  } else if (io_uring_sq_ready(&ring_) > 0 || (IO_URING_READ_ONCE(*ring_.sq.kflags) &
                                               (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0) {
    SubmitWithEvents();
  }
  Harvest();
  wake_harvested_ = false;
}

void UringPoller::Harvest() {
  unsigned head;
  unsigned count = 0;
  bool woken = false;
  io_uring_cqe* cqe;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    ++count;
    auto* operation = static_cast<Operation*>(io_uring_cqe_get_data(cqe));
    if (operation == &wake_operation_) {
      woken = true;
      continue;
    }
    operation->result = cqe->res;
    --in_flight_;
    PushReady(operation->waiter);
  }
  io_uring_cq_advance(&ring_, count);
  stats_.completions += count;
  if (woken) {
    ++stats_.wakes;
    uint64_t ignored;
    [[maybe_unused]] const ssize_t size = read(wake_fd_, &ignored, sizeof(ignored));
    // After the read: a Wake between the two writes nothing, and its sender's word is seen by
    // whoever looks after this poll.
    wake_sent_.exchange(false);
    wake_armed_ = false;
    wake_harvested_ = true;
  }
}

}  // namespace twofold
