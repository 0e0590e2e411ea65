#include "storage/map/lineage.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/map/golden.h"
#include "tests/map/history.h"

namespace twofold {
namespace {

constexpr uint32_t kDepth = 3;

LineageRecord Full() {
  return {.flat = true,
          .owned_from = Position{Generation(1), Seq(2)},
          .heir = TimelineId(9),
          .folding = TimelineId(7),
          .fold_owned_from = {Generation(1), Seq(2)},
          .fold_next = 300};
}

TEST(LineageCodec, HasTheGoldenBytes) {
  EXPECT_EQ(EncodeLineage(Full()), Golden("map/lineage.hex"));
  EXPECT_EQ(DecodeLineage(Golden("map/lineage.hex")).value(), Full());
  EXPECT_EQ(DecodeLineage(EncodeLineage({})).value(), LineageRecord());
  // From the very first position is not the same as from where it was opened.
  LineageRecord all;
  all.owned_from = kFirstPosition;
  EXPECT_EQ(DecodeLineage(EncodeLineage(all)).value(), all);
}

TEST(LineageCodec, RefusesWhatCannotBe) {
  const std::string whole = EncodeLineage(Full());
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(DecodeLineage(whole.substr(0, size)).status().code(), absl::StatusCode::kDataLoss);
  }
  EXPECT_FALSE(DecodeLineage(whole + '\0').ok());
  EXPECT_FALSE(DecodeLineage("\2" + whole.substr(1)).ok()) << "another version";
  LineageRecord record = Full();
  record.flat = false;
  EXPECT_FALSE(DecodeLineage(EncodeLineage(record)).ok()) << "folded into one that is not flat";
  record = Full();
  record.folding = TimelineId();
  EXPECT_FALSE(DecodeLineage(EncodeLineage(record)).ok()) << "a fold of nothing";
}

// A volume that is rolled back again and again.
class PlanLineageTest : public testing::Test {
 protected:
  PlanLineageTest() : volume_(history_.CreateVolume("vol")) {}
  const Catalogue& catalogue() { return history_.catalogue(); }
  SnapshotId Snapshot() { return history_.Snapshot(volume_, "s" + std::to_string(++names_)); }
  void Delete(SnapshotId snapshot) { history_.DeleteSnapshot(snapshot); }
  TimelineId Rollback(SnapshotId snapshot) { return history_.StartTimeline(volume_, snapshot); }
  std::optional<LineageWork> Plan() { return PlanLineage(catalogue(), lineages_, kDepth); }
  static LineageWork Flatten(TimelineId timeline, bool gives_space) {
    return {LineageWork::Kind::kFlatten, timeline, TimelineId(), gives_space};
  }
  static LineageWork Fold(TimelineId source, TimelineId heir) {
    return {LineageWork::Kind::kFold, heir, source, true};
  }

  History history_;
  VolumeId volume_;
  Lineages lineages_;
  int names_ = 0;
};

TEST_F(PlanLineageTest, LeavesABaseWithANameAlone) {
  const SnapshotId snapshot = Snapshot();
  EXPECT_EQ(Plan(), std::nullopt);
  Rollback(snapshot);
  EXPECT_EQ(Plan(), std::nullopt);
}

TEST_F(PlanLineageTest, FoldsABaseWithoutANameIntoItsOnlyChildM20) {
  const SnapshotId snapshot = Snapshot();
  const TimelineId base(1);
  const TimelineId child = Rollback(snapshot);
  Delete(snapshot);
  EXPECT_EQ(Plan(), Flatten(child, true));
  lineages_.Change(child).flat = true;
  EXPECT_EQ(Plan(), Fold(base, child));
  lineages_.Change(base).heir = child;
  EXPECT_EQ(Plan(), std::nullopt);
  EXPECT_EQ(lineages_.HeirOf(base), child);
}

TEST_F(PlanLineageTest, LeavesABaseOfTwoAlone) {
  const SnapshotId snapshot = Snapshot();
  Rollback(snapshot);
  const SnapshotId end = Snapshot();
  Rollback(snapshot);
  Delete(snapshot);
  EXPECT_EQ(Plan(), std::nullopt) << "the first child is kept by its snapshot";
  Delete(end);
  EXPECT_TRUE(Plan().has_value());
}

TEST_F(PlanLineageTest, CopiesAChainOnceAndFoldsTheNewestFirst) {
  const SnapshotId first = Snapshot();
  const TimelineId middle = Rollback(first);
  const SnapshotId second = Snapshot();
  const TimelineId last = Rollback(second);
  Delete(first);
  Delete(second);
  EXPECT_EQ(Plan(), Flatten(last, true)) << "not the middle, which goes as well";
  lineages_.Change(last).flat = true;
  EXPECT_EQ(Plan(), Fold(middle, last));
  lineages_.Change(middle).heir = last;
  EXPECT_EQ(Plan(), Fold(TimelineId(1), last));
}

TEST_F(PlanLineageTest, GoesOnWithAFoldThatHasBegunFirst) {
  const SnapshotId first = Snapshot();
  const TimelineId middle = Rollback(first);
  const SnapshotId second = Snapshot();
  Delete(first);
  LineageRecord& record = lineages_.Change(middle);
  record.flat = true;
  record.folding = TimelineId(1);
  const TimelineId last = Rollback(second);
  Delete(second);
  lineages_.Change(last).flat = true;
  EXPECT_EQ(Plan(), Fold(TimelineId(1), middle));
}

TEST_F(PlanLineageTest, FlattensTheOldestOfWhatIsTooDeepM8) {
  std::vector<TimelineId> timelines = {TimelineId(1)};
  for (int i = 0; i < 12; ++i) timelines.push_back(Rollback(Snapshot()));
  EXPECT_EQ(Plan(), Flatten(timelines[kDepth + 1], false));
  lineages_.Change(timelines[kDepth + 1]).flat = true;
  EXPECT_EQ(Plan(), Flatten(timelines[2 * (kDepth + 1)], false)) << "those between are short now";
}

TEST_F(PlanLineageTest, OwnsByPositionChunkByChunk) {
  const SnapshotId snapshot = Snapshot();
  const TimelineId child = Rollback(snapshot);
  const TimelineRecord& record = catalogue().timelines().at(child);
  EXPECT_EQ(lineages_.OwnedFrom(record, 7), record.opened);
  LineageRecord& lineage = lineages_.Change(child);
  lineage.flat = true;
  lineage.folding = TimelineId(1);
  lineage.fold_owned_from = kFirstPosition;
  lineage.fold_next = 7;
  EXPECT_EQ(lineages_.OwnedFrom(record, 6), kFirstPosition);
  EXPECT_EQ(lineages_.OwnedFrom(record, 7), record.opened);
  lineage.folding = TimelineId();
  lineage.owned_from = kFirstPosition;
  EXPECT_EQ(lineages_.OwnedFrom(record, 8), kFirstPosition);
}

}  // namespace
}  // namespace twofold
