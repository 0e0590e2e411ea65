// Counts what is used by what: how much of the log each volume's present state shows, how much
// only its history needs, and what deleting each snapshot alone would give back.
//
// Counted when asked, from a view of the metadata store: the last checkpoint. Nothing is kept up to
// date for it anywhere (docs/decisions/0014, which also argues why the figures are what a delete
// gives back). Everything is in blocks of payload, each of which counts once, wherever the cleaner
// has moved it and however many snapshots show it.
//
// Memory: a page of versions for each timeline (some MiB in all), the versions of one chunk, some
// bytes a snapshot, and 8 bytes a partial chunk or large trim that the checkpoint has.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/types.h"
#include "storage/map/catalogue.h"
#include "storage/map/metadata_store.h"

namespace twofold {

struct SnapshotUsage {
  uint64_t shown_blocks = 0;  // what it shows is data
  uint64_t own_blocks = 0;    // what comes free when it alone is deleted
};

struct VolumeUsage {
  uint64_t present_blocks = 0;  // what it shows now is data
  // Of them: written to the volume that it was cloned from, and counted there.
  uint64_t foreign_blocks = 0;
  // What its snapshots, and what was rolled back from, need beyond the present state: written to
  // this volume, and shown by its present state no more.
  uint64_t history_blocks = 0;
  uint64_t snapshots_own_blocks = 0;  // the sum over its snapshots

  uint64_t total_blocks() const { return present_blocks - foreign_blocks + history_blocks; }
};

struct UsageCount {
  std::map<VolumeId, VolumeUsage> volumes;
  std::map<SnapshotId, SnapshotUsage> snapshots;
  uint64_t clones_blocks = 0;  // of volumes that were deleted, and clones of them need it
  // Of a count of everything: all that was live, also what is still to be given back: of deleted
  // snapshots and volumes, and of timelines that the next delete takes along.
  uint64_t live_blocks = 0;
  uint64_t to_give_back_blocks = 0;

  uint64_t versions = 0;  // that were read
};

class UsageCounter {
 public:
  // Of one volume, with those that are clones of it or that it is a clone of; or of everything. The
  // view and the catalogue, which belong together, outlive it.
  UsageCounter(const MetadataView* view, const Catalogue* catalogue,
               std::optional<VolumeId> volume);
  ~UsageCounter();

  // Some milliseconds of work, which may block: true when that was all. kNotFound: no such volume;
  // kDataLoss, kUnavailable: the metadata store does not answer. Any thread, one at a time.
  absl::StatusOr<bool> Step();

  UsageCount TakeResult();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace twofold
