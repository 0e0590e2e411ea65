// Looking at a store from outside, offline: what `twofold inspect` shows. Works on a store opened
// read-only; changes nothing; needs nothing from the other set (P9).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/types.h"
#include "storage/runtime/task.h"
#include "storage/store/store.h"

namespace twofold {

// What a volume or a snapshot holds, so that two sets can be compared by it.
struct ContentDigest {
  std::string name;   // "vol" or "vol@snap"
  Position position;  // the last entry that it shows
  uint64_t size_bytes = 0;
  uint64_t data_blocks = 0;
  // SHA-256 over (block index, CRC32C) of each block that isn't zero or unmapped, ascending;
  // hexadecimal.
  std::string digest;
};

struct VerifyReport {
  std::vector<ContentDigest> contents;
  uint64_t blocks_read = 0;           // each block once, however many snapshots show it
  uint64_t uncommitted_entries = 0;   // logged, and to be settled by the next attach
  std::vector<std::string> problems;  // each with its place; empty: the store is whole
};

struct InspectProgress {
  std::string what;
  uint64_t done = 0;
  uint64_t total = 0;
};

// Reads every block that a volume or a snapshot shows and checks it against its CRC32C, and
// recounts the live blocks against the segment table. An error only where it could not go on.
Task<absl::StatusOr<VerifyReport>> VerifyStore(
    Store& store, std::function<void(const InspectProgress&)> progress);

// Every structure on disk, a line each: superblock, checkpoint, catalogue, segments with their
// batches and entries, map.
Task<absl::Status> DumpStore(Store& store, std::function<void(const std::string&)> line);

}  // namespace twofold
