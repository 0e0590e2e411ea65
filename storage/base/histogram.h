// A histogram of durations, of a fixed size: what is always on beside the data path.
//
// Buckets are log-linear: 64 ns wide up to 4096 ns, from there on 32 to each doubling, up to 2^40
// ns (18 minutes). So a value is known to within 64 ns or 1/32 (3.2 %) of it, whichever is more.
// Adding is a shift and three sums, and allocates nothing. Buckets of two histograms add up, and a
// snapshot that was taken before can be subtracted, because all have the same ones.
//
// Single-threaded, as everything that belongs to an executor; copy it to take it elsewhere.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace twofold {

class LatencyHistogram {
 public:
  static constexpr int kUnitShift = 6;   // the narrowest bucket: 64 ns
  static constexpr int kSplitShift = 5;  // 32 buckets to a doubling
  static constexpr int kMaxShift = 40;   // what takes longer counts as the last bucket
  static constexpr size_t kBuckets = size_t{kMaxShift - kUnitShift - kSplitShift + 1}
                                     << kSplitShift;

  // The bucket of a value. Negative ones (a clock that was set back) count as 0.
  static constexpr size_t BucketOf(int64_t nanos) {
    const auto clamped =
        static_cast<uint64_t>(std::clamp<int64_t>(nanos, 0, (int64_t{1} << kMaxShift) - 1));
    const uint64_t units = clamped >> kUnitShift;
    const int shift = std::max(static_cast<int>(std::bit_width(units)) - (kSplitShift + 1), 0);
    return (static_cast<size_t>(shift) << kSplitShift) + static_cast<size_t>(units >> shift);
  }
  // The smallest value that is in the bucket; for kBuckets the end of the last one.
  static constexpr int64_t BucketBegin(size_t bucket) {
    const size_t shift = bucket < (size_t{2} << kSplitShift) ? 0 : (bucket >> kSplitShift) - 1;
    return static_cast<int64_t>(bucket - (shift << kSplitShift)) << (shift + kUnitShift);
  }

  void Add(int64_t nanos) {
    nanos = std::max<int64_t>(nanos, 0);
    ++buckets_[BucketOf(nanos)];
    ++count_;
    sum_ += nanos;
    max_ = std::max(max_, nanos);
  }
  // So many of one bucket: for who takes a histogram from a text. Sum and maximum come with
  // SetSums.
  void AddBucket(size_t bucket, uint64_t count);
  void SetSums(int64_t sum_nanos, int64_t max_nanos) {
    sum_ = sum_nanos;
    max_ = max_nanos;
  }

  void Merge(const LatencyHistogram& other);
  // What came since `earlier`, a copy of this histogram as it was then. The maximum of that is
  // known no better than other values: it is the end of its bucket, but never over the maximum of
  // all.
  void Subtract(const LatencyHistogram& earlier);

  uint64_t count() const { return count_; }
  uint64_t bucket(size_t index) const { return buckets_[index]; }
  int64_t sum() const { return sum_; }
  int64_t max() const { return max_; }
  int64_t mean() const { return count_ == 0 ? 0 : sum_ / static_cast<int64_t>(count_); }
  // The smallest value that at least `percent` of all don't exceed, as far as the buckets tell: the
  // last value of its bucket, so at most 3.2 % or 64 ns over, never under; max() where that is
  // less. 0 of an empty one.
  int64_t Percentile(double percent) const;
  // How many are below `nanos`, which begins a bucket.
  uint64_t CountBelow(int64_t nanos) const;

 private:
  std::array<uint64_t, kBuckets> buckets_{};
  uint64_t count_ = 0;
  int64_t sum_ = 0;
  int64_t max_ = 0;
};

}  // namespace twofold
