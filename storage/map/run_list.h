// SHARED CONTRACT. The runs of one chunk version: sorted, disjoint, last writer wins. Pure.
//
// This is the one merge that Apply, RocksDB's merge operator, replay and rebuild share (M2):
// inserting is commutative, associative and idempotent over runs that are ordered by (position,
// segment number).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "storage/base/limits.h"
#include "storage/base/types.h"
#include "storage/map/extent.h"

namespace twofold {

// Whether `a` replaces `b` where they overlap: the later position, and for equal positions the
// later place in the log (R18): segment, then offset, as a repair may log a block again in the same
// segment. Runs of equal position and place hold the same blocks of the same entry: neither
// replaces the other.
bool Replaces(const Run& a, const Run& b);

// `run` cut to its intersection with `range`, address and checksums moved along. They must overlap.
Run Cut(const Run& run, BlockRange range);

class RunList {
 public:
  // Inserts `run`. Parts of older runs that it covers are cut away and, when `displaced` is given,
  // appended to it; parts of `run` that newer runs cover are not inserted, and appended to `lost`
  // when given. Inserting what is there already changes nothing and displaces nothing. `run` is not
  // empty and has a checksum a block (kData) or none and block 0 (kZero).
  void Insert(const Run& run, std::vector<Run>* displaced = nullptr,
              std::vector<Run>* lost = nullptr);

  // Ascending, disjoint, and as few as can be: parts of one entry that lie together are one run. So
  // two lists are equal when they say the same of each block.
  const std::vector<Run>& runs() const { return runs_; }
  bool empty() const { return runs_.empty(); }
  size_t MemoryBytes() const;

  // The runs that overlap `range`, whole, ascending. Valid until the next change.
  absl::Span<const Run> Overlapping(BlockRange range) const {
    const auto [begin, end] = IndexesOf(range);
    return absl::MakeConstSpan(runs_).subspan(begin, end - begin);
  }
  // Has the processor fetch what a change of `block` will look at first, if it is not far.
  void Prefetch(BlockIndex block) const {
    const size_t place = block.value() % kChunkBlocks;
    if (place >= runs_.size()) return;
    const char* const run = reinterpret_cast<const char*>(&runs_[place]);
    __builtin_prefetch(run, 1);
    __builtin_prefetch(run + sizeof(Run) - 1, 1);
  }

  // The runs within `range`, cut to it, ascending.
  std::vector<Run> Within(BlockRange range) const;

  // docs/formats/map.md: packed runs of one chunk, relative to its first block, all within it. Each
  // list has one encoding. Decode: kDataLoss.
  std::string Encode(uint64_t chunk) const;
  // The same of those runs alone that are newer than `than`.
  std::string EncodeNewer(uint64_t chunk, Position than) const;
  static absl::StatusOr<RunList> Decode(uint64_t chunk, absl::string_view bytes);

  bool operator==(const RunList& other) const { return runs_ == other.runs_; }

 private:
  // The indexes [begin, end) of the runs that overlap `range`.
  std::pair<size_t, size_t> IndexesOf(BlockRange range) const;
  // Joins the runs [begin, begin + count) with their neighbours where they are one; whether any
  // was.
  bool JoinAround(size_t begin, size_t count);
  void CountChecksumBytes();

  std::vector<Run> runs_;
  size_t checksum_bytes_ = 0;  // of the runs' checksums, as far as they lie outside of the runs
};

}  // namespace twofold
