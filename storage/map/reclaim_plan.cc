#include "storage/map/reclaim_plan.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"

namespace twofold {
namespace {

constexpr uint8_t kVersion = 1;

void WritePosition(ByteWriter& writer, const Position& position) {
  writer.WriteVarint64(position.generation.value());
  writer.WriteVarint64(position.seq.value());
}

Position ReadPosition(ByteReader& reader) {
  const Generation generation(reader.ReadVarint64());
  const Seq seq(reader.ReadVarint64());
  return {generation, seq};
}

// The jobs that take `points` and, if it goes, the end off a timeline that stays.
class TimelinePlan {
 public:
  TimelinePlan(const Catalogue& catalogue, const TimelineRecord& timeline, bool has_end,
               std::vector<ReclaimJob>* jobs)
      : timeline_(timeline), has_end_(has_end), jobs_(*jobs) {
    for (const Position& point : catalogue.RetainedPoints(timeline.id)) points_.insert(point);
  }

  void DropEnd() {
    has_end_ = false;
    AddTail(points_.empty() ? kFirstPosition : *points_.rbegin(), {});
  }

  void DropPoint(Position point) {
    const auto found = points_.find(point);
    TF_CHECK(found != points_.end()) << "of timeline " << timeline_.id << " at " << point;
    const auto next = std::next(found);
    const Position previous = found == points_.begin() ? kFirstPosition : *std::prev(found);
    if (next == points_.end() && !has_end_) {
      AddTail(previous, {point});
    } else {
      jobs_.push_back({.kind = ReclaimJob::Kind::kPoint,
                       .timeline = timeline_,
                       .previous = previous,
                       .point = point,
                       .next = next == points_.end() ? kLastPosition : *next,
                       .points = {point}});
    }
    points_.erase(found);
  }

 private:
  void AddTail(Position previous, std::vector<Position> points) {
    jobs_.push_back({.kind = ReclaimJob::Kind::kTail,
                     .timeline = timeline_,
                     .previous = previous,
                     .point = {},
                     .next = {},
                     .points = std::move(points)});
  }

  const TimelineRecord timeline_;
  bool has_end_;
  std::set<Position> points_;
  std::vector<ReclaimJob>& jobs_;
};

bool IsCurrent(const Catalogue& catalogue, const TimelineRecord& timeline) {
  const auto volume = catalogue.volumes().find(timeline.volume);
  return volume != catalogue.volumes().end() && volume->second.current_timeline == timeline.id;
}

std::vector<ReclaimJob> Plan(const Catalogue& catalogue, const FreedPoints& freed,
                             std::optional<VolumeId> deleted) {
  std::vector<ReclaimJob> jobs;
  for (const TimelineId timeline : freed.timelines) {
    jobs.push_back({.kind = ReclaimJob::Kind::kTail,
                    .timeline = catalogue.timelines().at(timeline),
                    .previous = kFirstPosition,
                    .point = {},
                    .next = {},
                    .points = catalogue.RetainedPoints(timeline)});
  }
  std::map<TimelineId, std::set<Position, std::greater<>>> points;
  for (const auto& [timeline, point] : freed.points) points[timeline].insert(point);
  const std::set<TimelineId> gone(freed.timelines.begin(), freed.timelines.end());
  for (const auto& [id, timeline] : catalogue.timelines()) {
    const bool loses_end =
        timeline.volume == deleted && IsCurrent(catalogue, timeline) && !gone.contains(id);
    if (!loses_end && !points.contains(id)) continue;
    TimelinePlan plan(catalogue, timeline, IsCurrent(catalogue, timeline), &jobs);
    if (loses_end) plan.DropEnd();
    for (const Position& point : points[id]) plan.DropPoint(point);
  }
  return jobs;
}

}  // namespace

std::vector<ReclaimJob> PlanSnapshotDelete(const Catalogue& catalogue, SnapshotId snapshot) {
  return Plan(catalogue, catalogue.FreedBySnapshotDelete(snapshot), std::nullopt);
}

std::vector<ReclaimJob> PlanVolumeDelete(const Catalogue& catalogue, VolumeId volume) {
  return Plan(catalogue, catalogue.FreedByVolumeDelete(volume), volume);
}

std::vector<ReclaimJob> PlanTimelineStart(const Catalogue& catalogue, VolumeId volume) {
  const auto record = catalogue.volumes().find(volume);
  TF_CHECK(record != catalogue.volumes().end()) << "volume " << volume;
  const TimelineRecord& timeline = catalogue.timelines().at(record->second.current_timeline);
  std::vector<ReclaimJob> jobs;
  // With no point on it the catalogue keeps it for the next delete in the volume.
  if (catalogue.RetainedPoints(timeline.id).empty()) return jobs;
  TimelinePlan(catalogue, timeline, /*has_end=*/true, &jobs).DropEnd();
  return jobs;
}

std::vector<ReclaimJob> PlanCatalogueChange(const Catalogue& before, const Catalogue& after) {
  std::vector<ReclaimJob> jobs;
  const auto add_whole = [&before, &jobs](const TimelineRecord& timeline) {
    jobs.push_back({.kind = ReclaimJob::Kind::kTail,
                    .timeline = timeline,
                    .previous = kFirstPosition,
                    .point = {},
                    .next = {},
                    .points = before.RetainedPoints(timeline.id)});
  };
  // Children before parents: ids grow.
  for (auto it = before.timelines().rbegin(); it != before.timelines().rend(); ++it) {
    if (!after.timelines().contains(it->first)) add_whole(it->second);
  }
  for (const auto& [id, timeline] : before.timelines()) {
    const auto stays = after.timelines().find(id);
    if (stays == after.timelines().end()) continue;
    const std::vector<Position> points = before.RetainedPoints(id);
    const std::vector<Position> left = after.RetainedPoints(id);
    const bool has_end = IsCurrent(before, timeline);
    TimelinePlan plan(before, timeline, has_end, &jobs);
    // With no point on it the catalogue keeps it for the next delete, as after a rollback.
    if (has_end && !IsCurrent(after, stays->second) && !points.empty()) plan.DropEnd();
    for (auto point = points.rbegin(); point != points.rend(); ++point) {
      if (!std::binary_search(left.begin(), left.end(), *point)) plan.DropPoint(*point);
    }
  }
  return jobs;
}

std::string EncodeReclaimJob(const ReclaimJob& job) {
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.WriteU8(kVersion);
  writer.WriteU8(static_cast<uint8_t>(job.kind));
  writer.WriteVarint64(job.timeline.id.value());
  writer.WriteVarint64(job.timeline.volume.value());
  writer.WriteVarint64(job.timeline.parent.value());
  WritePosition(writer, job.timeline.fork);
  WritePosition(writer, job.timeline.opened);
  WritePosition(writer, job.timeline.current_epoch);
  WritePosition(writer, job.previous);
  WritePosition(writer, job.point);
  WritePosition(writer, job.next);
  writer.WriteU8(job.in_effect ? 1 : 0);
  writer.WriteVarint64(job.points.size());
  for (const Position& point : job.points) WritePosition(writer, point);
  return bytes;
}

absl::StatusOr<ReclaimJob> DecodeReclaimJob(absl::string_view bytes) {
  ByteReader reader(bytes);
  if (reader.ReadU8() != kVersion) reader.Fail();
  const uint8_t kind = reader.ReadU8();
  if (kind < 1 || kind > 2) reader.Fail();
  ReclaimJob job;
  job.kind = static_cast<ReclaimJob::Kind>(kind);
  job.timeline.id = TimelineId(reader.ReadVarint64());
  job.timeline.volume = VolumeId(reader.ReadVarint64());
  job.timeline.parent = TimelineId(reader.ReadVarint64());
  job.timeline.fork = ReadPosition(reader);
  job.timeline.opened = ReadPosition(reader);
  job.timeline.current_epoch = ReadPosition(reader);
  job.previous = ReadPosition(reader);
  job.point = ReadPosition(reader);
  job.next = ReadPosition(reader);
  const uint8_t in_effect = reader.ReadU8();
  if (in_effect > 1) reader.Fail();
  job.in_effect = in_effect == 1;
  const uint64_t points = reader.ReadVarint64();
  for (uint64_t i = 0; i < points && !reader.failed(); ++i) {
    const Position point = ReadPosition(reader);
    if (!job.points.empty() && point <= job.points.back()) reader.Fail();
    job.points.push_back(point);
  }
  if (!reader.finished()) {
    return absl::DataLossError(absl::StrCat("map: reclaim job does not decode (", bytes.size(),
                                            " bytes); rebuild the map from the log"));
  }
  return job;
}

}  // namespace twofold
