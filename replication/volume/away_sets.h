// Sets that are not in-sync, from their loss until they have joined again, while the pool serves
// (R23, R29-R31; docs/decisions/0021-who-comes-back-by-itself.md).
//
//   in-sync --> dropped --> closed --> open --> resyncing --> in-sync
//                             ^                     |
//                             +------ failed -------+     tried again later, and later each time
//
// A set that was dropped is closed at once: its disk can be taken out, and nothing of it is in
// anybody's way should other files come to stand there. Opening it again is a new incarnation, for
// which nothing of the old one counts: what it has is what its log says, sealed anew, and it is
// levelled from there (R31). Until it has joined it is in no membership (pool_resync.h).
//
// By itself comes back
//   - what vanished and is there again, the very same files (SetDirectories::is_back);
//   - what was there at the start and lacks writes;
//   - what failed while it was brought level.
// What failed with an error of its device, or was detached, waits for `replica attach`.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "replication/pair/replica_set.h"
#include "replication/pair/resync.h"
#include "replication/replica.h"
#include "replication/volume/pool.h"
#include "storage/base/types.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task.h"

namespace twofold {

class PoolState;

struct AwaySet {
  std::string set;
  Replica* replica = nullptr;  // while it is open; the pool owns it
  ReplicaInfo known;           // when it was last seen: store, place, what it had
  WallNanos since = 0;
  const char* closed_state = "missing";  // what it is called while it is closed
  std::string reason;                    // why it is away, or why the last try failed

  bool held = false;       // a command is at it
  bool person = false;     // only a person brings it back
  bool gone = false;       // its files are not there
  MonoNanos due = 0;       // not before
  WallNanos next_try = 0;  // the same, for people
  uint64_t tries = 0;      // that failed, since it was away or asked for
  bool busy = false;       // it is being opened, brought level or closed
  uint64_t users = 0;      // who look at it while it is busy
  bool closing = false;    // it was dropped, and is let go of
  bool joined = false;
  std::unique_ptr<Resync> resync;  // of the try under way, or of the last one

  bool waits() const { return !held && !person && !gone && !busy; }
};

class AwaySets {
 public:
  // `pool` outlives it.
  AwaySets(PoolState* pool, SetDirectories directories);
  // Stop() first, and the pool's scope has ended.
  ~AwaySets() = default;

  // Of an attach: a replica that is there and stale, and a set that could not be opened.
  void AddStale(Replica* replica);
  void AddAbsent(const AbsentSet& absent);

  // Whoever is due is tried, in the background.
  void Kick();
  // The same, after looking who was dropped and who is there again.
  Task<void> Look();
  // Nothing begins any more, and what is under way ends soon.
  void Stop();

  // What a person asks for (Pool::AttachSet and so on).
  Task<absl::Status> Attach(std::string set);
  Task<absl::Status> Detach(std::string set);
  Task<absl::Status> Replace(std::string set, std::vector<std::string> directories);
  // Takes `newcomer` over, stopping it on an error.
  Task<absl::Status> PutInPlace(std::unique_ptr<Replica> newcomer);

  void SetRate(uint64_t bytes_per_second);
  uint64_t rate_bytes_per_second() const { return rate_; }

  const std::vector<std::shared_ptr<AwaySet>>& sets() const { return sets_; }
  // Whether one of them is being brought level.
  bool resyncing() const;

 private:
  using Away = std::shared_ptr<AwaySet>;
  // How a set fared before, so that one that flaps is tried ever more seldom.
  struct Record {
    ResyncBackoff backoff;
    MonoNanos joined = 0;
  };

  Away Find(const std::string& set) const;
  ReplicaSet::Member* FindInSync(const std::string& set) const;
  absl::Status UnknownSet(const std::string& set) const;
  absl::Status IsInSync(const std::string& set) const;
  Away NextDue() const;
  Task<void> Work();
  Task<void> TakeInDropped();
  Task<void> Close(Away away);
  Task<void> Try(Away away);
  Task<absl::Status> BringBack(Away away);
  Task<absl::Status> Open(Away away);
  absl::Status CheckIdentity(const AwaySet& away, const Replica& opened) const;
  Task<absl::Status> BringLevelFromWhole(Away away);
  void NoteFailure(AwaySet* away, const absl::Status& status);
  int64_t PutOff(AwaySet* away);
  Task<void> SettleDropped();
  Task<void> Quiet(Away away);
  Task<absl::Status> TakeOut(std::string set);
  absl::StatusOr<std::string> FindLost(const AwaySet& away) const;
  void Adopt(AwaySet* away, std::unique_ptr<Replica> replica);

  PoolState* const pool_;
  const SetDirectories directories_;
  std::vector<Away> sets_;
  std::map<std::string, Record> records_;     // by set
  std::map<std::string, std::string> asked_;  // sets that a person takes out, and the words for it
  uint64_t rate_ = 0;
  bool working_ = false;
  AsyncMutex commands_;  // one at a time
  Event changed_;        // of any set
};

}  // namespace twofold
