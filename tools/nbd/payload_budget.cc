#include "tools/nbd/payload_budget.h"

#include <algorithm>
#include <bit>

#include "storage/base/limits.h"
#include "storage/runtime/task.h"

namespace twofold::nbd {

PayloadBudget::Grant& PayloadBudget::Grant::operator=(Grant&& other) noexcept {
  if (this != &other) {
    Release();
    share_ = std::exchange(other.share_, nullptr);
    bytes_ = other.bytes_;
    own_ = other.own_;
  }
  return *this;
}

void PayloadBudget::Grant::Release() {
  if (share_ == nullptr) return;
  Share& share = *std::exchange(share_, nullptr);
  share.budget_.Return(share, bytes_, own_);
}

size_t PayloadBudget::ChargeFor(size_t bytes) { return std::bit_ceil(std::max(bytes, kBlockSize)); }

PayloadBudget::Grant PayloadBudget::Share::TryAcquire(size_t bytes) {
  TF_CHECK_LE(bytes, budget_.largest_bytes());
  if (!waiters_.empty()) return Grant();
  if (bytes <= own_free_bytes_) {
    own_free_bytes_ -= bytes;
    return Grant(this, bytes, true);
  }
  if (budget_.waiters_.empty() && bytes <= budget_.shared_free_bytes_) {
    budget_.shared_free_bytes_ -= bytes;
    return Grant(this, bytes, false);
  }
  return Grant();
}

void PayloadBudget::Share::Awaiter::await_suspend(std::coroutine_handle<> handle) {
  waiter.share = &share;
  waiter.bytes = bytes;
  waiter.handle = handle;
  share.waiters_.push_back(waiter);
  share.budget_.waiters_.push_back(waiter);
}

PayloadBudget::Grant PayloadBudget::Share::Awaiter::await_resume() {
  if (granted) return std::move(granted);
  return Grant(&share, bytes, waiter.own);
}

void PayloadBudget::Wake(Waiter& waiter, bool own) {
  (own ? waiter.share->own_free_bytes_ : shared_free_bytes_) -= waiter.bytes;
  waiter.own = own;
  // The first of all waiters is also the first of its share, and the first of a share may go
  // before those of others: what it takes is its own.
  Share& share = *waiter.share;
  share.waiters_.pop_front();
  waiters_.erase(waiters_.iterator_to(waiter));
  PushReady(waiter.handle);
}

void PayloadBudget::Return(Share& share, size_t bytes, bool own) {
  (own ? share.own_free_bytes_ : shared_free_bytes_) += bytes;
  while (!share.waiters_.empty() && share.waiters_.front().bytes <= share.own_free_bytes_) {
    Wake(share.waiters_.front(), true);
  }
  while (!waiters_.empty() && waiters_.front().bytes <= shared_free_bytes_) {
    Wake(waiters_.front(), false);
  }
}

}  // namespace twofold::nbd
