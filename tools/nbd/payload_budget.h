// Who may hold how much of the buffer pool, so that slow clients can't stop the others.
//
// Each connection has a share with some bytes of its own; what it needs beyond them comes from
// bytes that all share, first come first served. A connection that needs no more than its own at a
// time never waits for another one. The budget counts; the memory itself comes from BufferPool,
// whose capacity covers what the budget gives out.
#pragma once

#include <boost/intrusive/list.hpp>
#include <coroutine>
#include <cstddef>
#include <utility>

#include "storage/base/check.h"

namespace twofold::nbd {

class PayloadBudget {
 public:
  class Share;

  // Bytes that were granted; goes back when it is dropped.
  class Grant {
   public:
    Grant() = default;
    Grant(Grant&& other) noexcept
        : share_(std::exchange(other.share_, nullptr)), bytes_(other.bytes_), own_(other.own_) {}
    Grant& operator=(Grant&& other) noexcept;
    ~Grant() { Release(); }
    explicit operator bool() const { return share_ != nullptr; }
    void Release();

   private:
    friend class PayloadBudget;
    Grant(Share* share, size_t bytes, bool own) : share_(share), bytes_(bytes), own_(own) {}

    Share* share_ = nullptr;
    size_t bytes_ = 0;
    bool own_ = false;
  };

 private:
  using ListHook = boost::intrusive::list_base_hook<boost::intrusive::tag<struct BudgetQueueTag>>;
  using ShareHook = boost::intrusive::list_base_hook<boost::intrusive::tag<struct ShareQueueTag>>;
  struct Waiter : ListHook, ShareHook {
    Share* share = nullptr;
    size_t bytes = 0;
    bool own = false;  // when it was granted: from what
    std::coroutine_handle<> handle;
  };
  template <typename Hook>
  using Queue = boost::intrusive::list<Waiter, boost::intrusive::base_hook<Hook>,
                                       boost::intrusive::constant_time_size<false>>;

 public:
  // One connection's; outlives its grants.
  class Share {
   public:
    explicit Share(PayloadBudget& budget)
        : budget_(budget), own_free_bytes_(budget.guaranteed_bytes_) {}
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    ~Share() { TF_CHECK(own_free_bytes_ == budget_.guaranteed_bytes_ && waiters_.empty()); }

    struct Awaiter {
      Share& share;
      size_t bytes;
      Grant granted{};
      Waiter waiter{};
      bool await_ready() {
        granted = share.TryAcquire(bytes);
        return static_cast<bool>(granted);
      }
      void await_suspend(std::coroutine_handle<> handle);
      Grant await_resume();
    };
    // Suspends until there is room; in the order of asking. `bytes` <= budget.largest_bytes().
    Awaiter Acquire(size_t bytes) { return Awaiter{*this, bytes}; }
    // An empty grant where Acquire would suspend.
    Grant TryAcquire(size_t bytes);

   private:
    friend class PayloadBudget;
    PayloadBudget& budget_;
    size_t own_free_bytes_;
    Queue<ShareHook> waiters_;
  };

  // `guaranteed_bytes` for each of the shares that there will be, `shared_bytes` for all of them.
  PayloadBudget(size_t guaranteed_bytes, size_t shared_bytes)
      : guaranteed_bytes_(guaranteed_bytes),
        shared_bytes_(shared_bytes),
        shared_free_bytes_(shared_bytes) {}
  PayloadBudget(const PayloadBudget&) = delete;
  PayloadBudget& operator=(const PayloadBudget&) = delete;
  ~PayloadBudget() { TF_CHECK(shared_free_bytes_ == shared_bytes_ && waiters_.empty()); }

  size_t largest_bytes() const { return std::max(guaranteed_bytes_, shared_bytes_); }
  size_t shared_free_bytes() const { return shared_free_bytes_; }

  // What a buffer for `bytes` takes of the pool, which rounds up to powers of two.
  static size_t ChargeFor(size_t bytes);

 private:
  void Return(Share& share, size_t bytes, bool own);
  void Wake(Waiter& waiter, bool own);

  const size_t guaranteed_bytes_;
  const size_t shared_bytes_;
  size_t shared_free_bytes_;
  Queue<ListHook> waiters_;  // all of them, in order
};

}  // namespace twofold::nbd
