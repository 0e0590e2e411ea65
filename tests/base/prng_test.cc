#include "storage/base/prng.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <set>

namespace twofold {
namespace {

TEST(SplitMix64, AgreesWithThePublishedSequence) {
  // The first outputs for seed 1234567, as published with the reference code.
  uint64_t state = 1234567;
  EXPECT_EQ(SplitMix64(state), 6457827717110365317u);
  EXPECT_EQ(SplitMix64(state), 3203168211198807973u);
  EXPECT_EQ(SplitMix64(state), 9817491932198370423u);
}

TEST(Prng, GivesTheSameNumbersForASeedInEveryVersion) {
  Prng random(42);
  EXPECT_EQ(random.Next(), 1546998764402558742u);
  EXPECT_EQ(random.Next(), 6990951692964543102u);
  EXPECT_EQ(random.Next(), 12544586762248559009u);
}

TEST(Prng, DiffersBetweenSeedsAndForks) {
  std::set<uint64_t> numbers;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    Prng random(seed);
    numbers.insert(random.Next());
    numbers.insert(random.Fork().Next());
  }
  EXPECT_EQ(numbers.size(), 2000u);
}

TEST(Prng, UniformStaysInItsBoundAndReachesAllOfIt) {
  Prng random(1);
  std::array<int, 7> counts{};
  for (int i = 0; i < 70'000; ++i) {
    const uint64_t number = random.Uniform(counts.size());
    ASSERT_LT(number, counts.size());
    ++counts[number];
  }
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 500);
  EXPECT_EQ(random.Uniform(1), 0u);
}

TEST(Prng, UniformHasNoBiasForBoundsNearTheTop) {
  // With bound = 3/4 of 2^64 a plain modulo would hit the lowest third twice as often as the rest.
  Prng random(2);
  const uint64_t bound = uint64_t{3} << 62;
  int low = 0;
  for (int i = 0; i < 30'000; ++i) low += random.Uniform(bound) < bound / 3 ? 1 : 0;
  EXPECT_NEAR(low, 10'000, 400);
}

TEST(Prng, BetweenIncludesBothEnds) {
  Prng random(3);
  std::set<uint64_t> numbers;
  for (int i = 0; i < 200; ++i) numbers.insert(random.Between(5, 8));
  EXPECT_EQ(numbers, (std::set<uint64_t>{5, 6, 7, 8}));
  EXPECT_EQ(random.Between(9, 9), 9u);
  std::set<uint64_t> wide;
  for (int i = 0; i < 100; ++i) wide.insert(random.Between(0, Prng::max()));
  EXPECT_EQ(wide.size(), 100u);
}

TEST(Prng, OneInHappensThatOften) {
  Prng random(4);
  int hits = 0;
  for (int i = 0; i < 50'000; ++i) hits += random.OneIn(10) ? 1 : 0;
  EXPECT_NEAR(hits, 5'000, 350);
  EXPECT_TRUE(random.OneIn(1));
}

TEST(SecureRandom64, DoesNotRepeat) {
  std::set<uint64_t> numbers;
  for (int i = 0; i < 100; ++i) numbers.insert(SecureRandom64());
  EXPECT_EQ(numbers.size(), 100u);
}

}  // namespace
}  // namespace twofold
