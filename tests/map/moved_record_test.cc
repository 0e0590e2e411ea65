#include "storage/map/moved_record.h"

#include <gtest/gtest.h>

#include <string>

#include "storage/base/limits.h"
#include "tests/map/golden.h"

namespace twofold {
namespace {

MovedBlocks ExampleBlocks() {
  MovedBlocks moved{.source = SegmentNumber(9), .pieces = {}};
  moved.Add({.source_block = 5,
             .count = 3,
             .volume = VolumeId(1),
             .timeline = TimelineId(2),
             .block = BlockIndex(300),
             .position = {Generation(4), Seq(1000)},
             .stamp = 1'700'000'000'000'000'000});
  moved.Add({.source_block = 10,
             .count = 1,
             .volume = VolumeId(1),
             .timeline = TimelineId(2),
             .block = BlockIndex(7),
             .position = {Generation(4), Seq(999)},
             .stamp = 1'699'999'999'999'999'995});
  return moved;
}

MovedZeros ExampleZeros() {
  return {.source = SegmentNumber(9),
          .index = 0,
          .count = 2,
          .zeros = {{.volume = VolumeId(1),
                     .timeline = TimelineId(2),
                     .range = {BlockIndex(1 << 20), BlockCount(1 << 30)},
                     .position = {Generation(4), Seq(1000)},
                     .stamp = 100}}};
}

TEST(MovedRecord, HasTheGoldenBytes) {
  EXPECT_EQ(EncodeMovedBlocks(ExampleBlocks()), Golden("map/moved_blocks.hex"));
  EXPECT_EQ(EncodeMovedZeros(ExampleZeros()), Golden("map/moved_zeros.hex"));
}

TEST(MovedRecord, ReadsTheGoldenBytes) {
  EXPECT_EQ(DecodeMovedBlocks(Golden("map/moved_blocks.hex")).value(), ExampleBlocks());
  EXPECT_EQ(DecodeMovedZeros(Golden("map/moved_zeros.hex")).value(), ExampleZeros());
}

TEST(MovedRecord, JoinsBlocksThatGoOnInPlaceAndInWhatTheyAre) {
  MovedBlocks moved = ExampleBlocks();
  MovedPiece next = moved.pieces.back();
  next.source_block += 1;
  next.block = next.block + BlockCount(1);
  moved.Add(next);
  ASSERT_EQ(moved.pieces.size(), 2u);
  EXPECT_EQ(moved.pieces.back().count, 2u);
  EXPECT_EQ(moved.block_count(), 5u);
  next.source_block += 1;  // the same block of the volume again: another entry wrote it
  moved.Add(next);
  EXPECT_EQ(moved.pieces.size(), 3u);
}

TEST(MovedRecord, RefusesWhatIsNotWholeOrNotAsItIsWritten) {
  for (const std::string& good :
       {EncodeMovedBlocks(ExampleBlocks()), EncodeMovedZeros(ExampleZeros())}) {
    for (size_t length = 0; length < good.size(); ++length) {
      const std::string cut = good.substr(0, length);
      EXPECT_EQ(DecodeMovedBlocks(cut).status().code(), absl::StatusCode::kDataLoss) << length;
      EXPECT_EQ(DecodeMovedZeros(cut).status().code(), absl::StatusCode::kDataLoss) << length;
    }
    EXPECT_FALSE(DecodeMovedBlocks(good + '\0').ok());
    EXPECT_FALSE(DecodeMovedZeros(good + '\0').ok());
  }
  MovedBlocks split = ExampleBlocks();
  split.pieces[1] = split.pieces[0];  // two pieces that are one
  split.pieces[0].count = 1;
  split.pieces[1].source_block += 1;
  split.pieces[1].block = split.pieces[1].block + BlockCount(1);
  split.pieces[1].count = 2;
  EXPECT_FALSE(DecodeMovedBlocks(EncodeMovedBlocks(split)).ok());
  MovedBlocks large = ExampleBlocks();
  large.pieces[0].source_block = 0;
  large.pieces[0].count = kMaxEntryBlocks;
  large.pieces[1].source_block = kMaxEntryBlocks + 1;
  EXPECT_FALSE(DecodeMovedBlocks(EncodeMovedBlocks(large)).ok());
  MovedZeros last = ExampleZeros();
  last.index = last.count;
  EXPECT_FALSE(DecodeMovedZeros(EncodeMovedZeros(last)).ok());
}

}  // namespace
}  // namespace twofold
