// What a delete lets go (M20): points, and timelines that nothing needs any more, up the chain of
// parents.
#include <map>
#include <optional>
#include <set>

#include "storage/base/check.h"
#include "storage/map/catalogue.h"

namespace twofold {
namespace {

// Follows one delete through the catalogue without changing it.
class Reach {
 public:
  // `without`: a volume whose current timeline is no longer one.
  Reach(const Catalogue& catalogue,
        const std::map<TimelineId, std::map<Position, uint32_t>>& retained,
        std::optional<VolumeId> without)
      : catalogue_(catalogue), retained_(retained), without_(without) {}

  // A snapshot or fork at `point` goes.
  void Drop(TimelineId timeline, Position point) {
    uint32_t& dropped = dropped_[{timeline, point}];
    if (++dropped < retained_.at(timeline).at(point)) return;
    points_.emplace_back(timeline, point);
    ++freed_on_[timeline];
  }

  // Takes away the timeline if nothing needs it, then its parent if that was all that needed it,
  // and so on.
  void LetGoIfUnneeded(TimelineId timeline) {
    while (timeline != TimelineId() && !gone_.contains(timeline) && !IsNeeded(timeline)) {
      gone_.insert(timeline);
      timelines_.push_back(timeline);
      const TimelineRecord& record = catalogue_.timelines().at(timeline);
      if (record.parent != TimelineId()) Drop(record.parent, record.fork);
      timeline = record.parent;
    }
  }

  FreedPoints Finish() && {
    std::erase_if(points_, [this](const auto& point) { return gone_.contains(point.first); });
    return {std::move(timelines_), std::move(points_)};
  }

 private:
  bool IsNeeded(TimelineId timeline) const {
    const TimelineRecord& record = catalogue_.timelines().at(timeline);
    const auto volume = catalogue_.volumes().find(record.volume);
    if (volume != catalogue_.volumes().end() && volume->first != without_ &&
        volume->second.current_timeline == timeline) {
      return true;
    }
    const auto points = retained_.find(timeline);
    if (points == retained_.end()) return false;
    const auto freed = freed_on_.find(timeline);
    return freed == freed_on_.end() || freed->second < points->second.size();
  }

  const Catalogue& catalogue_;
  const std::map<TimelineId, std::map<Position, uint32_t>>& retained_;
  const std::optional<VolumeId> without_;
  std::map<std::pair<TimelineId, Position>, uint32_t> dropped_;  // of the holders of each point
  std::map<TimelineId, size_t> freed_on_;                        // points without a holder
  std::set<TimelineId> gone_;
  std::vector<TimelineId> timelines_;
  std::vector<std::pair<TimelineId, Position>> points_;
};

}  // namespace

FreedPoints Catalogue::FreedBySnapshotDelete(SnapshotId snapshot) const {
  const auto found = snapshots_.find(snapshot);
  TF_CHECK(found != snapshots_.end()) << snapshot;
  Reach reach(*this, retained_, std::nullopt);
  reach.Drop(found->second.timeline, found->second.position);
  // Of the whole volume: a rollback may have left a timeline that nothing has needed since.
  for (const auto& [id, timeline] : timelines_) {
    if (timeline.volume == found->second.volume) reach.LetGoIfUnneeded(id);
  }
  return std::move(reach).Finish();
}

FreedPoints Catalogue::FreedByVolumeDelete(VolumeId volume) const {
  TF_CHECK(volumes_.contains(volume)) << volume;
  Reach reach(*this, retained_, volume);
  for (const auto& [id, snapshot] : snapshots_) {
    if (snapshot.volume == volume) reach.Drop(snapshot.timeline, snapshot.position);
  }
  for (const auto& [id, timeline] : timelines_) {
    if (timeline.volume == volume) reach.LetGoIfUnneeded(id);
  }
  return std::move(reach).Finish();
}

}  // namespace twofold
