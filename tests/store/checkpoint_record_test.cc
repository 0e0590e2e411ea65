#include "storage/store/checkpoint_record.h"

#include <gtest/gtest.h>

#include "absl/strings/escaping.h"

namespace twofold {
namespace {

CheckpointRecord Example() {
  CheckpointRecord record;
  record.store_id = "00112233445566778899aabbccddeeff";
  record.number = 3;
  record.replay_from = {BatchNumber(1000), SegmentNumber(17), 42, 0xdeadbeef};
  record.catalogue_segment = SegmentNumber(16);
  record.moved_before = BatchNumber(1010);
  record.attach.sealed = Generation(5);
  record.attach.membership_version = 9;
  record.attach.in_sync = {"00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"};
  record.attach.configured = record.attach.in_sync;
  return record;
}

TEST(CheckpointRecord, HasTheBytesOfItsDocument) {
  EXPECT_EQ(absl::BytesToHexString(EncodeCheckpoint(Example())),
            "01"  // version
            "20"
            "3030313132323333343435353636373738383939616162626363646465656666"  // store id
            "03"                                                                // number
            "e807"
            "11"
            "2a000000"
            "efbeadde"  // replay from
            "10"        // catalogue segment
            "f207"      // moved before
            "05"
            "09"
            "02"  // attach
            "20"
            "3030313132323333343435353636373738383939616162626363646465656666"
            "20"
            "6666656564646363626261613939383837373636353534343333323231313030"
            "02"  // configured
            "20"
            "3030313132323333343435353636373738383939616162626363646465656666"
            "20"
            "6666656564646363626261613939383837373636353534343333323231313030"
            "6d49bd5e");
}

TEST(CheckpointRecord, ComesBackAsItWas) {
  const CheckpointRecord record = Example();
  const absl::StatusOr<CheckpointRecord> back = DecodeCheckpoint(EncodeCheckpoint(record));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->store_id, record.store_id);
  EXPECT_EQ(back->number, record.number);
  EXPECT_EQ(back->replay_from, record.replay_from);
  EXPECT_EQ(back->catalogue_segment, record.catalogue_segment);
  EXPECT_EQ(back->moved_before, record.moved_before);
  EXPECT_EQ(back->attach, record.attach);
}

TEST(CheckpointRecord, AnyDamagedByteIsSeen) {
  const std::string good = EncodeCheckpoint(Example());
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x40);
    EXPECT_FALSE(DecodeCheckpoint(bad).ok()) << "byte " << i;
    EXPECT_FALSE(DecodeCheckpoint(good.substr(0, i)).ok()) << "cut at " << i;
  }
}

RebuiltMark ExampleMark() {
  RebuiltMark mark;
  mark.up_to[VolumeId(0)] = {Generation(3), Seq(7)};
  mark.up_to[VolumeId(200)] = {Generation(4), Seq(1000)};
  return mark;
}

TEST(RebuiltMark, HasTheBytesOfItsDocument) {
  EXPECT_EQ(absl::BytesToHexString(EncodeRebuiltMark(ExampleMark())),
            "01"          // version
            "02"          // volumes
            "000307"      // volume, generation, Seq
            "c80104e807"  // the same
            "371ad816");
}

TEST(RebuiltMark, ComesBackAsItWas) {
  EXPECT_EQ(*DecodeRebuiltMark(EncodeRebuiltMark(ExampleMark())), ExampleMark());
  EXPECT_EQ(*DecodeRebuiltMark(EncodeRebuiltMark({})), RebuiltMark());
}

TEST(RebuiltMark, AnyDamagedByteIsSeen) {
  const std::string good = EncodeRebuiltMark(ExampleMark());
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x40);
    EXPECT_FALSE(DecodeRebuiltMark(bad).ok()) << "byte " << i;
    EXPECT_FALSE(DecodeRebuiltMark(good.substr(0, i)).ok()) << "cut at " << i;
  }
}

TEST(CataloguePiece, HasTheBytesOfItsDocument) {
  const std::vector<std::string> pieces = EncodeCataloguePieces("ab", /*resyncing=*/true);
  ASSERT_EQ(pieces.size(), 1u);
  EXPECT_EQ(absl::BytesToHexString(pieces[0].substr(0, 8)), "0000000001000000");
  EXPECT_EQ(absl::BytesToHexString(pieces[0].substr(12)), "016162");
  EXPECT_TRUE(DecodeCataloguePiece(pieces[0])->resyncing);
  std::string bad = pieces[0];
  bad[12] = 2;
  EXPECT_FALSE(DecodeCataloguePiece(bad).ok());
}

TEST(CataloguePiece, RefusesAnIndexBeyondItsCount) {
  CataloguePiece piece;
  piece.index = 2;
  piece.count = 2;
  EXPECT_EQ(DecodeCataloguePiece(EncodeCataloguePiece(piece)).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(AttachState, ComesBackAsItWas) {
  const AttachState state = Example().attach;
  EXPECT_EQ(*DecodeMembership(EncodeMembership(state)), state);
  EXPECT_EQ(*DecodeSeal(EncodeSeal(Generation(77))), Generation(77));
  EXPECT_FALSE(DecodeSeal("short").ok());
}

}  // namespace
}  // namespace twofold
