// Who may hold how much of the buffer pool, so that slow clients can't stop the others.
//
// Each connection has a share with some bytes of its own; what it needs beyond them comes from
// bytes that all share. A connection that needs no more than its own at a time never waits for
// another one. Of the shared bytes one connection has a part at most, or else a single request that
// is larger; connections that wait for them take turns, so that one which asks for much does not
// stand before the others with all of it. The budget counts; the memory itself comes from
// BufferPool, whose capacity covers what the budget gives out.
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
  struct Waiter : boost::intrusive::list_base_hook<> {
    size_t bytes = 0;
    bool own = false;  // when it was granted: from what
    std::coroutine_handle<> handle;
  };
  template <typename T>
  using Queue = boost::intrusive::list<T, boost::intrusive::constant_time_size<false>>;

 public:
  // One connection's; outlives its grants.
  class Share : public boost::intrusive::list_base_hook<> {
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
    // Suspends until there is room; within the share in the order of asking. `bytes` <=
    // budget.largest_bytes().
    Awaiter Acquire(size_t bytes) { return Awaiter{*this, bytes}; }
    // An empty grant where Acquire would suspend.
    Grant TryAcquire(size_t bytes);

   private:
    friend class PayloadBudget;
    bool MayTakeShared(size_t bytes) const {
      return shared_held_bytes_ == 0 || shared_held_bytes_ + bytes <= budget_.share_limit_bytes_;
    }

    PayloadBudget& budget_;
    size_t own_free_bytes_;
    size_t shared_held_bytes_ = 0;
    Queue<Waiter> waiters_;
  };

  // `guaranteed_bytes` for each of the shares that there will be, `shared_bytes` for all of them;
  // no share holds more than `share_limit_bytes` of those, except by a single grant.
  PayloadBudget(size_t guaranteed_bytes, size_t shared_bytes, size_t share_limit_bytes)
      : guaranteed_bytes_(guaranteed_bytes),
        shared_bytes_(shared_bytes),
        share_limit_bytes_(share_limit_bytes),
        shared_free_bytes_(shared_bytes) {}
  PayloadBudget(const PayloadBudget&) = delete;
  PayloadBudget& operator=(const PayloadBudget&) = delete;
  ~PayloadBudget() { TF_CHECK(shared_free_bytes_ == shared_bytes_ && line_.empty()); }

  size_t largest_bytes() const { return std::max(guaranteed_bytes_, shared_bytes_); }
  size_t shared_free_bytes() const { return shared_free_bytes_; }

  // What a buffer for `bytes` takes of the pool, which rounds up to powers of two.
  static size_t ChargeFor(size_t bytes);

 private:
  void Return(Share& share, size_t bytes, bool own);
  // Grants what the first waiter of the share asked for.
  void Wake(Share& share, bool own);
  // Puts the share behind those that wait for shared bytes, if it does and may have them.
  void LineUp(Share& share);

  const size_t guaranteed_bytes_;
  const size_t shared_bytes_;
  const size_t share_limit_bytes_;
  size_t shared_free_bytes_;
  // Shares whose first waiter may take shared bytes as soon as there are enough.
  Queue<Share> line_;
};

}  // namespace twofold::nbd
