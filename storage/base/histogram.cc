#include "storage/base/histogram.h"

#include <cmath>

#include "storage/base/check.h"

namespace twofold {

static_assert(LatencyHistogram::BucketOf(0) == 0);
static_assert(LatencyHistogram::BucketOf(INT64_MAX) == LatencyHistogram::kBuckets - 1);
static_assert(LatencyHistogram::BucketBegin(LatencyHistogram::kBuckets) ==
              int64_t{1} << LatencyHistogram::kMaxShift);

void LatencyHistogram::AddBucket(size_t bucket, uint64_t count) {
  TF_CHECK_LT(bucket, kBuckets);
  buckets_[bucket] += count;
  count_ += count;
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  sum_ += other.sum_;
  max_ = std::max(max_, other.max_);
}

void LatencyHistogram::Subtract(const LatencyHistogram& earlier) {
  TF_CHECK_GE(count_, earlier.count_);
  size_t end = 0;  // of the last bucket that has something
  for (size_t i = 0; i < kBuckets; ++i) {
    TF_CHECK_GE(buckets_[i], earlier.buckets_[i]);
    buckets_[i] -= earlier.buckets_[i];
    if (buckets_[i] > 0) end = i + 1;
  }
  count_ -= earlier.count_;
  sum_ -= earlier.sum_;
  // What is over the last bucket's end counts in it: then the maximum says more.
  if (end < kBuckets) max_ = end == 0 ? 0 : std::min(max_, BucketBegin(end) - 1);
}

int64_t LatencyHistogram::Percentile(double percent) const {
  if (count_ == 0) return 0;
  const double wanted = std::ceil(percent / 100.0 * static_cast<double>(count_));
  const uint64_t rank =
      std::clamp<uint64_t>(static_cast<uint64_t>(std::max(wanted, 1.0)), 1, count_);
  uint64_t seen = 0;
  size_t bucket = 0;
  while (bucket < kBuckets && (seen += buckets_[bucket]) < rank) ++bucket;
  if (bucket + 1 >= kBuckets) return max_;
  return std::min(max_, BucketBegin(bucket + 1) - 1);
}

uint64_t LatencyHistogram::CountBelow(int64_t nanos) const {
  uint64_t below = 0;
  for (size_t i = 0; i < kBuckets && BucketBegin(i + 1) <= nanos; ++i) below += buckets_[i];
  return below;
}

}  // namespace twofold
