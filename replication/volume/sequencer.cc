#include "replication/volume/sequencer.h"

#include <algorithm>

#include "storage/base/check.h"

namespace twofold {

Sequencer::Sequencer(Generation generation, Position last, WallNanos last_stamp)
    : generation_(generation), last_given_(last.seq), committed_(last), last_stamp_(last_stamp) {
  TF_CHECK(last.generation <= generation);
}

void Sequencer::Begin(Request* request, BlockRange range, uint64_t entries, WallNanos now) {
  TF_CHECK(!broken_);
  TF_CHECK(request->state_ == State::kNew);
  TF_CHECK_GT(entries, 0u);
  request->state_ = State::kInFlight;
  request->first_seq_ = last_given_.Next();
  last_given_ = Seq(last_given_.value() + entries);
  request->last_seq_ = last_given_;
  request->first_stamp_ = std::max(now, last_stamp_ + 1);
  last_stamp_ = request->first_stamp_ + static_cast<WallNanos>(entries - 1);
  in_flight_.push_back(*request);
  if (!range.empty()) index_.Insert(request, range, request->last_seq_.value());
}

void Sequencer::Leave(Request* request) {
  in_flight_.erase(in_flight_.iterator_to(*request));
  if (!request->range().empty()) index_.Erase(request);
  if (in_flight_.empty()) drained_.WakeAll();
}

bool Sequencer::Complete(Request* request) {
  if (request->state_ == State::kDoomed) return false;
  TF_CHECK(request->state_ == State::kInFlight);
  request->state_ = State::kComplete;
  bool moved = false;
  while (!in_flight_.empty() && in_flight_.front().state_ == State::kComplete) {
    Request* done = &in_flight_.front();
    TF_CHECK(committed_.seq < done->last_seq_);
    committed_ = PositionOf(done->last_seq_);
    done->state_ = State::kCommitted;
    Leave(done);
    done->settled_.Set();
    moved = true;
  }
  return moved;
}

void Sequencer::Doom(Request* request) {
  broken_ = true;
  for (auto it = in_flight_.iterator_to(*request); it != in_flight_.end(); ++it) {
    if (it->state_ == State::kDoomed) continue;
    it->state_ = State::kDoomed;
    it->settled_.Set();
  }
}

void Sequencer::End(Request* request) {
  TF_CHECK(request->state_ == State::kDoomed);
  Leave(request);
}

Sequencer::Request* Sequencer::LatestOverlap(BlockRange range, Seq limit) const {
  if (index_.empty() || range.empty()) return nullptr;
  Request* latest = nullptr;
  index_.VisitOverlaps(range, [&latest, limit](IntervalIndex::Node& node) {
    auto& request = static_cast<Request&>(node);
    if (request.state_ != State::kDoomed && request.last_seq_ <= limit &&
        (latest == nullptr || latest->last_seq_ < request.last_seq_)) {
      latest = &request;
    }
    return true;
  });
  return latest;
}

}  // namespace twofold
