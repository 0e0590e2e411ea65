#include "tests/sim/sim_metadata_store.h"

#include <coroutine>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/map/merge.h"
#include "storage/runtime/executor.h"

namespace twofold::sim {
namespace {

// Goes on after `nanos` of the executor's time, which is virtual under a SimPoller.
struct Sleep {
  int64_t nanos;
  bool await_ready() const noexcept { return nanos == 0; }
  void await_suspend(std::coroutine_handle<> handle) const {
    Executor& executor = Executor::Current();
    executor.AddTimer(executor.Now() + nanos, handle);
  }
  void await_resume() const noexcept {}
};

absl::Status DamagedAt(const std::string& key) {
  return absl::DataLossError(
      absl::StrCat("simulated metadata store: damaged at key ", absl::BytesToHexString(key)));
}

}  // namespace

class SimMetadataStore final : public MetadataStore {
 public:
  SimMetadataStore(SimMetadataDisk* disk, uint64_t boot) : disk_(*disk), boot_(boot) {}
  ~SimMetadataStore() override { TF_CHECK(!alive()) << "a store that was not closed"; }

  Task<absl::StatusOr<std::optional<std::string>>> Get(std::string key) override {
    absl::StatusOr<std::vector<KeyValue>> found = co_await Read(key, key + '\0', 1);
    TF_CO_ASSIGN_OR_RETURN(std::vector<KeyValue> values, std::move(found));
    if (values.empty()) co_return std::optional<std::string>();
    co_return std::optional<std::string>(std::move(values[0].second));
  }

  Task<absl::StatusOr<std::optional<KeyValue>>> Seek(std::string from,
                                                     std::string prefix) override {
    TF_CHECK(absl::StartsWith(from, prefix));
    // The first key of another prefix ends the answer; unlike the end of the prefix's range, which
    // need not exist, it can be looked at without being part of it.
    absl::StatusOr<std::vector<KeyValue>> found = co_await Read(from, std::nullopt, 1, prefix);
    TF_CO_ASSIGN_OR_RETURN(std::vector<KeyValue> values, std::move(found));
    if (values.empty()) co_return std::optional<KeyValue>();
    co_return std::optional<KeyValue>(std::move(values[0]));
  }

  Task<absl::StatusOr<std::vector<KeyValue>>> Scan(std::string from, std::string to,
                                                   size_t limit) override {
    return Read(std::move(from), std::move(to), limit);
  }

  std::unique_ptr<MetadataView> View() override;

  Task<absl::Status> Commit(MetadataBatch batch) override {
    TF_CHECK(!committing_) << "one commit at a time";
    committing_ = true;
    const absl::Status status = co_await CommitOne(std::move(batch));
    committing_ = false;
    co_return status;
  }

  Task<absl::Status> Verify(
      std::function<Task<absl::Status>(uint64_t bytes)> before_read) override {
    TF_CO_RETURN_IF_ERROR(CheckAlive());
    ++disk_.reads_;
    absl::Status status = co_await before_read(SizeBytes());
    TF_CO_RETURN_IF_ERROR(status);
    co_await Sleep{disk_.Delay(disk_.options_.max_read_delay_ns)};
    TF_CO_RETURN_IF_ERROR(CheckAlive());
    if (!disk_.damaged_.empty()) co_return DamagedAt(*disk_.damaged_.begin());
    co_return absl::OkStatus();
  }

  Task<absl::Status> MarkDamaged(std::string why) override {
    TF_CO_RETURN_IF_ERROR(CheckAlive());
    disk_.marked_ = std::move(why);
    co_return absl::OkStatus();
  }

  uint64_t SizeBytes() const override {
    uint64_t bytes = 0;
    for (const auto& [key, value] : disk_.contents_) bytes += key.size() + value.size();
    return bytes;
  }

  uint64_t WrittenBytes() const override { return written_bytes_; }

  Task<void> Close() override {
    TF_CHECK(!committing_);
    if (alive()) {
      disk_.SettleUndo();
      disk_.open_ = false;
      ++disk_.boot_;
    }
    co_return;
  }

 private:
  friend class SimMetadataView;

  bool alive() const { return disk_.boot_ == boot_; }

  absl::Status CheckAlive() const {
    if (alive()) return absl::OkStatus();
    return absl::UnavailableError("simulated metadata store: the machine crashed, or it is closed");
  }

  Task<absl::Status> CommitOne(MetadataBatch batch) {
    TF_CO_RETURN_IF_ERROR(CheckAlive());
    ++disk_.commits_;
    for (const MetadataWrite& write : batch) {
      TF_CHECK(write.kind != MetadataWrite::Kind::kMerge || HasMerge(write.key));
      TF_CHECK(write.kind != MetadataWrite::Kind::kDeleteRange || write.key < write.value);
    }
    co_await Sleep{disk_.Delay(disk_.options_.max_commit_delay_ns)};
    TF_CO_RETURN_IF_ERROR(CheckAlive());
    if (failed_commit_) {
      co_return absl::FailedPreconditionError(
          "simulated metadata store: an earlier commit failed; reopen it");
    }
    disk_.Apply(batch);
    for (const MetadataWrite& write : batch)
      written_bytes_ += write.key.size() + write.value.size();
    // A crash from here to the end of the sleep leaves all of the batch or nothing.
    co_await Sleep{disk_.Delay(disk_.options_.max_commit_delay_ns)};
    TF_CO_RETURN_IF_ERROR(CheckAlive());
    if (disk_.commit_error_.has_value()) {
      failed_commit_ = true;
      const absl::Status error = *disk_.commit_error_;
      disk_.commit_error_.reset();
      co_return error;
    }
    disk_.MakeDurable();
    co_return absl::OkStatus();
  }

  // The keys in [from, to) that begin with `prefix`, up to the first that doesn't.
  Task<absl::StatusOr<std::vector<KeyValue>>> Read(std::string from, std::optional<std::string> to,
                                                   size_t limit, std::string prefix = "") {
    TF_CO_RETURN_IF_ERROR(CheckAlive());
    ++disk_.reads_;
    co_await Sleep{disk_.Delay(disk_.options_.max_read_delay_ns / 2)};
    TF_CO_RETURN_IF_ERROR(CheckAlive());
    absl::StatusOr<std::vector<KeyValue>> result = Look(from, to, limit, prefix);
    co_await Sleep{disk_.Delay(disk_.options_.max_read_delay_ns / 2)};
    TF_CO_RETURN_IF_ERROR(CheckAlive());
    co_return result;
  }

  absl::StatusOr<std::vector<KeyValue>> Look(const std::string& from,
                                             const std::optional<std::string>& to, size_t limit,
                                             const std::string& prefix) {
    if (disk_.failing_reads_ > 0) {
      --disk_.failing_reads_;
      return disk_.read_error_;
    }
    std::vector<KeyValue> found;
    for (auto it = disk_.contents_.lower_bound(from); it != disk_.contents_.end(); ++it) {
      if (found.size() == limit || (to.has_value() && it->first >= *to) ||
          !absl::StartsWith(it->first, prefix)) {
        break;
      }
      if (disk_.damaged_.contains(it->first)) return DamagedAt(it->first);
      found.push_back(*it);
    }
    return found;
  }

  SimMetadataDisk& disk_;
  const uint64_t boot_;
  bool committing_ = false;
  uint64_t written_bytes_ = 0;
  bool failed_commit_ = false;
};

// A copy of what is stored. Its work takes the time of a read.
class SimMetadataView final : public MetadataView {
 public:
  explicit SimMetadataView(SimMetadataStore* store)
      : store_(*store), contents_(store->disk_.contents_), damaged_(store->disk_.damaged_) {}

  absl::StatusOr<std::optional<std::string>> GetBlocking(const std::string& key) const override {
    if (damaged_.contains(key)) return DamagedAt(key);
    const auto found = contents_.find(key);
    return found == contents_.end() ? std::nullopt : std::optional(found->second);
  }
  absl::StatusOr<std::vector<KeyValue>> ScanBlocking(const std::string& from, const std::string& to,
                                                     size_t limit) const override {
    std::vector<KeyValue> found;
    for (auto it = contents_.lower_bound(from);
         it != contents_.end() && it->first < to && found.size() < limit; ++it) {
      if (damaged_.contains(it->first)) return DamagedAt(it->first);
      found.push_back(*it);
    }
    return found;
  }
  Task<absl::Status> Run(std::function<absl::Status()> work) const override {
    SimMetadataDisk& disk = store_.disk_;
    TF_CO_RETURN_IF_ERROR(store_.CheckAlive());
    ++disk.reads_;
    co_await Sleep{disk.Delay(disk.options_.max_read_delay_ns)};
    TF_CO_RETURN_IF_ERROR(store_.CheckAlive());
    co_return work();
  }

 private:
  SimMetadataStore& store_;
  const std::map<std::string, std::string> contents_;
  const std::set<std::string> damaged_;
};

std::unique_ptr<MetadataView> SimMetadataStore::View() {
  return std::make_unique<SimMetadataView>(this);
}

SimMetadataDisk::SimMetadataDisk(uint64_t seed, Options options)
    : random_(seed), options_(options) {}

std::unique_ptr<MetadataStore> SimMetadataDisk::Open() {
  TF_CHECK(!open_) << "one store at a time";
  open_ = true;
  return std::make_unique<SimMetadataStore>(this, ++boot_);
}

void SimMetadataDisk::Crash() {
  SettleUndo();
  open_ = false;
  ++boot_;
}

void SimMetadataDisk::Lose() {
  TF_CHECK(!open_);
  contents_.clear();
  damaged_.clear();
  marked_.clear();
  undo_.clear();
}

void SimMetadataDisk::Restore(std::map<std::string, std::string> contents) {
  Lose();
  contents_ = std::move(contents);
}

void SimMetadataDisk::Damage(const std::string& key) {
  TF_CHECK(contents_.contains(key));
  damaged_.insert(key);
}

void SimMetadataDisk::FailNextCommit(absl::Status error) { commit_error_ = std::move(error); }

void SimMetadataDisk::FailNextReads(int count, absl::Status error) {
  failing_reads_ = count;
  read_error_ = std::move(error);
}

void SimMetadataDisk::Overwrite(const std::string& key, std::string value) {
  contents_[key] = std::move(value);
}

void SimMetadataDisk::Apply(const MetadataBatch& batch) {
  TF_CHECK(undo_.empty());
  for (const MetadataWrite& write : batch) ApplyOne(write);
}

void SimMetadataDisk::ApplyOne(const MetadataWrite& write) {
  switch (write.kind) {
    case MetadataWrite::Kind::kPut:
      Remember(write.key);
      contents_[write.key] = write.value;
      damaged_.erase(write.key);
      return;
    case MetadataWrite::Kind::kMerge: {
      Remember(write.key);
      const auto found = contents_.find(write.key);
      std::optional<absl::string_view> base;
      if (found != contents_.end()) base = found->second;
      absl::StatusOr<std::string> merged = MergeFull(write.key, base, {write.value});
      if (merged.ok()) {
        contents_[write.key] = *std::move(merged);
      } else {
        // As in RocksDB, a merge that can't be done shows when it is read.
        contents_.try_emplace(write.key);
        damaged_.insert(write.key);
      }
      return;
    }
    case MetadataWrite::Kind::kDelete:
      Remember(write.key);
      contents_.erase(write.key);
      damaged_.erase(write.key);
      return;
    case MetadataWrite::Kind::kDeleteRange: {
      const auto end = contents_.lower_bound(write.value);
      for (auto it = contents_.lower_bound(write.key); it != end;) {
        Remember(it->first);
        damaged_.erase(it->first);
        it = contents_.erase(it);
      }
      return;
    }
  }
}

void SimMetadataDisk::Remember(const std::string& key) {
  if (undo_.contains(key)) return;
  Before before;
  if (const auto found = contents_.find(key); found != contents_.end())
    before.value = found->second;
  before.damaged = damaged_.contains(key);
  undo_.emplace(key, std::move(before));
}

void SimMetadataDisk::SettleUndo() {
  if (undo_.empty()) return;
  if (random_.Uniform(2) == 0) {
    for (auto& [key, before] : undo_) {
      if (before.value.has_value()) {
        contents_[key] = *std::move(before.value);
      } else {
        contents_.erase(key);
      }
      damaged_.erase(key);
      if (before.damaged) damaged_.insert(key);
    }
  }
  undo_.clear();
}

int64_t SimMetadataDisk::Delay(int64_t max_ns) {
  if (max_ns <= 0) return 0;
  return static_cast<int64_t>(random_.Uniform(static_cast<uint64_t>(max_ns)));
}

}  // namespace twofold::sim
