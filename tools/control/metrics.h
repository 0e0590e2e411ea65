// The daemon's numbers in Prometheus' text format, version 0.0.4 (docs/operations.md lists them).
#pragma once

#include <string>
#include <vector>

#include "replication/volume/pool.h"
#include "storage/base/stage_latency.h"
#include "tools/control/info_json.h"
#include "tools/nbd/server.h"

namespace twofold::control {

inline constexpr char kMetricsContentType[] = "text/plain; version=0.0.4; charset=utf-8";

// `nbd` may be null. Histograms have a bucket for each power of two from 4096 ns on, whose counts
// are exact; a value that lies just on a bound is in the bucket after it.
std::string EncodeMetrics(const PoolInfo& pool, const DaemonInfo& daemon, const nbd::Server* nbd,
                          const std::vector<StageLatency>& latencies);

}  // namespace twofold::control
