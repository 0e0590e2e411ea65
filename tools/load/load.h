// Reads and writes random places of an NBD export at a pace, and counts what each took, seen from
// the client.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/histogram.h"
#include "tools/load/nbd_client.h"

namespace twofold::load {

struct LoadOptions {
  uint64_t request_bytes = 4096;  // requests lie at multiples of it
  size_t depth = 1;               // in flight, at most
  unsigned read_percent = 0;      // of the requests; the others are writes
  double per_second = 0;          // 0: as fast as it goes (Schedule has both)
  int64_t duration_ns = 0;
  uint64_t seed = 1;  // of the places, and of which are reads
  // Called about ten times a second, with how long it has been going on.
  std::function<void(int64_t elapsed_ns)> on_progress;
};

struct LoadResult {
  // Of requests that succeeded, from when they were due. What was due and never sent counts with
  // how long it had waited at the end: it would have taken longer.
  LatencyHistogram reads;
  LatencyHistogram writes;
  uint64_t unsent = 0;  // of those
  uint64_t errors = 0;
  int first_error = 0;     // errno value
  int64_t elapsed_ns = 0;  // until the last answer
};

// Ends when the duration is over and everything that was sent has its answer. Errors are those of
// the connection; kDeadlineExceeded when answers don't come for kAnswerTimeout.
absl::StatusOr<LoadResult> RunLoad(NbdClient* client, const LoadOptions& options);

}  // namespace twofold::load
