#include "tests/map/extent_map_world.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/status_macros.h"
#include "storage/map/chunk.h"
#include "storage/map/key_codec.h"
#include "storage/map/live_bitmap.h"
#include "storage/map/map_rebuilder.h"
#include "storage/map/value_codec.h"

namespace twofold {
namespace {

uint32_t CrcAt(const LogAddress& address) {
  return static_cast<uint32_t>(address.segment.value() * 1000 + address.block);
}

}  // namespace

World::World(WorldOptions options)
    : options_(options), executor_(poller_), disk_(options.seed, options.delays) {
  Run(Open());
}

World::~World() {
  Run(map_->Stop());
  Run(metadata_->Close());
}

// ---- Entries ------------------------------------------------------------------------------------

VolumeId World::CreateVolume() {
  const VolumeCreateBody body{.id = catalogue().next_volume_id(),
                              .name = absl::StrCat("volume", ++names_),
                              .size_bytes = options_.volume_blocks * kBlockSize,
                              .ack = 0,
                              .first_timeline = catalogue().next_timeline_id()};
  Log(history_.Next(kCatalogueVolume, EntryKind::kVolumeCreate, EncodeVolumeCreate(body)));
  return body.id;
}

Position World::Write(VolumeId volume, uint64_t first, uint64_t count) {
  LogEntry entry = history_.Next(volume, EntryKind::kWrite);
  entry.range = {BlockIndex(first), BlockCount(count)};
  Log(entry);
  return entry.position;
}

Position World::Zero(VolumeId volume, uint64_t first, uint64_t count) {
  LogEntry entry = history_.Next(volume, EntryKind::kZero);
  entry.range = {BlockIndex(first), BlockCount(count)};
  Log(entry);
  return entry.position;
}

void World::InsertAgain(VolumeId volume, uint64_t dice) {
  std::vector<const Logged*> writes;
  for (const Logged& logged : log_) {
    if (logged.entry.kind == EntryKind::kWrite && logged.entry.timeline == Current(volume)) {
      writes.push_back(&logged);
    }
  }
  if (!writes.empty()) Insert(*writes[dice % writes.size()]);
}

SnapshotId World::Snapshot(VolumeId volume) {
  SnapshotBody body;
  body.id = catalogue().next_snapshot_id();
  body.name = absl::StrCat("snapshot", ++names_);
  Log(history_.Next(volume, EntryKind::kSnapshot, EncodeSnapshot(body)));
  return body.id;
}

void World::DeleteSnapshot(SnapshotId snapshot) {
  const VolumeId volume = catalogue().snapshots().at(snapshot).volume;
  Log(history_.Next(volume, EntryKind::kSnapshotDelete, EncodeSnapshotDelete({snapshot})));
}

TimelineId World::Rollback(VolumeId volume, SnapshotId snapshot, bool keep_end) {
  if (keep_end) Snapshot(volume);
  const SnapshotRecord& record = catalogue().snapshots().at(snapshot);
  const TimelineStartBody body{.id = catalogue().next_timeline_id(),
                               .parent = record.timeline,
                               .fork = record.position,
                               .size_bytes = record.size_bytes};
  LogEntry entry = history_.Next(volume, EntryKind::kTimelineStart, EncodeTimelineStart(body));
  entry.timeline = body.id;
  // Above the fork (M1); of another volume's stream that takes a jump.
  entry.position.seq = std::max(entry.position.seq, body.fork.seq.Next());
  Log(entry);
  return body.id;
}

VolumeId World::Clone(SnapshotId snapshot) {
  const VolumeId volume = CreateVolume();
  const SnapshotRecord& record = catalogue().snapshots().at(snapshot);
  const TimelineStartBody body{.id = Current(volume),
                               .parent = record.timeline,
                               .fork = record.position,
                               .size_bytes = record.size_bytes};
  LogEntry entry = history_.Next(volume, EntryKind::kTimelineStart, EncodeTimelineStart(body));
  entry.position.seq = body.fork.seq.Next();
  Log(entry);
  return volume;
}

void World::DeleteVolume(VolumeId volume) {
  Log(history_.Next(kCatalogueVolume, EntryKind::kVolumeDelete, EncodeVolumeDelete({volume})));
}

void World::Log(LogEntry entry) {
  Logged logged{std::move(entry), {}};
  if (logged.entry.kind == EntryKind::kWrite) {
    logged.where = Place(static_cast<uint32_t>(logged.entry.range.count.value()));
    for (uint64_t i = 0; i < logged.entry.range.count.value(); ++i) {
      LogAddress at = logged.where;
      at.block += static_cast<uint32_t>(i);
      logged.entry.block_crcs.push_back(CrcAt(at));
    }
  } else {
    logged.where = {Place(1).segment, 0};
  }
  log_.push_back(logged);
  Model(logged);
  Apply(logged);
}

LogAddress World::Place(uint32_t blocks) {
  TF_CHECK(blocks <= options_.segment_blocks);
  if (open_blocks_ + blocks > options_.segment_blocks) {
    present_[open_segment_] = SegmentState::kSealed;
    table_->Seal(open_segment_);
    open_segment_ = open_segment_.Next();
    open_blocks_ = 0;
  }
  if (present_.try_emplace(open_segment_, SegmentState::kOpen).second) {
    table_->Add(open_segment_, SegmentState::kOpen);
  }
  const LogAddress at{open_segment_, open_blocks_};
  open_blocks_ += blocks;
  return at;
}

void World::Apply(const Logged& logged) {
  const LogEntry& entry = logged.entry;
  switch (entry.kind) {
    case EntryKind::kSnapshotDelete:
      map_->BeforeSnapshotDelete(catalogue().snapshots().at(DecodeSnapshotDelete(entry.body)->id));
      break;
    case EntryKind::kVolumeDelete:
      map_->BeforeVolumeDelete(DecodeVolumeDelete(entry.body)->id);
      break;
    case EntryKind::kTimelineStart:
      map_->BeforeTimelineStart(entry.volume);
      break;
    default:
      break;
  }
  history_.Apply(entry);
  if (entry.kind == EntryKind::kWrite) {
    Insert(logged);
  } else if (entry.kind == EntryKind::kZero) {
    map_->Zero(entry.timeline, entry.range, entry.position, logged.where.segment);
  }
}

void World::Insert(const Logged& logged) {
  const LogEntry& entry = logged.entry;
  map_->Insert(entry.timeline, twofold::Run{.range = entry.range,
                                            .kind = RunKind::kData,
                                            .position = entry.position,
                                            .address = logged.where,
                                            .block_crcs = entry.block_crcs});
}

// ---- The model ----------------------------------------------------------------------------------

void World::Model(const Logged& logged) {
  const LogEntry& entry = logged.entry;
  switch (entry.kind) {
    case EntryKind::kVolumeCreate:
      ends_[DecodeVolumeCreate(entry.body)->first_timeline] = Cells(options_.volume_blocks);
      break;
    case EntryKind::kWrite:
    case EntryKind::kZero:
      for (uint64_t i = 0; i < entry.range.count.value(); ++i) {
        Cell& cell = ends_.at(entry.timeline).at(entry.range.first.value() + i);
        cell = {};
        if (entry.kind == EntryKind::kZero) continue;
        cell = {entry.position, true, logged.where};
        cell.address.block += static_cast<uint32_t>(i);
      }
      break;
    case EntryKind::kSnapshot:
      points_[{entry.timeline, entry.position}] = ends_.at(entry.timeline);
      break;
    case EntryKind::kTimelineStart: {
      const TimelineStartBody body = *DecodeTimelineStart(entry.body);
      ends_[body.id] = points_.at({body.parent, body.fork});
      break;
    }
    default:
      break;
  }
}

const World::Cells& World::Shown(TimelineId timeline, Position as_of) const {
  if (as_of == kLastPosition) return ends_.at(timeline);
  return points_.at({timeline, as_of});
}

std::vector<std::pair<TimelineId, Position>> World::Points() const {
  std::vector<std::pair<TimelineId, Position>> points;
  for (const auto& [id, volume] : catalogue().volumes()) {
    points.emplace_back(volume.current_timeline, kLastPosition);
  }
  for (const auto& [id, snapshot] : catalogue().snapshots()) {
    points.emplace_back(snapshot.timeline, snapshot.position);
  }
  return points;
}

World::Cells World::Read(const std::vector<Piece>& pieces, BlockRange range) {
  Cells cells;
  BlockIndex next = range.first;
  for (const Piece& piece : pieces) {
    EXPECT_EQ(piece.run.range.first, next) << "pieces out of order";
    EXPECT_FALSE(piece.run.range.empty());
    next = piece.run.range.end();
    for (uint64_t i = 0; i < piece.run.range.count.value(); ++i) {
      Cell cell;
      if (piece.mapped && piece.run.kind == RunKind::kData) {
        cell = {piece.run.position, true, piece.run.address};
        cell.address.block += static_cast<uint32_t>(i);
        EXPECT_EQ(piece.run.block_crcs.at(i), CrcAt(cell.address));
      }
      cells.push_back(cell);
    }
  }
  EXPECT_EQ(next, range.end()) << "the pieces don't cover the range";
  return cells;
}

Task<absl::StatusOr<World::Cells>> World::Look(TimelineId timeline, Position as_of,
                                               BlockRange range) {
  std::vector<Piece> pieces;
  if (!map_->TryLookup(timeline, as_of, range, &pieces)) {
    absl::StatusOr<std::vector<Piece>> found = co_await map_->Lookup(timeline, as_of, range);
    if (!found.ok()) co_return found.status();
    pieces = *std::move(found);
  }
  co_return Read(pieces, range);
}

Task<void> World::Check(TimelineId timeline, Position as_of, BlockRange range) {
  const size_t first = range.first.value();
  const Cells before = Shown(timeline, as_of);
  const size_t log_before = log_.size();
  const absl::StatusOr<Cells> found = co_await Look(timeline, as_of, range);
  if (disk_crashed_) co_return;
  // What was deleted meanwhile need not show any more.
  if (!Exists(timeline, as_of)) co_return;
  EXPECT_TRUE(found.ok()) << found.status();
  if (!found.ok()) co_return;
  const Cells& after = Shown(timeline, as_of);
  for (size_t i = 0; i < found->size(); ++i) {
    const Cell& cell = (*found)[i];
    if (cell == before[first + i] || cell == after[first + i]) continue;
    // Written, and overwritten again, while the lookup waited.
    bool shown_between = false;
    for (size_t at = log_before; at < log_.size(); ++at) {
      const LogEntry& entry = log_[at].entry;
      const BlockIndex block(first + i);
      if (entry.timeline != timeline || !entry.range.Overlaps({block, BlockCount(1)})) continue;
      shown_between = shown_between || entry.position == cell.position ||
                      (entry.kind == EntryKind::kZero && !cell.data);
    }
    EXPECT_TRUE(shown_between) << "block " << first + i << " of timeline " << timeline << " as of "
                               << as_of << " shows " << cell.position
                               << (cell.data ? "" : " (zero)") << ", not "
                               << after[first + i].position;
  }
}

bool World::Exists(TimelineId timeline, Position as_of) const {
  if (!catalogue().timelines().contains(timeline)) return false;
  const std::vector<std::pair<TimelineId, Position>> points = Points();
  return std::find(points.begin(), points.end(), std::pair(timeline, as_of)) != points.end();
}

Task<void> World::CheckAll() {
  const std::vector<std::pair<TimelineId, Position>> points = Points();
  for (const auto& [timeline, as_of] : points) {
    co_await Check(timeline, as_of, {BlockIndex(0), BlockCount(options_.volume_blocks)});
  }
}

size_t World::CountKeys(Table table) const {
  size_t count = 0;
  for (const auto& [key, value] : disk_.contents()) {
    count += key[0] == static_cast<char>(table) ? 1 : 0;
  }
  return count;
}

// ---- Checkpoints --------------------------------------------------------------------------------

Task<absl::Status> World::Checkpoint() {
  TF_CHECK(!checkpointing_);
  checkpointing_ = true;
  const absl::Status status = co_await WriteCheckpoint();
  checkpointing_ = false;
  co_return status;
}

Task<absl::Status> World::WriteCheckpoint() {
  const absl::Status prepared = co_await map_->PrepareFreeze();
  if (!prepared.ok()) co_return prepared;
  if (before_cut_) before_cut_();
  ExtentMap::Frozen frozen = map_->Freeze(open_segment_, SegmentNumber(~uint64_t{0}));
  const auto put = [&frozen](std::string key, std::string value) {
    frozen.batch.push_back({MetadataWrite::Kind::kPut, std::move(key), std::move(value)});
  };
  put(MetaKey("cut"), absl::StrCat(log_.size()));
  put(MetaKey("catalogue"), catalogue().Encode());
  const std::set<SegmentNumber> rows_gone = std::exchange(released_, {});
  co_await ExtentMap::CompleteFrozen(&frozen);
  for (const SegmentNumber segment : rows_gone) {
    for (const Table table : {Table::kLive, Table::kUsage}) {
      frozen.batch.push_back(
          {MetadataWrite::Kind::kDelete, EncodeSegmentKey(table, segment), std::string()});
    }
  }
  const absl::Status committed = co_await metadata_->Commit(std::move(frozen.batch));
  if (!committed.ok()) co_return committed;
  map_->FreezeDone();
  const std::vector<SegmentNumber> released = table_->Release(frozen.segments);
  CheckNotShown(released);
  for (const SegmentNumber segment : released) {
    present_.erase(segment);
    released_.insert(segment);
  }
  const absl::StatusOr<Recount> verified = co_await Verify();
  if (disk_crashed_) co_return absl::OkStatus();
  EXPECT_TRUE(verified.ok()) << verified.status();
  co_return verified.status();
}

void World::CheckNotShown(const std::vector<SegmentNumber>& released) {
  if (released.empty()) return;
  const std::set<SegmentNumber> gone(released.begin(), released.end());
  for (const auto& [timeline, as_of] : Points()) {
    for (const Cell& cell : Shown(timeline, as_of)) {
      EXPECT_FALSE(cell.data && gone.contains(cell.address.segment))
          << "segment " << cell.address.segment << " is needed by timeline " << timeline;
    }
  }
}

Task<absl::StatusOr<Recount>> World::Verify() {
  const absl::StatusOr<std::optional<std::string>> bytes =
      co_await metadata_->Get(MetaKey("catalogue"));
  if (!bytes.ok()) co_return bytes.status();
  if (!bytes->has_value()) co_return Recount();
  const absl::StatusOr<Catalogue> catalogue = Catalogue::Decode(**bytes);
  if (!catalogue.ok()) co_return catalogue.status();
  co_return co_await VerifyAccounting(metadata_.get(), &*catalogue);
}

Task<absl::Status> World::Reclaim() {
  while (map_->has_reclaim_work()) {
    const absl::Status status = co_await map_->ReclaimStep();
    if (!status.ok()) co_return status;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> World::ReclaimAll() {
  for (int round = 0; map_->reclaim_jobs() > 0; ++round) {
    EXPECT_LT(round, 1000) << "a reclaim job that does not end";
    if (round >= 1000) co_return absl::InternalError("stuck");
    absl::Status status = co_await Checkpoint();
    if (!status.ok()) co_return status;
    status = co_await Reclaim();
    if (!status.ok()) co_return status;
    co_await Yield();  // Without delays nothing else would run.
  }
  co_return absl::OkStatus();
}

Task<void> World::Crash(TaskScope* others) {
  disk_.Crash();
  disk_crashed_ = true;
  if (others != nullptr) co_await others->Join();
  co_await map_->Stop();
  co_await metadata_->Close();
  disk_crashed_ = false;
  checkpointing_ = false;
  co_await Open();
}

Task<void> World::Rebuild(Prng* random) {
  const absl::Status saved = co_await Checkpoint();
  EXPECT_TRUE(saved.ok()) << saved;
  std::vector<std::pair<TimelineId, twofold::Run>> left;
  for (const Logged& logged : log_) {
    absl::StatusOr<std::vector<twofold::Run>> runs = co_await LeftOf(logged, random);
    EXPECT_TRUE(runs.ok()) << runs.status();
    if (!runs.ok() || !catalogue().timelines().contains(logged.entry.timeline)) continue;
    for (twofold::Run& run : *runs) left.emplace_back(logged.entry.timeline, std::move(run));
  }
  co_await map_->Stop();
  map_.reset();
  co_await metadata_->Close();
  disk_.Lose();
  metadata_ = disk_.Open();

  MapRebuilder rebuilder(metadata_.get(), &history_.catalogue());
  absl::Status status = co_await rebuilder.Begin();
  EXPECT_TRUE(status.ok()) << status;
  // In any order, and some twice.
  for (size_t i = left.size(); i > 1; --i) std::swap(left[i - 1], left[random->Uniform(i)]);
  for (const auto& [timeline, run] : left) {
    rebuilder.Add(timeline, run);
    if (random->Uniform(10) == 0) rebuilder.Add(timeline, run);
    if (random->Uniform(20) > 0) continue;
    status = co_await rebuilder.Spill(/*all=*/true);
    EXPECT_TRUE(status.ok()) << status;
  }
  status = co_await rebuilder.Build(nullptr);
  EXPECT_TRUE(status.ok()) << status;
  MetadataBatch rest = rebuilder.TakeRest();
  rest.push_back({MetadataWrite::Kind::kPut, MetaKey("cut"), absl::StrCat(log_.size())});
  rest.push_back({MetadataWrite::Kind::kPut, MetaKey("catalogue"), catalogue().Encode()});
  status = co_await metadata_->Commit(std::move(rest));
  EXPECT_TRUE(status.ok()) << status;
  co_await metadata_->Close();
  co_await Open();
  const absl::StatusOr<Recount> recount = co_await Verify();
  EXPECT_TRUE(recount.ok()) << recount.status();
  if (recount.ok()) {
    EXPECT_EQ(recount->reclaim_jobs, 0);
  }
}

// What cleaning and reuse may have left of an entry: all of it, or its live blocks.
Task<absl::StatusOr<std::vector<twofold::Run>>> World::LeftOf(const Logged& logged, Prng* random) {
  std::vector<twofold::Run> left;
  const LogEntry& entry = logged.entry;
  if (!present_.contains(logged.where.segment)) co_return left;
  if (entry.kind == EntryKind::kZero) {
    left.push_back({entry.range, RunKind::kZero, entry.position, {logged.where.segment, 0}, {}});
  }
  if (entry.kind != EntryKind::kWrite) co_return left;
  const twofold::Run whole{entry.range, RunKind::kData, entry.position, logged.where,
                           entry.block_crcs};
  const bool cleaned = random->Uniform(2) == 0;
  const absl::StatusOr<std::optional<std::string>> row =
      co_await metadata_->Get(EncodeSegmentKey(Table::kLive, logged.where.segment));
  if (!row.ok()) co_return row.status();
  LiveBitmap live;
  if (row->has_value()) {
    TF_CO_ASSIGN_OR_RETURN(live, LiveBitmap::Decode(**row));
  }
  for (uint64_t i = 0; i < entry.range.count.value(); ++i) {
    const uint32_t block = logged.where.block + static_cast<uint32_t>(i);
    const std::pair<uint64_t, uint32_t> place{logged.where.segment.value(), block};
    // What a rebuild did not find no later one finds.
    if (!live.Test(block) && (cleaned || gone_.contains(place))) {
      gone_.insert(place);
    } else {
      left.push_back(Cut(whole, {entry.range.first + BlockCount(i), BlockCount(1)}));
    }
  }
  co_return left;
}

Task<void> World::Open() {
  map_.reset();
  metadata_ = disk_.Open();
  table_ = std::make_unique<SegmentTable>();
  released_.clear();
  for (const auto& [segment, state] : present_) table_->Add(segment, state);

  size_t cut = 0;
  const absl::StatusOr<std::optional<std::string>> cut_text =
      co_await metadata_->Get(MetaKey("cut"));
  const absl::StatusOr<std::optional<std::string>> bytes =
      co_await metadata_->Get(MetaKey("catalogue"));
  TF_CHECK_OK(cut_text);
  TF_CHECK_OK(bytes);
  history_.catalogue() = Catalogue();
  if (cut_text->has_value()) {
    TF_CHECK(absl::SimpleAtoi(**cut_text, &cut));
    absl::StatusOr<Catalogue> catalogue = Catalogue::Decode(**bytes);
    TF_CHECK_OK(catalogue);
    history_.catalogue() = *std::move(catalogue);
  }
  map_ = std::make_unique<ExtentMap>(metadata_.get(), &history_.catalogue(), table_.get(),
                                     options_.map);
  const absl::Status loaded = co_await map_->Load();
  EXPECT_TRUE(loaded.ok()) << loaded;
  // Released before the crash; their rows had no checkpoint to go with.
  for (const auto& [segment, info] : table_->segments()) {
    if (present_.contains(segment)) continue;
    EXPECT_EQ(info.live_blocks, 0);
    EXPECT_EQ(info.zero_blocks, 0);
    released_.insert(segment);
  }
  for (size_t i = cut; i < log_.size(); ++i) Apply(log_[i]);
}

}  // namespace twofold
