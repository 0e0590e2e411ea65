#include "storage/map/usage_plan.h"

#include <algorithm>
#include <map>
#include <set>

#include "storage/base/check.h"

namespace twofold {
namespace {

constexpr size_t kNone = HeldTimeline::kNone;

// What needs a timeline, by itself.
struct Need {
  std::vector<std::pair<Position, SnapshotId>> snapshots;
  std::vector<Position> pins;
  bool current = false;
  std::vector<TimelineId> children;

  // Of it and what descends from it. The only one, where that is a snapshot; else 0.
  uint64_t needs = 0;
  SnapshotId only;
};
using Needs = std::map<TimelineId, Need>;

// What is for one snapshot alone goes with that.
void Add(uint64_t needs, SnapshotId only, Need* need) {
  need->needs += needs;
  need->only = need->needs == 1 ? only : SnapshotId();
}

Needs FindNeeds(const Catalogue& catalogue) {
  Needs needs;
  for (const auto& [id, timeline] : catalogue.timelines()) {
    Need& need = needs[id];
    const auto volume = catalogue.volumes().find(timeline.volume);
    need.current =
        volume != catalogue.volumes().end() && volume->second.current_timeline == timeline.id;
    if (timeline.parent != TimelineId()) needs[timeline.parent].children.push_back(id);
  }
  for (const auto& [id, snapshot] : catalogue.snapshots()) {
    needs.at(snapshot.timeline).snapshots.emplace_back(snapshot.position, id);
  }
  for (const PinRecord& pin : catalogue.pins()) {
    const auto found = needs.find(pin.timeline);
    if (found != needs.end()) found->second.pins.push_back(pin.position);
  }
  // Children come after their parents.
  for (auto it = needs.rbegin(); it != needs.rend(); ++it) {
    Need& need = it->second;
    uint64_t own = need.snapshots.size() + need.pins.size() + (need.current ? 1 : 0);
    Add(own, need.snapshots.size() == 1 ? need.snapshots[0].second : SnapshotId(), &need);
    for (const TimelineId child : need.children) {
      const Need& of_child = needs.at(child);
      if (of_child.needs > 0) {
        Add(of_child.needs, need.needs == 0 ? of_child.only : SnapshotId(), &need);
      }
    }
  }
  return needs;
}

class Planner {
 public:
  Planner(const Catalogue& catalogue, const Lineages& lineages)
      : catalogue_(catalogue), lineages_(lineages), needs_(FindNeeds(catalogue)) {}

  TimelineId RootOf(TimelineId timeline) const {
    for (;;) {
      const TimelineId parent = catalogue_.timelines().at(timeline).parent;
      if (parent == TimelineId()) return timeline;
      timeline = parent;
    }
  }

  UsagePlan PlanTree(TimelineId root) {
    std::set<TimelineId> tree;
    std::vector<TimelineId> todo = {root};
    while (!todo.empty()) {
      const TimelineId timeline = todo.back();
      todo.pop_back();
      const Need& need = needs_.at(timeline);
      if (need.needs == 0) continue;
      tree.insert(timeline);
      todo.insert(todo.end(), need.children.begin(), need.children.end());
    }
    UsagePlan plan;
    std::map<TimelineId, size_t> places;
    for (const TimelineId id : tree) {
      places[id] = plan.timelines.size();
      plan.timelines.push_back(Describe(id));
    }
    for (HeldTimeline& timeline : plan.timelines) Connect(&timeline, places, &plan);
    for (HeldTimeline& timeline : plan.timelines) FindFolds(&timeline);
    FindHeirs(&plan);
    return plan;
  }

 private:
  HeldTimeline Describe(TimelineId id) const {
    const TimelineRecord& record = catalogue_.timelines().at(id);
    const Need& need = needs_.at(id);
    HeldTimeline timeline;
    timeline.id = id;
    timeline.volume = record.volume;
    timeline.flat = lineages_.IsFlat(id);
    timeline.folded = lineages_.IsFolded(id);
    timeline.has_end = need.current;
    for (const auto& [point, snapshot] : need.snapshots) timeline.points.push_back(point);
    for (const Position& point : need.pins) timeline.points.push_back(point);
    for (const TimelineId child : need.children) {
      if (needs_.at(child).needs > 0) {
        timeline.points.push_back(catalogue_.timelines().at(child).fork);
      }
    }
    std::sort(timeline.points.begin(), timeline.points.end());
    timeline.points.erase(std::unique(timeline.points.begin(), timeline.points.end()),
                          timeline.points.end());
    return timeline;
  }

  static size_t HolderAt(const HeldTimeline& timeline, Position point) {
    const auto found = std::lower_bound(timeline.points.begin(), timeline.points.end(), point);
    TF_CHECK(found != timeline.points.end() && *found == point) << timeline.id << " at " << point;
    return static_cast<size_t>(found - timeline.points.begin());
  }

  void Connect(HeldTimeline* timeline, const std::map<TimelineId, size_t>& places,
               UsagePlan* plan) const {
    const TimelineRecord& record = catalogue_.timelines().at(timeline->id);
    const Need& need = needs_.at(timeline->id);
    if (record.parent != TimelineId()) {
      timeline->parent = places.at(record.parent);
      timeline->parent_holder = HolderAt(plan->timelines[timeline->parent], record.fork);
    }
    std::vector<uint32_t> uses(timeline->holders());
    timeline->goes_with.resize(timeline->holders());
    const auto use = [&](size_t holder, SnapshotId with) {
      timeline->goes_with[holder] = ++uses[holder] == 1 ? with : SnapshotId();
    };
    if (timeline->has_end) use(timeline->points.size(), SnapshotId());
    for (const auto& [point, snapshot] : need.snapshots) {
      use(HolderAt(*timeline, point), snapshot);
    }
    for (const Position& point : need.pins) use(HolderAt(*timeline, point), SnapshotId());
    for (const TimelineId child : need.children) {
      const Need& of_child = needs_.at(child);
      if (of_child.needs == 0) continue;
      const size_t holder = HolderAt(*timeline, catalogue_.timelines().at(child).fork);
      use(holder, of_child.only);
      timeline->forks.push_back({places.at(child), holder});
    }
  }

  // What it is needed for, each thing by itself: with one child and nothing else it passes on, and
  // with one child and one thing more it does when that goes.
  void FindFolds(HeldTimeline* timeline) const {
    const Need& need = needs_.at(timeline->id);
    if (need.current) return;
    const size_t uses = need.snapshots.size() + need.pins.size() + timeline->forks.size();
    // One that was folded already has nothing that a pin could hold.
    timeline->passes_on = timeline->forks.size() == 1 && (uses == 1 || timeline->folded);
    if (uses != 2 || timeline->forks.empty()) return;
    if (need.snapshots.size() == 1) {
      timeline->folds.push_back({need.snapshots[0].second, timeline->forks[0]});
    }
    if (timeline->forks.size() != 2) return;
    for (size_t i = 0; i < 2; ++i) {
      const SnapshotId only = OnlyNeed(need, i);
      if (only != SnapshotId()) timeline->folds.push_back({only, timeline->forks[1 - i]});
    }
  }

  // Of the i-th child that is not dead.
  SnapshotId OnlyNeed(const Need& need, size_t i) const {
    for (const TimelineId child : need.children) {
      const Need& of_child = needs_.at(child);
      if (of_child.needs > 0 && i-- == 0) return of_child.only;
    }
    return {};
  }

  void FindHeirs(UsagePlan* plan) const {
    std::vector<HeldTimeline>& timelines = plan->timelines;
    for (size_t i = timelines.size(); i-- > 0;) {
      HeldTimeline& timeline = timelines[i];
      timeline.heir = timeline.passes_on ? timelines[timeline.forks[0].child].heir : i;
    }
    for (HeldTimeline& timeline : timelines) {
      const bool takes_over = timeline.parent != kNone && timelines[timeline.parent].passes_on;
      timeline.owned_from = takes_over ? timelines[timeline.parent].owned_from
                                       : catalogue_.timelines().at(timeline.id).opened;
    }
  }

  const Catalogue& catalogue_;
  const Lineages& lineages_;
  const Needs needs_;
};

}  // namespace

const HeldTimeline* UsagePlan::Find(TimelineId timeline) const {
  const auto found =
      std::lower_bound(timelines.begin(), timelines.end(), timeline,
                       [](const HeldTimeline& held, TimelineId id) { return held.id < id; });
  return found == timelines.end() || found->id != timeline ? nullptr : &*found;
}

UsagePlan PlanUsage(const Catalogue& catalogue, const Lineages& lineages, VolumeId volume) {
  Planner planner(catalogue, lineages);
  return planner.PlanTree(planner.RootOf(catalogue.volumes().at(volume).current_timeline));
}

std::vector<UsagePlan> PlanUsage(const Catalogue& catalogue, const Lineages& lineages) {
  Planner planner(catalogue, lineages);
  std::vector<UsagePlan> plans;
  for (const auto& [id, timeline] : catalogue.timelines()) {
    if (timeline.parent != TimelineId()) continue;
    UsagePlan plan = planner.PlanTree(id);
    if (!plan.timelines.empty()) plans.push_back(std::move(plan));
  }
  return plans;
}

}  // namespace twofold
