#include "replication/pair/levelling.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/pair/snapshot_groups.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/map/catalogue_codec.h"
#include "storage/runtime/sync.h"

namespace twofold {
namespace {

// Payload read from the winner at a time; what levelling holds in memory.
constexpr size_t kTailStepBytes = size_t{4} << 20;

std::string ToText(Position position) {
  return absl::StrCat(position.generation.value(), ".", position.seq.value());
}

std::string Describe(const Replica& replica) {
  return absl::StrCat("set ", replica.set_name(), " (", replica.place(), ")");
}

// One stream while it is brought level.
struct Levelled {
  VolumeId volume;
  std::vector<Position> ends;  // of each replica's log
  Position committed;          // the furthest that any replica knows
  size_t winner = 0;           // whose log is longest
  WallNanos last_stamp = 0;    // the winner's

  Position winner_end() const { return ends[winner]; }
};

Levelled MakeLevelled(VolumeId volume, const std::vector<SealReport>& reports) {
  Levelled levelled;
  levelled.volume = volume;
  levelled.ends.resize(reports.size());
  for (size_t i = 0; i < reports.size(); ++i) {
    for (const SealReport::Stream& stream : reports[i].streams) {
      if (stream.volume != volume) continue;
      levelled.ends[i] = stream.end;
      levelled.committed = std::max(levelled.committed, stream.committed);
      if (stream.end < levelled.winner_end()) continue;
      levelled.winner = i;
      levelled.last_stamp = std::max(levelled.last_stamp, stream.last_stamp);
    }
  }
  return levelled;
}

absl::Status HistoriesPart(const Levelled& levelled, const std::vector<Replica*>& replicas,
                           size_t replica, const std::string& detail) {
  return absl::DataLossError(absl::StrCat(
      "volume ", levelled.volume.value(), ": the log of ", Describe(*replicas[replica]),
      " ends at ", ToText(levelled.ends[replica]), " and that of ",
      Describe(*replicas[levelled.winner]), " at ", ToText(levelled.winner_end()), ", but ", detail,
      ". The sets are not copies of one history; nothing was committed. Look at both with "
      "`twofold inspect --verify`"));
}

// `entries` (with their payloads) to one replica, in order.
Task<absl::Status> AppendAll(Replica* replica, Generation generation,
                             absl::Span<const TailEntry> entries) {
  BlockCount blocks;
  for (const TailEntry& tail : entries) blocks += BlockCount(tail.entry.block_crcs.size());
  const std::string what = absl::StrCat("levelling ", Describe(*replica));
  absl::Status status = co_await replica->Reserve(blocks, entries.size(), RoomFor::kLevelling);
  TF_CO_RETURN_IF_ERROR(Annotate(status, what));
  std::vector<Task<absl::Status>> appends;
  for (const TailEntry& tail : entries) {
    appends.push_back(
        replica->Append(generation, tail.entry, tail.payload.span(), Durability::kDurable));
  }
  const std::vector<absl::Status> results = co_await WhenAll(std::move(appends));
  co_return Annotate(FirstError(results), what);
}

class Leveller {
 public:
  Leveller(std::vector<Replica*> replicas, std::vector<SealReport> reports,
           std::vector<Replica*>* unfit)
      : replicas_(std::move(replicas)), reports_(std::move(reports)), unfit_(*unfit) {}

  Task<absl::StatusOr<std::map<VolumeId, StreamEnd>>> Run();

 private:
  Task<absl::Status> Level(Levelled* levelled);
  Task<absl::StatusOr<std::vector<TailEntry>>> ReadTail(const Levelled* levelled, Position after);
  void FindUnfit(const Levelled& levelled);
  absl::StatusOr<std::vector<size_t>> Lacking(const Levelled& levelled,
                                              const std::vector<TailEntry>& tail);
  Task<absl::Status> GiveUpIncompleteGroups();
  Task<absl::Status> GiveUp(SnapshotGroups::Incomplete snapshot);
  void Commit(const Levelled& levelled);

  Generation generation() const { return reports_.front().generation; }

  const std::vector<Replica*> replicas_;
  const std::vector<SealReport> reports_;
  std::vector<Replica*>& unfit_;
  std::map<VolumeId, Levelled> streams_;
  SnapshotGroups groups_;
};

// For each replica the index of the first entry of `tail` that it lacks. Checks that the tail
// follows what each of them has (R1).
absl::StatusOr<std::vector<size_t>> Leveller::Lacking(const Levelled& levelled,
                                                      const std::vector<TailEntry>& tail) {
  std::vector<size_t> first(replicas_.size(), tail.size());
  for (size_t replica = 0; replica < replicas_.size(); ++replica) {
    const Position end = levelled.ends[replica];
    for (size_t i = 0; i < tail.size(); ++i) {
      const Position position = tail[i].entry.position;
      if (position.seq < end.seq) continue;
      if (position.seq == end.seq) {
        if (position == end) continue;
        return HistoriesPart(levelled, replicas_, replica,
                             absl::StrCat("the latter has ", ToText(position), " there"));
      }
      if (i == 0 ? position.seq != end.seq.Next() : tail[i - 1].entry.position.seq < end.seq) {
        return HistoriesPart(levelled, replicas_, replica,
                             absl::StrCat("the latter goes on with ", ToText(position)));
      }
      first[replica] = i;
      break;
    }
  }
  return first;
}

// From whoever has it: what is damaged on one may be whole on the other. kDataLoss: on none.
Task<absl::StatusOr<std::vector<TailEntry>>> Leveller::ReadTail(const Levelled* levelled,
                                                                Position after) {
  absl::Status worst;
  for (size_t i = 0; i < replicas_.size(); ++i) {
    // The winner first.
    Replica* const source = replicas_[(levelled->winner + i) % replicas_.size()];
    if (levelled->ends[(levelled->winner + i) % replicas_.size()] != levelled->winner_end()) {
      continue;
    }
    absl::StatusOr<std::vector<TailEntry>> tail =
        co_await source->ReadTail(levelled->volume, after, kTailStepBytes);
    if (tail.ok() && tail->empty()) {
      tail = absl::DataLossError(absl::StrCat("volume ", levelled->volume.value(),
                                              ": the log has nothing after ", ToText(after)));
    }
    if (tail.ok()) co_return tail;
    worst =
        Annotate(tail.status(), absl::StrCat("reading the end of the log of ", Describe(*source)));
    if (!absl::IsDataLoss(worst)) break;
  }
  co_return worst;
}

void Leveller::FindUnfit(const Levelled& levelled) {
  std::vector<Replica*> behind;
  std::vector<Replica*> ahead;
  bool lack_committed = false;
  for (size_t i = 0; i < replicas_.size(); ++i) {
    const bool level = levelled.ends[i] == levelled.winner_end();
    (level ? ahead : behind).push_back(replicas_[i]);
    lack_committed = lack_committed || levelled.ends[i] < levelled.committed;
  }
  if (!behind.empty()) unfit_ = lack_committed ? behind : ahead;
}

Task<absl::Status> Leveller::Level(Levelled* levelled) {
  Replica* winner = replicas_[levelled->winner];
  const Position end = levelled->winner_end();
  // From what everybody has and knows to be committed: groups are looked for in all the rest.
  Position after = std::min(levelled->committed,
                            *std::min_element(levelled->ends.begin(), levelled->ends.end()));
  while (after < end) {
    absl::StatusOr<std::vector<TailEntry>> tail = co_await ReadTail(levelled, after);
    if (absl::IsDataLoss(tail.status())) {
      FindUnfit(*levelled);
      if (!unfit_.empty()) co_return tail.status();
      // All have all of it, which is there to be read, or is bad, block by block.
      TF_LOG(ERROR) << "volume " << levelled->volume
                    << ": whether the last snapshots are complete groups can't be told: "
                    << tail.status();
      co_return absl::OkStatus();
    }
    TF_CO_RETURN_IF_ERROR(tail);
    for (const TailEntry& entry : *tail) {
      if (entry.entry.position <= levelled->committed) continue;
      TF_CO_RETURN_IF_ERROR(groups_.AddUncommitted(entry.entry));
    }
    absl::StatusOr<std::vector<size_t>> first = Lacking(*levelled, *tail);
    TF_CO_RETURN_IF_ERROR(first);
    std::vector<Task<absl::Status>> appends;
    for (size_t i = 0; i < replicas_.size(); ++i) {
      if ((*first)[i] == tail->size()) continue;
      TF_LOG(INFO) << "levelling volume " << levelled->volume << ": " << Describe(*replicas_[i])
                   << " gets " << tail->size() - (*first)[i] << " entries after "
                   << levelled->ends[i] << " from " << Describe(*winner);
      appends.push_back(
          AppendAll(replicas_[i], generation(), absl::MakeConstSpan(*tail).subspan((*first)[i])));
      levelled->ends[i] = tail->back().entry.position;
    }
    const std::vector<absl::Status> results = co_await WhenAll(std::move(appends));
    TF_CO_RETURN_IF_ERROR(FirstError(results));
    after = tail->back().entry.position;
  }
  for (size_t i = 0; i < replicas_.size(); ++i) {
    if (levelled->ends[i] != end) {
      co_return HistoriesPart(*levelled, replicas_, i, "the latter never was there");
    }
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Leveller::GiveUp(SnapshotGroups::Incomplete snapshot) {
  Levelled& levelled = streams_.at(snapshot.volume);
  TailEntry tail;
  LogEntry& entry = tail.entry;
  entry.kind = EntryKind::kSnapshotDelete;
  entry.volume = snapshot.volume;
  entry.timeline = snapshot.timeline;
  entry.position = {generation(), levelled.winner_end().seq.Next()};
  entry.stamp = ++levelled.last_stamp;
  entry.body = EncodeSnapshotDelete({snapshot.snapshot});
  TF_LOG(WARNING) << "snapshot " << snapshot.snapshot << " of volume " << snapshot.volume
                  << " is given up: a crash left its group incomplete";
  std::vector<Task<absl::Status>> appends;
  for (Replica* replica : replicas_) {
    appends.push_back(AppendAll(replica, generation(), absl::MakeConstSpan(&tail, 1)));
  }
  const std::vector<absl::Status> results = co_await WhenAll(std::move(appends));
  TF_CO_RETURN_IF_ERROR(FirstError(results));
  for (Position& end : levelled.ends) end = entry.position;
  co_return absl::OkStatus();
}

Task<absl::Status> Leveller::GiveUpIncompleteGroups() {
  std::vector<const Catalogue*> catalogues;
  for (const Replica* replica : replicas_) catalogues.push_back(&replica->catalogue());
  const std::vector<SnapshotGroups::Incomplete> incomplete = groups_.FindIncomplete(catalogues);
  for (const SnapshotGroups::Incomplete& snapshot : incomplete) {
    absl::Status status = co_await GiveUp(snapshot);
    TF_CO_RETURN_IF_ERROR(status);
  }
  co_return absl::OkStatus();
}

void Leveller::Commit(const Levelled& levelled) {
  for (Replica* replica : replicas_) replica->Commit(levelled.volume, levelled.winner_end());
}

Task<absl::StatusOr<std::map<VolumeId, StreamEnd>>> Leveller::Run() {
  std::set<VolumeId> volumes{kCatalogueVolume};
  for (const SealReport& report : reports_) {
    for (const SealReport::Stream& stream : report.streams) volumes.insert(stream.volume);
  }
  for (const VolumeId volume : volumes) {
    // One of them has let go of its stream already: what the others have of it is not needed, and
    // their catalogue's stream, which is levelled as well, takes it away from them.
    const bool deleted = std::any_of(
        replicas_.begin(), replicas_.end(),
        [volume](const Replica* replica) { return replica->catalogue().WasDeleted(volume); });
    if (deleted) continue;
    Levelled& levelled = streams_.emplace(volume, MakeLevelled(volume, reports_)).first->second;
    absl::Status status = co_await Level(&levelled);
    TF_CO_RETURN_IF_ERROR(status);
  }
  absl::Status status = co_await GiveUpIncompleteGroups();
  TF_CO_RETURN_IF_ERROR(status);

  // The catalogue first: what it creates has entries of its own, what it deletes needs none any
  // more.
  Commit(streams_.at(kCatalogueVolume));
  std::map<VolumeId, StreamEnd> ends;
  for (const auto& [volume, levelled] : streams_) {
    if (volume != kCatalogueVolume) {
      if (!replicas_.front()->catalogue().volumes().contains(volume)) continue;
      Commit(levelled);
    }
    ends[volume] = {levelled.winner_end(), levelled.last_stamp};
  }
  co_return ends;
}

}  // namespace

Task<absl::StatusOr<std::map<VolumeId, StreamEnd>>> LevelReplicas(std::vector<Replica*> replicas,
                                                                  std::vector<SealReport> reports,
                                                                  std::vector<Replica*>* unfit) {
  unfit->clear();
  Leveller leveller(std::move(replicas), std::move(reports), unfit);
  co_return co_await leveller.Run();
}

}  // namespace twofold
