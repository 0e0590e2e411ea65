// The daemon: a pool, opened and served. What `twofold serve` runs.
//
//   witness, stores -> pool (attached: fenced and level) -> control server, NBD server, metrics
//
// It is made in this order and taken down in the reverse one. Everything belongs to one executor;
// the control server and that of the metrics have a thread each of their own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "replication/pair/witness.h"
#include "replication/replica.h"
#include "replication/volume/pool.h"
#include "storage/io/network.h"
#include "storage/io/uring_poller.h"
#include "storage/log/departure_group.h"
#include "storage/log/superblock.h"
#include "storage/runtime/offload.h"
#include "storage/runtime/task.h"
#include "storage/store/store.h"
#include "tools/cli/serve_options.h"
#include "tools/control/info_json.h"
#include "tools/control/metrics_server.h"
#include "tools/control/server.h"
#include "tools/nbd/server.h"

namespace twofold::cli {

class Daemon {
 public:
  // All outlive the daemon.
  struct Parts {
    UringPoller* poller;
    Offload* offload;
    Network* network;
    // Asks a person before what it says is given up (--force-stale).
    std::function<absl::Status(const std::string& what_is_lost)> confirm;
  };
  Daemon(Parts parts, ServeSettings settings);
  // Close() first.
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Opens the pool: recovery, fencing, levelling. May take long after a crash. A set that can't be
  // opened is left out where the witness allows that (R21, R22). Errors say which set and what to
  // do.
  Task<absl::Status> OpenPool();
  // Listens for clients.
  absl::Status StartServers();

  // After StartServers: where clients find it.
  const control::DaemonInfo& info() const { return info_; }
  const Pool& pool() const { return *pool_; }

  // Lets requests end, takes everything down. After an error of the others too; once.
  Task<void> Close();

 private:
  Task<absl::StatusOr<std::unique_ptr<Store>>> OpenStore(SetSpec set, bool read_only,
                                                         std::string give_up_end_of_pool = "");
  StoreOptions OptionsOfStores();
  Task<absl::Status> OpenSet(size_t index);
  Task<absl::Status> OpenSets();
  // For --replace: the store that takes the place of the lost one, made or, after a crash, found.
  // Null where the set is no newcomer.
  Task<absl::StatusOr<std::unique_ptr<Replica>>> FindNewcomer();
  std::unique_ptr<Replica> TakeReplica(const std::string& set_name);
  // What the pool is given to get at sets while it is open (SetDirectories).
  SetDirectories Directories();
  Task<absl::StatusOr<std::unique_ptr<Replica>>> OpenAgain(std::string set);
  Task<bool> IsBack(std::string set, WallNanos lost);
  Task<absl::StatusOr<std::unique_ptr<Replica>>> MakeSet(std::string set,
                                                         std::vector<std::string> directories);
  Task<absl::StatusOr<std::unique_ptr<Replica>>> OpenUnused(SetSpec set);
  absl::StatusOr<SetSpec> CheckMove(const std::string& set,
                                    const std::vector<std::string>& directories) const;
  void NoteFiles(const SetSpec& set);
  SetSpec* FindSpec(const std::string& set);
  Task<void> CloseUnattached();
  absl::Status CheckFileLimit() const;
  absl::Status StartMetrics();
  Task<control::Answer> Answer(control::Request request);

  const Parts parts_;
  ServeSettings settings_;  // the directories of a set change when it is replaced
  control::DaemonInfo info_;

  DepartureGroup departures_;  // of all sets: they belong to one executor

  // Until the pool has them.
  std::vector<std::unique_ptr<Replica>> replicas_;
  std::vector<AbsentSet> absent_;
  std::unique_ptr<Witness> witness_;
  uint64_t segments_ = 0;  // of all stores: each may be an open file
  Superblock layout_;      // of a set that is there
  // By set, for each directory: what tells the files that were opened from others in their place.
  std::map<std::string, std::vector<std::pair<uint64_t, WallNanos>>> files_;

  std::unique_ptr<Pool> pool_;
  std::unique_ptr<control::Server> control_;
  std::unique_ptr<control::MetricsServer> metrics_;
  std::unique_ptr<nbd::Server> nbd_;
};

// Raises the limit of open files as far as it goes. Returns what it is.
uint64_t RaiseFileLimit();

}  // namespace twofold::cli
