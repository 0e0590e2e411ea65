#include "tools/cli/init.h"

#include <sys/stat.h>

#include <algorithm>
#include <boost/json.hpp>
#include <csignal>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "replication/pair/file_witness.h"
#include "replication/volume/pool.h"
#include "storage/base/limits.h"
#include "storage/base/prng.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/io/uring_poller.h"
#include "storage/log/superblock.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/offload.h"
#include "storage/store/directory_store.h"
#include "tools/cli/directories.h"
#include "tools/cli/table.h"
#include "tools/control/status_codes.h"

namespace twofold::cli {
namespace {

namespace json = boost::json;

// Below this many segments of the default size, smaller ones are better.
constexpr uint64_t kWantedSegments = 64;

// What is to be made.
struct Plan {
  std::string pool_id;
  std::vector<SetSpec> sets;
  std::vector<Superblock> superblocks;  // of each set
  std::string witness;
};

// Checks and makes the directories, and decides on sizes; nothing else is touched.
absl::StatusOr<Plan> MakePlan(const InitCommand& init, NewDirectories& directories) {
  Plan plan;
  plan.pool_id = NewId();
  plan.sets = init.sets;
  plan.witness = init.witness;
  for (const SetSpec& set : init.sets) {
    for (const std::string& directory : set.directories) {
      TF_RETURN_IF_ERROR(Annotate(directories.Make(directory), absl::StrCat("set ", set.name)));
    }
  }
  TF_RETURN_IF_ERROR(Annotate(directories.Make(init.witness), "witness"));

  TF_ASSIGN_OR_RETURN(const std::vector<uint64_t> free_bytes, FreeBytesBySet(init.sets));
  for (size_t i = 0; i < init.sets.size(); ++i) {
    const std::string& name = init.sets[i].name;
    const auto given = init.size_bytes.find(name);
    const uint64_t usable = given == init.size_bytes.end() ? free_bytes[i] : given->second;
    if (usable > free_bytes[i]) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "set ", name, ": --size is ", FormatSize(usable), ", but its directories have only ",
          FormatSizeRounded(free_bytes[i]), " for it; give less, or leave --size out to take all"));
    }
    absl::StatusOr<StoreLayout> layout = PlanStore(usable, init.segment_bytes.value_or(0));
    TF_RETURN_IF_ERROR(Annotate(layout.status(), absl::StrCat("set ", name)));
    Superblock& superblock = plan.superblocks.emplace_back();
    superblock.pool_id = plan.pool_id;
    superblock.store_id = NewId();
    superblock.set_name = name;
    superblock.segment_bytes = layout->segment_bytes;
    superblock.max_segments = layout->max_segments;
  }
  return plan;
}

Task<absl::Status> WriteWitness(Offload& offload, Plan plan) {
  absl::StatusOr<std::unique_ptr<FileWitness>> witness =
      co_await FileWitness::Open(plan.witness, &offload);
  TF_CO_RETURN_IF_ERROR(witness);
  std::vector<std::string> store_ids;
  for (const Superblock& superblock : plan.superblocks) store_ids.push_back(superblock.store_id);
  absl::Status status = co_await Pool::Format(witness->get(), plan.pool_id, std::move(store_ids));
  co_await (*witness)->Close();
  co_return status;
}

Task<absl::Status> FormatAll(UringPoller& poller, Offload& offload, Plan plan) {
  for (size_t i = 0; i < plan.sets.size(); ++i) {
    absl::Status status = co_await FormatDirectoryStore(poller, offload, plan.sets[i].directories,
                                                        plan.superblocks[i]);
    TF_CO_RETURN_IF_ERROR(Annotate(status, absl::StrCat("set ", plan.sets[i].name)));
  }
  // The last step makes it a pool.
  co_return co_await WriteWitness(offload, std::move(plan));
}

// Takes back what was made. The directories were empty before.
absl::Status Undo(const Plan& plan, absl::Status reason) {
  std::vector<std::string> directories = {plan.witness};
  for (const SetSpec& set : plan.sets) {
    directories.insert(directories.end(), set.directories.begin(), set.directories.end());
  }
  std::string left;
  for (const std::string& directory : directories) {
    const absl::Status removed = RemoveStoreFiles(directory);
    if (!removed.ok()) absl::StrAppend(&left, "; ", removed.message());
  }
  return absl::Status(
      reason.code(),
      absl::StrCat(reason.message(), left.empty() ? "; nothing was left behind" : left));
}

absl::Status Format(const Plan& plan) {
  TF_ASSIGN_OR_RETURN(const std::unique_ptr<UringPoller> poller, UringPoller::Create());
  Executor executor(*poller);
  Offload offload(1);
  absl::Status status = executor.Run(FormatAll(*poller, offload, plan));
  offload.Stop();
  return status.ok() ? status : Undo(plan, std::move(status));
}

void Present(const Plan& plan, Console& console) {
  const auto bytes = [](const Superblock& superblock) {
    return superblock.segment_bytes * superblock.max_segments;
  };
  if (console.json) {
    json::array sets;
    for (size_t i = 0; i < plan.sets.size(); ++i) {
      const std::vector<std::string>& directories = plan.sets[i].directories;
      sets.push_back({{"set", plan.sets[i].name},
                      {"store", plan.superblocks[i].store_id},
                      {"directories", json::array(directories.begin(), directories.end())},
                      {"segment_bytes", plan.superblocks[i].segment_bytes},
                      {"segments", plan.superblocks[i].max_segments},
                      {"log_bytes", bytes(plan.superblocks[i])}});
    }
    console.out << json::serialize(json::object{{"pool", plan.pool_id},
                                                {"witness", plan.witness},
                                                {"sets", std::move(sets)}})
                << std::endl;
    return;
  }
  console.out << "made pool " << plan.pool_id << "\n\n";
  Table table({{"SET"}, {"LOG", Align::kRight}, {"SEGMENTS", Align::kRight}, {"DIRECTORIES"}});
  std::string serve = "twofold serve";
  for (size_t i = 0; i < plan.sets.size(); ++i) {
    const std::string directories = absl::StrJoin(plan.sets[i].directories, ",");
    table.Add({plan.sets[i].name, FormatSizeRounded(bytes(plan.superblocks[i])),
               absl::StrCat(plan.superblocks[i].max_segments, " of ",
                            FormatSize(plan.superblocks[i].segment_bytes)),
               directories});
    absl::StrAppend(&serve, " --set ", plan.sets[i].name, "=", directories);
  }
  table.Print(console.out);
  console.out << "\nwitness " << plan.witness << "\nserve it with: " << serve << " --witness "
              << plan.witness << std::endl;
}

// SIGINT and SIGTERM wait until init is through: it takes a moment, and half of it is of no use.
class SignalsHeldBack {
 public:
  SignalsHeldBack() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, signal);
    pthread_sigmask(SIG_BLOCK, &signals, &before_);
  }
  ~SignalsHeldBack() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsHeldBack(const SignalsHeldBack&) = delete;
  SignalsHeldBack& operator=(const SignalsHeldBack&) = delete;

 private:
  sigset_t before_;
};

absl::Status Init(const InitCommand& init, Console& console) {
  const SignalsHeldBack signals;
  umask(0077);  // The volumes' data is nobody else's business.
  NewDirectories directories;
  TF_ASSIGN_OR_RETURN(const Plan plan, MakePlan(init, directories));
  TF_RETURN_IF_ERROR(Format(plan));
  directories.Keep();
  Present(plan, console);
  const std::string warning = SharedDeviceWarning(plan.sets);
  if (!warning.empty()) console.err << "twofold: warning: " << warning << std::endl;
  return absl::OkStatus();
}

}  // namespace

std::string NewId() { return absl::StrFormat("%016x%016x", SecureRandom64(), SecureRandom64()); }

absl::StatusOr<StoreLayout> PlanStore(uint64_t usable_bytes, uint64_t segment_bytes) {
  StoreLayout layout;
  layout.segment_bytes = segment_bytes == 0 ? kDefaultSegmentBytes : segment_bytes;
  layout.max_segments = SegmentsThatFit(usable_bytes, layout.segment_bytes);
  while (segment_bytes == 0 && layout.max_segments < kWantedSegments &&
         layout.segment_bytes > kMinSegmentBytes) {
    layout.segment_bytes /= 2;
    layout.max_segments = SegmentsThatFit(usable_bytes, layout.segment_bytes);
  }
  if (layout.max_segments >= kMinStoreSegments) return layout;
  return absl::ResourceExhaustedError(absl::StrCat(
      FormatSizeRounded(usable_bytes), " is too little: a set needs room for ", kMinStoreSegments,
      " segments of ", FormatSize(layout.segment_bytes), " and for its map. Free some space",
      layout.segment_bytes > kMinSegmentBytes ? ", or give a smaller --segment-size" : ""));
}

int RunInit(const InitCommand& init, Console& console) {
  const absl::Status status = Init(init, console);
  return status.ok() ? control::kExitDone : ReportError(console, status);
}

}  // namespace twofold::cli
