// Reads what a segment holds from the medium, all of it once, and checks it: the header, every
// descriptor, the copies of them at the end (R15), and those payload blocks that somebody needs.
// For scrubbing. Changes nothing; what else writes to the log or reads it goes on meanwhile.
//
// A sealed segment never changes, so each thing in it is checked against another: the header
// against the identity that opening found, the copies against their own checksum, the descriptors
// against the copies, the payload against the descriptors. Where the copies are damaged the
// descriptors are followed one by one as far as they chain, and the other way round, so that one
// piece of damage hides no other.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "storage/log/logged_batch.h"
#include "storage/log/segment_damage.h"
#include "storage/log/segment_files.h"
#include "storage/runtime/task.h"

namespace twofold {

struct SegmentToCheck {
  SegmentFile file;
  // The segment that is being written: where its next batch would start. Everything before that is
  // checked. Batch 0: the segment is sealed, and has its copies.
  LogPosition end;
  std::vector<bool> needed;  // by block: payload that is to be checked
};

// kUnavailable: the device does not read at all. Errors of `before_read`. The file is pinned by the
// caller while it runs.
Task<absl::StatusOr<SegmentCheck>> CheckSegment(SegmentToCheck segment, BeforeRead before_read);

}  // namespace twofold
