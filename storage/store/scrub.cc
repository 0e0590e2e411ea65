#include "storage/store/scrub.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/log/superblock.h"
#include "storage/map/key_codec.h"
#include "storage/map/map_check.h"
#include "storage/map/moved_record.h"
#include "storage/runtime/executor.h"
#include "storage/store/segment_pin.h"
#include "storage/store/store.h"

namespace twofold {
namespace {

constexpr int64_t kRateWindowNanos = 5 * kNanosPerSecond;
constexpr int64_t kSealPollNanos = 10 * kNanosPerMilli;
// However long a read took, clients don't need the device to themselves for longer.
constexpr int64_t kMaxYieldNanos = 100 * kNanosPerMilli;
// How long what was found may take to be repaired before the pass ends with it.
constexpr int64_t kMaxRepairWaitNanos = 60 * kNanosPerSecond;
constexpr int64_t kRepairPollNanos = 250 * kNanosPerMilli;
// A superblock may be written just now: what looks damaged is looked at again.
constexpr int kSuperblockTries = 3;
constexpr int64_t kSuperblockPauseNanos = 20 * kNanosPerMilli;

// Which block of which volume a bad block of payload is.
std::string Identify(const SegmentDamage& damage) {
  const LogEntry& entry = damage.entry;
  VolumeId volume = entry.volume;
  TimelineId timeline = entry.timeline;
  BlockIndex block = entry.range.first + BlockCount(damage.index);
  Position position = entry.position;
  if (entry.kind == EntryKind::kMoved) {
    const absl::StatusOr<MovedBlocks> moved = DecodeMovedBlocks(entry.body);
    if (!moved.ok()) return "a block that was moved";
    uint32_t left = damage.index;
    for (const MovedPiece& piece : moved->pieces) {
      if (left >= piece.count) {
        left -= piece.count;
        continue;
      }
      volume = piece.volume;
      timeline = piece.timeline;
      block = piece.block + BlockCount(left);
      position = piece.position;
      break;
    }
  }
  return absl::StrCat("block ", block.value(), " of volume ", volume.value(), " (timeline ",
                      timeline.value(), ", entry ", position.generation.value(), ".",
                      position.seq.value(), ")");
}

std::vector<bool> ToBlocks(const LiveBitmap& live, uint64_t segment_bytes) {
  std::vector<bool> blocks(segment_bytes / kBlockSize);
  live.ForEachLive([&blocks](uint32_t block) {
    if (block < blocks.size()) blocks[block] = true;
  });
  return blocks;
}

absl::Status Cancelled() { return absl::CancelledError("the scrub was ended"); }

}  // namespace

StoreScrub::StoreScrub(Store* store, ScrubOptions options)
    : store_(store), options_(std::move(options)) {}

Task<absl::StatusOr<ScrubReport>> StoreScrub::Run() {
  const int64_t began = Executor::Current().Now();
  progress_.started_nanos = began;
  rate_ = {began, 0};
  absl::Status status = co_await RunAll();
  TF_CO_RETURN_IF_ERROR(status);
  if (!report_.whole()) {
    status = co_await LookAgain();
    TF_CO_RETURN_IF_ERROR(status);
  }
  report_.duration_nanos = static_cast<uint64_t>(Executor::Current().Now() - began);
  if (!report_.whole()) co_return report_;
  ProofRecord proof;
  proof.store_id = store_->superblock_.store_id;
  proof.ended = Executor::Current().WallNow();
  proof.duration_nanos = report_.duration_nanos;
  proof.bytes = report_.bytes;
  proof.healed_places = report_.healed_places;
  proof.incarnation = store_->superblock_.incarnation;
  status = co_await store_->RememberProof(std::move(proof));
  TF_CO_RETURN_IF_ERROR(status);
  co_return report_;
}

Task<absl::Status> StoreScrub::RunAll() {
  for (const auto& [segment, info] : store_->segment_table().segments()) {
    blocks_left_ += info.live_blocks;
  }
  absl::Status status = co_await ScrubSuperblocks();
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await ScrubOwnRecords();
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await ScrubMap();
  TF_CO_RETURN_IF_ERROR(status);
  status = co_await ScrubSegments();
  TF_CO_RETURN_IF_ERROR(status);
  co_await store_->NoteMapDamage(map_damage_);
  co_return absl::OkStatus();
}

// What was found is repaired meanwhile, where that can be done: then it is looked at again, and
// what is whole or has gone does not count any more.
Task<absl::Status> StoreScrub::LookAgain() {
  std::set<SegmentNumber> segments;
  for (const ScrubFinding& finding : report_.findings) segments.insert(finding.segment);
  // Nobody repairs what is damaged in the map while the store is open; or not all is known.
  const auto in_files = static_cast<uint64_t>(
      std::count_if(report_.findings.begin(), report_.findings.end(),
                    [](const ScrubFinding& one) { return one.segment == SegmentNumber(); }));
  if (in_files > damaged_superblocks_ || report_.damaged_places > report_.findings.size()) {
    co_return absl::OkStatus();
  }
  progress_.what = "waiting for repair";
  for (int64_t waited = 0; waited < kMaxRepairWaitNanos; waited += kRepairPollNanos) {
    if (!AnyBeingRepaired(segments)) break;
    const bool slept = co_await cancel_.SleepFor(kRepairPollNanos);
    if (!slept) co_return Cancelled();
    TF_CO_RETURN_IF_ERROR(store_->failed_);
  }
  const uint64_t found = std::exchange(report_.damaged_places, 0);
  report_.findings.clear();
  for (SegmentNumber segment : segments) {
    absl::Status status;
    if (segment == SegmentNumber()) {
      status = co_await ScrubSuperblocks();
    } else {
      status = co_await ScrubSegment(segment);
    }
    TF_CO_RETURN_IF_ERROR(status);
  }
  report_.healed_places = found > report_.damaged_places ? found - report_.damaged_places : 0;
  progress_.damaged_places = report_.damaged_places;
  co_return absl::OkStatus();
}

// Damage in one of the segments that was not given up.
bool StoreScrub::AnyBeingRepaired(const std::set<SegmentNumber>& segments) const {
  const std::vector<DamagedPlace>& places = store_->damage_list().places();
  return std::any_of(places.begin(), places.end(), [&segments](const DamagedPlace& place) {
    return place.healed == 0 && place.why_not.empty() && segments.contains(place.first.segment);
  });
}

void StoreScrub::Note(SegmentNumber segment, uint32_t block, std::string what) {
  ++report_.damaged_places;
  progress_.damaged_places = report_.damaged_places;
  TF_LOG(ERROR) << "scrub of set " << store_->superblock_.set_name << " (" << store_->place_
                << "): " << what;
  if (report_.findings.size() < kMaxScrubFindings) {
    report_.findings.push_back({segment, block, std::move(what)});
  }
}

// ---- Superblock and map -------------------------------------------------------------------------

Task<absl::Status> StoreScrub::ScrubSuperblocks() {
  progress_.what = "superblock";
  std::vector<SuperblockDamage> damage;
  for (int tries = 0; tries < kSuperblockTries; ++tries) {
    absl::Status status = co_await Pace(2 * kBlockSize * store_->devices_.size());
    TF_CO_RETURN_IF_ERROR(status);
    absl::StatusOr<std::vector<SuperblockDamage>> found =
        co_await CheckSuperblocks(store_->devices_, store_->superblock_);
    TF_CO_RETURN_IF_ERROR(found);
    damage = *std::move(found);
    if (damage.empty()) co_return absl::OkStatus();
    const bool slept = co_await cancel_.SleepFor(kSuperblockPauseNanos);
    if (!slept) co_return Cancelled();
  }
  for (SuperblockDamage& one : damage) {
    store_->NoteFileDamage(one.where, one.what);
    Note(SegmentNumber(), 0, std::move(one.what));
    ++damaged_superblocks_;
  }
  co_return absl::OkStatus();
}

// What the store itself keeps in the map beside it.
Task<absl::Status> StoreScrub::ScrubOwnRecords() {
  progress_.what = "map";
  MetadataStore& metadata = store_->metadata();
  for (const char* name : {kCheckpointName, kCatalogueName, kProofName}) {
    const absl::StatusOr<std::optional<std::string>> bytes = co_await metadata.Get(MetaKey(name));
    absl::Status whole = bytes.status();
    if (absl::IsUnavailable(whole)) co_return whole;
    if (bytes.ok() && bytes->has_value()) {
      if (name == kCheckpointName) whole = DecodeCheckpoint(**bytes).status();
      if (name == kCatalogueName) whole = Catalogue::Decode(**bytes).status();
      if (name == kProofName) whole = DecodeProof(**bytes).status();
    } else if (bytes.ok() && name != kProofName) {
      whole = absl::DataLossError("it is not there");
    }
    if (whole.ok()) continue;
    Note(SegmentNumber(), 0, absl::StrCat("the map's record \"", name, "\": ", whole.message()));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> StoreScrub::ScrubMap() {
  const BeforeRead pace = [this](uint64_t bytes) { return Pace(bytes); };
  const absl::StatusOr<MapCheck> check = co_await CheckMap(&store_->metadata(), pace);
  TF_CO_RETURN_IF_ERROR(check);
  for (const std::string& what : check->damage) Note(SegmentNumber(), 0, what);
  if (!check->damage.empty()) map_damage_ = absl::DataLossError(check->damage.front());
  const absl::Status verified = co_await store_->metadata().Verify(pace);
  if (!absl::IsDataLoss(verified)) co_return verified;
  Note(SegmentNumber(), 0, std::string(verified.message()));
  map_damage_ = verified;
  co_return absl::OkStatus();
}

// ---- The log ------------------------------------------------------------------------------------

Task<absl::Status> StoreScrub::ScrubSegments() {
  std::vector<std::pair<SegmentNumber, uint32_t>> segments;
  blocks_left_ = 0;
  for (const auto& [segment, info] : store_->segment_table().segments()) {
    segments.emplace_back(segment, info.live_blocks);
    blocks_left_ += info.live_blocks;
  }
  for (const auto& [segment, live_blocks] : segments) {
    absl::Status status = co_await ScrubSegment(segment);
    TF_CO_RETURN_IF_ERROR(status);
    blocks_left_ -= live_blocks;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> StoreScrub::ScrubSegment(SegmentNumber segment) {
  // Freed meanwhile: what lived in it was copied, and checked then, or is not needed any more.
  if (!store_->segment_table().segments().contains(segment)) co_return absl::OkStatus();
  progress_.what = absl::StrCat("segment ", segment.value());
  const SegmentPin pin(&store_->table_, segment);
  const absl::StatusOr<LiveBitmap> live = co_await LiveBlocks(segment);
  if (absl::IsDataLoss(live.status())) {
    Note(segment, 0,
         absl::StrCat("segment ", segment.value(), ": which of its blocks live can't ",
                      "be told: ", live.status().message()));
    co_return absl::OkStatus();
  }
  TF_CO_RETURN_IF_ERROR(live);
  const absl::StatusOr<bool> sealed = co_await WaitUntilSealed(segment);
  TF_CO_RETURN_IF_ERROR(sealed);
  const BeforeRead pace = [this](uint64_t bytes) { return Pace(bytes); };
  absl::StatusOr<SegmentCheck> check = co_await store_->log_->CheckSegment(
      segment, !*sealed, ToBlocks(*live, store_->superblock_.segment_bytes), pace);
  if (absl::IsNotFound(check.status())) {
    std::string what = absl::StrCat("segment ", segment.value(), ": no file holds it");
    store_->NoteDamage({segment, 0}, 0, what);
    Note(segment, 0, std::move(what));
    co_return absl::OkStatus();
  }
  if (!check.ok()) {
    TF_CO_RETURN_IF_ERROR(store_->failed_);
    co_return check.status();
  }
  report_.blocks += check->payload_blocks;
  if (check->damage.empty()) co_return absl::OkStatus();
  co_return co_await NoteDamage(segment, std::move(check->damage));
}

// Payload counts only where it still lives.
Task<absl::Status> StoreScrub::NoteDamage(SegmentNumber segment,
                                          std::vector<SegmentDamage> damage) {
  const absl::StatusOr<LiveBitmap> live = co_await LiveBlocks(segment);
  TF_CO_RETURN_IF_ERROR(live);
  for (const SegmentDamage& one : damage) {
    std::string what = absl::StrCat("segment ", segment.value(), " block ", one.block, ": ");
    if (one.kind == SegmentDamage::Kind::kPayload) {
      if (!live->Test(one.block)) continue;
      ++store_->bad_blocks_seen_;
      absl::StrAppend(&what, Identify(one), " ");
    }
    absl::StrAppend(&what, one.what);
    // Records are a place without blocks there.
    const uint32_t blocks = one.kind == SegmentDamage::Kind::kPayload ? 1 : 0;
    store_->NoteDamage({segment, one.block}, blocks, what);
    Note(segment, one.block, std::move(what));
  }
  co_return absl::OkStatus();
}

// Which blocks of a pinned segment live now.
Task<absl::StatusOr<LiveBitmap>> StoreScrub::LiveBlocks(SegmentNumber segment) {
  const AsyncMutex::Guard no_checkpoint = co_await store_->checkpoint_mutex_.Lock();
  TF_CO_RETURN_IF_ERROR(store_->failed_);
  co_return co_await store_->ReadLive(segment);
}

// False: it is the one that is being written. The copies of one that was just left are being
// written; that takes a moment.
Task<absl::StatusOr<bool>> StoreScrub::WaitUntilSealed(SegmentNumber segment) {
  for (;;) {
    TF_CO_RETURN_IF_ERROR(store_->failed_);
    if (store_->table_.segments().at(segment).state == SegmentState::kSealed) co_return true;
    if (store_->log_->end().segment == segment) co_return false;
    const bool slept = co_await cancel_.SleepFor(kSealPollNanos);
    if (!slept) co_return Cancelled();
  }
}

// ---- Making way ---------------------------------------------------------------------------------

// Grows with what clients, and the cleaner for them, do.
uint64_t StoreScrub::ClientWork() const { return store_->ClientWork(); }

Task<absl::Status> StoreScrub::Pace(uint64_t bytes) {
  const int64_t now = Executor::Current().Now();
  int64_t until = now;
  if (reading_since_nanos_ > 0 && ClientWork() != client_work_) {
    until = now + std::min(now - reading_since_nanos_, kMaxYieldNanos);
  }
  if (options_.bytes_per_second > 0) {
    const int64_t due = std::max(now, next_read_nanos_);
    next_read_nanos_ = due + static_cast<int64_t>(static_cast<double>(bytes) * kNanosPerSecond /
                                                  static_cast<double>(options_.bytes_per_second));
    until = std::max(until, due);
  }
  if (cancel_.cancelled()) co_return Cancelled();
  if (until > now) {
    const bool slept = co_await cancel_.SleepUntil(until);
    if (!slept) co_return Cancelled();
  }
  TF_CO_RETURN_IF_ERROR(store_->failed_);
  if (store_->stopping_) co_return absl::UnavailableError("the store is being stopped");
  reading_since_nanos_ = Executor::Current().Now();
  client_work_ = ClientWork();
  Count(bytes);
  co_return absl::OkStatus();
}

void StoreScrub::Count(uint64_t bytes) {
  report_.bytes += bytes;
  rate_.bytes += bytes;
  progress_.bytes_done = report_.bytes;
  const int64_t now = Executor::Current().Now();
  const int64_t elapsed = std::max<int64_t>(1, now - rate_.since_nanos);
  progress_.bytes_per_second = static_cast<uint64_t>(
      static_cast<double>(rate_.bytes) * kNanosPerSecond / static_cast<double>(elapsed));
  // Half of what was goes on counting, so that the figure moves smoothly.
  if (elapsed >= kRateWindowNanos) rate_ = {now - elapsed / 2, rate_.bytes / 2};
  const uint64_t left = blocks_left_ * kBlockSize;
  progress_.bytes_total = progress_.bytes_done + left;
  progress_.seconds_left = progress_.bytes_per_second == 0 ? 0 : left / progress_.bytes_per_second;
}

}  // namespace twofold
