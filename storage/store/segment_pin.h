// Keeps a segment from being reused while it is read (M14).
#pragma once

#include "storage/base/types.h"
#include "storage/log/segment_table.h"

namespace twofold {

class SegmentPin {
 public:
  // The table has the segment, and outlives the pin.
  SegmentPin(SegmentTable* table, SegmentNumber segment) : table_(table), segment_(segment) {
    table_->Pin(segment_);
  }
  SegmentPin(const SegmentPin&) = delete;
  SegmentPin& operator=(const SegmentPin&) = delete;
  ~SegmentPin() { table_->Unpin(segment_); }

 private:
  SegmentTable* table_;
  SegmentNumber segment_;
};

}  // namespace twofold
