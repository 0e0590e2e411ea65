#include "tools/control/metrics.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "tools/nbd/request.h"

namespace twofold::control {
namespace {

constexpr int kFirstBoundShift = 12;  // 4096 ns: about where device writes can begin to lie
constexpr int kLastBoundShift = 35;   // 34 s

double Seconds(int64_t nanos) { return static_cast<double>(nanos) / 1e9; }

// One metric after the other: its head, then its samples.
class Text {
 public:
  void Head(absl::string_view name, absl::string_view type, absl::string_view help) {
    name_ = absl::StrCat("twofold_", name);
    absl::StrAppend(&text_, "# HELP ", name_, " ", help, "\n# TYPE ", name_, " ", type, "\n");
  }
  // `labels` as Label makes them, or empty.
  void Sample(absl::string_view labels, uint64_t value, absl::string_view suffix = "") {
    absl::StrAppend(&text_, Name(suffix, labels), " ", value, "\n");
  }
  void Sample(absl::string_view labels, double value, absl::string_view suffix = "") {
    absl::StrAppendFormat(&text_, "%s %.9g\n", Name(suffix, labels), value);
  }
  void Histogram(const std::string& labels, const LatencyHistogram& histogram) {
    for (int shift = kFirstBoundShift; shift <= kLastBoundShift; ++shift) {
      const int64_t bound = int64_t{1} << shift;
      Sample(absl::StrCat(labels, ",le=\"", absl::StrFormat("%.9g", Seconds(bound)), "\""),
             histogram.CountBelow(bound), "_bucket");
    }
    Sample(absl::StrCat(labels, ",le=\"+Inf\""), histogram.count(), "_bucket");
    Sample(labels, Seconds(histogram.sum()), "_sum");
    Sample(labels, histogram.count(), "_count");
  }
  std::string Take() { return std::move(text_); }

 private:
  std::string Name(absl::string_view suffix, absl::string_view labels) const {
    if (labels.empty()) return absl::StrCat(name_, suffix);
    return absl::StrCat(name_, suffix, "{", labels, "}");
  }

  std::string name_;
  std::string text_;
};

std::string Label(absl::string_view name, absl::string_view value) {
  return absl::StrCat(name, "=\"",
                      absl::StrReplaceAll(value, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}),
                      "\"");
}

void AddPool(const PoolInfo& pool, const DaemonInfo& daemon, Text* text) {
  text->Head("info", "gauge", "The daemon, as labels; always 1.");
  text->Sample(absl::StrCat(Label("version", daemon.version), ",", Label("pool", pool.pool_id)),
               uint64_t{1});
  text->Head("start_time_seconds", "gauge", "When the daemon opened the pool, Unix time.");
  text->Sample("", Seconds(daemon.started));
  text->Head("healthy", "gauge", "1 while every set has every write.");
  text->Sample("", uint64_t{pool.state == "healthy"});
  text->Head("degraded", "gauge", "1 while a set does not have every write.");
  text->Sample("", uint64_t{pool.degraded.has_value()});
  text->Head("generation", "gauge", "Fencing token; grows each time the pool is opened.");
  text->Sample("", pool.generation.value());
  text->Head("buffers_used_bytes", "gauge", "Payloads in flight.");
  text->Sample("", pool.buffer_pool_used_bytes);
  text->Head("buffers_capacity_bytes", "gauge", "Room for payloads in flight.");
  text->Sample("", pool.buffer_pool_capacity_bytes);
}

struct SetMetric {
  const char* name;
  const char* type;
  const char* help;
  uint64_t (*value)(const ReplicaInfo& replica);
};

// Of a set that was brought level the resync stays, with its end.
bool IsResyncing(const ReplicaInfo& set) {
  return set.resync.has_value() && set.resync->ended == 0;
}

constexpr SetMetric kSetMetrics[] = {
    {"set_in_sync", "gauge", "1 while the set has every acknowledged write.",
     [](const ReplicaInfo& set) { return uint64_t{set.state == "in-sync"}; }},
    {"set_capacity_bytes", "gauge", "Room for clients' data, reserves taken off.",
     [](const ReplicaInfo& set) { return set.capacity_bytes; }},
    {"set_used_bytes", "gauge", "Of it: not in free segments, or promised.",
     [](const ReplicaInfo& set) { return set.used_bytes; }},
    {"set_live_bytes", "gauge", "What volumes and snapshots need.",
     [](const ReplicaInfo& set) { return set.live_bytes; }},
    {"set_to_clean_bytes", "gauge", "Of what is used: dead, and the log's own.",
     [](const ReplicaInfo& set) { return set.to_clean_bytes(); }},
    {"set_free_bytes", "gauge", "Of the capacity: free for clients' data.",
     [](const ReplicaInfo& set) { return set.free_bytes(); }},
    {"set_reserve_bytes", "gauge", "Kept back for deletes, the cleaner and checkpoints.",
     [](const ReplicaInfo& set) { return set.reserve_bytes; }},
    {"set_segments", "gauge", "Segments of the log.",
     [](const ReplicaInfo& set) { return set.segments; }},
    {"set_free_segments", "gauge", "Segments that are free.",
     [](const ReplicaInfo& set) { return set.free_segments; }},
    {"set_log_written_bytes_total", "counter",
     "Written into the set's directories, descriptors and what the cleaner moves included.",
     [](const ReplicaInfo& set) { return set.log_written_bytes; }},
    {"set_map_written_bytes_total", "counter", "Written by RocksDB for the map, about.",
     [](const ReplicaInfo& set) { return set.map_written_bytes; }},
    {"set_moved_bytes_total", "counter", "Live data that the cleaner wrote again.",
     [](const ReplicaInfo& set) { return set.moved_bytes; }},
    {"set_checkpoint_running", "gauge", "1 while a checkpoint is taken.",
     [](const ReplicaInfo& set) { return uint64_t{set.checkpoint_running}; }},
    {"set_clean_running", "gauge", "1 while live data is moved out of a segment.",
     [](const ReplicaInfo& set) { return uint64_t{set.clean_running}; }},
    {"set_reclaim_jobs", "gauge",
     "Deletes, trims and rollbacks that have yet to give something back.",
     [](const ReplicaInfo& set) { return set.reclaim_jobs; }},
    {"set_bad_blocks_total", "counter", "Blocks whose checksum was wrong.",
     [](const ReplicaInfo& set) { return set.bad_blocks_seen; }},
    {"set_damaged_places", "gauge", "Damaged places that are not healed.",
     [](const ReplicaInfo& set) { return uint64_t{set.damage.bad()}; }},
    {"set_resync_running", "gauge", "1 while the set is brought level.",
     [](const ReplicaInfo& set) { return uint64_t{IsResyncing(set)}; }},
    {"set_resync_done_bytes", "gauge", "What the resync under way has moved.",
     [](const ReplicaInfo& set) { return IsResyncing(set) ? set.resync->bytes_done : 0; }},
    {"set_resync_total_bytes", "gauge", "What it will move, an estimate from above.",
     [](const ReplicaInfo& set) { return IsResyncing(set) ? set.resync->bytes_total : 0; }},
    {"set_scrub_running", "gauge", "1 while the set is scrubbed.",
     [](const ReplicaInfo& set) { return uint64_t{set.scrub.state == "running"}; }},
    {"set_scrub_damaged_places", "gauge", "What the last scrub, or the one under way, found.",
     [](const ReplicaInfo& set) { return uint64_t{set.scrub.damaged_places}; }},
};

void AddSets(const PoolInfo& pool, Text* text) {
  for (const SetMetric& metric : kSetMetrics) {
    text->Head(metric.name, metric.type, metric.help);
    for (const ReplicaInfo& set : pool.replicas) {
      text->Sample(Label("set", set.set), metric.value(set));
    }
  }
}

void AddCommands(const nbd::Counters& counters, Text* text, const char* name, const char* help,
                 uint64_t nbd::CommandCounters::* field) {
  text->Head(name, "counter", help);
  for (size_t i = 0; i < counters.commands.size(); ++i) {
    const auto command = static_cast<nbd::Command>(i);
    if (command == nbd::Command::kDisconnect) continue;
    text->Sample(Label("command", absl::AsciiStrToLower(nbd::CommandName(command))),
                 counters.commands[i].*field);
  }
}

void AddNbd(const nbd::Server& server, Text* text) {
  const nbd::Counters& counters = server.counters();
  text->Head("nbd_connections", "gauge", "Clients that are connected.");
  text->Sample("", uint64_t{server.connections()});
  text->Head("nbd_connections_total", "counter", "Clients that were admitted.");
  text->Sample("", counters.connections);
  text->Head("nbd_refused_connections_total", "counter", "Clients over the limit.");
  text->Sample("", counters.refused_connections);
  text->Head("nbd_protocol_errors_total", "counter", "Connections ended by what the client sent.");
  text->Sample("", counters.protocol_errors);
  text->Head("nbd_timeouts_total", "counter", "Clients that were let go since they were stuck.");
  text->Sample("", counters.timeouts);
  AddCommands(counters, text, "nbd_requests_total", "Requests that were answered.",
              &nbd::CommandCounters::requests);
  AddCommands(counters, text, "nbd_errors_total", "Of them: with an error.",
              &nbd::CommandCounters::errors);
  AddCommands(counters, text, "nbd_bytes_total", "What those without an error covered.",
              &nbd::CommandCounters::bytes);
}

}  // namespace

std::string EncodeMetrics(const PoolInfo& pool, const DaemonInfo& daemon, const nbd::Server* nbd,
                          const std::vector<StageLatency>& latencies) {
  Text text;
  AddPool(pool, daemon, &text);
  AddSets(pool, &text);
  if (nbd != nullptr) AddNbd(*nbd, &text);
  text.Head("latency_seconds", "histogram", "How long a stage of the work took.");
  for (const StageLatency& latency : latencies) {
    text.Histogram(absl::StrCat(Label("stage", latency.stage), ",", Label("set", latency.set)),
                   latency.histogram);
  }
  return text.Take();
}

}  // namespace twofold::control
