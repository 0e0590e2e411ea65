#include "storage/io/buffer_pool.h"

#include <bit>
#include <new>

#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/runtime/sanitizers.h"

namespace twofold {
namespace {

// The real size of a piece: a power of two, at least a block.
size_t RoundedSize(size_t bytes) { return std::bit_ceil(bytes < kBlockSize ? kBlockSize : bytes); }
size_t ClassOf(size_t size) { return static_cast<size_t>(std::countr_zero(size)) - kBlockShift; }

constexpr std::align_val_t kAlignment{kBlockSize};

}  // namespace

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    Release();
    pool_ = std::exchange(other.pool_, nullptr);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

void Buffer::Release() {
  if (pool_ == nullptr) return;
  pool_->Return(data_, size_);
  pool_ = nullptr;
  data_ = nullptr;
  size_ = 0;
}

BufferPool::BufferPool(size_t capacity_bytes)
    : capacity_bytes_(capacity_bytes), free_(capacity_bytes) {}

BufferPool::~BufferPool() {
  TF_CHECK_EQ(used_bytes(), 0u) << "buffers outlive their pool";
  TrimCache(0);
}

Task<Buffer> BufferPool::Allocate(size_t bytes) {
  const size_t size = RoundedSize(bytes);
  TF_CHECK_LE(size, capacity_bytes_);
  co_await free_.Acquire(size);
  co_return Make(size);
}

Buffer BufferPool::TryAllocate(size_t bytes) {
  const size_t size = RoundedSize(bytes);
  TF_CHECK_LE(size, capacity_bytes_);
  if (!free_.TryAcquire(size)) return Buffer();
  return Make(size);
}

Buffer BufferPool::Make(size_t size) {
  std::vector<std::byte*>& pieces = cached_[ClassOf(size)];
  if (!pieces.empty()) {
    std::byte* piece = pieces.back();
    pieces.pop_back();
    cached_bytes_ -= size;
    return Buffer(this, piece, size);
  }
  TrimCache(capacity_bytes_ - used_bytes());
  return Buffer(this, static_cast<std::byte*>(::operator new(size, kAlignment)), size);
}

void BufferPool::Return(std::byte* data, size_t size) {
  if (kUnderSanitizer) {
    ::operator delete(data, kAlignment);
  } else {
    // The sum of what is cached and what is handed out does not change.
    cached_[ClassOf(size)].push_back(data);
    cached_bytes_ += size;
  }
  free_.Release(size);
}

void BufferPool::TrimCache(size_t limit_bytes) {
  // The largest first: they are the fewest.
  for (size_t i = cached_.size(); i > 0 && cached_bytes_ > limit_bytes; --i) {
    std::vector<std::byte*>& pieces = cached_[i - 1];
    while (!pieces.empty() && cached_bytes_ > limit_bytes) {
      ::operator delete(pieces.back(), kAlignment);
      pieces.pop_back();
      cached_bytes_ -= kBlockSize << (i - 1);
    }
  }
}

}  // namespace twofold
