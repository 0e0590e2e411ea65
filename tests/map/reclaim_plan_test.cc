#include "storage/map/reclaim_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/map/golden.h"
#include "tests/map/history.h"

namespace twofold {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr auto kPoint = ReclaimJob::Kind::kPoint;
constexpr auto kTail = ReclaimJob::Kind::kTail;

class ReclaimPlanTest : public testing::Test {
 protected:
  SnapshotId Snapshot() {
    history_.Write(volume_);
    return history_.Snapshot(volume_, "s" + std::to_string(++names_));
  }
  Position At(SnapshotId snapshot) const { return history_.Record(snapshot).position; }
  std::vector<ReclaimJob> Delete(SnapshotId snapshot) {
    return PlanSnapshotDelete(history_.catalogue(), snapshot);
  }
  const Catalogue& catalogue() const { return history_.catalogue(); }

  History history_;
  int names_ = 0;
  VolumeId volume_ = history_.CreateVolume("v");
};

TEST_F(ReclaimPlanTest, APointGoesFromBetweenItsNeighbours) {
  const SnapshotId a = Snapshot();
  const SnapshotId b = Snapshot();
  const SnapshotId c = Snapshot();
  const std::vector<ReclaimJob> jobs = Delete(b);
  ASSERT_EQ(jobs.size(), 1);
  EXPECT_EQ(jobs[0].kind, kPoint);
  EXPECT_EQ(jobs[0].previous, At(a));
  EXPECT_EQ(jobs[0].point, At(b));
  EXPECT_EQ(jobs[0].next, At(c));
  EXPECT_THAT(jobs[0].points, ElementsAre(At(b)));
}

TEST_F(ReclaimPlanTest, TheNewestPointHasTheEndBehindIt) {
  const SnapshotId a = Snapshot();
  const std::vector<ReclaimJob> jobs = Delete(a);
  ASSERT_EQ(jobs.size(), 1);
  EXPECT_EQ(jobs[0].kind, kPoint);
  EXPECT_EQ(jobs[0].previous, kFirstPosition);
  EXPECT_EQ(jobs[0].next, kLastPosition);
}

TEST_F(ReclaimPlanTest, AForkPointStaysRetained) {
  const SnapshotId a = Snapshot();
  history_.StartTimeline(volume_, a);
  EXPECT_THAT(Delete(a), IsEmpty());
}

TEST_F(ReclaimPlanTest, TheLastPointOfAnAbandonedTimelineTakesItsTail) {
  const SnapshotId a = Snapshot();
  const SnapshotId b = Snapshot();
  history_.StartTimeline(volume_, a);
  const std::vector<ReclaimJob> jobs = Delete(b);
  ASSERT_EQ(jobs.size(), 1);
  EXPECT_EQ(jobs[0].kind, kTail);
  EXPECT_EQ(jobs[0].previous, At(a));
  EXPECT_FALSE(jobs[0].whole_timeline());
  EXPECT_THAT(jobs[0].points, ElementsAre(At(b)));
}

TEST_F(ReclaimPlanTest, ATimelineThatNothingNeedsGoesWholeAndTakesItsForkWithIt) {
  const SnapshotId a = Snapshot();
  const TimelineId root = history_.Current(volume_);
  const TimelineId middle = history_.StartTimeline(volume_, a);
  const SnapshotId b = Snapshot();
  history_.StartTimeline(volume_, b);
  history_.DeleteSnapshot(b);
  // The current one hangs on `middle`, which hangs on `root`: nothing goes.
  EXPECT_THAT(Delete(a), IsEmpty());
  history_.StartTimeline(volume_, a);
  const std::vector<ReclaimJob> jobs = Delete(a);
  // `middle` and its child had no other holder.
  ASSERT_EQ(jobs.size(), 2);
  EXPECT_TRUE(jobs[0].whole_timeline());
  EXPECT_TRUE(jobs[1].whole_timeline());
  EXPECT_EQ(jobs[1].timeline.id, middle) << "children before parents";
  EXPECT_TRUE(catalogue().timelines().contains(root));
}

TEST_F(ReclaimPlanTest, ADeletedVolumeGoesWhole) {
  Snapshot();
  const SnapshotId a = Snapshot();
  history_.StartTimeline(volume_, a);
  const std::vector<ReclaimJob> jobs = PlanVolumeDelete(catalogue(), volume_);
  ASSERT_EQ(jobs.size(), 2);
  for (const ReclaimJob& job : jobs) EXPECT_TRUE(job.whole_timeline());
  EXPECT_EQ(jobs[1].points.size(), 2);
}

TEST_F(ReclaimPlanTest, ARollbackFreesTheEndThatItLeaves) {
  EXPECT_THAT(PlanTimelineStart(catalogue(), volume_), IsEmpty()) << "nothing to go back to";
  const SnapshotId a = Snapshot();
  const std::vector<ReclaimJob> jobs = PlanTimelineStart(catalogue(), volume_);
  ASSERT_EQ(jobs.size(), 1);
  EXPECT_EQ(jobs[0].kind, kTail);
  EXPECT_EQ(jobs[0].previous, At(a));
  EXPECT_THAT(jobs[0].points, IsEmpty());
}

ReclaimJob Example() {
  return {.kind = kPoint,
          .timeline = {.id = TimelineId(3),
                       .volume = VolumeId(2),
                       .parent = TimelineId(1),
                       .fork = {Generation(1), Seq(9)},
                       .opened = {Generation(2), Seq(10)},
                       .current_epoch = {Generation(2), Seq(300)}},
          .previous = {Generation(2), Seq(20)},
          .point = {Generation(2), Seq(30)},
          .next = {Generation(2), Seq(40)},
          .points = {{Generation(2), Seq(30)}},
          .in_effect = false};
}

TEST(ReclaimJobCodec, HasTheGoldenBytes) {
  EXPECT_EQ(EncodeReclaimJob(Example()), Golden("map/reclaim_job.hex"));
}

TEST(ReclaimJobCodec, ReadsWhatItWrote) {
  ReclaimJob job = Example();
  for (const bool in_effect : {false, true}) {
    job.in_effect = in_effect;
    if (in_effect) job.points.clear();
    const absl::StatusOr<ReclaimJob> read = DecodeReclaimJob(EncodeReclaimJob(job));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(EncodeReclaimJob(*read), EncodeReclaimJob(job));
    EXPECT_EQ(read->points, job.points);
    EXPECT_EQ(read->next, job.next);
  }
}

TEST(ReclaimJobCodec, RefusesWhatIsNoJob) {
  const std::string bytes = EncodeReclaimJob(Example());
  const auto refused = [](const std::string& text) {
    return DecodeReclaimJob(text).status().code() == absl::StatusCode::kDataLoss;
  };
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_TRUE(refused(bytes.substr(0, length))) << length;
  }
  EXPECT_TRUE(refused(bytes + '\0'));
  std::string changed = bytes;
  changed[0] = 2;  // version
  EXPECT_TRUE(refused(changed));
  changed = bytes;
  changed[1] = 3;  // kind
  EXPECT_TRUE(refused(changed));
  ReclaimJob twice = Example();
  twice.points.push_back(twice.points[0]);
  EXPECT_TRUE(refused(EncodeReclaimJob(twice))) << "points ascend";
}

}  // namespace
}  // namespace twofold
