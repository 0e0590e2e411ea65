// The catalogue, whole and as bodies of entries: whatever the bytes, decoding gives kDataLoss or
// something that encodes to the same bytes; a catalogue that decodes can be asked everything and
// takes entries.

#include <cstddef>
#include <cstdint>
#include <string>

#include "storage/base/check.h"
#include "storage/map/catalogue.h"
#include "storage/map/catalogue_codec.h"
#include "storage/map/resync_plan.h"

namespace twofold {
namespace {

template <typename Body>
void TryBody(const absl::StatusOr<Body>& body, std::string (*encode)(const Body&),
             absl::string_view bytes) {
  if (!body.ok()) {
    TF_CHECK(body.status().code() == absl::StatusCode::kDataLoss);
    return;
  }
  TF_CHECK_EQ(encode(*body), bytes);
}

// A catalogue with a volume and a snapshot, for entries to be applied to.
Catalogue Small() {
  Catalogue catalogue;
  LogEntry entry;
  entry.kind = EntryKind::kVolumeCreate;
  entry.position = {Generation(1), Seq(1)};
  entry.body = EncodeVolumeCreate({VolumeId(1), "v", 4096, 0, TimelineId(1)});
  TF_CHECK_OK(catalogue.Apply(entry));
  entry.kind = EntryKind::kSnapshot;
  entry.volume = VolumeId(1);
  entry.timeline = TimelineId(1);
  entry.body = EncodeSnapshot({SnapshotId(1), "s", {}, {}, false});
  TF_CHECK_OK(catalogue.Apply(entry));
  return catalogue;
}

void TryApply(EntryKind kind, VolumeId volume, absl::string_view body) {
  Catalogue catalogue = Small();
  LogEntry entry;
  entry.kind = kind;
  entry.volume = volume;
  entry.timeline = TimelineId(1);
  entry.position = {Generation(1), Seq(2)};
  entry.body = std::string(body);
  const std::string before = catalogue.Encode();
  const absl::Status status = catalogue.Apply(entry);
  if (!status.ok()) {
    TF_CHECK(status.code() == absl::StatusCode::kDataLoss);
    TF_CHECK_EQ(catalogue.Encode(), before);
    return;
  }
  const std::string after = catalogue.Encode();
  const absl::StatusOr<Catalogue> decoded = Catalogue::Decode(after);
  TF_CHECK_OK(decoded);
  TF_CHECK_EQ(decoded->Encode(), after);
}

// As the goal of a resync, for a copy with little in it and for one without anything. A goal comes
// from the log, or from another store.
void TryGoal(const Catalogue& goal) {
  (void)MakeGoal(goal);
  for (const Catalogue& copy : {Catalogue(), Small(), goal}) {
    for (const bool pin : {false, true}) {
      absl::StatusOr<Catalogue> replay = BeginReplay(copy, goal, pin);
      if (!replay.ok()) continue;
      for (const ResyncSpan& span : PlanResync(*replay, goal)) {
        (void)LeftBy(*replay, goal, span);
        OpenSpan(&*replay, goal, span);
        EndSpan(&*replay, goal, span);
        TF_CHECK_OK(Catalogue::Decode(replay->Encode()).status());
      }
      (void)CheckReplay(*replay, goal);
    }
  }
}

void TryWhole(absl::string_view bytes) {
  absl::StatusOr<Catalogue> catalogue = Catalogue::Decode(bytes);
  if (!catalogue.ok()) {
    TF_CHECK(catalogue.status().code() == absl::StatusCode::kDataLoss);
    return;
  }
  TF_CHECK_EQ(catalogue->Encode(), bytes);
  for (const auto& [id, timeline] : catalogue->timelines()) {
    TF_CHECK_EQ(catalogue->RetainedPoints(id).empty(),
                catalogue->NewestRetainedPoint(id) == kFirstPosition);
  }
  for (const auto& [id, snapshot] : catalogue->snapshots()) catalogue->FreedBySnapshotDelete(id);
  for (const auto& [id, volume] : catalogue->volumes()) catalogue->FreedByVolumeDelete(id);
  TryGoal(*catalogue);
}

}  // namespace
}  // namespace twofold

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace twofold;  // NOLINT: the fuzzer's entry point is outside
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  TryWhole(bytes);
  TryBody(DecodeVolumeCreate(bytes), EncodeVolumeCreate, bytes);
  TryBody(DecodeVolumeDelete(bytes), EncodeVolumeDelete, bytes);
  TryBody(DecodeResize(bytes), EncodeResize, bytes);
  TryBody(DecodeSnapshot(bytes), EncodeSnapshot, bytes);
  TryBody(DecodeSnapshotDelete(bytes), EncodeSnapshotDelete, bytes);
  TryBody(DecodeTimelineStart(bytes), EncodeTimelineStart, bytes);
  for (const EntryKind kind : {EntryKind::kVolumeCreate, EntryKind::kVolumeDelete}) {
    TryApply(kind, kCatalogueVolume, bytes);
  }
  for (const EntryKind kind : {EntryKind::kSnapshot, EntryKind::kSnapshotDelete,
                               EntryKind::kTimelineStart, EntryKind::kResize}) {
    TryApply(kind, VolumeId(1), bytes);
  }
  return 0;
}
