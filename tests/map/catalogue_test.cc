#include "storage/map/catalogue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "storage/base/prng.h"
#include "tests/map/history.h"

namespace twofold {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

// The catalogue refuses the entry, says why, and stays as it was.
void ExpectRefused(const History& history, const LogEntry& entry, const std::string& why) {
  Catalogue catalogue = history.catalogue();
  const std::string before = catalogue.Encode();
  const absl::Status status = catalogue.Apply(entry);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << "accepted, though: " << why;
  EXPECT_THAT(std::string(status.message()), HasSubstr(why));
  EXPECT_EQ(catalogue.Encode(), before) << "changed, though: " << why;
}

// ---- Volumes ------------------------------------------------------------------------------------

TEST(Catalogue, CreatesVolumesWithAFirstTimelineR39) {
  History history;
  const VolumeId id = history.CreateVolume("db");
  const VolumeRecord* volume = history.catalogue().FindVolume("db");
  ASSERT_NE(volume, nullptr);
  EXPECT_EQ(volume->id, id);
  EXPECT_EQ(volume->size_bytes, History::kSizeBytes);
  EXPECT_GT(volume->created, 0);
  const TimelineRecord& timeline = history.catalogue().timelines().at(volume->current_timeline);
  EXPECT_EQ(timeline.volume, id);
  EXPECT_EQ(timeline.parent, TimelineId());
  EXPECT_EQ(timeline.current_epoch, kFirstPosition);
  EXPECT_EQ(history.catalogue().FindVolume("other"), nullptr);
}

TEST(Catalogue, NeverGivesAnIdAgainM3) {
  History history;
  const VolumeId first = history.CreateVolume("db");
  const SnapshotId snapshot = history.Snapshot(first, "s");
  history.DeleteSnapshot(snapshot);
  history.DeleteVolume(first);
  EXPECT_GT(history.catalogue().next_volume_id(), first);
  EXPECT_GT(history.catalogue().next_snapshot_id(), snapshot);
  EXPECT_TRUE(history.catalogue().WasDeleted(first));
  EXPECT_FALSE(history.catalogue().WasDeleted(kCatalogueVolume));
  EXPECT_FALSE(history.catalogue().WasDeleted(history.catalogue().next_volume_id()));
  VolumeCreateBody again{first, "again", History::kSizeBytes, 0, TimelineId(50)};
  ExpectRefused(history,
                history.Next(kCatalogueVolume, EntryKind::kVolumeCreate, EncodeVolumeCreate(again)),
                "volume id 1 was given before");
  const VolumeId second = history.CreateVolume("db");
  EXPECT_GT(second, first) << "the name is free, the id isn't";
}

TEST(Catalogue, RefusesVolumesThatCannotBe) {
  History history;
  history.CreateVolume("db");
  const VolumeCreateBody good{VolumeId(9), "good", 4096, 1, TimelineId(9)};
  const auto refuse = [&](auto change, const std::string& why) {
    VolumeCreateBody body = good;
    change(body);
    ExpectRefused(
        history, history.Next(kCatalogueVolume, EntryKind::kVolumeCreate, EncodeVolumeCreate(body)),
        why);
  };
  using Body = VolumeCreateBody;
  refuse([](Body& body) { body.id = VolumeId(0); }, "volume id 0");
  refuse([](Body& body) { body.name = "db"; }, "there is a volume db already");
  refuse([](Body& body) { body.name = ""; }, "is no name");
  refuse([](Body& body) { body.name = "-x"; }, "is no name");
  refuse([](Body& body) { body.name = "a@b"; }, "is no name");
  refuse([](Body& body) { body.size_bytes = 0; }, "is no size");
  refuse([](Body& body) { body.size_bytes = 4097; }, "is no size");
  refuse([](Body& body) { body.size_bytes = kMaxVolumeBytes + 4096; }, "is no size");
  refuse([](Body& body) { body.ack = 2; }, "acknowledgement");
  refuse([](Body& body) { body.on_set_loss = 2; }, "when a set is lost");
  refuse([](Body& body) { body.first_timeline = TimelineId(); }, "timeline id 0 is not free");
  refuse([](Body& body) { body.first_timeline = TimelineId(1); }, "timeline id 1 is not free");
  ExpectRefused(history, history.Next(kCatalogueVolume, EntryKind::kVolumeCreate, "?"),
                "does not decode");
  ExpectRefused(
      history,
      history.Next(kCatalogueVolume, EntryKind::kVolumeDelete, EncodeVolumeDelete({VolumeId(7)})),
      "there is no volume 7");
}

TEST(Catalogue, HoldsAtMostItsBoundOfVolumes) {
  History history;
  for (size_t i = 0; i < kMaxVolumes; ++i) history.CreateVolume("v" + std::to_string(i));
  VolumeCreateBody body{history.catalogue().next_volume_id(), "more", 4096, 0,
                        history.catalogue().next_timeline_id()};
  ExpectRefused(history,
                history.Next(kCatalogueVolume, EntryKind::kVolumeCreate, EncodeVolumeCreate(body)),
                "too many volumes");
}

TEST(Catalogue, ResizesVolumes) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  history.Apply(history.Next(volume, EntryKind::kResize, EncodeResize({8192})));
  EXPECT_EQ(history.catalogue().volumes().at(volume).size_bytes, 8192u);
  ExpectRefused(history, history.Next(volume, EntryKind::kResize, EncodeResize({0})), "is no size");
}

TEST(Catalogue, NamesAreOfOneAlphabet) {
  for (const char* name : {"a", "A.b-c_9", "0"}) EXPECT_TRUE(IsCatalogueName(name)) << name;
  for (const char* name : {"", ".a", "-a", "a b", "a/b", "a@b", "\xc3\xa4", "a\n"}) {
    EXPECT_FALSE(IsCatalogueName(name)) << name;
  }
  EXPECT_TRUE(IsCatalogueName(std::string(kMaxNameBytes, 'a')));
  EXPECT_FALSE(IsCatalogueName(std::string(kMaxNameBytes + 1, 'a')));
}

// ---- Streams ------------------------------------------------------------------------------------

TEST(Catalogue, KeepsTheGenerationsOfEachStreamR1) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  const Position first = history.Write(volume);
  history.Write(volume);
  history.NewGeneration();
  history.NewGeneration();
  const Position third = history.Write(volume);
  const Position last = history.Write(volume);
  const StreamRecord& stream = history.catalogue().streams().at(volume);
  EXPECT_THAT(stream.generations, ElementsAre(first, third));
  EXPECT_EQ(stream.applied, last);
  EXPECT_EQ(third, (Position{Generation(3), Seq(3)}));
  // The catalogue's own stream was written by the first generation alone.
  EXPECT_EQ(history.catalogue().streams().at(kCatalogueVolume).generations.size(), 1u);
}

TEST(Catalogue, KeepsTheLastStampR35) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  LogEntry entry = history.Next(volume, EntryKind::kSnapshot,
                                EncodeSnapshot({SnapshotId(1), "s", {}, {}, false}));
  entry.stamp = 5000;
  history.Apply(entry);
  EXPECT_EQ(history.catalogue().streams().at(volume).last_stamp, 5000);
  EXPECT_EQ(history.catalogue().snapshots().at(SnapshotId(1)).created, 5000);
}

TEST(Catalogue, RefusesEntriesThatDoNotFollow) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  history.NewGeneration();
  history.Write(volume);
  history.Write(volume);
  LogEntry entry = history.Next(volume, EntryKind::kWrite);
  entry.range = {BlockIndex(0), BlockCount(1)};
  const auto refuse = [&](uint64_t generation, uint64_t seq) {
    entry.position = {Generation(generation), Seq(seq)};
    ExpectRefused(history, entry, "does not follow 2.2");
  };
  refuse(2, 2);  // twice
  refuse(2, 1);
  refuse(1, 9);  // an older head
  refuse(3, 2);  // a new head that gives a Seq again
  entry.position = {Generation(3), Seq(3)};
  history.Apply(entry);
}

TEST(Catalogue, RefusesEntriesOfStreamsThatAreNot) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  LogEntry entry = history.Next(VolumeId(8), EntryKind::kWrite);
  ExpectRefused(history, entry, "there is no such volume");
  history.DeleteVolume(volume);
  entry.volume = volume;
  ExpectRefused(history, entry, "the volume was deleted");
  ExpectRefused(history, history.Next(kCatalogueVolume, EntryKind::kWrite), "does not belong");
  ExpectRefused(history, history.Next(kCatalogueVolume, EntryKind::kSeal), "has no Seq");
  const VolumeId next = history.CreateVolume("db");
  ExpectRefused(history, history.Next(next, EntryKind::kVolumeDelete, EncodeVolumeDelete({next})),
                "does not belong");
  ExpectRefused(history, history.Next(next, static_cast<EntryKind>(31)), "does not belong");
}

TEST(Catalogue, RefusesWritesIntoAnotherTimelineR37) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  const SnapshotId snapshot = history.Snapshot(volume, "s");
  LogEntry write = history.Next(volume, EntryKind::kWrite);
  write.range = {BlockIndex(0), BlockCount(1)};
  history.StartTimeline(volume, snapshot);
  write.position.seq = Seq(10);
  ExpectRefused(history, write, "is for timeline 1, but 2 is the current one");
  write.kind = EntryKind::kZero;
  ExpectRefused(history, write, "is for timeline 1");
}

TEST(Catalogue, RefusesRangesThatAreInNoVolume) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  LogEntry zero = history.Next(volume, EntryKind::kZero);
  const uint64_t blocks = kMaxVolumeBytes / kBlockSize;
  zero.range = {BlockIndex(5), BlockCount(0)};
  ExpectRefused(history, zero, "its range");
  zero.range = {BlockIndex(1), BlockCount(blocks)};
  ExpectRefused(history, zero, "its range");
  zero.range = {BlockIndex(1), BlockCount(~uint64_t{0})};
  ExpectRefused(history, zero, "its range");
  // Beyond the volume's end is allowed: a shrink zeroes there (R37).
  zero.range = {BlockIndex(0), BlockCount(blocks)};
  history.Apply(zero);
}

// ---- Snapshots ----------------------------------------------------------------------------------

TEST(Catalogue, ASnapshotClosesAnEpochAndOpensTheNextR29) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  history.Write(volume);
  const SnapshotId id = history.Snapshot(volume, "s");
  const SnapshotRecord& snapshot = history.Record(id);
  EXPECT_EQ(snapshot.position, (Position{Generation(1), Seq(2)}));
  EXPECT_EQ(snapshot.timeline, history.Current(volume));
  EXPECT_EQ(snapshot.size_bytes, History::kSizeBytes);
  EXPECT_EQ(history.catalogue().FindSnapshot(volume, "s"), &snapshot);
  EXPECT_EQ(history.catalogue().FindSnapshot(VolumeId(9), "s"), nullptr);
  EXPECT_EQ(history.catalogue().timelines().at(snapshot.timeline).current_epoch, snapshot.position);
}

TEST(Catalogue, TheCurrentEpochDoesNotGoBackWhenItsSnapshotIsDeleted) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  history.Snapshot(volume, "one");
  const SnapshotId two = history.Snapshot(volume, "two");
  const Position epoch = history.Record(two).position;
  history.DeleteSnapshot(two);
  const TimelineId timeline = history.Current(volume);
  EXPECT_EQ(history.catalogue().timelines().at(timeline).current_epoch, epoch);
  EXPECT_EQ(history.catalogue().NewestRetainedPoint(timeline), (Position{Generation(1), Seq(1)}));
  history.Snapshot(volume, "two");
}

TEST(Catalogue, KeepsTheMembersOfAGroupR34) {
  History history;
  const VolumeId a = history.CreateVolume("a");
  const VolumeId b = history.CreateVolume("b");
  SnapshotBody body{SnapshotId(1), "s", history.catalogue().next_group_id(), {b, a}, false};
  history.Apply(history.Next(a, EntryKind::kSnapshot, EncodeSnapshot(body)));
  EXPECT_GT(history.catalogue().next_group_id(), body.group);
  body.id = SnapshotId(2);
  history.Apply(history.Next(b, EntryKind::kSnapshot, EncodeSnapshot(body)));
  EXPECT_EQ(history.Record(SnapshotId(2)).group, history.Record(SnapshotId(1)).group);
  EXPECT_THAT(history.Record(SnapshotId(2)).group_members, ElementsAre(b, a));
}

TEST(Catalogue, RefusesSnapshotsThatCannotBe) {
  History history;
  const VolumeId volume = history.CreateVolume("a");
  const VolumeId other = history.CreateVolume("b");
  const SnapshotId there = history.Snapshot(volume, "there");
  const SnapshotBody good{SnapshotId(9), "good", {}, {}, false};
  const auto refuse = [&](auto change, const std::string& why) {
    SnapshotBody body = good;
    change(body);
    ExpectRefused(history, history.Next(volume, EntryKind::kSnapshot, EncodeSnapshot(body)), why);
  };
  using Body = SnapshotBody;
  refuse([](Body& body) { body.id = SnapshotId(); }, "snapshot id 0 is not free");
  refuse([&](Body& body) { body.id = there; }, "is not free");
  refuse([](Body& body) { body.name = "there"; }, "there is a snapshot there already");
  refuse([](Body& body) { body.name = "a b"; }, "is no name");
  refuse([](Body& body) { body.group = GroupId(1); }, "no group of this volume");
  refuse([&](Body& body) { body.group_members = {volume}; }, "no group of this volume");
  refuse([&](Body& body) { body = {body.id, body.name, GroupId(1), {other}, false}; },
         "no group of this volume");
  refuse([&](Body& body) { body = {body.id, body.name, GroupId(1), {volume, volume}, false}; },
         "no group of this volume");
  LogEntry elsewhere = history.Next(volume, EntryKind::kSnapshot, EncodeSnapshot(good));
  elsewhere.timeline = TimelineId(7);
  ExpectRefused(history, elsewhere, "is not the current one");
  ExpectRefused(history,
                history.Next(other, EntryKind::kSnapshotDelete, EncodeSnapshotDelete({there})),
                "the volume has no snapshot 1");
  ExpectRefused(
      history,
      history.Next(volume, EntryKind::kSnapshotDelete, EncodeSnapshotDelete({SnapshotId(5)})),
      "the volume has no snapshot 5");
}

// ---- Timelines ----------------------------------------------------------------------------------

TEST(Catalogue, ARollbackStartsATimelineAtTheSnapshotP5) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  history.Write(volume);
  const SnapshotId target = history.Snapshot(volume, "target");
  history.Apply(history.Next(volume, EntryKind::kResize, EncodeResize({8192})));
  const SnapshotId kept = history.Snapshot(volume, "kept");
  const TimelineId before = history.Current(volume);
  const LogEntry start = history.StartOf(volume, target);
  history.Apply(start);
  const TimelineRecord& timeline = history.catalogue().timelines().at(history.Current(volume));
  EXPECT_EQ(timeline.parent, before);
  EXPECT_EQ(timeline.fork, history.Record(target).position);
  EXPECT_EQ(timeline.opened, start.position);
  EXPECT_EQ(timeline.current_epoch, start.position);
  EXPECT_EQ(history.catalogue().volumes().at(volume).size_bytes, History::kSizeBytes)
      << "the size comes back with the data";
  // It can be undone: the state before is a snapshot on the old timeline.
  history.StartTimeline(volume, kept);
  EXPECT_EQ(history.catalogue().volumes().at(volume).size_bytes, 8192u);
  EXPECT_GT(history.Write(volume), start.position) << "Seq goes on above everything before (M1)";
}

TEST(Catalogue, RefusesTimelinesThatCannotBe) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  const SnapshotId snapshot = history.Snapshot(volume, "s");
  const Position fork = history.Record(snapshot).position;
  const TimelineStartBody good{TimelineId(9), TimelineId(1), fork, 4096};
  const auto refuse = [&](auto change, const std::string& why) {
    TimelineStartBody body = good;
    change(body);
    ExpectRefused(history,
                  history.Next(volume, EntryKind::kTimelineStart, EncodeTimelineStart(body)), why);
  };
  using Body = TimelineStartBody;
  refuse([](Body& body) { body.id = TimelineId(0); }, "timeline id 0 is not free");
  refuse([](Body& body) { body.id = TimelineId(1); }, "timeline id 1 is not free");
  refuse([](Body& body) { body.parent = TimelineId(5); }, "has no snapshot or fork at 1.1");
  refuse([](Body& body) { body.parent = TimelineId(12); }, "older than its parent");
  refuse([](Body& body) { body.fork.seq = Seq(2); }, "has no snapshot or fork at 1.2");
  refuse([](Body& body) { body.fork = {}; }, "without a parent");
  refuse([](Body& body) { body.parent = {}, body.fork = {}; }, "without a parent");
  refuse([](Body& body) { body.size_bytes = 0; }, "is no size");
  history.Apply(history.Next(volume, EntryKind::kTimelineStart, EncodeTimelineStart(good)));
}

TEST(Catalogue, ACloneIsAVolumeWhoseFirstTimelineHasAParentM1) {
  History history;
  const VolumeId origin = history.CreateVolume("origin");
  for (int i = 0; i < 20; ++i) history.Write(origin);
  const SnapshotId snapshot = history.Snapshot(origin, "s");
  const VolumeId clone = history.CreateVolume("clone");
  const TimelineId timeline = history.Current(clone);
  TimelineStartBody body{timeline, history.Current(origin), history.Record(snapshot).position,
                         4096};
  LogEntry start = history.Next(clone, EntryKind::kTimelineStart, EncodeTimelineStart(body));
  ExpectRefused(history, start, "does not follow its fork at 1.21");
  start.position.seq = Seq(22);
  history.Apply(start);
  EXPECT_EQ(history.Current(clone), timeline);
  EXPECT_EQ(history.catalogue().timelines().at(timeline).parent, history.Current(origin));
  // Only once, and only as the first entry.
  ExpectRefused(history, history.Next(clone, EntryKind::kTimelineStart, EncodeTimelineStart(body)),
                "is not free");
}

// ---- What is retained: M19, M20 -----------------------------------------------------------------

TEST(Catalogue, RetainsSnapshotsAndForkPoints) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  const TimelineId first = history.Current(volume);
  EXPECT_EQ(history.catalogue().NewestRetainedPoint(first), kFirstPosition);
  EXPECT_THAT(history.catalogue().RetainedPoints(first), IsEmpty());
  const SnapshotId one = history.Snapshot(volume, "one");
  const SnapshotId two = history.Snapshot(volume, "two");
  const Position at_one = history.Record(one).position;
  const Position at_two = history.Record(two).position;
  EXPECT_THAT(history.catalogue().RetainedPoints(first), ElementsAre(at_one, at_two));
  EXPECT_EQ(history.catalogue().NewestRetainedPoint(first), at_two);
  history.StartTimeline(volume, one);
  EXPECT_THAT(history.catalogue().RetainedPoints(first), ElementsAre(at_one, at_two));
  history.DeleteSnapshot(one);
  EXPECT_THAT(history.catalogue().RetainedPoints(first), ElementsAre(at_one, at_two))
      << "a fork point counts as a snapshot until its last child is gone (M20)";
  history.DeleteSnapshot(two);
  EXPECT_THAT(history.catalogue().RetainedPoints(first), ElementsAre(at_one));
}

TEST(Catalogue, SaysWhichPointASnapshotsDeletionFrees) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  const TimelineId first = history.Current(volume);
  const SnapshotId one = history.Snapshot(volume, "one");
  const Position at_one = history.Record(one).position;
  FreedPoints freed = history.catalogue().FreedBySnapshotDelete(one);
  EXPECT_THAT(freed.timelines, IsEmpty());
  EXPECT_THAT(freed.points, ElementsAre(Pair(first, at_one)));
  history.Snapshot(volume, "kept");
  history.StartTimeline(volume, one);
  freed = history.catalogue().FreedBySnapshotDelete(one);
  EXPECT_THAT(freed.points, IsEmpty()) << "the child needs it";
}

TEST(Catalogue, LetsGoOfATimelineWithTheLastSnapshotOnItM20) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  const TimelineId first = history.Current(volume);
  const SnapshotId target = history.Snapshot(volume, "target");
  const SnapshotId kept_one = history.Snapshot(volume, "kept-1");
  const TimelineId second = history.StartTimeline(volume, target);
  const SnapshotId kept_two = history.Snapshot(volume, "kept-2");
  const TimelineId third = history.StartTimeline(volume, target);
  const Position fork = history.Record(target).position;

  FreedPoints freed = history.catalogue().FreedBySnapshotDelete(kept_two);
  EXPECT_THAT(freed.timelines, ElementsAre(second));
  EXPECT_THAT(freed.points, IsEmpty()) << "its fork is another timeline's and a snapshot's too";
  history.DeleteSnapshot(kept_two);
  EXPECT_FALSE(history.catalogue().timelines().contains(second));
  EXPECT_TRUE(history.catalogue().timelines().contains(third));

  history.DeleteSnapshot(kept_one);
  history.DeleteSnapshot(target);
  EXPECT_THAT(history.catalogue().RetainedPoints(first), ElementsAre(fork))
      << "the current timeline stands on it";
  EXPECT_TRUE(history.catalogue().timelines().contains(first));
}

TEST(Catalogue, LetsGoOfAWholeChainOfParentsChildrenFirstM20) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  std::vector<TimelineId> chain = {history.Current(volume)};
  std::vector<SnapshotId> forks;
  for (int i = 0; i < 4; ++i) {
    forks.push_back(history.Snapshot(volume, "fork-" + std::to_string(i)));
    chain.push_back(history.StartTimeline(volume, forks.back()));
  }
  const SnapshotId base = forks[0];
  const SnapshotId last = history.Snapshot(volume, "last");
  history.StartTimeline(volume, base);
  for (size_t i = 1; i < forks.size(); ++i) history.DeleteSnapshot(forks[i]);
  const FreedPoints freed = history.catalogue().FreedBySnapshotDelete(last);
  EXPECT_THAT(freed.timelines, ElementsAre(chain[4], chain[3], chain[2], chain[1]));
  EXPECT_THAT(freed.points, IsEmpty()) << "fork-0 is still there";
  history.DeleteSnapshot(last);
  EXPECT_EQ(history.catalogue().timelines().size(), 2u);
}

TEST(Catalogue, ATimelineThatNothingKeptGoesWithTheNextDelete) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  const SnapshotId target = history.Snapshot(volume, "target");
  const TimelineId left = history.StartTimeline(volume, target);
  history.StartTimeline(volume, target);  // and nothing keeps what it leaves
  EXPECT_TRUE(history.catalogue().timelines().contains(left));
  EXPECT_THAT(history.catalogue().FreedBySnapshotDelete(target).timelines, ElementsAre(left));
  history.DeleteSnapshot(target);
  EXPECT_FALSE(history.catalogue().timelines().contains(left));
}

TEST(Catalogue, DeletingAVolumeTakesItsTimelinesAndSnapshots) {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  const VolumeId other = history.CreateVolume("other");
  const TimelineId first = history.Current(volume);
  const SnapshotId snapshot = history.Snapshot(volume, "s");
  const TimelineId second = history.StartTimeline(volume, snapshot);
  history.Snapshot(other, "s");
  const FreedPoints freed = history.catalogue().FreedByVolumeDelete(volume);
  EXPECT_THAT(freed.timelines, ElementsAre(second, first)) << "children before parents";
  EXPECT_THAT(freed.points, IsEmpty());
  history.DeleteVolume(volume);
  EXPECT_EQ(history.catalogue().FindVolume("db"), nullptr);
  EXPECT_EQ(history.catalogue().FindSnapshot(volume, "s"), nullptr);
  EXPECT_FALSE(history.catalogue().streams().contains(volume));
  EXPECT_EQ(history.catalogue().timelines().size(), 1u);
  EXPECT_EQ(history.catalogue().snapshots().size(), 1u);
}

TEST(Catalogue, ADeletedVolumeLeavesWhatItsClonesStandOn) {
  History history;
  const VolumeId origin = history.CreateVolume("origin");
  const TimelineId origin_timeline = history.Current(origin);
  const SnapshotId snapshot = history.Snapshot(origin, "s");
  const SnapshotId later = history.Snapshot(origin, "later");
  const Position fork = history.Record(snapshot).position;
  const Position at_later = history.Record(later).position;
  const VolumeId clone = history.CreateVolume("clone");
  TimelineStartBody body{history.Current(clone), origin_timeline, fork, 4096};
  LogEntry start = history.Next(clone, EntryKind::kTimelineStart, EncodeTimelineStart(body));
  start.position.seq = Seq(100);
  history.Apply(start);

  const FreedPoints freed = history.catalogue().FreedByVolumeDelete(origin);
  EXPECT_THAT(freed.timelines, IsEmpty());
  EXPECT_THAT(freed.points, ElementsAre(Pair(origin_timeline, at_later)));
  history.DeleteVolume(origin);
  EXPECT_THAT(history.catalogue().RetainedPoints(origin_timeline), ElementsAre(fork));
  ASSERT_TRUE(Catalogue::Decode(history.catalogue().Encode()).ok());

  EXPECT_THAT(history.catalogue().FreedByVolumeDelete(clone).timelines,
              ElementsAre(history.Current(clone), origin_timeline));
  history.DeleteVolume(clone);
  EXPECT_THAT(history.catalogue().timelines(), IsEmpty());
}

// Random histories: the indexes agree with the records, and each delete frees exactly what it said.
class RandomHistory {
 public:
  explicit RandomHistory(uint64_t seed) : random_(seed) { Create(); }

  void Step() {
    const Catalogue& catalogue = history_.catalogue();
    const uint64_t choice = random_.Uniform(20);
    if (catalogue.volumes().empty() || choice == 0) return Create();
    const VolumeId volume = Any(catalogue.volumes());
    if (choice == 1) return DeleteVolume(volume);
    if (choice < 8) {
      history_.Snapshot(volume, "s" + std::to_string(names_++));
      return;
    }
    if (catalogue.snapshots().empty()) return;
    const SnapshotId snapshot = Any(catalogue.snapshots());
    if (choice < 15) return DeleteSnapshot(snapshot);
    if (choice < 18) {
      history_.StartTimeline(history_.Record(snapshot).volume, snapshot);
      return;
    }
    Clone(snapshot);
  }

  void Check() const {
    const Catalogue& catalogue = history_.catalogue();
    for (const auto& [id, timeline] : catalogue.timelines()) {
      const std::vector<Position> expected = Points(catalogue, id);
      ASSERT_EQ(catalogue.RetainedPoints(id), expected);
      ASSERT_EQ(catalogue.NewestRetainedPoint(id),
                expected.empty() ? kFirstPosition : expected.back());
      ASSERT_TRUE(timeline.parent == TimelineId() ||
                  catalogue.timelines().contains(timeline.parent));
    }
    for (const auto& [id, snapshot] : catalogue.snapshots()) {
      ASSERT_EQ(catalogue.FindSnapshot(snapshot.volume, snapshot.name), &snapshot);
    }
    for (const auto& [id, volume] : catalogue.volumes()) {
      ASSERT_EQ(catalogue.FindVolume(volume.name), &volume);
    }
    const std::string bytes = catalogue.Encode();
    const absl::StatusOr<Catalogue> decoded = Catalogue::Decode(bytes);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    ASSERT_EQ(decoded->Encode(), bytes);
    for (const auto& [id, timeline] : catalogue.timelines()) {
      ASSERT_EQ(decoded->RetainedPoints(id), catalogue.RetainedPoints(id));
    }
  }

 private:
  using PointSet = std::set<std::pair<TimelineId, Position>>;

  template <typename Map>
  typename Map::key_type Any(const Map& map) {
    auto it = map.begin();
    std::advance(it, random_.Uniform(map.size()));
    return it->first;
  }

  // From the records alone.
  static std::vector<Position> Points(const Catalogue& catalogue, TimelineId timeline) {
    std::set<Position> points;
    for (const auto& [id, snapshot] : catalogue.snapshots()) {
      if (snapshot.timeline == timeline) points.insert(snapshot.position);
    }
    for (const auto& [id, child] : catalogue.timelines()) {
      if (child.parent == timeline) points.insert(child.fork);
    }
    return {points.begin(), points.end()};
  }
  static PointSet AllPoints(const Catalogue& catalogue) {
    PointSet all;
    for (const auto& [id, timeline] : catalogue.timelines()) {
      for (const Position& point : Points(catalogue, id)) all.emplace(id, point);
    }
    return all;
  }

  void Create() { history_.CreateVolume("v" + std::to_string(names_++)); }
  void Clone(SnapshotId snapshot) {
    const SnapshotRecord at = history_.Record(snapshot);
    const VolumeId clone = history_.CreateVolume("c" + std::to_string(names_++));
    TimelineStartBody body{history_.Current(clone), at.timeline, at.position, 4096};
    LogEntry start = history_.Next(clone, EntryKind::kTimelineStart, EncodeTimelineStart(body));
    start.position.seq = at.position.seq.Next();
    history_.Apply(start);
  }
  void DeleteSnapshot(SnapshotId snapshot) {
    const Catalogue before = history_.catalogue();
    history_.DeleteSnapshot(snapshot);
    CompareFreed(before, before.FreedBySnapshotDelete(snapshot));
  }
  void DeleteVolume(VolumeId volume) {
    const Catalogue before = history_.catalogue();
    history_.DeleteVolume(volume);
    CompareFreed(before, before.FreedByVolumeDelete(volume));
  }

  void CompareFreed(const Catalogue& before, const FreedPoints& freed) const {
    const Catalogue& after = history_.catalogue();
    std::set<TimelineId> gone;
    for (const auto& [id, timeline] : before.timelines()) {
      if (!after.timelines().contains(id)) gone.insert(id);
    }
    ASSERT_EQ(std::set<TimelineId>(freed.timelines.begin(), freed.timelines.end()), gone);
    ASSERT_EQ(freed.timelines.size(), gone.size());
    for (size_t i = 0; i < freed.timelines.size(); ++i) {
      const TimelineId parent = before.timelines().at(freed.timelines[i]).parent;
      const auto earlier = freed.timelines.begin() + static_cast<ptrdiff_t>(i);
      ASSERT_EQ(std::find(freed.timelines.begin(), earlier, parent), earlier)
          << "a parent before its child";
    }
    PointSet lost;
    const PointSet still = AllPoints(after);
    for (const auto& point : AllPoints(before)) {
      if (!still.contains(point) && !gone.contains(point.first)) lost.insert(point);
    }
    ASSERT_EQ(PointSet(freed.points.begin(), freed.points.end()), lost);
    ASSERT_EQ(freed.points.size(), lost.size());
  }

  Prng random_;
  History history_;
  int names_ = 0;
};

TEST(Catalogue, FreesExactlyWhatItSaidInRandomHistories) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    RandomHistory history(seed);
    for (int step = 0; step < 150; ++step) {
      history.Step();
      history.Check();
      ASSERT_FALSE(testing::Test::HasFatalFailure()) << "seed " << seed << " step " << step;
    }
  }
}

}  // namespace
}  // namespace twofold
