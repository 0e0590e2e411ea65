#include "replication/pair/witness_codec.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "absl/strings/str_replace.h"

namespace twofold {
namespace {

Membership Sample() {
  Membership membership;
  membership.pool_id = "0123456789abcdef0123456789abcdef";
  membership.generation = Generation(7);
  membership.version = 12;
  membership.in_sync = {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
  membership.configured = {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"};
  membership.degraded_since = 1'764'067'327'000'000'000;
  return membership;
}

TEST(WitnessCodec, GoldenBytes) {
  std::ifstream file("tests/golden/replication/witness_v1.txt", std::ios::binary);
  const std::string golden((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(EncodeWitness(Sample()), golden);
  const absl::StatusOr<Membership> decoded = DecodeWitness(golden);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, Sample());
}

TEST(WitnessCodec, EveryChangedByteIsNoticed) {
  const std::string good = EncodeWitness(Sample());
  for (size_t i = 0; i < good.size(); ++i) {
    for (const char flip : {char{1}, char{32}}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ flip);
      EXPECT_FALSE(DecodeWitness(bad).ok()) << "byte " << i;
    }
  }
}

TEST(WitnessCodec, EveryTornLengthIsNoticed) {
  const std::string good = EncodeWitness(Sample());
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_TRUE(absl::IsDataLoss(DecodeWitness(good.substr(0, length)).status())) << length;
  }
  EXPECT_TRUE(absl::IsDataLoss(DecodeWitness(good + "\n").status()));
  EXPECT_TRUE(absl::IsDataLoss(DecodeWitness(good + std::string(8192, 'x')).status()));
}

TEST(WitnessCodec, ALaterFormatIsNotCalledDamage) {
  const std::string later =
      absl::StrReplaceAll(EncodeWitness(Sample()), {{"twofold-witness 1", "twofold-witness 2"}});
  EXPECT_TRUE(absl::IsFailedPrecondition(DecodeWitness(later).status()));
}

// A checksum that fits does not make a wrong line right.
TEST(WitnessCodec, RefusesLinesThatItWouldNotWrite) {
  Membership unsorted = Sample();
  std::swap(unsorted.configured[0], unsorted.configured[1]);
  EXPECT_TRUE(absl::IsDataLoss(DecodeWitness(EncodeWitness(unsorted)).status()));
  Membership bad_id = Sample();
  bad_id.pool_id = "0123";
  EXPECT_TRUE(absl::IsDataLoss(DecodeWitness(EncodeWitness(bad_id)).status()));
  Membership nobody = Sample();
  nobody.in_sync.clear();
  EXPECT_TRUE(absl::IsDataLoss(DecodeWitness(EncodeWitness(nobody)).status()));
}

}  // namespace
}  // namespace twofold
