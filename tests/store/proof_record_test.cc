#include "storage/store/proof_record.h"

#include <gtest/gtest.h>

#include "absl/strings/escaping.h"

namespace twofold {
namespace {

ProofRecord Example() {
  ProofRecord record;
  record.store_id = "00112233445566778899aabbccddeeff";
  record.ended = 1'790'000'000'000'000'000;
  record.duration_nanos = 300;
  record.bytes = 1 << 20;
  record.healed_places = 2;
  record.incarnation = Incarnation(7);
  return record;
}

TEST(ProofRecord, HasTheBytesOfItsDocument) {
  EXPECT_EQ(absl::BytesToHexString(EncodeProof(Example())),
            "01"  // version
            "20"
            "3030313132323333343435353636373738383939616162626363646465656666"  // store id
            "0000f323845bd718"                                                  // ended
            "ac02"                                                              // duration
            "808040"                                                            // bytes
            "02"                                                                // healed places
            "07"                                                                // incarnation
            "a496782a");
}

TEST(ProofRecord, ComesBackAsItWas) {
  const absl::StatusOr<ProofRecord> back = DecodeProof(EncodeProof(Example()));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, Example());
}

TEST(ProofRecord, NoDamageProvesAnything) {
  const std::string whole = EncodeProof(Example());
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_EQ(DecodeProof(whole.substr(0, length)).status().code(), absl::StatusCode::kDataLoss);
  }
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    EXPECT_EQ(DecodeProof(damaged).status().code(), absl::StatusCode::kDataLoss) << i;
  }
  EXPECT_FALSE(DecodeProof(whole + "x").ok());
}

}  // namespace
}  // namespace twofold
