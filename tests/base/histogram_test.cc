#include "storage/base/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "storage/base/prng.h"

namespace twofold {
namespace {

using Histogram = LatencyHistogram;

// What a percentile may say of a value.
int64_t LargestFor(int64_t value) { return value + std::max<int64_t>(64, value / 32); }

std::vector<int64_t> SpreadValues(uint64_t seed, size_t count) {
  Prng prng(seed);
  std::vector<int64_t> values;
  for (size_t i = 0; i < count; ++i) {
    const uint64_t limit = uint64_t{1} << prng.Between(1, Histogram::kMaxShift - 1);
    values.push_back(static_cast<int64_t>(prng.Uniform(limit)));
  }
  return values;
}

TEST(LatencyHistogram, HasNoGapsBetweenBuckets) {
  EXPECT_EQ(Histogram::BucketBegin(0), 0);
  for (size_t i = 0; i < Histogram::kBuckets; ++i) {
    const int64_t begin = Histogram::BucketBegin(i);
    const int64_t end = Histogram::BucketBegin(i + 1);
    ASSERT_LT(begin, end);
    ASSERT_EQ(Histogram::BucketOf(begin), i);
    ASSERT_EQ(Histogram::BucketOf(end - 1), i);
    ASSERT_LE(end - 1, LargestFor(begin));
  }
}

TEST(LatencyHistogram, CountsValuesOutsideOfItsRange) {
  Histogram histogram;
  histogram.Add(-5);
  histogram.Add(int64_t{1} << 50);
  EXPECT_EQ(histogram.count(), 2u);
  EXPECT_EQ(histogram.bucket(0), 1u);
  EXPECT_EQ(histogram.bucket(Histogram::kBuckets - 1), 1u);
  EXPECT_EQ(histogram.max(), int64_t{1} << 50);
  EXPECT_EQ(histogram.Percentile(100), int64_t{1} << 50);
  EXPECT_EQ(histogram.sum(), int64_t{1} << 50);
}

TEST(LatencyHistogram, SaysNothingWhenEmpty) {
  const Histogram histogram;
  EXPECT_EQ(histogram.Percentile(50), 0);
  EXPECT_EQ(histogram.mean(), 0);
  EXPECT_EQ(histogram.max(), 0);
}

TEST(LatencyHistogram, KnowsPercentilesToAThirtySecond) {
  std::vector<int64_t> values = SpreadValues(1, 10'000);
  Histogram histogram;
  for (const int64_t value : values) histogram.Add(value);
  std::sort(values.begin(), values.end());
  for (const double percent : {0.0, 0.01, 1.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0}) {
    const double rank =
        std::max(std::ceil(percent / 100 * static_cast<double>(values.size())), 1.0);
    const int64_t exact = values[static_cast<size_t>(rank) - 1];
    EXPECT_GE(histogram.Percentile(percent), exact) << percent;
    EXPECT_LE(histogram.Percentile(percent), LargestFor(exact)) << percent;
  }
  EXPECT_EQ(histogram.Percentile(100), values.back());
}

TEST(LatencyHistogram, AddsUpTwo) {
  Histogram all;
  Histogram first;
  Histogram second;
  for (const int64_t value : SpreadValues(2, 1000)) {
    all.Add(value);
    (value % 2 == 0 ? first : second).Add(value);
  }
  first.Merge(second);
  EXPECT_EQ(first.count(), all.count());
  EXPECT_EQ(first.sum(), all.sum());
  EXPECT_EQ(first.max(), all.max());
  for (size_t i = 0; i < Histogram::kBuckets; ++i) ASSERT_EQ(first.bucket(i), all.bucket(i));
}

TEST(LatencyHistogram, SubtractsAnEarlierSnapshot) {
  Histogram histogram;
  for (int i = 0; i < 100; ++i) histogram.Add(50'000'000);
  const Histogram earlier = histogram;
  Histogram later;
  for (const int64_t value : {1000, 2000, 3000, 400'000}) {
    histogram.Add(value);
    later.Add(value);
  }
  histogram.Subtract(earlier);
  EXPECT_EQ(histogram.count(), 4u);
  EXPECT_EQ(histogram.sum(), 406'000);
  EXPECT_EQ(histogram.Percentile(50), later.Percentile(50));
  EXPECT_GE(histogram.max(), 400'000);
  EXPECT_LE(histogram.max(), LargestFor(400'000));
}

TEST(LatencyHistogram, IsEmptyLessItself) {
  Histogram histogram;
  for (const int64_t value : SpreadValues(3, 100)) histogram.Add(value);
  histogram.Subtract(Histogram(histogram));
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.max(), 0);
  EXPECT_EQ(histogram.Percentile(99), 0);
}

TEST(LatencyHistogram, ComesBackFromItsBuckets) {
  Histogram histogram;
  for (const int64_t value : SpreadValues(4, 1000)) histogram.Add(value);
  Histogram copy;
  for (size_t i = 0; i < Histogram::kBuckets; ++i) copy.AddBucket(i, histogram.bucket(i));
  copy.SetSums(histogram.sum(), histogram.max());
  EXPECT_EQ(copy.count(), histogram.count());
  EXPECT_EQ(copy.mean(), histogram.mean());
  EXPECT_EQ(copy.Percentile(99), histogram.Percentile(99));
}

TEST(LatencyHistogram, CountsWhatIsBelowABucketsBegin) {
  Histogram histogram;
  for (const int64_t value : {0, 4095, 4096, 8191, 8192, 1 << 20}) histogram.Add(value);
  EXPECT_EQ(histogram.CountBelow(0), 0u);
  EXPECT_EQ(histogram.CountBelow(4096), 2u);
  EXPECT_EQ(histogram.CountBelow(8192), 4u);
  EXPECT_EQ(histogram.CountBelow(int64_t{1} << Histogram::kMaxShift), 6u);
}

}  // namespace
}  // namespace twofold
