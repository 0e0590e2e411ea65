#include "storage/map/resync_plan.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"

namespace twofold {
namespace {

std::string Text(const Position& position) {
  return absl::StrCat(position.generation.value(), ".", position.seq.value());
}

// The point that shows everything up to `position`.
Position Behind(const Position& position) { return {position.generation, position.seq.Next()}; }

bool Contains(const std::vector<Position>& points, Position point) {
  return std::binary_search(points.begin(), points.end(), point);
}

bool IsCurrent(const Catalogue& catalogue, const TimelineRecord& timeline) {
  const auto volume = catalogue.volumes().find(timeline.volume);
  return volume != catalogue.volumes().end() && volume->second.current_timeline == timeline.id;
}

bool HasSnapshotAt(const Catalogue& catalogue, TimelineId timeline, Position position) {
  return std::any_of(
      catalogue.snapshots().begin(), catalogue.snapshots().end(), [&](const auto& entry) {
        return entry.second.timeline == timeline && entry.second.position == position;
      });
}

// Up to where the catalogue's replica has everything of the timeline that a point shows.
Position CompleteUpTo(const Catalogue& catalogue, const TimelineRecord& timeline) {
  if (!catalogue.timelines().contains(timeline.id)) return kFirstPosition;
  const auto stream = catalogue.streams().find(timeline.volume);
  if (stream != catalogue.streams().end()) return stream->second.applied;
  // Its volume is gone, and with it what no point shows.
  return catalogue.NewestRetainedPoint(timeline.id);
}

absl::Status NotTheGoal(const std::string& what) {
  return absl::DataLossError(absl::StrCat(
      "the resync did not lead where the other set is: ", what,
      ". Nothing was made valid; check both sets with `twofold inspect --verify`, then give this "
      "one an empty directory"));
}

}  // namespace

// Changes catalogues past what entries do to them.
class CatalogueReplay {
 public:
  CatalogueReplay(Catalogue* catalogue, const Catalogue& goal) : next_(*catalogue), goal_(goal) {}

  void PinOldState() {
    for (const auto& [id, volume] : next_.volumes_) {
      const Position applied = next_.streams_.at(id).applied;
      if (applied == kFirstPosition || !goal_.volumes().contains(id)) continue;
      next_.AddPin({volume.current_timeline, Behind(applied), /*old_state=*/true});
      next_.timelines_.at(volume.current_timeline).current_epoch = Behind(applied);
    }
  }

  // What the goal does not have goes; what it has and some record that goes holds is pinned.
  void DropWhatTheGoalLacks() {
    for (const auto& [id, timeline] : next_.timelines_) {
      if (!goal_.timelines().contains(id)) continue;
      const std::vector<Position> wanted = goal_.RetainedPoints(id);
      for (const Position& point : next_.RetainedPoints(id)) {
        if (Contains(wanted, point)) Hold(id, point);
      }
    }
    std::vector<PinRecord> stale;
    for (const PinRecord& pin : next_.pins_) {
      const bool wanted = goal_.timelines().contains(pin.timeline) &&
                          Contains(goal_.RetainedPoints(pin.timeline), pin.position);
      if (!pin.old_state && !wanted) stale.push_back(pin);
    }
    next_.RemovePins(stale);
    for (auto it = next_.snapshots_.begin(); it != next_.snapshots_.end();) {
      const SnapshotId id = (it++)->first;
      if (!goal_.snapshots().contains(id)) next_.RemoveSnapshot(id);
    }
    for (auto it = next_.volumes_.begin(); it != next_.volumes_.end();) {
      const VolumeRecord& volume = (it++)->second;
      if (!goal_.volumes().contains(volume.id)) RemoveVolume(volume.id);
    }
    RemoveUnneededTimelines();
  }

  void Reach(const ResyncSpan& span) {
    TimelineRecord& timeline = next_.timelines_.at(span.timeline);
    timeline.current_epoch = std::max(timeline.current_epoch, span.as_of);
    for (const auto& [id, snapshot] : goal_.snapshots()) {
      const bool here = snapshot.timeline == span.timeline && snapshot.position == span.as_of;
      if (here && !next_.snapshots_.contains(id)) next_.AddSnapshot(snapshot);
    }
    Hold(span.timeline, span.as_of);
    const auto goal = goal_.streams().find(timeline.volume);
    if (goal == goal_.streams().end()) return;
    StreamRecord stream = goal->second;
    stream.applied = span.as_of;
    std::erase_if(stream.generations,
                  [&span](const Position& first) { return first > span.as_of; });
    next_.streams_[timeline.volume] = std::move(stream);
  }

  // The stream as it was right after `snapshot`.
  void CutStream(const SnapshotRecord& snapshot) {
    StreamRecord& stream = next_.streams_.at(snapshot.volume);
    stream.applied = snapshot.position;
    stream.last_stamp = snapshot.created;
    std::erase_if(stream.generations,
                  [&snapshot](const Position& first) { return first > snapshot.position; });
  }

  // The timeline of the span is there, and its volume's current one.
  void Open(const ResyncSpan& span) {
    const TimelineRecord& timeline = goal_.timelines().at(span.timeline);
    const auto goal_volume = goal_.volumes().find(timeline.volume);
    if (!next_.timelines_.contains(timeline.id)) {
      TimelineRecord opened = timeline;
      opened.current_epoch = opened.opened;
      next_.AddTimeline(opened);
      // Of a volume that was deleted only what others need is left.
      if (goal_volume == goal_.volumes().end()) Hold(timeline.id, Behind(opened.opened));
    }
    if (goal_volume == goal_.volumes().end()) return;
    const auto volume = next_.volumes_.find(timeline.volume);
    if (volume != next_.volumes_.end()) {
      volume->second.current_timeline = timeline.id;
      return;
    }
    VolumeRecord made = goal_volume->second;
    made.current_timeline = timeline.id;
    next_.streams_[made.id] = {};
    next_.AddVolume(std::move(made));
  }

 private:
  // A point of the goal that no snapshot of the goal holds here.
  void Hold(TimelineId timeline, Position point) {
    const bool pinned = std::any_of(
        next_.pins_.begin(), next_.pins_.end(),
        [&](const PinRecord& pin) { return pin.timeline == timeline && pin.position == point; });
    if (pinned || HasSnapshotAt(goal_, timeline, point)) return;
    next_.AddPin({timeline, point, /*old_state=*/false});
  }

  void RemoveVolume(VolumeId id) {
    next_.volumes_by_name_.erase(next_.volumes_.at(id).name);
    next_.volumes_.erase(id);
    next_.streams_.erase(id);
  }

  void RemoveUnneededTimelines() {
    // Children first: they hold points of their parents.
    std::vector<TimelineId> ids;
    for (const auto& [id, timeline] : next_.timelines_) ids.push_back(id);
    for (auto id = ids.rbegin(); id != ids.rend(); ++id) {
      const TimelineRecord& timeline = next_.timelines_.at(*id);
      if (IsCurrent(next_, timeline) || next_.retained_.contains(*id)) continue;
      next_.RemoveTimelines({*id});
    }
  }

  Catalogue& next_;
  const Catalogue& goal_;
};

std::optional<Position> NewestShown(Position as_of, const std::vector<Position>& generations) {
  if (as_of.seq.value() <= 1) return std::nullopt;
  const Seq seq(as_of.seq.value() - 1);
  if (generations.empty()) return Position{as_of.generation, seq};
  std::optional<Position> newest;
  for (const Position& first : generations) {
    if (first.seq <= seq && first < as_of) newest = Position{first.generation, seq};
  }
  return newest;
}

absl::StatusOr<Catalogue> MakeGoal(const Catalogue& source) {
  Catalogue goal = source;
  std::map<VolumeId, const SnapshotRecord*> newest;
  for (const auto& [id, snapshot] : source.snapshots()) {
    if (source.volumes().at(snapshot.volume).current_timeline != snapshot.timeline) continue;
    const SnapshotRecord*& record = newest[snapshot.volume];
    if (record == nullptr || record->position < snapshot.position) record = &snapshot;
  }
  for (const auto& [id, volume] : source.volumes()) {
    const auto snapshot = newest.find(id);
    if (snapshot == newest.end()) {
      return absl::FailedPreconditionError(
          absl::StrCat("volume ", volume.name, " has no snapshot to be filled up to"));
    }
    CatalogueReplay(&goal, source).CutStream(*snapshot->second);
  }
  return goal;
}

absl::Status CheckCommonHistory(const Catalogue& source, const Catalogue& target) {
  for (const auto& [volume, ours] : target.streams()) {
    if (ours.applied == kFirstPosition) continue;
    const auto found = source.streams().find(volume);
    if (found == source.streams().end()) {
      if (source.WasDeleted(volume)) continue;
      return absl::FailedPreconditionError(absl::StrCat(
          "this set has a volume ", volume.value(), " that the other set never had: they have no ",
          "common history. Move this set's directory aside and replace it with an empty one"));
    }
    const StreamRecord& theirs = found->second;
    // The generations that ours has must be theirs as well, and ours must not have gone on in the
    // last of them to where theirs had ended already.
    const size_t shared = ours.generations.size();
    bool common =
        ours.applied <= theirs.applied && shared <= theirs.generations.size() &&
        std::equal(ours.generations.begin(), ours.generations.end(), theirs.generations.begin());
    if (common && shared < theirs.generations.size()) {
      common = ours.applied.seq < theirs.generations[shared].seq;
    }
    if (common) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "volume ", volume.value(), ": this set has the entries up to ", Text(ours.applied),
        ", which are not a beginning of the other set's up to ", Text(theirs.applied),
        ": one of them was forced to go on alone. Move this set's directory aside, it still holds ",
        "that state, and replace it with an empty one"));
  }
  return absl::OkStatus();
}

std::vector<ResyncSpan> PlanResync(const Catalogue& catalogue, const Catalogue& goal) {
  std::vector<ResyncSpan> spans;
  for (const auto& [id, timeline] : goal.timelines()) {
    Position after = CompleteUpTo(catalogue, timeline);
    for (const Position& point : goal.RetainedPoints(id)) {
      if (point <= after) continue;
      spans.push_back({id, after, point});
      after = point;
    }
  }
  return spans;
}

absl::StatusOr<Catalogue> BeginReplay(const Catalogue& catalogue, const Catalogue& goal, bool pin) {
  for (const auto& [id, volume] : goal.volumes()) {
    if (goal.NewestRetainedPoint(volume.current_timeline) == goal.streams().at(id).applied) {
      continue;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("the goal of a resync does not end with a snapshot of volume ", volume.name));
  }
  TF_RETURN_IF_ERROR(CheckCommonHistory(goal, catalogue));
  Catalogue next = catalogue;
  CatalogueReplay replay(&next, goal);
  if (pin) replay.PinOldState();
  replay.DropWhatTheGoalLacks();
  return next;
}

void EndSpan(Catalogue* catalogue, const Catalogue& goal, const ResyncSpan& span) {
  CatalogueReplay(catalogue, goal).Reach(span);
}

std::optional<VolumeId> LeftBy(const Catalogue& catalogue, const Catalogue& goal,
                               const ResyncSpan& span) {
  const VolumeId id = goal.timelines().at(span.timeline).volume;
  const auto volume = catalogue.volumes().find(id);
  if (volume == catalogue.volumes().end() || !goal.volumes().contains(id) ||
      volume->second.current_timeline == span.timeline) {
    return std::nullopt;
  }
  return id;
}

void OpenSpan(Catalogue* catalogue, const Catalogue& goal, const ResyncSpan& span) {
  CatalogueReplay(catalogue, goal).Open(span);
}

absl::Status CheckReplay(const Catalogue& catalogue, const Catalogue& goal) {
  for (const auto& [id, volume] : goal.volumes()) {
    const auto ours = catalogue.volumes().find(id);
    if (ours == catalogue.volumes().end()) {
      return NotTheGoal(absl::StrCat("volume ", volume.name, " is not there"));
    }
    if (ours->second.current_timeline != volume.current_timeline ||
        catalogue.streams().at(id).applied != goal.streams().at(id).applied) {
      return NotTheGoal(absl::StrCat("volume ", volume.name, " is at ",
                                     Text(catalogue.streams().at(id).applied), ", not at ",
                                     Text(goal.streams().at(id).applied)));
    }
  }
  for (const auto& [id, timeline] : goal.timelines()) {
    const std::vector<Position> wanted = goal.RetainedPoints(id);
    const std::vector<Position> points = catalogue.RetainedPoints(id);
    if (!std::includes(points.begin(), points.end(), wanted.begin(), wanted.end())) {
      return NotTheGoal(absl::StrCat("timeline ", id.value(), " lacks a snapshot"));
    }
    const auto ours = catalogue.timelines().find(id);
    if (ours == catalogue.timelines().end()) continue;  // and nothing shows anything of it
    if (ours->second.parent != timeline.parent || ours->second.fork != timeline.fork ||
        ours->second.opened != timeline.opened) {
      return NotTheGoal(absl::StrCat("timeline ", id.value(), " begins elsewhere"));
    }
  }
  return absl::OkStatus();
}

}  // namespace twofold
