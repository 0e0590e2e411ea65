// A replica in memory, for tests of what lies above replicas.
//
// The fault model. A SimDisk is what survives: a log of entries in the order in which they were
// appended, of which everything up to `durable` outlives any crash, and the commit marks that were
// logged with it. Entries reach the log in batches, one batch in flight at a time, each taking a
// time from the seed. A crash at any instant keeps or drops the batch in flight, from the seed;
// with a loss of power it also cuts the log anywhere at or above `durable`. Entries never go
// missing from the middle: the log's own tests see to that. After Crash() nothing reaches the disk
// any more and every call fails, so that the coroutines of the dead head come to their end.
//
// Reads look at the committed state at a random instant of their time. A block can be made bad, an
// append can be made to fail, room can be short; TryReserve says no now and then for no reason.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "replication/replica.h"
#include "storage/base/prng.h"
#include "storage/runtime/sync.h"
#include "storage/runtime/task_scope.h"
#include "tests/sim/sim_poller.h"

namespace twofold::sim {

using SharedBytes = std::shared_ptr<const std::vector<std::byte>>;

struct SimLogItem {
  LogEntry entry;
  SharedBytes payload;  // null for kinds without payload
};

// What a block was, from `position` on; null payload: zeros.
struct SimVersion {
  Position position;
  SharedBytes payload;
  size_t offset = 0;  // in the payload
};
using SimBlocks = std::map<TimelineId, std::map<BlockIndex, std::vector<SimVersion>>>;

// A resync that was begun and not ended, as the target knows it.
struct SimResync {
  Catalogue goal;
  std::vector<ResyncSpan> spans;
  size_t next = 0;
};

class SimReplica;

struct SimDisk {
  std::string set_name;
  std::string store_id;
  std::string pool_id;
  // What stands before the log: the state that a resync has brought it to.
  Catalogue base;
  SimBlocks base_blocks;
  std::optional<SimResync> resync;
  std::vector<SimLogItem> log;
  size_t durable = 0;  // entries of `log`
  std::map<VolumeId, Position> committed;
  AttachState recorded;
  std::set<std::pair<TimelineId, BlockIndex>> bad_blocks;
  bool gone = false;           // its directory was deleted
  bool fail_fills = false;     // whoever fills it fails
  uint64_t opened = 0;         // how often
  uint64_t reads = 0;          // by whoever had it open
  SimReplica* open = nullptr;  // who has it open
};

struct SimReplicaOptions {
  int64_t max_delay_nanos = 200'000;  // of a batch, a read, anything
  uint64_t capacity_blocks = 1 << 20;
  uint64_t capacity_entries = 1 << 20;
};

class SimReplica final : public Replica {
 public:
  // Opens the disk: what is committed there is applied, the rest is the tail. `disk` and `poller`
  // outlive it.
  SimReplica(SimDisk* disk, SimPoller* poller, SimReplicaOptions options = {});
  // Stop() first.
  ~SimReplica() override;

  // The machine dies. `keep_batch`: the batch in flight made it to the disk; `power_loss`: what was
  // only written is cut at a random place.
  void Crash(bool keep_batch, bool power_loss);
  // The next append fails, and with it the replica.
  void FailNextAppend() { fail_next_append_ = true; }
  // As a store whose checkpoint fails: nobody is told until the head asks.
  void FailQuietly();
  // Its directory is deleted; as above.
  void Vanish();

  const std::string& set_name() const override { return disk_->set_name; }
  const std::string& store_id() const override { return disk_->store_id; }
  const std::string& pool_id() const override { return disk_->pool_id; }
  const std::string& place() const override { return place_; }
  Task<absl::StatusOr<SealReport>> Seal(Generation generation) override;
  Task<absl::Status> RecordMembership(Membership membership) override;
  const AttachState& recorded() const override { return disk_->recorded; }
  Task<absl::Status> Reserve(BlockCount blocks, uint64_t entries, RoomFor use) override;
  bool TryReserve(BlockCount blocks, uint64_t entries) override;
  void Release(BlockCount blocks, uint64_t entries) override;
  Task<absl::Status> Append(Generation generation, const LogEntry& entry,
                            absl::Span<const std::byte> payload, Durability durability) override;
  void Commit(VolumeId volume, Position position) override;
  Task<absl::Status> Flush() override;
  Task<absl::StatusOr<std::vector<BlockExtent>>> Read(TimelineId timeline, Position as_of,
                                                      BlockRange range,
                                                      absl::Span<std::byte> into) override;
  Task<absl::StatusOr<std::vector<BlockExtent>>> Status(TimelineId timeline, Position as_of,
                                                        BlockRange range,
                                                        size_t max_extents) override;
  const Catalogue& catalogue() const override { return catalogue_; }
  Task<absl::StatusOr<std::vector<TailEntry>>> ReadTail(VolumeId volume, Position after,
                                                        size_t max_bytes) override;
  // A resync as a store does it, but that nothing of a span outlives a crash before its end.
  Task<absl::Status> PinForResync() override;
  absl::Status resync_pin() const override { return failed_; }
  Task<absl::Status> PrepareSpans() override;
  Task<absl::StatusOr<ResyncPage>> ReadSpan(ResyncSpan span, std::string from) override;
  Task<absl::Status> VoidTails(Generation generation) override;
  Task<absl::StatusOr<std::vector<ResyncSpan>>> BeginResync(Generation generation,
                                                            Catalogue goal) override;
  Task<absl::StatusOr<std::vector<Run>>> Lacking(TimelineId timeline,
                                                 std::vector<Run> runs) override;
  Task<absl::Status> Fill(Generation generation, TimelineId timeline, std::vector<Run> runs,
                          absl::Span<const std::byte> payload) override;
  Task<absl::Status> EndSpan(Generation generation, ResyncSpan span) override;
  Task<absl::Status> EndResync(Generation generation) override;
  bool resyncing() const override { return resync_.has_value(); }

  ReplicaStatus status() const override;
  absl::Status health() const override { return failed_; }
  Task<absl::Status> CheckPresence() override { co_return failed_; }
  Task<void> Stop() override;

  uint64_t reads() const { return reads_; }
  uint64_t flushes() const { return flushes_; }
  uint64_t appends() const { return appends_; }
  uint64_t promised_blocks() const { return promised_blocks_; }
  uint64_t promised_entries() const { return promised_entries_; }
  // Reads and appends under way wait while it is set: to look at what happens meanwhile.
  void HoldReads(bool hold);
  void HoldAppends(bool hold);

 private:
  using Version = SimVersion;
  struct Batch {
    std::vector<SimLogItem> items;
    std::map<VolumeId, Position> marks;
    bool durable = false;
    Event done;
    bool ok = false;
  };
  struct StreamState {
    Position sent;
    Position committed;
    std::deque<SimLogItem> pending;
  };

  int64_t RandomDelay();
  Task<void> WriteBatches();
  void Persist(const Batch& batch);
  void Fail(const std::string& why);
  void ApplyCommitted(VolumeId volume);
  void Apply(const SimLogItem& item);
  const Version* Find(TimelineId timeline, Position as_of, BlockIndex block) const;
  absl::Status CheckTarget(Generation generation) const;
  void OpenNextSpan();
  void Save();

  SimDisk* const disk_;
  SimPoller* const poller_;
  const SimReplicaOptions options_;
  Prng random_;
  std::string place_;
  Catalogue catalogue_;
  SimBlocks blocks_;
  std::optional<SimResync> resync_;
  std::map<VolumeId, StreamState> streams_;
  std::map<VolumeId, Position> moved_marks_;

  Generation fence_;
  std::shared_ptr<Batch> open_batch_;
  std::shared_ptr<Batch> batch_in_flight_;
  bool writing_ = false;
  bool crashed_ = false;
  bool fail_next_append_ = false;
  absl::Status failed_;
  uint64_t promised_blocks_ = 0;
  uint64_t promised_entries_ = 0;
  uint64_t used_blocks_ = 0;
  uint64_t used_entries_ = 0;
  uint64_t reads_ = 0;
  uint64_t flushes_ = 0;
  uint64_t appends_ = 0;
  Event reads_allowed_;
  Event appends_allowed_;
  TaskScope scope_;
};

}  // namespace twofold::sim
