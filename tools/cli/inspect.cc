#include "tools/cli/inspect.h"

#include <boost/json.hpp>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "replication/volume/ack_mode.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/io/uring_poller.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/offload.h"
#include "storage/store/directory_store.h"
#include "storage/store/inspect.h"
#include "tools/cli/present.h"
#include "tools/cli/progress.h"
#include "tools/cli/table.h"
#include "tools/control/info_json.h"
#include "tools/control/status_codes.h"

namespace twofold::cli {
namespace {

namespace json = boost::json;

std::string Text(const Position& position) {
  return absl::StrCat(position.generation.value(), ".", position.seq.value());
}
std::string Text(const LogPosition& position) {
  return absl::StrCat("batch ", position.batch.value(), " in segment ", position.segment.value(),
                      " at block ", position.block);
}
std::string Text(const LogDamage& damage) {
  return absl::StrCat("segment ", damage.segment.value(), ", block ", damage.block, ": ",
                      damage.what);
}

std::string VolumeName(const Catalogue& catalogue, VolumeId id) {
  const auto found = catalogue.volumes().find(id);
  return found == catalogue.volumes().end() ? absl::StrCat("volume ", id.value())
                                            : found->second.name;
}

uint64_t BytesOf(uint64_t blocks) { return blocks * kBlockSize; }

// ---- Summary ----

json::object SummaryJson(Store& store) {
  const Superblock& superblock = store.superblock();
  const Store::Usage usage = store.usage();
  const Catalogue& catalogue = store.catalogue();
  json::array volumes;
  for (const auto& [id, volume] : catalogue.volumes()) {
    volumes.push_back({{"name", volume.name},
                       {"id", id.value()},
                       {"size_bytes", volume.size_bytes},
                       {"ack", AckModeName(static_cast<AckMode>(volume.ack))},
                       {"timeline", volume.current_timeline.value()},
                       {"created", control::FormatTime(volume.created)}});
  }
  json::array snapshots;
  for (const auto& [id, snapshot] : catalogue.snapshots()) {
    snapshots.push_back(
        {{"name", absl::StrCat(VolumeName(catalogue, snapshot.volume), "@", snapshot.name)},
         {"id", id.value()},
         {"timeline", snapshot.timeline.value()},
         {"position", Text(snapshot.position)},
         {"size_bytes", snapshot.size_bytes},
         {"created", control::FormatTime(snapshot.created)},
         {"before_rollback", snapshot.before_rollback}});
  }
  json::array damage;
  for (const LogDamage& piece : store.damage()) damage.emplace_back(Text(piece));
  const std::vector<std::string>& in_sync = store.attach_state().in_sync;
  return {{"set", superblock.set_name},
          {"pool", superblock.pool_id},
          {"store", superblock.store_id},
          {"place", store.place()},
          {"incarnation", superblock.incarnation.value()},
          {"segment_bytes", superblock.segment_bytes},
          {"segments", usage.segments},
          {"free_segments", usage.free_segments},
          {"live_bytes", BytesOf(usage.live_blocks)},
          {"sealed_generation", store.attach_state().sealed.value()},
          {"membership_version", store.attach_state().membership_version},
          {"in_sync", json::array(in_sync.begin(), in_sync.end())},
          {"log_end", Text(store.log().end())},
          {"uncommitted_entries", store.streams().pending_entries()},
          {"timelines", catalogue.timelines().size()},
          {"volumes", std::move(volumes)},
          {"snapshots", std::move(snapshots)},
          {"damage", std::move(damage)}};
}

void PresentVolumes(Store& store, std::ostream& out) {
  Table volumes({{"VOLUME"}, {"SIZE", Align::kRight}, {"ACK"}, {"APPLIED TO"}, {"CREATED"}});
  const Catalogue& catalogue = store.catalogue();
  for (const auto& [id, volume] : catalogue.volumes()) {
    const auto stream = catalogue.streams().find(id);
    volumes.Add({volume.name, FormatSize(volume.size_bytes),
                 AckModeName(static_cast<AckMode>(volume.ack)),
                 stream == catalogue.streams().end() ? "-" : Text(stream->second.applied),
                 PresentTime(volume.created)});
  }
  if (!volumes.empty()) {
    out << "\n";
    volumes.Print(out);
  }
  Table snapshots({{"SNAPSHOT"}, {"SIZE", Align::kRight}, {"POSITION"}, {"CREATED"}, {"NOTE"}});
  for (const auto& [id, snapshot] : catalogue.snapshots()) {
    snapshots.Add({absl::StrCat(VolumeName(catalogue, snapshot.volume), "@", snapshot.name),
                   FormatSize(snapshot.size_bytes), Text(snapshot.position),
                   PresentTime(snapshot.created),
                   snapshot.before_rollback ? "kept by a rollback" : ""});
  }
  if (!snapshots.empty()) {
    out << "\n";
    snapshots.Print(out);
  }
}

void PresentSummary(Store& store, std::ostream& out) {
  const Superblock& superblock = store.superblock();
  const Store::Usage usage = store.usage();
  const uint64_t pending = store.streams().pending_entries();
  PrintFields(
      out,
      {{"set", superblock.set_name},
       {"pool", superblock.pool_id},
       {"store", superblock.store_id},
       {"place", Printable(store.place())},
       {"incarnation", absl::StrCat(superblock.incarnation.value())},
       {"attached", absl::StrCat("generation ", store.attach_state().sealed.value(),
                                 ", membership version ", store.attach_state().membership_version,
                                 ", in-sync: ", absl::StrJoin(store.attach_state().in_sync, " "))},
       {"segments",
        absl::StrCat(usage.segments - usage.free_segments, " used and ", usage.free_segments,
                     " free, of ", FormatSize(superblock.segment_bytes))},
       {"live data", FormatSizeRounded(BytesOf(usage.live_blocks))},
       {"log ends", Text(store.log().end())},
       {"uncommitted", pending == 0
                           ? "nothing"
                           : absl::StrCat(pending, " entries; the next start settles them")}});
  PresentVolumes(store, out);
  for (const LogDamage& piece : store.damage()) {
    out << "\ndamage: " << Printable(Text(piece)) << "\n";
  }
}

// ---- Verify ----

json::object VerifyJson(const VerifyReport& report) {
  json::array contents;
  for (const ContentDigest& content : report.contents) {
    contents.push_back({{"name", content.name},
                        {"position", Text(content.position)},
                        {"size_bytes", content.size_bytes},
                        {"data_blocks", content.data_blocks},
                        {"digest", content.digest}});
  }
  return {{"whole", report.problems.empty()},
          {"blocks_read", report.blocks_read},
          {"uncommitted_entries", report.uncommitted_entries},
          {"contents", std::move(contents)},
          {"problems", json::array(report.problems.begin(), report.problems.end())}};
}

void PresentVerify(const VerifyReport& report, std::ostream& out) {
  Table table(
      {{"CONTENT"}, {"POSITION"}, {"SIZE", Align::kRight}, {"DATA", Align::kRight}, {"DIGEST"}});
  for (const ContentDigest& content : report.contents) {
    table.Add({content.name, Text(content.position), FormatSize(content.size_bytes),
               FormatSizeRounded(BytesOf(content.data_blocks)), content.digest});
  }
  if (!table.empty()) {
    table.Print(out);
    out << "\n";
  }
  for (const std::string& problem : report.problems)
    out << "problem: " << Printable(problem) << "\n";
  out << FormatSizeRounded(BytesOf(report.blocks_read)) << " read and checked, "
      << (report.problems.empty() ? "all is well"
                                  : absl::StrCat(report.problems.size(), " problems"))
      << "\n";
  if (report.uncommitted_entries > 0) {
    out << report.uncommitted_entries
        << " entries at the end of the log are not committed yet; the next start settles them\n";
  }
}

Task<absl::Status> Verify(Store* store, Console* console) {
  Progress progress(*console);
  const std::function<void(const InspectProgress&)> on_progress =
      [&progress](const InspectProgress& now) {
        progress.Update(now.what, now.done, now.total, false);
      };
  absl::StatusOr<VerifyReport> report = co_await VerifyStore(*store, on_progress);
  TF_CO_RETURN_IF_ERROR(report);
  progress.Clear();
  if (console->json) {
    console->out << json::serialize(VerifyJson(*report)) << "\n";
  } else {
    PresentVerify(*report, console->out);
  }
  if (report->problems.empty()) co_return absl::OkStatus();
  co_return absl::DataLossError(absl::StrCat(
      "set ", store->superblock().set_name, " has ", report->problems.size(),
      " problems, listed above; while the pool is served such blocks are read from the other set"));
}

// ---- Dump ----

Task<absl::Status> Dump(Store* store, Console* console) {
  const std::function<void(const std::string&)> on_line = [console](const std::string& line) {
    if (console->json) {
      console->out << json::serialize(json::object{{"line", line}}) << "\n";
    } else {
      console->out << Printable(line) << "\n";
    }
  };
  co_return co_await DumpStore(*store, on_line);
}

// ---- Rebuild ----

Task<absl::Status> Rebuild(UringPoller* poller, Offload* offload, InspectCommand inspect,
                           Console* console) {
  Progress progress(*console);
  DirectoryStoreOptions options;
  options.directories = inspect.directories;
  options.store.on_rebuild = [&progress](const RebuildProgress& now) {
    progress.Update(now.what, now.done, now.total, false);
  };
  absl::Status status = co_await RebuildDirectoryMap(*poller, *offload, std::move(options));
  TF_CO_RETURN_IF_ERROR(status);
  progress.Clear();
  if (console->json) {
    console->out << json::serialize(json::object{{"rebuilt", true}}) << "\n";
  } else {
    console->out << "the map was rebuilt from the log; check it with --verify\n";
  }
  co_return absl::OkStatus();
}

// ---- All ----

Task<absl::Status> InspectStore(UringPoller* poller, Offload* offload, InspectCommand inspect,
                                Console* console) {
  if (inspect.mode == InspectCommand::Mode::kRebuildMap) {
    co_return co_await Rebuild(poller, offload, std::move(inspect), console);
  }
  DirectoryStoreOptions options;
  options.directories = inspect.directories;
  options.store.read_only = true;
  absl::StatusOr<std::unique_ptr<Store>> store =
      co_await OpenDirectoryStore(*poller, *offload, std::move(options));
  TF_CO_RETURN_IF_ERROR(store);
  absl::Status status;
  switch (inspect.mode) {
    case InspectCommand::Mode::kSummary:
      if (console->json) {
        console->out << json::serialize(SummaryJson(**store)) << "\n";
      } else {
        PresentSummary(**store, console->out);
      }
      break;
    case InspectCommand::Mode::kVerify:
      status = co_await Verify(store->get(), console);
      break;
    case InspectCommand::Mode::kDump:
      status = co_await Dump(store->get(), console);
      break;
    case InspectCommand::Mode::kRebuildMap:
      break;  // Above.
  }
  co_await (*store)->Stop();
  console->out.flush();
  co_return status;
}

absl::Status Inspect(const InspectCommand& inspect, Console& console) {
  SetLogLevel(LogLevel::kWarning);
  TF_ASSIGN_OR_RETURN(const std::unique_ptr<UringPoller> poller, UringPoller::Create());
  Executor executor(*poller);
  Offload offload(kOffloadThreads);
  absl::Status status = executor.Run(InspectStore(poller.get(), &offload, inspect, &console));
  offload.Stop();
  return status;
}

}  // namespace

int RunInspect(const InspectCommand& inspect, Console& console) {
  const absl::Status status = Inspect(inspect, console);
  return status.ok() ? control::kExitDone : ReportError(console, status);
}

}  // namespace twofold::cli
