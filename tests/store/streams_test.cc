#include "storage/store/streams.h"

#include <gtest/gtest.h>

namespace twofold {
namespace {

constexpr VolumeId kVolume{7};

Position At(uint64_t generation, uint64_t seq) { return {Generation(generation), Seq(seq)}; }

LogEntry Write(Position position, VolumeId volume = kVolume) {
  LogEntry entry;
  entry.volume = volume;
  entry.position = position;
  entry.range = {BlockIndex(position.seq.value()), BlockCount(1)};
  return entry;
}

LogPosition Batch(uint64_t number) {
  return {BatchNumber(number), SegmentNumber(1), static_cast<uint32_t>(number), 0};
}

TEST(Streams, AdmitsOnlyTheNextSeq) {
  Streams streams;
  EXPECT_TRUE(streams.Admit(kVolume, At(1, 1)).ok());
  EXPECT_TRUE(streams.Admit(kVolume, At(2, 2)).ok())
      << "a new generation goes on where the old ended";
  EXPECT_EQ(streams.Admit(kVolume, At(2, 4)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(streams.Admit(kVolume, At(1, 3)).code(), absl::StatusCode::kAlreadyExists)
      << "an older generation must not write behind a newer one (R1)";
}

TEST(Streams, RefusesADuplicateByPosition) {
  Streams streams;
  streams.Restore(kVolume, At(3, 10));
  EXPECT_EQ(streams.Admit(kVolume, At(3, 10)).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(streams.Admit(kVolume, At(3, 9)).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(streams.Admit(kVolume, At(3, 11)).ok());
}

TEST(Streams, KeepsWhatIsNotCommittedOutOfTheMap) {
  Streams streams;
  ASSERT_TRUE(streams.Add(Write(At(1, 1)), {}, Batch(1)));
  ASSERT_TRUE(streams.Add(Write(At(1, 2)), {}, Batch(2)));
  EXPECT_FALSE(streams.TakeCommitted(kVolume).has_value());
  streams.Commit(kVolume, At(1, 1));
  const auto first = streams.TakeCommitted(kVolume);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->entry.position, At(1, 1));
  EXPECT_FALSE(streams.TakeCommitted(kVolume).has_value());
  EXPECT_EQ(streams.pending_entries(), 1u);
}

TEST(Streams, SkipsOnReplayWhatTheCheckpointHas) {
  Streams streams;
  streams.Restore(kVolume, At(1, 5));
  EXPECT_FALSE(streams.Add(Write(At(1, 4)), {}, Batch(9)));
  EXPECT_FALSE(streams.Add(Write(At(1, 5)), {}, Batch(9)));
  EXPECT_TRUE(streams.Add(Write(At(1, 6)), {}, Batch(9)));
}

TEST(Streams, GivesUpWhatIsNotCommittedR3) {
  Streams streams;
  streams.Add(Write(At(1, 1)), {}, Batch(1));
  LogEntry record = Write(At(1, 2));
  record.kind = EntryKind::kSnapshot;
  streams.Add(record, {}, Batch(2));
  streams.Add(Write(At(1, 3)), {}, Batch(2));
  streams.Commit(kVolume, At(1, 1));
  streams.Void(kVolume);
  EXPECT_EQ(streams.pending_entries(), 1u) << "what is committed stays";
  EXPECT_FALSE(streams.HasPendingRecords(kVolume));
  EXPECT_TRUE(streams.TakeCommitted(kVolume).has_value());
  EXPECT_FALSE(streams.OldestPendingBatch().has_value());
  EXPECT_TRUE(streams.Admit(kVolume, At(2, 2)).ok()) << "another history goes on there";
}

TEST(Streams, NamesTheOldestBatchThatReplayNeeds) {
  Streams streams;
  EXPECT_FALSE(streams.OldestPendingBatch().has_value());
  streams.Add(Write(At(1, 1), VolumeId(1)), {}, Batch(4));
  streams.Add(Write(At(1, 1), VolumeId(2)), {}, Batch(5));
  streams.Commit(VolumeId(1), At(1, 1));
  ASSERT_TRUE(streams.TakeCommitted(VolumeId(1)).has_value());
  EXPECT_EQ(streams.OldestPendingBatch()->batch, BatchNumber(5));
}

TEST(Streams, GivesEachMovedMarkOnceAndTheNewest) {
  Streams streams;
  streams.Add(Write(At(1, 1)), {}, Batch(1));
  streams.Add(Write(At(1, 2)), {}, Batch(1));
  streams.Commit(kVolume, At(1, 1));
  streams.Commit(kVolume, At(1, 2));
  streams.Commit(kVolume, At(1, 1));  // a late message: nothing goes back
  const std::vector<CommitMark> marks = streams.TakeMovedMarks(8);
  ASSERT_EQ(marks.size(), 1u);
  EXPECT_EQ(marks[0].position, At(1, 2));
  EXPECT_TRUE(streams.TakeMovedMarks(8).empty());
}

TEST(Streams, KeepsMarksThatDidNotFitForTheNextBatch) {
  Streams streams;
  for (uint64_t volume = 1; volume <= 3; ++volume) {
    streams.Add(Write(At(1, 1), VolumeId(volume)), {}, Batch(1));
    streams.Commit(VolumeId(volume), At(1, 1));
  }
  EXPECT_EQ(streams.TakeMovedMarks(2).size(), 2u);
  EXPECT_EQ(streams.TakeMovedMarks(2).size(), 1u);
}

}  // namespace
}  // namespace twofold
