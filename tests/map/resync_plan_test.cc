#include "storage/map/resync_plan.h"

#include <gtest/gtest.h>

#include "storage/map/catalogue_codec.h"
#include "storage/map/reclaim_plan.h"

namespace twofold {
namespace {

constexpr VolumeId kVolume{1};

Position At(uint64_t generation, uint64_t seq) { return {Generation(generation), Seq(seq)}; }

// A catalogue with one volume, and what changes it.
class History {
 public:
  History() {
    VolumeCreateBody body;
    body.id = kVolume;
    body.name = "vol";
    body.size_bytes = 1 << 20;
    body.first_timeline = TimelineId(1);
    Apply(kCatalogueVolume, EntryKind::kVolumeCreate, TimelineId(1), EncodeVolumeCreate(body));
  }

  Position Write() {
    LogEntry entry;
    entry.range = {BlockIndex(0), BlockCount(1)};
    return Apply(std::move(entry), kVolume, EntryKind::kWrite, Current(), "");
  }
  Position Snapshot(const std::string& name) {
    SnapshotBody body;
    body.id = catalogue.next_snapshot_id();
    body.name = name;
    return Apply(kVolume, EntryKind::kSnapshot, Current(), EncodeSnapshot(body));
  }
  void Delete(const std::string& name) {
    const SnapshotRecord* const found = catalogue.FindSnapshot(kVolume, name);
    Apply(kVolume, EntryKind::kSnapshotDelete, Current(), EncodeSnapshotDelete({found->id}));
  }
  void Rollback(const std::string& name) {
    const SnapshotRecord* const found = catalogue.FindSnapshot(kVolume, name);
    TimelineStartBody body;
    body.id = catalogue.next_timeline_id();
    body.parent = found->timeline;
    body.fork = found->position;
    body.size_bytes = 1 << 20;
    Apply(kVolume, EntryKind::kTimelineStart, body.id, EncodeTimelineStart(body));
  }
  TimelineId Current() const { return catalogue.volumes().at(kVolume).current_timeline; }

  Catalogue catalogue;
  Generation generation{1};

 private:
  Position Apply(VolumeId volume, EntryKind kind, TimelineId timeline, std::string body) {
    return Apply(LogEntry(), volume, kind, timeline, std::move(body));
  }
  Position Apply(LogEntry entry, VolumeId volume, EntryKind kind, TimelineId timeline,
                 std::string body) {
    const auto stream = catalogue.streams().find(volume);
    const Seq last = stream == catalogue.streams().end() ? Seq() : stream->second.applied.seq;
    entry.volume = volume;
    entry.kind = kind;
    entry.timeline = timeline;
    entry.position = {generation, last.Next()};
    entry.body = std::move(body);
    const absl::Status status = catalogue.Apply(entry);
    EXPECT_TRUE(status.ok()) << status;
    return entry.position;
  }
};

Catalogue GoalOf(History* source) {
  source->Snapshot("x");
  return *MakeGoal(source->catalogue);
}

// Replays everything, and gives the catalogue before the goal takes its place.
Catalogue Replay(const Catalogue& target, const Catalogue& goal) {
  Catalogue now = *BeginReplay(target, goal, /*pin=*/true);
  const std::vector<ResyncSpan> spans = PlanResync(now, goal);
  for (size_t i = 0; i < spans.size(); ++i) {
    OpenSpan(&now, goal, spans[i]);
    EndSpan(&now, goal, spans[i]);
    // Each of them is one that a checkpoint can hold, and leads to what is left.
    const auto decoded = Catalogue::Decode(now.Encode());
    EXPECT_TRUE(decoded.ok()) << decoded.status();
    const std::vector<ResyncSpan> left = PlanResync(now, goal);
    EXPECT_EQ(left.size(), spans.size() - i - 1);
  }
  EXPECT_TRUE(CheckReplay(now, goal).ok()) << CheckReplay(now, goal);
  return now;
}

TEST(ResyncPlan, AnEmptyStoreGetsEverySpanOfEveryTimeline) {
  History source;
  source.Write();
  const Position first = source.Snapshot("first");
  source.Write();
  const Position second = source.Snapshot("second");
  source.Rollback("first");
  source.Write();
  const Catalogue goal = GoalOf(&source);
  const Position x = goal.streams().at(kVolume).applied;
  const std::vector<ResyncSpan> spans = PlanResync(Catalogue(), goal);
  EXPECT_EQ(spans, (std::vector<ResyncSpan>{{TimelineId(1), kFirstPosition, first},
                                            {TimelineId(1), first, second},
                                            {TimelineId(2), kFirstPosition, x}}));
  Replay(Catalogue(), goal);
}

TEST(ResyncPlan, AStaleStoreGetsWhatIsAboveItsPosition) {
  History source;
  source.Snapshot("first");
  const Position stale = source.Write();
  const Catalogue target = source.catalogue;
  source.Write();
  const Position second = source.Snapshot("second");
  source.Write();
  const Catalogue goal = GoalOf(&source);
  const Position x = goal.streams().at(kVolume).applied;
  EXPECT_EQ(PlanResync(target, goal),
            (std::vector<ResyncSpan>{{TimelineId(1), stale, second}, {TimelineId(1), second, x}}));
  Replay(target, goal);
}

TEST(ResyncPlan, ThePinIsTheStateBeforeAndGoesWithTheEnd) {
  History source;
  const Position stale = source.Write();
  const Catalogue target = source.catalogue;
  source.Write();
  const Catalogue goal = GoalOf(&source);
  const Catalogue end = Replay(target, goal);
  ASSERT_EQ(end.pins().size(), 1);
  EXPECT_EQ(end.pins()[0].position, At(1, stale.seq.value() + 1));
  EXPECT_TRUE(end.pins()[0].old_state);
  EXPECT_TRUE(goal.pins().empty());
  const std::vector<ReclaimJob> jobs = PlanCatalogueChange(end, goal);
  ASSERT_EQ(jobs.size(), 1);
  EXPECT_EQ(jobs[0].point, end.pins()[0].position);
}

TEST(ResyncPlan, WhatTheGoalLetGoGoesFirst) {
  History source;
  source.Write();
  source.Snapshot("old");
  source.Write();
  const Catalogue target = source.catalogue;
  source.Delete("old");
  const Catalogue goal = GoalOf(&source);
  const absl::StatusOr<Catalogue> begun = BeginReplay(target, goal, /*pin=*/true);
  ASSERT_TRUE(begun.ok()) << begun.status();
  EXPECT_EQ(begun->FindSnapshot(kVolume, "old"), nullptr);
  EXPECT_EQ(PlanCatalogueChange(target, *begun).size(), 1);
}

TEST(ResyncPlan, AForkWithoutItsSnapshotIsHeldUntilItsTimelineIsThere) {
  History source;
  source.Write();
  const Catalogue target = source.catalogue;
  source.Write();
  const Position fork = source.Snapshot("fork");
  source.Rollback("fork");
  source.Delete("fork");
  source.Write();
  const Catalogue goal = GoalOf(&source);
  ASSERT_EQ(goal.RetainedPoints(TimelineId(1)), std::vector<Position>{fork});
  const Catalogue end = Replay(target, goal);
  EXPECT_EQ(end.volumes().at(kVolume).current_timeline, TimelineId(2));
}

TEST(ResyncPlan, AnInterruptedOneGoesOnFromTheLastPoint) {
  History source;
  source.Write();
  const Position first = source.Snapshot("first");
  source.Write();
  source.Snapshot("second");
  const Catalogue goal = GoalOf(&source);
  Catalogue now = *BeginReplay(Catalogue(), goal, /*pin=*/true);
  const std::vector<ResyncSpan> spans = PlanResync(now, goal);
  OpenSpan(&now, goal, spans[0]);
  EndSpan(&now, goal, spans[0]);
  OpenSpan(&now, goal, spans[1]);
  // Meanwhile the source has let go of the point that was under way.
  source.Delete("second");
  source.Write();
  source.Snapshot("y");
  const Catalogue later = *MakeGoal(source.catalogue);
  const Catalogue resumed = *BeginReplay(now, later, /*pin=*/false);
  const std::vector<ResyncSpan> left = PlanResync(resumed, later);
  ASSERT_FALSE(left.empty());
  EXPECT_EQ(left[0].after, first);
}

TEST(ResyncPlan, AGoalThatEndsElsewhereThanWithASnapshotIsNone) {
  History source;
  source.Write();
  EXPECT_EQ(MakeGoal(source.catalogue).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(BeginReplay(Catalogue(), source.catalogue, true).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(CommonHistory, ABeginningIsOne) {
  History source;
  source.Write();
  const Catalogue target = source.catalogue;
  source.generation = Generation(2);
  source.Write();
  EXPECT_TRUE(CheckCommonHistory(source.catalogue, target).ok());
  EXPECT_TRUE(CheckCommonHistory(source.catalogue, Catalogue()).ok());
  EXPECT_FALSE(CheckCommonHistory(target, source.catalogue).ok());
}

TEST(CommonHistory, OneThatWasForcedToGoOnAloneIsNone) {
  History source;
  source.Write();
  History target = source;
  target.Write();  // in generation 1 where the other has gone on in generation 2
  source.generation = Generation(2);
  source.Write();
  source.Write();
  EXPECT_EQ(CheckCommonHistory(source.catalogue, target.catalogue).code(),
            absl::StatusCode::kFailedPrecondition);
  History other = source;
  History third = target;
  third.generation = Generation(3);
  third.Write();
  EXPECT_EQ(CheckCommonHistory(other.catalogue, third.catalogue).code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace twofold
