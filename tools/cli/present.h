// What the daemon answers, written for people. One function per kind of answer; `body` is the JSON
// of docs/control-api.md. Errors are DecodeX's.
#pragma once

#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "replication/volume/pool.h"
#include "tools/control/request.h"

namespace twofold::cli {

// volume.cc
absl::Status PresentVolumeList(std::ostream& out, const std::string& body);
absl::Status PresentVolume(std::ostream& out, const std::string& body);
absl::Status PresentVolumeChange(std::ostream& out, const std::string& verb,
                                 const std::string& body);

// "on set a as of 2026-11-22 10:42:07Z, in 12 ms"
std::string CountedText(const UsageInfo& usage);

// snapshot.cc
absl::Status PresentSnapshotList(std::ostream& out, const std::string& body);
absl::Status PresentSnapshotCreate(std::ostream& out, const std::string& body);
absl::Status PresentRollback(std::ostream& out, const std::string& snapshot,
                             const std::string& body);

// replica.cc
absl::Status PresentReplicas(std::ostream& out, const std::string& body);
absl::Status PresentReplica(std::ostream& out, const std::string& body);
absl::Status PresentReplacement(std::ostream& out, const std::string& body);
absl::Status PresentResyncRate(std::ostream& out, const std::string& body);
// "filling db: 120 MiB of 400 MiB, 35.0 MiB/s, 8 s left"; "" where nothing is under way.
std::string PresentResync(const ReplicaInfo& replica);

// status.cc
absl::Status PresentStatus(std::ostream& out, const std::string& body);

// latency.cc
absl::Status PresentLatency(std::ostream& out, const std::string& body);
// A row for each that counted anything; false where none did, and nothing was written.
bool PrintLatencies(std::ostream& out, const std::vector<StageLatency>& stages);

// "2026-11-22 10:42:07Z", to the second.
std::string PresentTime(int64_t wall_nanos);

}  // namespace twofold::cli
