#include "storage/map/catalogue_codec.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/map/golden.h"
#include "tests/map/history.h"

namespace twofold {
namespace {

const VolumeCreateBody kVolumeCreate{VolumeId(3), "db", uint64_t{1} << 30, 1, TimelineId(300), 1};
const SnapshotBody kSnapshot{SnapshotId(200), "s-1", GroupId(5), {VolumeId(3), VolumeId(1)}, true};
const TimelineStartBody kTimelineStart{
    TimelineId(301), TimelineId(300), {Generation(2), Seq(1000)}, 8192};

// Each body: its golden file, its encoding, and decoding and encoding again.
struct Case {
  std::string golden;
  std::string encoded;
  std::function<absl::StatusOr<std::string>(absl::string_view)> again;
};

template <typename Body>
auto Again(absl::StatusOr<Body> (*decode)(absl::string_view), std::string (*encode)(const Body&)) {
  return [decode, encode](absl::string_view bytes) -> absl::StatusOr<std::string> {
    absl::StatusOr<Body> body = decode(bytes);
    if (!body.ok()) return body.status();
    return encode(*body);
  };
}

std::vector<Case> Cases() {
  return {
      {"volume_create", EncodeVolumeCreate(kVolumeCreate),
       Again(DecodeVolumeCreate, EncodeVolumeCreate)},
      {"volume_delete", EncodeVolumeDelete({VolumeId(3)}),
       Again(DecodeVolumeDelete, EncodeVolumeDelete)},
      {"resize", EncodeResize({8192}), Again(DecodeResize, EncodeResize)},
      {"snapshot", EncodeSnapshot(kSnapshot), Again(DecodeSnapshot, EncodeSnapshot)},
      {"snapshot_delete", EncodeSnapshotDelete({SnapshotId(200)}),
       Again(DecodeSnapshotDelete, EncodeSnapshotDelete)},
      {"timeline_start", EncodeTimelineStart(kTimelineStart),
       Again(DecodeTimelineStart, EncodeTimelineStart)},
  };
}

TEST(CatalogueCodec, BodiesHaveTheGoldenBytes) {
  for (const Case& body : Cases()) {
    EXPECT_EQ(body.encoded, Golden("catalogue/" + body.golden + ".hex")) << body.golden;
  }
}

TEST(CatalogueCodec, ReadsWhatItWrote) {
  const VolumeCreateBody volume = DecodeVolumeCreate(EncodeVolumeCreate(kVolumeCreate)).value();
  EXPECT_EQ(volume.id, kVolumeCreate.id);
  EXPECT_EQ(volume.name, kVolumeCreate.name);
  EXPECT_EQ(volume.size_bytes, kVolumeCreate.size_bytes);
  EXPECT_EQ(volume.ack, kVolumeCreate.ack);
  EXPECT_EQ(volume.on_set_loss, kVolumeCreate.on_set_loss);
  EXPECT_EQ(volume.first_timeline, kVolumeCreate.first_timeline);
  const SnapshotBody snapshot = DecodeSnapshot(EncodeSnapshot(kSnapshot)).value();
  EXPECT_EQ(snapshot.id, kSnapshot.id);
  EXPECT_EQ(snapshot.name, kSnapshot.name);
  EXPECT_EQ(snapshot.group, kSnapshot.group);
  EXPECT_EQ(snapshot.group_members, kSnapshot.group_members);
  EXPECT_TRUE(snapshot.before_rollback);
  const TimelineStartBody start = DecodeTimelineStart(EncodeTimelineStart(kTimelineStart)).value();
  EXPECT_EQ(start.id, kTimelineStart.id);
  EXPECT_EQ(start.parent, kTimelineStart.parent);
  EXPECT_EQ(start.fork, kTimelineStart.fork);
  EXPECT_EQ(start.size_bytes, kTimelineStart.size_bytes);
  for (const Case& body : Cases()) EXPECT_EQ(body.again(body.encoded).value(), body.encoded);
}

TEST(CatalogueCodec, RefusesTruncatedAndLongerBodiesAndOtherVersions) {
  for (const Case& body : Cases()) {
    for (size_t length = 0; length < body.encoded.size(); ++length) {
      EXPECT_EQ(body.again(absl::string_view(body.encoded).substr(0, length)).status().code(),
                absl::StatusCode::kDataLoss)
          << body.golden << " cut to " << length;
    }
    EXPECT_FALSE(body.again(body.encoded + '\0').ok()) << body.golden;
    std::string version = body.encoded;
    version[0] = '\2';
    EXPECT_FALSE(body.again(version).ok()) << body.golden;
  }
}

TEST(CatalogueCodec, RefusesNamesAndGroupsOverTheirBounds) {
  SnapshotBody body = kSnapshot;
  body.name = std::string(kMaxNameBytes + 1, 'a');
  EXPECT_FALSE(DecodeSnapshot(EncodeSnapshot(body)).ok());
  body = kSnapshot;
  body.group_members.resize(kMaxGroupMembers + 1, VolumeId(1));
  EXPECT_FALSE(DecodeSnapshot(EncodeSnapshot(body)).ok());
  std::string flags = EncodeSnapshot(kSnapshot);
  flags.back() = '\2';
  EXPECT_FALSE(DecodeSnapshot(flags).ok()) << "an unknown flag";
}

TEST(CatalogueCodec, TheLargestBodyFitsAnEntry) {
  SnapshotBody body{
      SnapshotId(~uint64_t{0}), std::string(kMaxNameBytes, 'a'), GroupId(~uint64_t{0}), {}, true};
  for (size_t i = 0; i < kMaxGroupMembers; ++i) body.group_members.emplace_back(~uint64_t{0} - i);
  EXPECT_LE(EncodeSnapshot(body).size(), kMaxEntryBodyBytes);
}

// ---- The whole ----------------------------------------------------------------------------------

History Example() {
  History history;
  const VolumeId volume = history.CreateVolume("db");
  history.Write(volume);
  const SnapshotId target = history.Snapshot(volume, "target");
  history.NewGeneration();
  history.Write(volume);
  history.Snapshot(volume, "kept");
  history.StartTimeline(volume, target);
  const VolumeId gone = history.CreateVolume("gone");
  history.DeleteVolume(gone);
  return history;
}

TEST(CatalogueCodec, TheWholeHasTheGoldenBytes) {
  EXPECT_EQ(Example().catalogue().Encode(), Golden("catalogue/catalogue.hex"));
  EXPECT_EQ(Catalogue().Encode(), Golden("catalogue/empty.hex"));
}

TEST(CatalogueCodec, ReadsTheWholeBack) {
  const absl::StatusOr<Catalogue> catalogue = Catalogue::Decode(Golden("catalogue/catalogue.hex"));
  ASSERT_TRUE(catalogue.ok()) << catalogue.status();
  EXPECT_EQ(catalogue->Encode(), Golden("catalogue/catalogue.hex"));
  const VolumeRecord* volume = catalogue->FindVolume("db");
  ASSERT_NE(volume, nullptr);
  EXPECT_EQ(volume->size_bytes, History::kSizeBytes);
  EXPECT_EQ(volume->current_timeline, TimelineId(2));
  const SnapshotRecord* kept = catalogue->FindSnapshot(volume->id, "kept");
  ASSERT_NE(kept, nullptr);
  EXPECT_EQ(kept->position, (Position{Generation(2), Seq(4)}));
  EXPECT_EQ(catalogue->timelines().at(TimelineId(2)).fork, (Position{Generation(1), Seq(2)}));
  EXPECT_EQ(catalogue->next_volume_id(), VolumeId(3)) << "also where the last one is gone";
  EXPECT_TRUE(catalogue->WasDeleted(VolumeId(2)));
  EXPECT_EQ(catalogue->streams().at(volume->id).generations.size(), 2u);
  EXPECT_TRUE(Catalogue::Decode(Golden("catalogue/empty.hex")).ok());
}

TEST(CatalogueCodec, RefusesEveryTruncationOfTheWhole) {
  const std::string bytes = Example().catalogue().Encode();
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_EQ(Catalogue::Decode(absl::string_view(bytes).substr(0, length)).status().code(),
              absl::StatusCode::kDataLoss)
        << length;
  }
  EXPECT_FALSE(Catalogue::Decode(bytes + '\0').ok());
}

// One byte of the whole is changed at a time. What is accepted must be a catalogue that can be used
// and encodes to the same bytes.
TEST(CatalogueCodec, NoChangedByteMakesACatalogueThatCannotBeUsed) {
  const std::string bytes = Example().catalogue().Encode();
  int accepted = 0;
  int refused = 0;
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const int change : {1, 2, 3, 4, 8, 16, 32, 64, 128, 255}) {
      std::string changed = bytes;
      changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ change);
      absl::StatusOr<Catalogue> catalogue = Catalogue::Decode(changed);
      if (!catalogue.ok()) {
        ASSERT_EQ(catalogue.status().code(), absl::StatusCode::kDataLoss);
        ++refused;
        continue;
      }
      ++accepted;
      ASSERT_EQ(catalogue->Encode(), changed);
      for (const auto& [id, snapshot] : catalogue->snapshots()) {
        catalogue->FreedBySnapshotDelete(id);
      }
      for (const auto& [id, volume] : catalogue->volumes()) catalogue->FreedByVolumeDelete(id);
    }
  }
  // Stamps, sizes and names may be others; ids and positions hang together.
  EXPECT_GT(accepted, 0);
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace twofold
