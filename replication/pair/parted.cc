#include "replication/pair/parted.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "storage/base/types.h"

namespace twofold {
namespace {

std::string Text(const Position& position) {
  return absl::StrCat(position.generation.value(), ".", position.seq.value());
}

bool Contains(const std::vector<std::string>& ids, const std::string& id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// A generation's entries go up to where the next one begins.
bool Has(const StreamRecord& stream, Position position) {
  if (position > stream.applied) return false;
  const auto next =
      std::upper_bound(stream.generations.begin(), stream.generations.end(), position);
  return next != stream.generations.begin() && std::prev(next)->generation == position.generation &&
         (next == stream.generations.end() || position.seq < next->seq);
}

// The last Seq up to which both wrote the same.
Seq CommonSeq(const StreamRecord& ours, const StreamRecord& theirs) {
  size_t shared = 0;
  while (shared < ours.generations.size() && shared < theirs.generations.size() &&
         ours.generations[shared] == theirs.generations[shared]) {
    ++shared;
  }
  if (shared == 0) return Seq();
  const auto end = [shared](const StreamRecord& stream) {
    return shared < stream.generations.size() ? Seq(stream.generations[shared].seq.value() - 1)
                                              : stream.applied.seq;
  };
  return std::min(end(ours), end(theirs));
}

std::string Of(WallNanos stamp) {
  if (stamp == 0) return "";
  return absl::StrCat(" of ", absl::FormatTime("%Y-%m-%d %H:%M:%SZ", absl::FromUnixNanos(stamp),
                                               absl::UTCTimeZone()));
}

// What only the target has of a stream; empty: nothing.
std::string OnlyThere(const Catalogue& goal, const Catalogue& target,
                      const SealReport::Stream& sealed, bool was_alone) {
  const Position end = was_alone ? sealed.end : sealed.committed;
  if (end == kFirstPosition) return "";
  const VolumeId volume = sealed.volume;
  std::string name =
      volume == kCatalogueVolume ? "the list of volumes" : absl::StrCat("volume ", volume.value());
  const auto record = target.volumes().find(volume);
  if (record != target.volumes().end()) name = absl::StrCat("volume ", record->second.name);

  StreamRecord ours;
  const auto applied = target.streams().find(volume);
  if (applied != target.streams().end()) ours = applied->second;
  ours.applied = end;
  Seq common;
  const auto theirs = goal.streams().find(volume);
  if (theirs != goal.streams().end()) {
    if (Has(theirs->second, end)) return "";
    common = std::min(CommonSeq(ours, theirs->second), end.seq);
  } else if (goal.WasDeleted(volume)) {
    // What it was when it was deleted is not known any more.
    if (!was_alone) return "";
    return absl::StrCat(name, ", which the pool has deleted, up to ", Text(end),
                        Of(sealed.last_stamp));
  }
  return absl::StrCat(name, ": ", end.seq.value() - common.value(), " entries after entry ",
                      common.value(), ", up to ", Text(end), Of(sealed.last_stamp));
}

}  // namespace

absl::Status CheckNotParted(const Replica& source, const Catalogue& goal, const Replica& target,
                            const SealReport& sealed) {
  const std::vector<std::string>& counted = target.recorded().in_sync;
  const bool was_alone =
      Contains(counted, target.store_id()) && !Contains(counted, source.store_id());
  std::string only_there;
  for (const SealReport::Stream& stream : sealed.streams) {
    const std::string text = OnlyThere(goal, target.catalogue(), stream, was_alone);
    if (!text.empty()) absl::StrAppend(&only_there, only_there.empty() ? "" : "; ", text);
  }
  if (only_there.empty()) return absl::OkStatus();
  const std::string& name = target.set_name();
  return absl::FailedPreconditionError(absl::StrCat(
      "the histories of set ", name, " (", target.place(), ") and of the pool have parted: one of ",
      "them was forced to go on alone. Only set ", name, " has, of ", only_there,
      ". Nothing of that was changed, and none of it is merged. To give it up, move the set's ",
      "directory away, which keeps it, and fill an empty one: `twofold replica replace ", name,
      " DIR`. To give up what the pool has written since instead, stop the daemon and start it ",
      "with set ", name, " alone and `--force-stale ", name, "`"));
}

}  // namespace twofold
