#include "tools/cli/daemon.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "replication/local_replica.h"
#include "replication/pair/file_witness.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/sync.h"
#include "storage/store/directory_store.h"
#include "tools/cli/replacement.h"
#include "tools/control/api.h"
#include "tools/nbd/exports.h"

namespace twofold::cli {
namespace {

// Besides segments and connections: RocksDB's tables, rings, sockets, the log.
constexpr uint64_t kOtherFiles = 512;

// The errors of several sets in one text; the first one's code.
absl::Status Joined(const std::vector<absl::Status>& statuses) {
  std::vector<std::string> texts;
  for (const absl::Status& status : statuses) {
    if (!status.ok()) texts.emplace_back(status.message());
  }
  return absl::Status(FirstError(statuses).code(), absl::StrJoin(texts, "\n"));
}

}  // namespace

uint64_t RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  // Beyond the hard limit where the process may, else up to it.
  constexpr rlim_t kPlenty = 1 << 20;
  const rlimit plenty{kPlenty, std::max(limit.rlim_max, kPlenty)};
  if (limit.rlim_max >= kPlenty || setrlimit(RLIMIT_NOFILE, &plenty) != 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

Daemon::Daemon(Parts parts, ServeSettings settings)
    : parts_(parts), settings_(std::move(settings)), replicas_(settings_.sets.size()) {
  info_.version = TWOFOLD_VERSION;
  info_.pid = static_cast<uint64_t>(getpid());
}

Daemon::~Daemon() { TF_CHECK(pool_ == nullptr && witness_ == nullptr); }

Task<absl::StatusOr<std::unique_ptr<Store>>> Daemon::OpenStore(SetSpec set, bool read_only,
                                                               std::string give_up_end_of_pool) {
  DirectoryStoreOptions options;
  options.directories = set.directories;
  options.store = OptionsOfStores();
  options.store.read_only = read_only;
  options.store.give_up_end_of_pool = std::move(give_up_end_of_pool);
  absl::StatusOr<std::unique_ptr<Store>> store =
      co_await OpenDirectoryStore(*parts_.poller, *parts_.offload, std::move(options));
  TF_CO_RETURN_IF_ERROR(Annotate(store.status(), Describe(set)));
  co_return store;
}

StoreOptions Daemon::OptionsOfStores() {
  StoreOptions options;
  options.map_cache_bytes = settings_.map_cache_bytes;
  options.departures = &departures_;
  return options;
}

Task<absl::Status> Daemon::OpenSet(size_t index) {
  const SetSpec& set = settings_.sets[index];
  const std::string what = Describe(set);
  absl::StatusOr<std::unique_ptr<Store>> store = co_await OpenStore(set, /*read_only=*/false);
  TF_CO_RETURN_IF_ERROR(store);
  const Superblock& superblock = (*store)->superblock();
  segments_ += superblock.max_segments;
  if (set.name != settings_.replace) layout_ = superblock;
  NoteFiles(set);
  const std::string found = superblock.set_name;
  replicas_[index] = std::make_unique<LocalReplica>(*std::move(store));
  if (found == set.name) co_return absl::OkStatus();
  co_return absl::FailedPreconditionError(absl::StrCat(
      what, " holds set ", found, "; are the directories of two sets mixed up? Say --set ", found,
      "=", absl::StrJoin(set.directories, ",")));
}

absl::Status Daemon::CheckFileLimit() const {
  const uint64_t needed = segments_ + kMaxNbdConnections + kMaxControlConnections +
                          control::kMaxMetricsConnections + kOtherFiles;
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= needed) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "this pool needs up to ", needed, " open files, the limit is ", limit.rlim_cur,
      "; raise it with LimitNOFILE= in the systemd unit, or `ulimit -Hn` in the shell"));
}

// What can't be opened is absent: whether the pool opens without it the witness decides. A set
// under another's name is a mistake of whoever wrote the command, and no loss.
Task<absl::Status> Daemon::OpenSets() {
  std::vector<Task<absl::Status>> opening;
  for (size_t i = 0; i < settings_.sets.size(); ++i) opening.push_back(OpenSet(i));
  const std::vector<absl::Status> opened = co_await WhenAll(std::move(opening));
  std::vector<absl::Status> mistakes;
  for (size_t i = 0; i < opened.size(); ++i) {
    if (opened[i].ok()) continue;
    if (replicas_[i] != nullptr) mistakes.push_back(opened[i]);
    TF_LOG(ERROR) << "not opened: " << opened[i].message();
    absent_.push_back({settings_.sets[i].name, absl::StrJoin(settings_.sets[i].directories, ","),
                       std::string(opened[i].message()), absl::IsNotFound(opened[i]),
                       absl::IsDataLoss(opened[i])});
  }
  if (!mistakes.empty()) co_return Joined(mistakes);
  if (absent_.size() == settings_.sets.size()) co_return Joined(opened);
  std::erase(replicas_, nullptr);
  co_return absl::OkStatus();
}

std::unique_ptr<Replica> Daemon::TakeReplica(const std::string& set_name) {
  for (std::unique_ptr<Replica>& replica : replicas_) {
    if (replica->set_name() != set_name) continue;
    std::unique_ptr<Replica> taken = std::move(replica);
    std::erase(replicas_, nullptr);
    return taken;
  }
  return nullptr;
}

Task<absl::StatusOr<std::unique_ptr<Replica>>> Daemon::FindNewcomer() {
  const auto set =
      std::find_if(settings_.sets.begin(), settings_.sets.end(),
                   [this](const SetSpec& spec) { return spec.name == settings_.replace; });
  std::unique_ptr<Replica> found = TakeReplica(set->name);
  if (found != nullptr) {
    absl::StatusOr<Membership> membership = co_await witness_->Read();
    const bool member =
        !membership.ok() || std::count(membership->configured.begin(), membership->configured.end(),
                                       found->store_id()) > 0;
    if (!member) {
      absent_.push_back({set->name, found->place(), "it is being replaced", /*gone=*/true});
      co_return found;
    }
    TF_LOG(WARNING) << "--replace " << set->name << " is not needed: the store in "
                    << found->place() << " is a member of the pool";
    replicas_.push_back(std::move(found));
    co_return nullptr;
  }
  absl::StatusOr<std::unique_ptr<Store>> store =
      co_await MakeReplacement(parts_.poller, parts_.offload, *set, layout_, OptionsOfStores());
  TF_CO_RETURN_IF_ERROR(Annotate(store.status(), absl::StrCat("--replace ", set->name)));
  segments_ += layout_.max_segments;
  co_return std::make_unique<LocalReplica>(*std::move(store));
}

Task<absl::Status> Daemon::OpenPool() {
  absl::StatusOr<std::unique_ptr<FileWitness>> witness =
      co_await FileWitness::Open(settings_.witness, parts_.offload);
  TF_CO_RETURN_IF_ERROR(witness);
  witness_ = *std::move(witness);

  absl::Status status = co_await OpenSets();
  TF_CO_RETURN_IF_ERROR(status);
  std::unique_ptr<Replica> newcomer;
  if (!settings_.replace.empty()) {
    absl::StatusOr<std::unique_ptr<Replica>> found = co_await FindNewcomer();
    TF_CO_RETURN_IF_ERROR(found);
    newcomer = *std::move(found);
  }
  status = CheckFileLimit();
  if (!status.ok() && newcomer != nullptr) co_await newcomer->Stop();
  TF_CO_RETURN_IF_ERROR(status);

  Pool::Parts pool_parts{.replicas = std::move(replicas_),
                         .witness = std::move(witness_),
                         .buffer_pool_bytes = settings_.memory_bytes,
                         .attach = {.absent = std::move(absent_),
                                    .new_witness = settings_.new_witness,
                                    .force_stale = settings_.force_stale,
                                    .confirm = parts_.confirm},
                         .scrub = settings_.scrub,
                         .directories = Directories(),
                         .resync_bytes_per_second = settings_.resync_rate};
  absl::StatusOr<std::unique_ptr<Pool>> pool = co_await Pool::Attach(std::move(pool_parts));
  // On an error the pool has closed its parts.
  replicas_.clear();
  if (!pool.ok() && newcomer != nullptr) co_await newcomer->Stop();
  TF_CO_RETURN_IF_ERROR(pool);
  pool_ = *std::move(pool);
  if (newcomer != nullptr) {
    status = co_await pool_->ReplaceSet(std::move(newcomer));
    TF_CO_RETURN_IF_ERROR(Annotate(status, absl::StrCat("--replace ", settings_.replace)));
  }
  info_.started = Executor::Current().WallNow();
  co_return absl::OkStatus();
}

absl::Status Daemon::StartServers() {
  // The default socket lies in a directory that a boot has emptied.
  std::error_code ignored;
  std::filesystem::create_directory(std::filesystem::path(settings_.control).parent_path(),
                                    ignored);
  TF_ASSIGN_OR_RETURN(
      control_,
      control::Server::Start(Executor::Current(), {.socket_path = settings_.control,
                                                   .handler = [this](control::Request request) {
                                                     return Answer(std::move(request));
                                                   }}));
  std::vector<Endpoint> endpoints;
  for (const std::string& text : settings_.nbd) {
    TF_ASSIGN_OR_RETURN(endpoints.emplace_back(), Endpoint::Parse(text));
  }
  TF_ASSIGN_OR_RETURN(nbd_, nbd::Server::Create(*parts_.network, nbd::ExportsOf(*pool_)));
  TF_RETURN_IF_ERROR(nbd_->Start(endpoints));
  for (const Endpoint& endpoint : nbd_->endpoints()) info_.nbd.push_back(endpoint.ToString());
  return StartMetrics();
}

absl::Status Daemon::StartMetrics() {
  if (settings_.metrics.empty()) return absl::OkStatus();
  TF_ASSIGN_OR_RETURN(const Endpoint endpoint, Endpoint::Parse(settings_.metrics));
  TF_ASSIGN_OR_RETURN(
      metrics_,
      control::MetricsServer::Start(
          Executor::Current(), {.endpoint = endpoint, .handler = [this](control::Request request) {
                                  return Answer(std::move(request));
                                }}));
  info_.metrics = metrics_->endpoint().ToString();
  return absl::OkStatus();
}

Task<control::Answer> Daemon::Answer(control::Request request) {
  return control::Execute(pool_.get(), nbd_.get(), &info_, std::move(request));
}

Task<void> Daemon::CloseUnattached() {
  for (const std::unique_ptr<Replica>& replica : replicas_) {
    if (replica != nullptr) co_await replica->Stop();
  }
  replicas_.clear();
  if (witness_ != nullptr) co_await witness_->Close();
  witness_.reset();
}

Task<void> Daemon::Close() {
  if (metrics_ != nullptr) co_await metrics_->Stop();
  metrics_.reset();
  if (pool_ != nullptr) pool_->CancelUsage();  // The control API waits for what it has asked for.
  if (control_ != nullptr) co_await control_->Stop();
  control_.reset();
  if (nbd_ != nullptr) co_await nbd_->Stop();
  nbd_.reset();
  if (pool_ != nullptr) co_await pool_->Stop();
  pool_.reset();
  co_await CloseUnattached();
}

}  // namespace twofold::cli
