#include "storage/io/buffer_pool.h"

#include <bit>
#include <new>

#include "storage/base/limits.h"

namespace twofold {
namespace {

size_t SizeClass(size_t bytes) { return std::bit_ceil(bytes < kBlockSize ? kBlockSize : bytes); }

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
  TF_CHECK(used_bytes() == 0);
  for (auto& [size, pieces] : cached_) {
    for (std::byte* piece : pieces) ::operator delete(piece, kAlignment);
  }
}

Task<Buffer> BufferPool::Allocate(size_t bytes) {
  const size_t size = SizeClass(bytes);
  TF_CHECK(size <= capacity_bytes_);
  co_await free_.Acquire(size);
  co_return Make(size);
}

Buffer BufferPool::TryAllocate(size_t bytes) {
  const size_t size = SizeClass(bytes);
  if (!free_.TryAcquire(size)) return Buffer();
  return Make(size);
}

Buffer BufferPool::Make(size_t size) {
  std::vector<std::byte*>& pieces = cached_[size];
  if (!pieces.empty()) {
    std::byte* piece = pieces.back();
    pieces.pop_back();
    cached_bytes_ -= size;
    return Buffer(this, piece, size);
  }
  return Buffer(this, static_cast<std::byte*>(::operator new(size, kAlignment)), size);
}

void BufferPool::Return(std::byte* data, size_t size) {
  // Kept and handed-out pieces together stay within the capacity.
  if (cached_bytes_ + used_bytes() > capacity_bytes_) {
    ::operator delete(data, kAlignment);
  } else {
    cached_[size].push_back(data);
    cached_bytes_ += size;
  }
  free_.Release(size);
}

}  // namespace twofold
