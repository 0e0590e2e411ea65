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
  if (budget_.line_.empty() && bytes <= budget_.shared_free_bytes_ && MayTakeShared(bytes)) {
    budget_.shared_free_bytes_ -= bytes;
    shared_held_bytes_ += bytes;
    return Grant(this, bytes, false);
  }
  return Grant();
}

void PayloadBudget::Share::Awaiter::await_suspend(std::coroutine_handle<> handle) {
  waiter.bytes = bytes;
  waiter.handle = handle;
  share.waiters_.push_back(waiter);
  share.budget_.LineUp(share);
}

PayloadBudget::Grant PayloadBudget::Share::Awaiter::await_resume() {
  if (granted) return std::move(granted);
  return Grant(&share, bytes, waiter.own);
}

void PayloadBudget::LineUp(Share& share) {
  if (share.is_linked() || share.waiters_.empty()) return;
  if (share.MayTakeShared(share.waiters_.front().bytes)) line_.push_back(share);
}

void PayloadBudget::Wake(Share& share, bool own) {
  Waiter& waiter = share.waiters_.front();
  share.waiters_.pop_front();
  waiter.own = own;
  if (own) {
    share.own_free_bytes_ -= waiter.bytes;
  } else {
    shared_free_bytes_ -= waiter.bytes;
    share.shared_held_bytes_ += waiter.bytes;
  }
  // Whoever is the next of this share stands at the end of the line.
  if (share.is_linked()) line_.erase(line_.iterator_to(share));
  LineUp(share);
  PushReady(waiter.handle);
}

void PayloadBudget::Return(Share& share, size_t bytes, bool own) {
  if (own) {
    share.own_free_bytes_ += bytes;
  } else {
    shared_free_bytes_ += bytes;
    share.shared_held_bytes_ -= bytes;
  }
  while (!share.waiters_.empty() && share.waiters_.front().bytes <= share.own_free_bytes_) {
    Wake(share, true);
  }
  LineUp(share);
  while (!line_.empty() && line_.front().waiters_.front().bytes <= shared_free_bytes_) {
    Wake(line_.front(), false);
  }
}

}  // namespace twofold::nbd
