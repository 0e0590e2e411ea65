#include "storage/store/resync_record.h"

#include <gtest/gtest.h>

#include "absl/strings/escaping.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/lost_block.h"

namespace twofold {
namespace {

using Runs = std::vector<Run>;  // in a test `Run` is a function of its class

Position At(uint64_t generation, uint64_t seq) { return {Generation(generation), Seq(seq)}; }

Run Zero(uint64_t first, uint64_t count, Position position) {
  Run run;
  run.range = {BlockIndex(first), BlockCount(count)};
  run.kind = RunKind::kZero;
  run.position = position;
  return run;
}

Run Data(uint64_t first, Position position, absl::Span<const std::byte> payload) {
  Run run;
  run.range = {BlockIndex(first), BlockCount(payload.size() / kBlockSize)};
  run.position = position;
  for (size_t at = 0; at < payload.size(); at += kBlockSize) {
    run.block_crcs.push_back(Crc32c(payload.subspan(at, kBlockSize)));
  }
  return run;
}

TimelineRecord Timeline() {
  TimelineRecord timeline;
  timeline.id = TimelineId(7);
  timeline.volume = VolumeId(3);
  return timeline;
}

TEST(ResyncRecord, HasTheBytesOfItsDocument) {
  EXPECT_EQ(absl::BytesToHexString(EncodeVoid({At(2, 104), At(2, 300)})), "01026802ac02");
  EXPECT_EQ(
      absl::BytesToHexString(EncodeFillZeros({Zero(5, 32, At(1, 9)), Zero(64, 1, At(2, 11))})),
      "010205200109400102"
      "0b");
  EXPECT_EQ(absl::BytesToHexString(EncodeResyncSpan({TimelineId(4), At(1, 10), At(3, 200)})),
            "0104010a03c801");
}

TEST(ResyncRecord, ComesBackAsItWas) {
  const VoidBody given_up{At(2, 104), At(2, 300)};
  EXPECT_EQ(*DecodeVoid(EncodeVoid(given_up)), given_up);
  const Runs zeros(kMaxFillZeros, Zero(kMaxVolumeBytes / kBlockSize - 1, 1,
                                       {Generation(~uint64_t{0}), Seq(~uint64_t{0})}));
  EXPECT_EQ(*DecodeFillZeros(EncodeFillZeros(zeros)), zeros);
  EXPECT_LE(EncodeFillZeros(zeros).size(), kMaxEntryBodyBytes);
  const ResyncSpan span{TimelineId(4), At(1, 10), At(3, 200)};
  EXPECT_EQ(*DecodeResyncSpan(EncodeResyncSpan(span)), span);
}

TEST(ResyncRecord, RefusesWhatNoEncoderMakes) {
  EXPECT_EQ(DecodeVoid("").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(DecodeVoid(EncodeVoid({}) + "x").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(DecodeFillZeros(EncodeFillZeros({Zero(5, 0, At(1, 1))})).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(DecodeFillZeros(EncodeFillZeros({Zero(kMaxVolumeBytes / kBlockSize, 1, At(1, 1))}))
                .status()
                .code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(DecodeFillZeros(EncodeFillZeros(Runs(kMaxFillZeros + 1, Zero(1, 1, At(1, 1)))))
                .status()
                .code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(DecodeResyncSpan("\x02").status().code(), absl::StatusCode::kDataLoss);
}

TEST(Fillings, KeepIdentityAndOrderOfPayload) {
  AlignedBytes payload(3 * kBlockSize);
  payload.data()[0] = std::byte{1};
  payload.data()[2 * kBlockSize] = std::byte{2};
  const Runs runs = {Data(10, At(1, 5), payload.span().first(2 * kBlockSize)),
                     Zero(12, 4, At(1, 7)),
                     Data(40, At(1, 6), payload.span().subspan(2 * kBlockSize))};
  const auto fillings = MakeFillings(Timeline(), runs, payload.span());
  ASSERT_TRUE(fillings.ok()) << fillings.status();
  ASSERT_EQ(fillings->size(), 3);
  EXPECT_EQ((*fillings)[0].entry.kind, EntryKind::kFill);
  EXPECT_EQ((*fillings)[0].entry.volume, VolumeId(3));
  EXPECT_EQ((*fillings)[0].entry.timeline, TimelineId(7));
  EXPECT_EQ((*fillings)[0].entry.position, At(1, 5));
  EXPECT_EQ((*fillings)[1].entry.position, At(1, 6));
  EXPECT_EQ((*fillings)[1].payload.data(), payload.data() + 2 * kBlockSize);
  EXPECT_EQ((*fillings)[2].entry.kind, EntryKind::kFillZeros);
  EXPECT_EQ((*DecodeFillZeros((*fillings)[2].entry.body))[0], runs[1]);
}

TEST(Fillings, RefuseABlockThatChangedOnItsWay) {
  AlignedBytes payload(kBlockSize);
  const Runs runs = {Data(10, At(1, 5), payload.span())};
  payload.data()[17] = std::byte{1};
  EXPECT_EQ(MakeFillings(Timeline(), runs, payload.span()).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(Fillings, RefusePayloadOfAnotherLength) {
  AlignedBytes payload(2 * kBlockSize);
  const Runs runs = {Data(10, At(1, 5), payload.span())};
  EXPECT_EQ(MakeFillings(Timeline(), runs, payload.span().first(kBlockSize)).status().code(),
            absl::StatusCode::kInvalidArgument);
  const Runs short_run = {Data(10, At(1, 5), payload.span().first(kBlockSize))};
  EXPECT_EQ(MakeFillings(Timeline(), short_run, payload.span()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Fillings, OfLostBlocksHaveTheirChecksumsAndOtherBytes) {
  AlignedBytes written(2 * kBlockSize);
  written.data()[0] = std::byte{1};
  const Runs runs = {Data(10, At(1, 5), written.span()),
                     Data(40, At(1, 6), written.span().first(kBlockSize))};
  AlignedBytes payload;
  const auto fillings = MakeLostFillings(Timeline(), runs, &payload);
  ASSERT_TRUE(fillings.ok()) << fillings.status();
  ASSERT_EQ(fillings->size(), 2);
  EXPECT_EQ(payload.size(), 3 * kBlockSize);
  for (size_t i = 0; i < 2; ++i) {
    const Filling& filling = (*fillings)[i];
    EXPECT_EQ(filling.entry.kind, EntryKind::kFill);
    EXPECT_EQ(filling.entry.range, runs[i].range);
    EXPECT_EQ(filling.entry.position, runs[i].position);
    EXPECT_EQ(filling.entry.block_crcs, runs[i].block_crcs);
    ASSERT_EQ(filling.payload.size(), runs[i].block_crcs.size() * kBlockSize);
    for (size_t block = 0; block < runs[i].block_crcs.size(); ++block) {
      EXPECT_TRUE(IsLostBlock(runs[i].block_crcs[block],
                              filling.payload.subspan(block * kBlockSize, kBlockSize)));
    }
  }
  EXPECT_EQ(MakeLostFillings(Timeline(), {Zero(1, 1, At(1, 7))}, &payload).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace twofold
