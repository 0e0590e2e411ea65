// Bytes that came from a client and were not used yet, in memory of a fixed size.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>

#include "absl/types/span.h"

namespace twofold::nbd {

class ReceiveBuffer {
 public:
  explicit ReceiveBuffer(size_t capacity_bytes)
      : capacity_bytes_(capacity_bytes), bytes_(new std::byte[capacity_bytes]) {}

  size_t size() const { return end_ - begin_; }
  absl::Span<const std::byte> readable() const { return {bytes_.get() + begin_, size()}; }
  void Consume(size_t bytes) {
    begin_ += bytes;
    if (begin_ == end_) begin_ = end_ = 0;
  }
  // Moves as much as there is and fits into `into`; returns how much.
  size_t MoveTo(absl::Span<std::byte> into) {
    const size_t bytes = std::min(into.size(), size());
    if (bytes > 0) std::memcpy(into.data(), bytes_.get() + begin_, bytes);
    Consume(bytes);
    return bytes;
  }

  // Room to receive into: empty only when the whole buffer is full. Then call Received.
  absl::Span<std::byte> Writable() {
    if (begin_ > 0) {
      std::memmove(bytes_.get(), bytes_.get() + begin_, size());
      end_ -= begin_;
      begin_ = 0;
    }
    return {bytes_.get() + end_, capacity_bytes_ - end_};
  }
  void Received(size_t bytes) { end_ += bytes; }

 private:
  const size_t capacity_bytes_;
  std::unique_ptr<std::byte[]> bytes_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace twofold::nbd
