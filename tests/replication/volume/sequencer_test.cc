#include "replication/volume/sequencer.h"

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <vector>

namespace twofold {
namespace {

using Request = Sequencer::Request;
using State = Sequencer::State;

constexpr Generation kGeneration{7};
constexpr Seq kNoLimit{std::numeric_limits<uint64_t>::max()};

BlockRange Range(uint64_t first, uint64_t count) { return {BlockIndex(first), BlockCount(count)}; }

Sequencer NewSequencer() {
  return Sequencer(kGeneration, Position{Generation(6), Seq(100)}, /*last_stamp=*/1000);
}

TEST(Sequencer, GoesOnWhereTheLogEnds) {
  Sequencer sequencer = NewSequencer();
  EXPECT_EQ(sequencer.committed(), (Position{Generation(6), Seq(100)}));
  Request request;
  sequencer.Begin(&request, Range(0, 1), 1, 5000);
  EXPECT_EQ(request.first_seq(), Seq(101));
  EXPECT_TRUE(sequencer.Complete(&request));
  EXPECT_EQ(sequencer.committed(), (Position{kGeneration, Seq(101)}));
  EXPECT_TRUE(sequencer.idle());
}

TEST(Sequencer, GivesConsecutiveSeqsToOneRequest) {
  Sequencer sequencer = NewSequencer();
  Request large;
  Request small;
  sequencer.Begin(&large, Range(0, 1000), 4, 5000);
  sequencer.Begin(&small, Range(0, 1), 1, 5000);
  EXPECT_EQ(large.first_seq(), Seq(101));
  EXPECT_EQ(large.last_seq(), Seq(104));
  EXPECT_EQ(small.first_seq(), Seq(105));
  sequencer.Complete(&large);
  sequencer.Complete(&small);
}

TEST(Sequencer, StampsNeverGoBack) {  // R35
  Sequencer sequencer = NewSequencer();
  Request behind, ahead, jumped_back;
  sequencer.Begin(&behind, Range(0, 1), 3, /*now=*/10);
  EXPECT_EQ(behind.first_stamp(), 1001);
  EXPECT_EQ(sequencer.last_stamp(), 1003);
  sequencer.Begin(&ahead, Range(0, 1), 1, /*now=*/9000);
  EXPECT_EQ(ahead.first_stamp(), 9000);
  sequencer.Begin(&jumped_back, Range(0, 1), 1, /*now=*/9000);
  EXPECT_EQ(jumped_back.first_stamp(), 9001);
  for (Request* request : {&behind, &ahead, &jumped_back}) sequencer.Complete(request);
}

TEST(Sequencer, CommitsOnlyTheContiguousPrefix) {  // R2
  Sequencer sequencer = NewSequencer();
  Request a, b, c;
  for (Request* request : {&a, &b, &c}) sequencer.Begin(request, Range(0, 1), 1, 0);
  EXPECT_FALSE(sequencer.Complete(&b));
  EXPECT_EQ(b.state(), State::kComplete);
  EXPECT_FALSE(b.settled().is_set());
  EXPECT_EQ(sequencer.committed().seq, Seq(100));
  EXPECT_TRUE(sequencer.Complete(&a));
  EXPECT_EQ(sequencer.committed().seq, Seq(102));
  EXPECT_TRUE(a.settled().is_set());
  EXPECT_TRUE(b.settled().is_set());
  EXPECT_FALSE(c.settled().is_set());
  EXPECT_FALSE(sequencer.idle());
  EXPECT_TRUE(sequencer.Complete(&c));
}

TEST(Sequencer, FindsTheLatestWriteInFlight) {  // R7
  Sequencer sequencer = NewSequencer();
  Request a, b, c, record;
  sequencer.Begin(&a, Range(10, 5), 1, 0);      // 101
  sequencer.Begin(&b, Range(12, 1), 1, 0);      // 102
  sequencer.Begin(&record, Range(0, 0), 1, 0);  // 103, changes no block
  sequencer.Begin(&c, Range(0, 100), 1, 0);     // 104
  EXPECT_EQ(sequencer.LatestOverlap(Range(12, 1), Seq(102)), &b);
  EXPECT_EQ(sequencer.LatestOverlap(Range(12, 1), Seq(101)), &a);
  EXPECT_EQ(sequencer.LatestOverlap(Range(12, 1), kNoLimit), &c);
  EXPECT_EQ(sequencer.LatestOverlap(Range(200, 1), kNoLimit), nullptr);
  EXPECT_EQ(sequencer.LatestOverlap(Range(12, 1), Seq(100)), nullptr);
  for (Request* request : {&a, &b, &record, &c}) sequencer.Complete(request);
  EXPECT_EQ(sequencer.LatestOverlap(Range(12, 1), kNoLimit), nullptr);
}

TEST(Sequencer, AFailureDoomsAllThatComesAfterAndNothingBefore) {
  Sequencer sequencer = NewSequencer();
  Request before, failed, after;
  for (Request* request : {&before, &failed, &after}) sequencer.Begin(request, Range(5, 1), 1, 0);
  EXPECT_FALSE(sequencer.Complete(&after));
  sequencer.Doom(&failed);
  EXPECT_TRUE(sequencer.broken());
  EXPECT_EQ(after.state(), State::kDoomed);
  EXPECT_TRUE(after.settled().is_set());
  EXPECT_EQ(before.state(), State::kInFlight);
  // Reads don't wait for what can't be committed.
  EXPECT_EQ(sequencer.LatestOverlap(Range(5, 1), kNoLimit), &before);
  EXPECT_TRUE(sequencer.Complete(&before));
  EXPECT_EQ(sequencer.committed().seq, Seq(101));
  EXPECT_FALSE(sequencer.Complete(&failed));  // another replica has it: too late
  EXPECT_EQ(sequencer.committed().seq, Seq(101));
  EXPECT_FALSE(sequencer.idle());
  sequencer.End(&after);
  sequencer.End(&failed);
  EXPECT_TRUE(sequencer.idle());
}

}  // namespace
}  // namespace twofold
