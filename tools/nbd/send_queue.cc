#include "tools/nbd/send_queue.h"

#include <algorithm>
#include <utility>

#include "storage/base/limits.h"

namespace twofold::nbd {
namespace {

constexpr size_t kHeadsBytes = size_t{16} << 10;
static_assert(kMaxHeadBytes <= kHeadsBytes, "the head of a part goes out in one piece");
constexpr size_t kMaxPieces = kMaxIoPieces;

}  // namespace

SendQueue::SendQueue(Connection& connection, Counters& counters)
    : connection_(connection), counters_(counters) {
  pieces_.reserve(64);
  heads_.reserve(kHeadsBytes);
}

void SendQueue::SendAwaiter::await_suspend(std::coroutine_handle<> handle) {
  reply.sender = handle;
  reply.next = nullptr;
  if (queue.first_ == nullptr) {
    queue.first_ = &reply;
    queue.ready_.WakeAll();
  } else {
    queue.last_->next = &reply;
  }
  queue.last_ = &reply;
}

void SendQueue::Close() {
  closing_ = true;
  ready_.WakeAll();
}

Task<void> SendQueue::Run() {
  while (true) {
    while (first_ == nullptr && !closing_) {
      co_await ready_.Wait();
    }
    if (first_ == nullptr) co_return;
    GatherWrite();
    writing_ = true;
    const absl::Status status = co_await connection_.Write(absl::MakeSpan(pieces_));
    writing_ = false;
    ++writes_;
    ++counters_.sends;
    if (!status.ok()) {
      broken_ = true;
      // Ends the receiving side too.
      connection_.Shutdown();
    }
    WakeSenders();
  }
}

void SendQueue::GatherHead(const char* bytes, size_t length_bytes) {
  const size_t at = heads_.size();
  heads_.insert(heads_.end(), bytes, bytes + length_bytes);
  char* copy = heads_.data() + at;
  if (!pieces_.empty() &&
      static_cast<char*>(pieces_.back().iov_base) + pieces_.back().iov_len == copy) {
    pieces_.back().iov_len += length_bytes;
  } else {
    pieces_.push_back({copy, length_bytes});
  }
}

void SendQueue::GatherWrite() {
  pieces_.clear();
  heads_.clear();
  gathered_replies_ = 0;
  size_t data_bytes = 0;
  for (Reply* reply = first_; reply != nullptr; reply = reply->next) {
    for (; part_ < reply->parts.size(); ++part_) {
      const Reply::Part& part = reply->parts[part_];
      if (data_bytes == kNbdSendBytes || pieces_.size() + 2 > kMaxPieces ||
          heads_.size() + part.head_bytes > kHeadsBytes) {
        return;
      }
      if (data_sent_ == 0) {
        GatherHead(reply->head.data() + head_at_, part.head_bytes);
        head_at_ += part.head_bytes;
      }
      if (part.data_bytes > 0) {
        const size_t piece_bytes =
            std::min<size_t>(part.data_bytes - data_sent_, kNbdSendBytes - data_bytes);
        // The interface of writev is not const-correct; the data is only read.
        auto* data = const_cast<std::byte*>(reply->data + part.data_at + data_sent_);
        pieces_.push_back({data, piece_bytes});
        data_bytes += piece_bytes;
        data_sent_ += static_cast<uint32_t>(piece_bytes);
        if (data_sent_ < part.data_bytes) return;
        data_sent_ = 0;
      }
    }
    ++gathered_replies_;
    part_ = 0;
    head_at_ = 0;
  }
}

void SendQueue::WakeSenders() {
  while (first_ != nullptr && (broken_ || gathered_replies_ > 0)) {
    Reply* sent = std::exchange(first_, first_->next);
    if (gathered_replies_ > 0) --gathered_replies_;
    PushReady(sent->sender);
  }
}

}  // namespace twofold::nbd
