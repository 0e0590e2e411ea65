// Memory of whole blocks for O_DIRECT, outside the buffer pool: for rare work such as levelling and
// inspection.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

#include "absl/types/span.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"

namespace twofold {

// Move-only; aligned to kBlockSize; zeros at first.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  // `size` in bytes, a multiple of kBlockSize; 0 is empty.
  explicit AlignedBytes(size_t size) : size_(size) {
    TF_CHECK(size % kBlockSize == 0);
    if (size == 0) return;
    data_.reset(static_cast<std::byte*>(::operator new(size, std::align_val_t(kBlockSize))));
    std::memset(data_.get(), 0, size);
  }
  size_t size() const { return size_; }
  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  absl::Span<std::byte> span() { return {data_.get(), size_}; }
  absl::Span<const std::byte> span() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* bytes) const {
      ::operator delete(bytes, std::align_val_t(kBlockSize));
    }
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0;
};

}  // namespace twofold
