// What lives in a segment, block by block, and what is zero because of records in it: what cleaning
// moves. Pure.
//
// The segment's own records say it. Where they are damaged (R15), the map says it as well: of each
// block which entry wrote it, and where it lies. What only the records know is the time stamp of
// the entry; it is 0 then.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "storage/base/types.h"
#include "storage/log/logged_batch.h"
#include "storage/map/catalogue.h"
#include "storage/map/extent_map.h"
#include "storage/map/live_bitmap.h"
#include "storage/map/moved_record.h"

namespace twofold {

struct ContentBlock {
  MovedPiece block;  // one
  uint32_t crc = 0;
};

class SegmentContent {
 public:
  // Of the segment's records, in the order of the log; `live`: the blocks that live.
  absl::Status AddRecords(const std::vector<LoggedBatch>& batches, const LiveBitmap& live);
  // Of what the map says lies there: blocks that are not known yet, and zeros. `catalogue`: for the
  // volumes and the ancestors of timelines; a timeline that it does not have is passed over.
  void AddReferences(const std::vector<ExtentMap::Reference>& references,
                     const Catalogue& catalogue, const LiveBitmap& live);

  size_t size() const { return blocks_.size(); }
  // Ascending by place, each once. Takes them out.
  std::vector<ContentBlock> TakeBlocks();
  std::vector<MovedZero> TakeZeros();

 private:
  void AddBlocks(const MovedPiece& piece, absl::Span<const uint32_t> crcs, const LiveBitmap& live);
  absl::Status AddItem(const LoggedBatch::Item& item, const LiveBitmap& live);

  std::vector<ContentBlock> blocks_;
  LiveBitmap known_;  // those in `blocks_`
  std::vector<MovedZero> zeros_;
  // From the map: each record's zeros come in pieces, all of which lie in its range.
  std::map<std::pair<TimelineId, Position>, MovedZero> mapped_zeros_;
};

}  // namespace twofold
