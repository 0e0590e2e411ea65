#include "storage/store/damage_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/base/limits.h"

namespace twofold {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

DamagedPlace Place(uint64_t segment, uint32_t block, uint32_t count = 1) {
  DamagedPlace place;
  place.first = {SegmentNumber(segment), block};
  place.count = count;
  place.where = "log/00000001.seg";
  place.what = "bad";
  place.seen = 5;
  return place;
}

TEST(DamageList, CountsAPlaceThatIsMetAgainOnce) {
  DamageList list;
  EXPECT_TRUE(list.Note(Place(3, 7)));
  EXPECT_FALSE(list.Note(Place(3, 7)));
  EXPECT_TRUE(list.Note(Place(3, 8)));
  const DamageReport report = list.Report();
  EXPECT_EQ(report.found, 2u);
  EXPECT_EQ(report.bad(), 2u);
  ASSERT_EQ(report.places.size(), 2u);
  EXPECT_EQ(report.places[0].times, 2u);
  EXPECT_EQ(report.places[0].seen, 5);
  EXPECT_THAT(list.Segments(), ElementsAre(SegmentNumber(3)));
}

TEST(DamageList, ASegmentThatIsHealedTakesAllItsPlaces) {
  DamageList list;
  list.Note(Place(3, 7));
  list.Note(Place(3, 0, 0));
  list.Note(Place(4, 1));
  list.NoteFailure(SegmentNumber(3), "nobody has it");
  EXPECT_EQ(list.places()[0].why_not, "nobody has it");
  EXPECT_EQ(list.places()[2].why_not, "");
  list.Heal(SegmentNumber(3), 9);
  EXPECT_THAT(list.Segments(), ElementsAre(SegmentNumber(4)));
  EXPECT_EQ(list.places()[0].healed, 9);
  EXPECT_EQ(list.places()[0].why_not, "");
  EXPECT_EQ(list.places()[1].healed, 9);
  EXPECT_EQ(list.places()[2].healed, 0);
  EXPECT_EQ(list.Report().bad(), 1u);
}

TEST(DamageList, BlocksThatAreNotNeededAnyMoreAreHealedButNotTheRecords) {
  DamageList list;
  list.Note(Place(3, 7, 2));
  list.Note(Place(3, 20));
  list.Note(Place(3, 0, 0));
  const auto live = [](uint32_t block) { return block == 8; };
  list.HealDead(SegmentNumber(3), 9, live);
  EXPECT_EQ(list.places()[0].healed, 0);  // its second block lives
  EXPECT_EQ(list.places()[1].healed, 9);
  EXPECT_EQ(list.places()[2].healed, 0);
  EXPECT_THAT(list.Segments(), ElementsAre(SegmentNumber(3)));
}

TEST(DamageList, APlaceThatIsBadAgainIsNew) {
  DamageList list;
  list.Note(Place(3, 7));
  list.Heal(SegmentNumber(3), 9);
  EXPECT_THAT(list.Segments(), IsEmpty());
  EXPECT_TRUE(list.Note(Place(3, 7)));
  EXPECT_EQ(list.places().size(), 1u);
  EXPECT_EQ(list.places()[0].healed, 0);
  EXPECT_EQ(list.Report().found, 2u);
  EXPECT_EQ(list.Report().bad(), 1u);
}

TEST(DamageList, IsBoundedAndKeepsWhatIsBadBeforeWhatWasHealed) {
  DamageList list;
  for (uint64_t i = 0; i < kMaxDamagedPlaces; ++i) list.Note(Place(1 + i, 1));
  list.Heal(SegmentNumber(2), 9);
  list.Note(Place(5000, 1));
  EXPECT_EQ(list.places().size(), kMaxDamagedPlaces);
  EXPECT_EQ(list.places().back().first.segment, SegmentNumber(5000));
  for (const DamagedPlace& place : list.places()) EXPECT_EQ(place.healed, 0);
  // No room: it is counted, and its segment is known.
  list.Note(Place(6000, 1));
  EXPECT_EQ(list.places().size(), kMaxDamagedPlaces);
  EXPECT_TRUE(list.Has(SegmentNumber(6000)));
  EXPECT_EQ(list.Report().bad(), kMaxDamagedPlaces + 1);
  list.Heal(SegmentNumber(6000), 9);
  EXPECT_FALSE(list.Has(SegmentNumber(6000)));
  EXPECT_EQ(list.Report().bad(), kMaxDamagedPlaces);
}

}  // namespace
}  // namespace twofold
