// One store on a simulated disk, against a plain model, through crashes.
//
// The test is the head: it gives positions, appends entries with several under way, commits what is
// durable, takes snapshots, rolls back, deletes. At a random instant the process dies or the power
// fails: each write that was not yet durable is kept, dropped or torn (tests/sim/sim_disk.h). Then
// the store is opened again, and must hold a prefix of what was sent that includes everything
// acknowledged and, in lives with ack=written, flushed where the power failed (P2, R11-R13), in the
// head and in every snapshot (P4), with its live counts equal to a recount (M21). A seed replays a
// run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/prng.h"
#include "storage/io/aligned_bytes.h"
#include "storage/log/codec.h"
#include "storage/map/catalogue_codec.h"
#include "storage/map/recount.h"
#include "storage/runtime/cancel.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task_scope.h"
#include "storage/store/scrub.h"
#include "storage/store/store.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_metadata_store.h"
#include "tests/sim/sim_poller.h"
#include "tests/sim/store_model.h"
#include "tests/sim/store_world.h"

namespace twofold {
namespace {

// Shows that the rare things happened at all.
struct Probes {
  uint64_t moved_blocks = 0;
  uint64_t moved_zeros = 0;
  uint64_t passes = 0;
  uint64_t cleaned_by_a_life_that_crashed = 0;
  uint64_t at_risk = 0;  // entries that were answered, not flushed, when the power failed
  uint64_t scrubs = 0;
  uint64_t scrubs_that_crashed = 0;
  std::map<std::string, uint64_t> flips;  // by what was hit
  uint64_t flattened = 0;
  uint64_t folded = 0;
  uint64_t changed_timelines_in_a_life_that_crashed = 0;
  uint64_t rebuilt = 0;
  uint64_t rebuilds_cut_short = 0;
};

class World {
 public:
  // `lose_maps`: now and then the map is gone, and is rebuilt from the log (M12).
  World(uint64_t seed, Probes* probes, bool lose_maps = false)
      : probes_(*probes),
        lose_maps_(lose_maps),
        random_(seed),
        poller_(seed),
        executor_(poller_),
        disk_("a"),
        metadata_(seed ^ 0x5eed, seed % 2 == 0
                                     ? sim::SimMetadataOptions{}
                                     : sim::SimMetadataOptions{.max_read_delay_ns = 200'000,
                                                               .max_commit_delay_ns = 2'000'000}) {}

  void Run(int lives) {
    executor_.Run(Format());
    for (int life = 0; life < lives && !::testing::Test::HasFailure(); ++life) {
      executor_.Run(Live(life + 1 == lives));
    }
  }

 private:
  Task<void> Format() {
    sim::StoreShape shape;
    shape.segments = 12;
    const absl::Status status = co_await sim::FormatStoreOn(&poller_, &disk_, shape);
    EXPECT_TRUE(status.ok()) << status;
  }

  // One life of the store: open, check, work, and die (or stop, when it is the last).
  Task<void> Live(bool last) {
    dying_ = false;
    cleaned_ = false;
    clean_often_ = random_.OneIn(2);
    durability_ = random_.OneIn(3) ? Durability::kWritten : Durability::kDurable;
    rolls_back_often_ = random_.OneIn(3);
    max_depth_ = random_.OneIn(2) ? kMaxLineageDepth : static_cast<uint32_t>(random_.Uniform(3));
    // With a lost map a segment may be taken back that was on its way to be reused, and has lost
    // its copies already: a scrub says so, rightly.
    scrub_often_ = !lose_maps_ && random_.OneIn(2);
    if (lose_maps_ && random_.OneIn(2)) {
      metadata_.Lose();
      ++probes_.rebuilt;
      if (random_.OneIn(4)) co_await CrashWhileOpening();
    }
    const bool opened = co_await Open(/*read_only=*/false);
    if (opened) {
      co_await Attach();
      if (!::testing::Test::HasFailure()) co_await CheckEverything();
      if (!::testing::Test::HasFailure()) co_await Work(last);
    }
    co_await Close();
    if (!::testing::Test::HasFailure()) co_await Inspect();
  }

  Task<void> Close() {
    if (store_ != nullptr) {
      const ExtentMap::Counters counters = store_->map().counters();
      probes_.flattened += counters.flattened;
      probes_.folded += counters.folded;
      const bool any = counters.flattened + counters.folded > 0;
      if (dying_ && any) ++probes_.changed_timelines_in_a_life_that_crashed;
    }
    if (store_ != nullptr) co_await store_->Stop();
    store_.reset();
  }

  // A rebuild that does not come to its end starts over.
  Task<void> CrashWhileOpening() {
    TaskScope scope;
    scope.Spawn(CrashAfter(static_cast<int64_t>(random_.Uniform(20 * kNanosPerMilli))));
    may_fail_ = true;
    const bool opened = co_await Open(/*read_only=*/false);
    if (!opened) ++probes_.rebuilds_cut_short;
    co_await scope.Join();
    may_fail_ = false;
    co_await Close();
    dying_ = false;
  }

  // Before anybody has looked at what the crash before has left. What was only written, and
  // outlived the process, a loss of power may still take until opening has synced it (R13).
  Task<void> CrashAfter(int64_t delay_ns) {
    co_await poller_.Delay(delay_ns);
    bool only_written = false;
    for (const auto& [volume, sent] : sent_) {
      for (const auto& one : sent) only_written = only_written || one->written;
    }
    dying_ = true;
    const bool power = !only_written && random_.OneIn(2);
    disk_.Crash(power ? sim::CrashKind::kPower : sim::CrashKind::kProcess, random_);
    metadata_.Crash();
  }

  // What `twofold inspect --verify` does, right after the crash: the copy is whole by itself (P9).
  Task<void> Inspect() {
    const bool opened = co_await Open(/*read_only=*/true);
    if (opened) co_await CheckWhole();
    co_await Close();
  }

  Task<bool> Open(bool read_only) {
    StoreOptions options = sim::RandomStoreOptions(random_, read_only);
    options.max_lineage_depth = max_depth_;
    auto store = co_await sim::OpenStoreOn(&poller_, &disk_, &metadata_, options);
    EXPECT_TRUE(store.ok() || may_fail_) << store.status();
    if (!store.ok()) co_return false;
    store_ = *std::move(store);
    co_return true;
  }

  // As a pool with this one replica: seal, take the end as it is, commit it.
  Task<void> Attach() {
    generation_ = generation_.Next();
    const absl::Status sealed = co_await store_->Seal(generation_);
    EXPECT_TRUE(sealed.ok()) << sealed;
    if (!sealed.ok()) co_return;
    for (VolumeId volume : {kCatalogueVolume, kVolume}) {
      Position end;
      const auto stream = store_->streams().streams().find(volume);
      if (stream != store_->streams().streams().end()) {
        end = stream->second.pending.empty() ? stream->second.committed
                                             : stream->second.pending.back().entry.position;
      }
      store_->Commit(volume, end);
      CutHistory(volume, end);
    }
  }

  // What the store does not have was never acknowledged; it never happened.
  void CutHistory(VolumeId volume, Position end) {
    std::vector<std::unique_ptr<Sent>>& sent = sent_[volume];
    while (!sent.empty() && sent.back()->entry.position > end) {
      EXPECT_FALSE(sent.back()->acknowledged)
          << "volume " << volume << " ends at " << end << ", acknowledged was "
          << sent.back()->entry.position;
      sent.pop_back();
    }
    EXPECT_EQ(sent.empty() ? Position() : sent.back()->entry.position, end)
        << "the store has what was never sent";
    for (auto& one : sent) one->acknowledged = true;  // what was shown once must stay
    if (volume == kVolume) {
      model_ = Model();
      for (const auto& one : sent) model_.Apply(*one);
    }
  }

  Task<void> CheckEverything() {
    co_await CheckContent("head", model_.timeline, kLastPosition, model_.head);
    for (const auto& [id, snapshot] : model_.snapshots) {
      co_await CheckContent(absl::StrCat("snapshot ", id), snapshot.timeline, snapshot.position,
                            snapshot.content);
    }
  }

  Task<void> CheckContent(std::string name, TimelineId timeline, Position as_of, Content content) {
    if (sent_[kCatalogueVolume].empty()) co_return;
    AlignedBytes bytes(kBlocks * kBlockSize);
    const BlockRange all{BlockIndex(0), BlockCount(kBlocks)};
    const auto extents = co_await store_->Read(timeline, as_of, all, bytes.span());
    EXPECT_TRUE(extents.ok()) << name << ": " << extents.status();
    if (!extents.ok()) co_return;
    for (uint64_t block = 0; block < kBlocks; ++block) {
      uint64_t value = 0;
      std::memcpy(&value, bytes.data() + block * kBlockSize, sizeof(value));
      EXPECT_EQ(value, content[block]) << name << " block " << block;
      if (::testing::Test::HasFailure()) co_return;
    }
  }

  // Sends entries with several under way until the crash, or until enough was done.
  Task<void> Work(bool last) {
    TaskScope scope;
    const uint64_t steps = 20 + random_.Uniform(300);
    const uint64_t crash_at = last ? steps + 1 : random_.Uniform(steps);
    if (sent_[kCatalogueVolume].empty()) {
      const absl::Status room = co_await store_->Reserve(BlockCount(0), 1, RoomFor::kRecord);
      EXPECT_TRUE(room.ok()) << room;
      SpawnCreate(scope);
      co_await scope.Join();
    }
    for (uint64_t step = 0; step < steps && !dying_; ++step) {
      if (step == crash_at) {
        // At an instant in the middle of what is under way.
        co_await poller_.Delay(static_cast<int64_t>(random_.Uniform(3 * kNanosPerMilli)));
        Crash();
        break;
      }
      co_await SendOne(scope);
      if (random_.OneIn(3)) co_await poller_.Delay(static_cast<int64_t>(random_.Uniform(500'000)));
      if (random_.OneIn(40)) {
        const absl::Status ignored = co_await store_->Checkpoint();
        EXPECT_TRUE(ignored.ok()) << ignored;
      }
      if (durability_ == Durability::kWritten && random_.OneIn(15)) scope.Spawn(Flush());
      if (clean_often_ && random_.OneIn(12)) scope.Spawn(CleanOne());
      if (clean_often_ && random_.OneIn(30)) scope.Spawn(RenewReferences());
      if (scrub_often_ && random_.OneIn(12)) scope.Spawn(Scrub());
      if (random_.OneIn(25)) co_await scope.Join();
    }
    co_await scope.Join();
    if (dying_) co_return;
    if (!last) {
      Crash();
      co_return;
    }
    co_await CheckEverything();
    if (!lose_maps_ && !::testing::Test::HasFailure()) co_await FlipAndFind();
  }

  // While everything else goes on, a store that nothing was done to is whole.
  Task<void> Scrub() {
    if (scrub_ != nullptr) co_return;
    const uint64_t rate = random_.OneIn(2) ? 0 : uint64_t{1} << (20 + random_.Uniform(8));
    StoreScrub scrub(store_.get(), {.bytes_per_second = rate});
    scrub_ = &scrub;
    const absl::StatusOr<ScrubReport> report = co_await scrub.Run();
    scrub_ = nullptr;
    if (dying_) {
      ++probes_.scrubs_that_crashed;
      co_return;
    }
    EXPECT_TRUE(report.ok()) << report.status();
    if (!report.ok()) co_return;
    for (const ScrubFinding& finding : report->findings) ADD_FAILURE() << finding.what;
    ++probes_.scrubs;
  }

  // One bit is flipped somewhere: the scrub finds that place and nothing else. Flipped back, it
  // finds nothing.
  Task<void> FlipAndFind() {
    for (int flips = 0; flips < 4; ++flips) {
      const std::optional<Target> target = co_await ChooseTarget();
      if (!target.has_value()) continue;
      ++probes_.flips[target->what];
      disk_.FlipBit(target->file, target->byte, static_cast<unsigned>(random_.Uniform(8)));
      const std::byte flipped = disk_.Peek(target->file, target->byte, 1).front();
      StoreScrub scrub(store_.get(), {.bytes_per_second = 0});
      const absl::StatusOr<ScrubReport> report = co_await scrub.Run();
      EXPECT_TRUE(report.ok()) << report.status();
      if (!report.ok()) co_return;
      // Without a descriptor of the segment that is being written nothing says what is behind it.
      bool found = false;
      for (const ScrubFinding& finding : report->findings) {
        found = found ||
                (finding.segment == target->place.segment && finding.block == target->place.block);
        EXPECT_EQ(finding.segment, target->place.segment) << target->what << ": " << finding.what;
        EXPECT_TRUE(finding.block == target->place.block ||
                    (target->what == "open descriptor" &&
                     absl::StrContains(finding.what, "the records of")))
            << target->what << ": " << finding.what;
      }
      // Unless it was freed by then, and nobody needs it any more.
      const bool gone = target->place.segment != SegmentNumber() &&
                        !store_->segment_table().segments().contains(target->place.segment);
      EXPECT_TRUE(found || gone) << target->what << " in " << target->file << " at "
                                 << target->byte;
      // What was written there meanwhile is whole.
      if (disk_.Peek(target->file, target->byte, 1).front() != flipped) continue;
      disk_.Overwrite(target->file, target->byte, absl::MakeConstSpan(&target->was, 1));
    }
    co_await Scrub();
  }

  struct Target {
    std::string what;
    std::string file;
    uint64_t byte = 0;
    std::byte was{};
    LogAddress place;  // as the scrub names it
  };

  Task<std::optional<Target>> ChooseTarget() {
    Target target;
    if (random_.OneIn(6)) {
      target.what = "superblock";
      target.file = "SUPERBLOCK";
      target.byte = random_.Uniform(2 * kBlockSize);
    } else {
      const auto& segments = store_->segment_table().segments();
      auto segment = segments.begin();
      std::advance(segment, random_.Uniform(segments.size()));
      target.place.segment = segment->first;
      target.file = FileOf(segment->first);
      const bool sealed = segment->second.state == SegmentState::kSealed;
      const auto batches = co_await store_->ReadSegment(segment->first);
      EXPECT_TRUE(batches.ok()) << batches.status();
      if (!batches.ok() || batches->empty()) co_return std::nullopt;
      uint64_t within = 0;
      switch (random_.Uniform(4)) {
        case 0: {
          target.what = "header";
          constexpr size_t kCopies[] = {format::kHeaderCopy1Offset, format::kHeaderCopy2Offset};
          within = kCopies[random_.Uniform(2)] + random_.Uniform(60);
          break;
        }
        case 1: {
          target.what = sealed ? "descriptor" : "open descriptor";
          // Those behind it in the open segment can't be found without it.
          const LoggedBatch& batch =
              sealed ? (*batches)[random_.Uniform(batches->size())] : batches->back();
          target.place.block = batch.start.block;
          within = random_.Uniform(sizeof(format::BatchDescriptor));
          break;
        }
        case 2: {
          if (!sealed) co_return std::nullopt;
          target.what = "trailer";
          target.place.block = kMinSegmentBytes / kBlockSize - 1;
          within = format::kTrailerHeaderOffset + random_.Uniform(format::kTrailerBytes);
          break;
        }
        default: {
          const BlockRange range{BlockIndex(random_.Uniform(kBlocks)), BlockCount(1)};
          const auto pieces = co_await store_->map().Lookup(model_.timeline, kLastPosition, range);
          EXPECT_TRUE(pieces.ok()) << pieces.status();
          if (!pieces.ok() || !pieces->front().mapped ||
              pieces->front().run.kind != RunKind::kData) {
            co_return std::nullopt;
          }
          target.what = "payload";
          target.place = store_->map().forwarding().Resolve(pieces->front().run.address);
          target.file = FileOf(target.place.segment);
          within = random_.Uniform(kBlockSize);
          break;
        }
      }
      target.byte = uint64_t{target.place.block} * kBlockSize + within;
    }
    target.was = disk_.Peek(target.file, target.byte, 1).front();
    co_return target;
  }

  std::string FileOf(SegmentNumber segment) const {
    for (const std::string& path : disk_.Files()) {
      if (!absl::StartsWith(path, "log/")) continue;
      const auto identity = DecodeHeaderBlock(disk_.Peek(path, 0, kBlockSize));
      if (identity.ok() && identity->segment == segment) return path;
    }
    ADD_FAILURE() << "no file holds segment " << segment;
    return "";
  }

  // A segment that is in use, whichever: while entries are on their way, or alone.
  Task<void> CleanOne() {
    std::vector<SegmentNumber> segments;
    for (const auto& [segment, info] : store_->segment_table().segments()) {
      if (info.state == SegmentState::kSealed) segments.push_back(segment);
    }
    if (segments.empty()) co_return;
    const SegmentNumber segment = segments[random_.Uniform(segments.size())];
    const absl::StatusOr<CleanOutcome> outcome = co_await store_->Clean(segment, nullptr);
    if (dying_ || absl::IsFailedPrecondition(outcome.status()) ||
        absl::IsNotFound(outcome.status()) || absl::IsResourceExhausted(outcome.status())) {
      co_return;
    }
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    if (!outcome.ok()) co_return;
    probes_.moved_blocks += outcome->moved_blocks;
    probes_.moved_zeros += outcome->moved_zero_records;
    cleaned_ = true;
  }

  Task<void> RenewReferences() {
    const bool any = !store_->map().forwarding().empty();
    const absl::Status status = co_await store_->RenewReferences();
    if (dying_) co_return;
    EXPECT_TRUE(status.ok()) << status;
    if (any) ++probes_.passes;
  }

  Task<void> CheckWhole() {
    const std::vector<std::string> problems = co_await sim::ProblemsOf(store_.get());
    for (const std::string& problem : problems) ADD_FAILURE() << problem;
  }

  void Crash() {
    dying_ = true;
    const sim::CrashKind kind =
        random_.OneIn(2) ? sim::CrashKind::kPower : sim::CrashKind::kProcess;
    if (cleaned_) ++probes_.cleaned_by_a_life_that_crashed;
    if (kind == sim::CrashKind::kProcess) {
      CountWritten(sent_);
    } else {
      for (const auto& [volume, sent] : sent_) {
        for (const auto& one : sent) probes_.at_risk += one->written && !one->acknowledged;
      }
    }
    disk_.Crash(kind, random_);
    metadata_.Crash();
  }

  void SpawnCreate(TaskScope& scope) {
    VolumeCreateBody body;
    body.id = kVolume;
    body.name = "vol";
    body.size_bytes = kBlocks * kBlockSize;
    body.first_timeline = kFirstTimeline;
    Sent& sent = NextEntry(kCatalogueVolume, EntryKind::kVolumeCreate);
    sent.entry.body = EncodeVolumeCreate(body);
    scope.Spawn(Send(&sent));
  }

  Sent& NextEntry(VolumeId volume, EntryKind kind) {
    std::vector<std::unique_ptr<Sent>>& sent = sent_[volume];
    const Seq seq(sent.empty() ? 1 : sent.back()->entry.position.seq.value() + 1);
    sent.push_back(std::make_unique<Sent>());
    LogEntry& entry = sent.back()->entry;
    entry.kind = kind;
    entry.volume = volume;
    entry.timeline = volume == kVolume ? model_.timeline : TimelineId();
    entry.position = {generation_, seq};
    entry.stamp = ++stamp_;
    return *sent.back();
  }

  // Chooses, reserves, gives a position and starts. The model runs ahead: it is rebuilt after a
  // crash.
  Task<void> SendOne(TaskScope& scope) {
    const uint64_t first = random_.Uniform(kBlocks);
    const uint64_t count =
        1 + random_.Uniform(std::min<uint64_t>(kBlocks - first, random_.OneIn(4) ? 24 : 3));
    // Snapshots come and go, and it is rolled back to them, now and then or all the time.
    const uint64_t choice =
        rolls_back_often_ && random_.OneIn(5) ? 90 + random_.Uniform(10) : random_.Uniform(100);
    const bool write = choice < 84;
    const uint64_t entries = choice >= 98 && !model_.snapshots.empty() ? 2 : 1;
    const absl::Status room = co_await store_->Reserve(BlockCount(write ? count : 0), entries,
                                                       write ? RoomFor::kWrite : RoomFor::kRecord);
    if (dying_) co_return;
    if (room.code() == absl::StatusCode::kResourceExhausted) co_return;
    EXPECT_TRUE(room.ok()) << room;
    if (!room.ok()) co_return;

    Sent* sent = nullptr;
    if (write) {
      sent = &NextEntry(kVolume, EntryKind::kWrite);
      FillWrite(*sent, first, count);
    } else if (choice < 94 || model_.snapshots.empty()) {
      if (choice < 90) {
        sent = &NextEntry(kVolume, EntryKind::kZero);
        sent->entry.range = {BlockIndex(first), BlockCount(count)};
        if (random_.OneIn(6)) sent->entry.range = {BlockIndex(0), BlockCount(kBlocks)};
      } else {
        sent = &NextSnapshot();
      }
    } else {
      auto it = model_.snapshots.begin();
      std::advance(it, random_.Uniform(model_.snapshots.size()));
      if (choice < 98) {
        sent = &NextEntry(kVolume, EntryKind::kSnapshotDelete);
        sent->entry.body = EncodeSnapshotDelete({SnapshotId(it->first)});
      } else {
        const Model::Snapshot target = it->second;
        // The pool keeps what a rollback leaves; what nobody kept must be freed.
        if (random_.OneIn(2)) {
          Sent& kept = NextSnapshot();
          model_.Apply(kept);
          scope.Spawn(Send(&kept));
        } else {
          store_->Release(BlockCount(0), 1);
        }
        sent = &NextRollback(target);
      }
    }
    model_.Apply(*sent);
    scope.Spawn(Send(sent));
  }

  Sent& NextSnapshot() {
    Sent& sent = NextEntry(kVolume, EntryKind::kSnapshot);
    SnapshotBody body;
    body.id = SnapshotId(model_.next_snapshot);
    body.name = absl::StrCat("s", model_.next_snapshot);
    sent.entry.body = EncodeSnapshot(body);
    return sent;
  }

  Sent& NextRollback(const Model::Snapshot& target) {
    Sent& sent = NextEntry(kVolume, EntryKind::kTimelineStart);
    TimelineStartBody body;
    body.id = TimelineId(model_.next_timeline);
    body.parent = target.timeline;
    body.fork = target.position;
    body.size_bytes = kBlocks * kBlockSize;
    sent.entry.timeline = body.id;
    sent.entry.body = EncodeTimelineStart(body);
    return sent;
  }

  void FillWrite(Sent& sent, uint64_t first, uint64_t count) {
    sent.entry.range = {BlockIndex(first), BlockCount(count)};
    sent.first_value = next_value_;
    next_value_ += count;
    sent.payload = AlignedBytes(count * kBlockSize);
    for (uint64_t i = 0; i < count; ++i) {
      const auto block = sent.payload.span().subspan(i * kBlockSize, kBlockSize);
      Fill(block, sent.first_value + i);
      sent.entry.block_crcs.push_back(Crc32c(block));
    }
  }

  Task<void> Send(Sent* sent) {
    const Durability durability = durability_;
    const absl::Status status =
        co_await store_->Append(generation_, sent->entry, sent->payload.span(), durability);
    if (!status.ok()) {
      EXPECT_TRUE(dying_) << status;
      co_return;
    }
    sent->written = true;
    sent->acknowledged = sent->acknowledged || durability == Durability::kDurable;
    if (!dying_) store_->Commit(sent->entry.volume, sent->entry.position);
  }

  // What was written is there for good.
  static void CountWritten(const std::map<VolumeId, std::vector<std::unique_ptr<Sent>>>& sent) {
    for (const auto& [volume, entries] : sent) {
      for (const auto& one : entries) one->acknowledged = one->acknowledged || one->written;
    }
  }

  // A FLUSH covers what was answered before it (R33).
  Task<void> Flush() {
    std::vector<Sent*> covered;
    for (const auto& [volume, sent] : sent_) {
      for (const auto& one : sent) {
        if (one->written && !one->acknowledged) covered.push_back(one.get());
      }
    }
    const absl::Status status = co_await store_->Flush();
    if (!status.ok()) {
      EXPECT_TRUE(dying_) << status;
      co_return;
    }
    for (Sent* sent : covered) sent->acknowledged = true;
  }

  Probes& probes_;
  const bool lose_maps_;
  bool may_fail_ = false;
  Prng random_;
  sim::SimPoller poller_;
  Executor executor_;
  sim::SimDisk disk_;
  sim::SimMetadataDisk metadata_;

  std::unique_ptr<Store> store_;
  Generation generation_;
  bool dying_ = false;
  std::map<VolumeId, std::vector<std::unique_ptr<Sent>>> sent_;
  Model model_;
  uint64_t next_value_ = 1;
  WallNanos stamp_ = 0;
  bool clean_often_ = false;
  Durability durability_ = Durability::kDurable;  // of this life
  bool scrub_often_ = false;
  StoreScrub* scrub_ = nullptr;  // under way
  bool cleaned_ = false;         // in this life
  bool rolls_back_often_ = false;
  uint32_t max_depth_ = kMaxLineageDepth;
};

TEST(StoreCrash, KeepsEveryAcknowledgedEntryAndEverySnapshot) {
  SetLogLevel(LogLevel::kError);
  const uint64_t first = sim::FromEnvironment("TWOFOLD_SEED", 1);
  const uint64_t count = sim::FromEnvironment("TWOFOLD_SEEDS", 300);
  Probes probes;
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("TWOFOLD_SEED=", seed, " TWOFOLD_SEEDS=1"));
    World(seed, &probes).Run(4);
  }
  if (count < 100) return;
  EXPECT_GT(probes.moved_blocks, count);
  EXPECT_GT(probes.moved_zeros, count / 10);
  EXPECT_GT(probes.passes, count / 10);
  EXPECT_GT(probes.cleaned_by_a_life_that_crashed, count / 10);
  EXPECT_GT(probes.at_risk, count / 10);
  EXPECT_GT(probes.scrubs, count);
  EXPECT_GT(probes.scrubs_that_crashed, count / 10);
  for (const char* what :
       {"superblock", "header", "descriptor", "open descriptor", "trailer", "payload"}) {
    EXPECT_GT(probes.flips[what], count / 50) << what;
  }
  EXPECT_GT(probes.flattened, count / 2);
  EXPECT_GT(probes.folded, count / 4);
  EXPECT_GT(probes.changed_timelines_in_a_life_that_crashed, count / 10);
}

TEST(StoreCrash, RebuildsALostMapFromTheLog) {
  SetLogLevel(LogLevel::kError);
  const uint64_t first = sim::FromEnvironment("TWOFOLD_SEED", 1);
  const uint64_t count = sim::FromEnvironment("TWOFOLD_SEEDS", 200);
  Probes probes;
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("TWOFOLD_SEED=", seed, " TWOFOLD_SEEDS=1"));
    World(seed, &probes, /*lose_maps=*/true).Run(6);
  }
  if (count < 100) return;
  EXPECT_GT(probes.rebuilt, count);
  EXPECT_GT(probes.rebuilds_cut_short, count / 10);
  EXPECT_GT(probes.moved_blocks, count);
  EXPECT_GT(probes.flattened, count / 2);
  EXPECT_GT(probes.folded, count / 4);
}

}  // namespace
}  // namespace twofold
