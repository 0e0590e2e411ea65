#include "replication/pair/compare.h"

#include <gtest/gtest.h>

#include <vector>

namespace twofold {
namespace {

Position At(uint64_t seq) { return {Generation(1), Seq(seq)}; }

Run Data(uint64_t first, std::vector<uint32_t> crcs, uint64_t seq) {
  Run run;
  run.range = {BlockIndex(first), BlockCount(crcs.size())};
  run.position = At(seq);
  run.block_crcs.assign(crcs.begin(), crcs.end());
  return run;
}
Run Zero(uint64_t first, uint64_t count, uint64_t seq) {
  Run run;
  run.range = {BlockIndex(first), BlockCount(count)};
  run.kind = RunKind::kZero;
  run.position = At(seq);
  return run;
}
Piece Mapped(Run run) { return {.mapped = true, .run = std::move(run)}; }
Piece Hole(uint64_t first, uint64_t count) {
  Piece piece;
  piece.run.range = {BlockIndex(first), BlockCount(count)};
  return piece;
}

const BlockRange kRange{BlockIndex(32), BlockCount(4)};

TEST(CompareBlocks, TheSameInOtherPiecesIsEqual) {
  EXPECT_TRUE(CompareBlocks({Data(32, {1, 2, 3, 4}, 7)},
                            {Mapped(Data(32, {1}, 7)), Mapped(Data(33, {2, 3, 4}, 7))}, kRange)
                  .empty());
}

TEST(CompareBlocks, WhereItLiesDoesNotMatter) {
  twofold::Run moved = Data(32, {1}, 7);
  moved.address = {SegmentNumber(9), 100};
  EXPECT_TRUE(CompareBlocks({Data(32, {1}, 7)}, {Mapped(moved), Hole(33, 3)}, kRange).empty());
}

TEST(CompareBlocks, ZerosReadAsWhatWasNeverWritten) {
  EXPECT_TRUE(CompareBlocks({Zero(32, 4, 7)}, {Hole(32, 4)}, kRange).empty());
  EXPECT_TRUE(CompareBlocks({Zero(32, 4, 7)}, {Mapped(Zero(32, 4, 3))}, kRange).empty());
}

TEST(CompareBlocks, OnlyWhatTheRunsSayIsCompared) {
  EXPECT_TRUE(
      CompareBlocks({Data(33, {2}, 7)}, {Mapped(Data(32, {9, 2, 9, 9}, 7))}, kRange).empty());
}

TEST(CompareBlocks, ADifferentChecksumIsADifference) {
  const std::vector<BlockDifference> differences =
      CompareBlocks({Data(32, {1, 2, 3, 4}, 7)}, {Mapped(Data(32, {1, 2, 5, 4}, 7))}, kRange);
  ASSERT_EQ(differences.size(), 1u);
  EXPECT_EQ(differences[0].block, BlockIndex(34));
  EXPECT_EQ(differences[0].ours, "entry 1.7, checksum 00000003");
  EXPECT_EQ(differences[0].theirs, "entry 1.7, checksum 00000005");
}

TEST(CompareBlocks, AnotherEntryIsADifference) {
  const std::vector<BlockDifference> differences =
      CompareBlocks({Data(32, {1}, 7)}, {Mapped(Data(32, {1}, 6)), Hole(33, 3)}, kRange);
  ASSERT_EQ(differences.size(), 1u);
  EXPECT_EQ(differences[0].theirs, "entry 1.6, checksum 00000001");
}

TEST(CompareBlocks, DataAgainstZerosOrNothingIsADifference) {
  std::vector<BlockDifference> differences = CompareBlocks(
      {Data(32, {1, 2}, 7)}, {Hole(32, 1), Mapped(Zero(33, 1, 8)), Hole(34, 2)}, kRange);
  ASSERT_EQ(differences.size(), 2u);
  EXPECT_EQ(differences[0].theirs, "nothing");
  EXPECT_EQ(differences[1].theirs, "zeros, entry 1.8");
  differences = CompareBlocks({Zero(32, 1, 7)}, {Mapped(Data(32, {1}, 6)), Hole(33, 3)}, kRange);
  ASSERT_EQ(differences.size(), 1u);
  EXPECT_EQ(differences[0].ours, "zeros, entry 1.7");
}

}  // namespace
}  // namespace twofold
