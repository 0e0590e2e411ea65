#include "storage/map/run_list.h"

#include <algorithm>
#include <compare>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"

namespace twofold {
namespace {

constexpr uint8_t kRunListVersion = 1;
constexpr uint64_t kMaxSegmentBlocks = kMaxSegmentBytes / kBlockSize;
constexpr uint64_t kMaxChunks = kMaxVolumeBytes / kBlockSize / kChunkBlocks;

void CheckShape(const Run& run) {
  TF_CHECK(!run.range.empty());
  if (run.kind == RunKind::kData) {
    TF_CHECK_EQ(run.block_crcs.size(), run.range.count.value());
  } else {
    TF_CHECK(run.block_crcs.empty() && run.address.block == 0)
        << "of the zero run " << run.position;
  }
}

// The place of volume block 0, had the run begun there: equal for runs that put the same block at
// the same place, whatever parts of one entry they are.
int64_t Origin(const Run& run) {
  if (run.kind == RunKind::kZero) return 0;
  return static_cast<int64_t>(run.address.block) - static_cast<int64_t>(run.range.first.value());
}

std::strong_ordering Order(const Run& a, const Run& b) {
  if (const auto order = a.position <=> b.position; order != 0) return order;
  if (const auto order = a.address.segment <=> b.address.segment; order != 0) return order;
  if (const auto order = a.kind <=> b.kind; order != 0) return order;
  return Origin(a) <=> Origin(b);
}

// Whether `b` goes on where `a` ends, as parts of one entry that lie together.
bool Continues(const Run& a, const Run& b) {
  return a.range.end() == b.range.first && Order(a, b) == 0;
}

void Extend(Run& run, const Run& by) {
  run.range.count += by.range.count;
  run.block_crcs.insert(run.block_crcs.end(), by.block_crcs.begin(), by.block_crcs.end());
}

BlockRange Between(BlockIndex first, BlockIndex end) { return {first, Distance(first, end)}; }

BlockRange Intersection(const BlockRange& a, const BlockRange& b) {
  return Between(std::max(a.first, b.first), std::min(a.end(), b.end()));
}

// What takes the place of the overlapped runs: few, most often one.
class Replacement {
 public:
  void Append(Run run) {
    if (!runs_.empty() && Continues(runs_.back(), run)) {
      Extend(runs_.back(), run);
    } else {
      runs_.push_back(std::move(run));
    }
  }
  void AppendPart(const Run& run, BlockIndex first, BlockIndex end) {
    if (first < end) Append(Cut(run, Between(first, end)));
  }

  // Puts them in the place of the `count` runs from `at` on; returns how many they are.
  size_t Splice(std::vector<Run>& into, size_t at, size_t count) {
    const size_t common = std::min(count, runs_.size());
    const auto target = into.begin() + static_cast<ptrdiff_t>(at);
    const auto middle = runs_.begin() + static_cast<ptrdiff_t>(common);
    const auto rest = std::move(runs_.begin(), middle, target);
    if (common < runs_.size()) {
      into.insert(rest, std::make_move_iterator(middle), std::make_move_iterator(runs_.end()));
    } else {
      into.erase(rest, target + static_cast<ptrdiff_t>(count));
    }
    return runs_.size();
  }

 private:
  absl::InlinedVector<Run, 4> runs_;
};

}  // namespace

bool Replaces(const Run& a, const Run& b) { return Order(a, b) > 0; }

Run Cut(const Run& run, BlockRange range) {
  const BlockRange part = Intersection(run.range, range);
  TF_CHECK(run.range.Overlaps(range));
  if (part == run.range) return run;
  Run cut{.range = part,
          .kind = run.kind,
          .position = run.position,
          .address = run.address,
          .block_crcs = {}};
  if (run.kind == RunKind::kData) {
    const uint64_t skipped = Distance(run.range.first, part.first).value();
    cut.address.block += static_cast<uint32_t>(skipped);
    const auto first = run.block_crcs.begin() + static_cast<ptrdiff_t>(skipped);
    cut.block_crcs.assign(first, first + static_cast<ptrdiff_t>(part.count.value()));
  }
  return cut;
}

void RunList::Insert(const Run& run, std::vector<Run>* displaced, std::vector<Run>* lost) {
  CheckShape(run);
  const auto [begin, end] = IndexesOf(run.range);
  if (end - begin == 1 && runs_[begin].range == run.range) {
    // The common case of a block that is written again: no other run changes its shape.
    Run& old = runs_[begin];
    const auto order = Order(run, old);
    if (order < 0 && lost != nullptr) lost->push_back(run);
    if (order <= 0) return;
    if (displaced != nullptr) displaced->push_back(std::move(old));
    old = run;
    // A single checksum stands in the run itself.
    if (JoinAround(begin, 1) || run.range.count > BlockCount(1)) CountChecksumBytes();
    return;
  }
  if (begin == end) {
    runs_.insert(runs_.begin() + static_cast<ptrdiff_t>(begin), run);
    if (JoinAround(begin, 1) || run.range.count > BlockCount(1)) CountChecksumBytes();
    return;
  }

  Replacement replacement;
  BlockIndex from = run.range.first;  // the part of `run` before it is settled
  Run tail;                           // of the last overlapped run, behind the end of `run`
  for (size_t i = begin; i < end; ++i) {
    Run& old = runs_[i];
    const BlockRange overlap = Intersection(old.range, run.range);
    const auto order = Order(run, old);
    if (order > 0) {
      replacement.AppendPart(old, old.range.first, overlap.first);
      if (overlap.end() < old.range.end()) {
        tail = Cut(old, Between(overlap.end(), old.range.end()));
      }
      if (displaced != nullptr) displaced->push_back(Cut(old, overlap));
    } else {
      replacement.AppendPart(run, from, overlap.first);
      from = overlap.end();
      if (order < 0 && lost != nullptr) lost->push_back(Cut(run, overlap));
      replacement.Append(std::move(old));
    }
  }
  replacement.AppendPart(run, from, run.range.end());
  if (!tail.range.empty()) replacement.Append(std::move(tail));
  JoinAround(begin, replacement.Splice(runs_, begin, end - begin));
  CountChecksumBytes();
}

std::pair<size_t, size_t> RunList::IndexesOf(BlockRange range) const {
  auto begin = runs_.begin();
  // In a chunk that was written block by block each run stands at its block's place: found without
  // a search through memory that is in no cache.
  const size_t place = range.first.value() % kChunkBlocks;
  if (place < runs_.size() && runs_[place].range.first <= range.first &&
      range.first < runs_[place].range.end()) {
    begin += static_cast<ptrdiff_t>(place);
  } else {
    begin = std::partition_point(runs_.begin(), runs_.end(), [&range](const Run& run) {
      return run.range.end() <= range.first;
    });
  }
  auto end = begin;
  while (end != runs_.end() && end->range.first < range.end()) ++end;
  return {static_cast<size_t>(begin - runs_.begin()), static_cast<size_t>(end - runs_.begin())};
}

bool RunList::JoinAround(size_t begin, size_t count) {
  const auto join = [this](size_t left) {
    if (left + 1 >= runs_.size() || !Continues(runs_[left], runs_[left + 1])) return false;
    Extend(runs_[left], runs_[left + 1]);
    runs_.erase(runs_.begin() + static_cast<ptrdiff_t>(left) + 1);
    return true;
  };
  const bool behind = join(begin + count - 1);
  const bool before = begin > 0 && join(begin - 1);
  return behind || before;
}

// Counted when it changes and not when it is asked for: the map asks after each insertion, and to
// look at every run of a chunk means to wait for memory.
void RunList::CountChecksumBytes() {
  checksum_bytes_ = 0;
  for (const Run& run : runs_) {
    // What doesn't fit in the run itself lies on the heap.
    if (run.block_crcs.capacity() > 1) {
      checksum_bytes_ += run.block_crcs.capacity() * sizeof(uint32_t);
    }
  }
}

size_t RunList::MemoryBytes() const {
  return sizeof(*this) + runs_.capacity() * sizeof(Run) + checksum_bytes_;
}

std::vector<Run> RunList::Within(BlockRange range) const {
  std::vector<Run> cut;
  if (range.empty()) return cut;
  const auto [begin, end] = IndexesOf(range);
  cut.reserve(end - begin);
  for (size_t i = begin; i < end; ++i) cut.push_back(Cut(runs_[i], range));
  return cut;
}

namespace {

// Those runs of a list that `wanted` says.
template <typename Wanted>
std::string EncodeRuns(const std::vector<Run>& runs, uint64_t chunk, Wanted wanted) {
  const auto count = static_cast<size_t>(std::count_if(runs.begin(), runs.end(), wanted));
  const BlockIndex chunk_first(chunk * kChunkBlocks);
  std::string bytes;
  bytes.reserve(2 + count * 24);
  ByteWriter writer(&bytes);
  writer.WriteU8(kRunListVersion);
  writer.WriteVarint64(count);
  BlockIndex previous_end = chunk_first;
  for (const Run& run : runs) {
    if (!wanted(run)) continue;
    TF_CHECK_GE(run.range.first, previous_end) << "in chunk " << chunk;
    writer.WriteVarint64(Distance(previous_end, run.range.first).value());
    writer.WriteVarint64(run.range.count.value() << 1 | static_cast<uint64_t>(run.kind));
    writer.WriteVarint64(run.position.generation.value());
    writer.WriteVarint64(run.position.seq.value());
    writer.WriteVarint64(run.address.segment.value());
    if (run.kind == RunKind::kData) {
      writer.WriteVarint64(run.address.block);
      for (const uint32_t crc : run.block_crcs) writer.WriteU32Le(crc);
    }
    previous_end = run.range.end();
  }
  TF_CHECK_LE(previous_end, chunk_first + BlockCount(kChunkBlocks)) << "in chunk " << chunk;
  return bytes;
}

}  // namespace

std::string RunList::Encode(uint64_t chunk) const {
  return EncodeRuns(runs_, chunk, [](const Run&) { return true; });
}

// No two of them are one run: they would be in the list, too.
std::string RunList::EncodeNewer(uint64_t chunk, Position than) const {
  return EncodeRuns(runs_, chunk, [than](const Run& run) { return run.position > than; });
}

namespace {

// Reads one run that starts at or after `previous_end` and ends by `chunk_end`. Sets the reader's
// failure on anything else.
Run ReadRun(ByteReader& reader, BlockIndex previous_end, BlockIndex chunk_end) {
  const uint64_t room = Distance(previous_end, chunk_end).value();
  const uint64_t gap = reader.ReadVarint64();
  const uint64_t count_and_kind = reader.ReadVarint64();
  const uint64_t count = count_and_kind >> 1;
  if (gap > room || count == 0 || count > room - gap) {
    reader.Fail();
    return {};
  }
  Run run;
  run.range = {previous_end + BlockCount(gap), BlockCount(count)};
  run.kind = (count_and_kind & 1) == 0 ? RunKind::kData : RunKind::kZero;
  run.position.generation = Generation(reader.ReadVarint64());
  run.position.seq = Seq(reader.ReadVarint64());
  run.address.segment = SegmentNumber(reader.ReadVarint64());
  if (run.kind == RunKind::kZero) return run;
  const uint64_t block = reader.ReadVarint64();
  if (block > kMaxSegmentBlocks - count) {
    reader.Fail();
    return {};
  }
  run.address.block = static_cast<uint32_t>(block);
  run.block_crcs.reserve(count);
  for (uint64_t i = 0; i < count; ++i) run.block_crcs.push_back(reader.ReadU32Le());
  return run;
}

}  // namespace

absl::StatusOr<RunList> RunList::Decode(uint64_t chunk, absl::string_view bytes) {
  const auto damaged = [chunk](absl::string_view what) {
    return absl::DataLossError(
        absl::StrCat("map entry of chunk ", chunk, ": ", what, "; rebuild the map from the log"));
  };
  if (chunk >= kMaxChunks) return damaged("beyond the largest volume");
  ByteReader reader(bytes);
  const uint8_t version = reader.ReadU8();
  if (!reader.failed() && version != kRunListVersion) {
    return damaged(absl::StrCat("version ", version, " where ", kRunListVersion, " is known"));
  }
  const uint64_t count = reader.ReadVarint64();
  if (count > kChunkBlocks) return damaged(absl::StrCat(count, " runs"));

  RunList list;
  list.runs_.reserve(count);
  BlockIndex end(chunk * kChunkBlocks);
  const BlockIndex chunk_end = end + BlockCount(kChunkBlocks);
  for (uint64_t i = 0; i < count && !reader.failed(); ++i) {
    Run run = ReadRun(reader, end, chunk_end);
    end = run.range.end();
    if (!list.runs_.empty() && Continues(list.runs_.back(), run)) reader.Fail();
    list.runs_.push_back(std::move(run));
  }
  if (!reader.finished()) {
    return damaged(absl::StrCat("does not decode (", bytes.size(), " bytes)"));
  }
  list.CountChecksumBytes();
  return list;
}

}  // namespace twofold
