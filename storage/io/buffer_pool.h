// SHARED CONTRACT. Aligned memory for payloads, bounded: a pool with nothing left makes its users
// wait, and that is how a client's socket stops being read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task.h"

namespace twofold {

class BufferPool;

// A piece of the pool, at least as large as asked for, aligned to kBlockSize and a multiple of it.
// Move-only; goes back to the pool when it is dropped. The pool outlives its buffers.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer() { Release(); }

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }  // bytes
  bool empty() const { return size_ == 0; }
  absl::Span<std::byte> span() const { return absl::MakeSpan(data_, size_); }
  void Release();

 private:
  friend class BufferPool;
  Buffer(BufferPool* pool, std::byte* data, size_t size) : pool_(pool), data_(data), size_(size) {}

  BufferPool* pool_ = nullptr;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

class BufferPool {
 public:
  // At most `capacity_bytes` are handed out at any time. Freed pieces are kept for reuse by size
  // class (powers of two from kBlockSize on); they and what is handed out stay within the capacity.
  explicit BufferPool(size_t capacity_bytes);
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;
  ~BufferPool();

  // Suspends until there is room; grants in the order of asking. `bytes` > 0 and at most the
  // capacity. The content is whatever was there before.
  Task<Buffer> Allocate(size_t bytes);
  // An empty buffer where Allocate would suspend.
  Buffer TryAllocate(size_t bytes);

  size_t capacity_bytes() const { return capacity_bytes_; }
  size_t used_bytes() const { return capacity_bytes_ - free_.available(); }
  size_t cached_bytes() const { return cached_bytes_; }

 private:
  friend class Buffer;
  Buffer Make(size_t size);  // after `size` bytes were taken from free_
  void Return(std::byte* data, size_t size);
  void TrimCache(size_t limit_bytes);

  const size_t capacity_bytes_;
  Semaphore free_;
  std::array<std::vector<std::byte*>, 32> cached_;  // by size class, not handed out
  size_t cached_bytes_ = 0;
};

}  // namespace twofold
