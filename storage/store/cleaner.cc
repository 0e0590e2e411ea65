// The crash argument of cleaning.
//
// A segment is cleaned only once it lies wholly before the replay position of a durable checkpoint:
// everything in it is applied there, and its bitmap says what lives.
//
// A move takes effect in the turn in which its record is logged (OnLogged), for the blocks that
// live in that instant. A checkpoint that is cut afterwards holds the dead bits of the source, the
// live bits of the target and the forwarding entry; it flushes the log before it is committed, so
// the copies are durable when it counts, and it alone frees the source (M14). A crash before that
// finds the source as it was. Replay then meets the records behind the cut: after everything else
// was replayed it does the same again for the blocks that live by then. Those that were overwritten
// in between are dead in both histories, whichever came first there. `moved_before` of the
// checkpoint tells the records that are in it already.
//
// A record never brings a block into the map, so an old copy can't win over anything (M15).
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/log.h"
#include "storage/base/status_macros.h"
#include "storage/io/aligned_bytes.h"
#include "storage/map/key_codec.h"
#include "storage/runtime/executor.h"
#include "storage/store/segment_content.h"
#include "storage/store/segment_pin.h"
#include "storage/store/store.h"

namespace twofold {
// ---- Records, as they are logged and replayed ---------------------------------------------------

absl::Status Store::NoteMoved(const LoggedBatch::Item& item) {
  if (!appending_) {
    replayed_moves_.push_back(item);
    return absl::OkStatus();
  }
  TF_ASSIGN_OR_RETURN(const MovedBlocks moved, DecodeMovedBlocks(item.entry.body));
  TF_CHECK(cleaning_.has_value() && cleaning_->segment == moved.source)
      << "moved from segment " << moved.source;
  map_->TakeMoved(moved, item.payload, cleaning_->live);
  return absl::OkStatus();
}

absl::Status Store::NoteMovedZeros(const LoggedBatch::Item& item, SegmentNumber logged_in) {
  TF_ASSIGN_OR_RETURN(const MovedZeros moved, DecodeMovedZeros(item.entry.body));
  if (moved.index == 0) {
    zero_group_ = {.source = moved.source, .next = 0, .target = logged_in};
  }
  // A group that was torn apart by the end of a segment is logged again.
  if (moved.source != zero_group_.source || moved.index != zero_group_.next ||
      logged_in != zero_group_.target) {
    zero_group_ = {};
    return absl::OkStatus();
  }
  if (++zero_group_.next < moved.count) return absl::OkStatus();
  zero_group_ = {};
  if (appending_) {
    map_->TakeMovedZeros(moved.source, logged_in);
  } else {
    replayed_moves_.push_back(item);
    replayed_moves_.back().payload.segment = logged_in;
  }
  return absl::OkStatus();
}

Task<absl::Status> Store::TakeReplayedMoves() {
  std::vector<SegmentNumber> sources;
  for (const LoggedBatch::Item& item : replayed_moves_) {
    if (item.entry.kind == EntryKind::kMovedZeros) {
      TF_CO_ASSIGN_OR_RETURN(const MovedZeros moved, DecodeMovedZeros(item.entry.body));
      map_->TakeMovedZeros(moved.source, item.payload.segment);
      sources.push_back(moved.source);
      continue;
    }
    TF_CO_ASSIGN_OR_RETURN(const MovedBlocks moved, DecodeMovedBlocks(item.entry.body));
    absl::Status status = co_await FollowLive(moved.source);
    TF_CO_RETURN_IF_ERROR(status);
    map_->TakeMoved(moved, item.payload, cleaning_->live);
    table_.Unfollow();
    cleaning_.reset();
    sources.push_back(moved.source);
  }
  replayed_moves_.clear();
  for (SegmentNumber source : sources) map_->FinishMoved(source);
  co_return absl::OkStatus();
}

// Which blocks of the segment live. No checkpoint is under way: the bitmap of the last one and the
// changes since are the whole truth.
Task<absl::StatusOr<LiveBitmap>> Store::ReadLive(SegmentNumber segment) {
  const absl::StatusOr<std::optional<std::string>> row =
      co_await parts_.metadata->Get(EncodeSegmentKey(Table::kLive, segment));
  TF_CO_RETURN_IF_ERROR(row);
  LiveBitmap live;
  if (row->has_value()) {
    TF_CO_ASSIGN_OR_RETURN(live, LiveBitmap::Decode(**row));
  }
  for (const LiveChange& change : table_.ChangesOf(segment)) {
    live.Set(change.first.block, change.count, change.live);
  }
  co_return live;
}

// Keeps what ReadLive says up to date from then on.
Task<absl::Status> Store::FollowLive(SegmentNumber segment) {
  TF_CHECK(!cleaning_.has_value());
  absl::StatusOr<LiveBitmap> live = co_await ReadLive(segment);
  TF_CO_RETURN_IF_ERROR(live);
  cleaning_.emplace(Cleaning{segment, *std::move(live)});
  const auto apply = [this](const LiveChange& change) {
    cleaning_->live.Set(change.first.block, change.count, change.live);
  };
  // Others had their turn before this resumed. All of them again, in their order: nothing between
  // here and Follow suspends.
  for (const LiveChange& change : table_.ChangesOf(segment)) apply(change);
  table_.Follow(segment, apply);
  co_return absl::OkStatus();
}

// ---- One segment --------------------------------------------------------------------------------

Task<absl::StatusOr<CleanOutcome>> Store::Clean(SegmentNumber segment, BlockSource bad_blocks) {
  const AsyncMutex::Guard lock = co_await clean_mutex_.Lock();
  absl::Status status = co_await MakeCleanable(segment);
  TF_CO_RETURN_IF_ERROR(status);
  // A checkpoint that ended between that answer and now may have freed it.
  if (!table_.segments().contains(segment)) {
    co_return absl::NotFoundError(absl::StrCat(place_, ": segment ", segment.value(), " is free"));
  }
  const MonoNanos started = Executor::Current().Now();
  const SegmentPin pin(&table_, segment);
  {
    const AsyncMutex::Guard no_checkpoint = co_await checkpoint_mutex_.Lock();
    status = co_await FollowLive(segment);
  }
  TF_CO_RETURN_IF_ERROR(status);
  absl::StatusOr<CleanOutcome> outcome = co_await MoveEverything(segment, std::move(bad_blocks));
  SettleDamage(segment, outcome.status());
  if (!outcome.ok() && !emptied_.empty() && emptied_.back().segment == segment) {
    emptied_.pop_back();  // It gives nothing back.
  }
  table_.Unfollow();
  cleaning_.reset();
  map_->FinishMoved(segment);
  if (outcome.ok()) {
    left_alone_.erase(segment);
    counters_.cleaned_segments += 1;
    counters_.moved_blocks += outcome->moved_blocks;
    latency_.clean.Add(Executor::Current().Now() - started);
    co_return outcome;
  }
  co_return Annotate(outcome.status(),
                     absl::StrCat(place_, ": cleaning segment ", segment.value()));
}

Task<absl::Status> Store::MakeCleanable(SegmentNumber segment) {
  for (bool tried = false;; tried = true) {
    TF_CO_RETURN_IF_ERROR(failed_);
    if (stopping_) co_return absl::UnavailableError("the store is being stopped");
    const auto found = table_.segments().find(segment);
    if (found == table_.segments().end()) {
      co_return absl::NotFoundError(
          absl::StrCat(place_, " has no segment ", segment.value(), " in use"));
    }
    if (found->second.state == SegmentState::kSealed &&
        segment < last_checkpoint_.replay_from.segment) {
      co_return absl::OkStatus();
    }
    if (tried || found->second.state == SegmentState::kOpen) {
      co_return absl::FailedPreconditionError(
          absl::StrCat(place_, ": segment ", segment.value(),
                       " is being written, or holds entries that are not committed yet"));
    }
    absl::Status status = co_await Checkpoint();
    TF_CO_RETURN_IF_ERROR(status);
  }
}

Task<absl::StatusOr<CleanOutcome>> Store::MoveEverything(SegmentNumber segment,
                                                         BlockSource bad_blocks) {
  SegmentContent content;
  absl::Status status =
      co_await ReadContent(segment, /*by_map=*/static_cast<bool>(bad_blocks), &content);
  TF_CO_RETURN_IF_ERROR(status);
  const std::vector<ContentBlock> blocks = content.TakeBlocks();

  CleanOutcome outcome;
  for (size_t next = 0; next < blocks.size();) {
    TF_CO_RETURN_IF_ERROR(CheckGoesOn(bad_blocks));
    MovedBlocks group{.source = segment, .pieces = {}};
    std::vector<uint32_t> crcs;
    for (; next < blocks.size() && crcs.size() < kMaxMovedEntryBlocks; ++next) {
      const ContentBlock& block = blocks[next];
      if (!cleaning_->live.Test(block.block.source_block)) continue;  // It died meanwhile.
      group.Add(block.block);
      crcs.push_back(block.crc);
    }
    if (crcs.empty()) break;
    const MonoNanos began = Executor::Current().Now();
    status = co_await MoveGroup(std::move(group), std::move(crcs), bad_blocks, &outcome);
    TF_CO_RETURN_IF_ERROR(status);
    if (!bad_blocks) NoteEmptied(segment, outcome);
    co_await MakeWay(Executor::Current().Now() - began);
  }
  status = co_await MoveZeros(segment, content.TakeZeros(), &outcome);
  TF_CO_RETURN_IF_ERROR(status);
  if (bad_blocks && cleaning_->live.CountLive() > 0) {
    co_return absl::DataLossError(
        absl::StrCat(cleaning_->live.CountLive(), " live blocks have to stay: ",
                     outcome.left.ok() ? "neither its records nor the map say yet what they are"
                                       : outcome.left.message()));
  }
  co_return outcome;
}

absl::Status Store::CheckGoesOn(const BlockSource& bad_blocks) const {
  TF_RETURN_IF_ERROR(failed_);
  if (stopping_) return absl::UnavailableError("the store is being stopped");
  if (bad_blocks && repairs_cancelled_) return absl::UnavailableError("the repair was ended");
  return absl::OkStatus();
}

Task<absl::Status> Store::MoveGroup(MovedBlocks group, std::vector<uint32_t> crcs,
                                    const BlockSource& bad_blocks, CleanOutcome* outcome) {
  LogEntry entry;
  entry.kind = EntryKind::kMoved;
  entry.position.generation = fence_;
  entry.range.count = BlockCount(crcs.size());
  entry.block_crcs.assign(crcs.begin(), crcs.end());
  entry.body = EncodeMovedBlocks(group);
  if (entry.body.size() > kMaxEntryBodyBytes) {
    // Many small pieces: in two halves.
    MovedBlocks rest{.source = group.source, .pieces = {}};
    const size_t half = group.pieces.size() / 2;
    rest.pieces.assign(group.pieces.begin() + static_cast<ptrdiff_t>(half), group.pieces.end());
    group.pieces.resize(half);
    std::vector<uint32_t> rest_crcs(crcs.begin() + group.block_count(), crcs.end());
    crcs.resize(group.block_count());
    absl::Status status =
        co_await MoveGroup(std::move(group), std::move(crcs), bad_blocks, outcome);
    TF_CO_RETURN_IF_ERROR(status);
    co_return co_await MoveGroup(std::move(rest), std::move(rest_crcs), bad_blocks, outcome);
  }

  AlignedBytes payload(crcs.size() * kBlockSize);
  LoadedGroup loaded;
  absl::Status status = co_await LoadGroup(group, crcs, payload.span(), bad_blocks, &loaded);
  TF_CO_RETURN_IF_ERROR(status);
  if (!loaded.left.ok()) {
    // The others without those that nobody has; what was fetched is fetched again.
    if (outcome->left.ok()) outcome->left = loaded.left;
    if (loaded.whole_crcs.empty()) co_return absl::OkStatus();
    co_return co_await MoveGroup(std::move(loaded.whole), std::move(loaded.whole_crcs), bad_blocks,
                                 outcome);
  }

  if (!room_.TryPromise(Space(), BlockCount(crcs.size()), 1, clean_use_)) {
    co_return absl::ResourceExhaustedError("no room to move its blocks to");
  }
  absl::Status logged = co_await AppendMoved(&entry, payload.span());
  TF_CO_RETURN_IF_ERROR(logged);
  outcome->moved_blocks += crcs.size();
  outcome->replaced_blocks += loaded.replaced;
  co_return absl::OkStatus();
}

// Reads the blocks of a group into `into`, those that are bad from `bad_blocks`.
Task<absl::Status> Store::LoadGroup(const MovedBlocks& group, const std::vector<uint32_t>& crcs,
                                    absl::Span<std::byte> into, const BlockSource& bad_blocks,
                                    LoadedGroup* loaded) {
  loaded->whole.source = group.source;
  // An error of the device is found again block by block.
  const absl::Status read = co_await ReadGroup(group, into);
  size_t i = 0;
  for (const MovedPiece& piece : group.pieces) {
    for (uint32_t n = 0; n < piece.count; ++n, ++i) {
      MovedPiece one = piece;
      one.source_block += n;
      one.block = piece.block + BlockCount(n);
      one.count = 1;
      const absl::Span<std::byte> block = into.subspan(i * kBlockSize, kBlockSize);
      absl::Status bad;
      if (!read.ok()) bad = co_await ReadBlocks({group.source, one.source_block}, block);
      if (bad.ok() && Crc32c(block) != crcs[i]) {
        bad = absl::DataLossError(absl::StrCat("block ", one.block.value(), " of volume ",
                                               one.volume.value(), " fails its checksum"));
      }
      if (!bad.ok()) {
        ++bad_blocks_seen_;
        // Where the file is lost that is said once, of all of it.
        if (log_->HasFile(group.source)) {
          NoteDamage({group.source, one.source_block}, 1, std::string(bad.message()));
        }
        if (!bad_blocks) co_return bad;
        const BlockIdentity identity{one.volume, one.timeline, one.block, one.position, crcs[i]};
        bad = co_await FetchBlock(identity, block, bad_blocks);
        // Whoever can't be asked now can be asked later.
        if (absl::IsUnavailable(bad)) co_return bad;
        if (bad.ok()) ++loaded->replaced;
      }
      if (!bad.ok()) {
        if (loaded->left.ok()) loaded->left = bad;
        continue;
      }
      loaded->whole.Add(one);
      loaded->whole_crcs.push_back(crcs[i]);
    }
  }
  co_return absl::OkStatus();
}

// Never another version, and never another checksum (R10, R18).
Task<absl::Status> Store::FetchBlock(BlockIdentity identity, absl::Span<std::byte> into,
                                     const BlockSource& bad_blocks) {
  absl::Status fetched = co_await bad_blocks(identity, into);
  TF_CO_RETURN_IF_ERROR(fetched);
  if (Crc32c(into) == identity.crc) co_return absl::OkStatus();
  co_return absl::DataLossError(
      absl::StrCat("block ", identity.block.value(), " of volume ", identity.volume.value(),
                   ": the bytes that were to replace it have another checksum"));
}

Task<absl::Status> Store::ReadGroup(const MovedBlocks& group, absl::Span<std::byte> into) {
  std::vector<Task<absl::Status>> reads;
  size_t done = 0;
  for (size_t i = 0; i < group.pieces.size();) {
    // Pieces that lie together are one read, whatever they are.
    const uint32_t first = group.pieces[i].source_block;
    uint32_t end = first;
    for (; i < group.pieces.size() && group.pieces[i].source_block == end; ++i) {
      end = group.pieces[i].source_end();
    }
    const size_t bytes = size_t{end - first} * kBlockSize;
    reads.push_back(ReadBlocks({group.source, first}, into.subspan(done, bytes)));
    done += bytes;
  }
  const std::vector<absl::Status> statuses = co_await WhenAll(std::move(reads));
  co_return FirstError(statuses);
}

Task<absl::Status> Store::ReadBlocks(LogAddress first, absl::Span<std::byte> into) {
  const iovec piece{into.data(), into.size()};
  co_return co_await log_->ReadPayload(first, static_cast<uint32_t>(into.size() / kBlockSize),
                                       absl::MakeConstSpan(&piece, 1));
}

Task<absl::Status> Store::AppendMoved(const LogEntry* entry, absl::Span<const std::byte> payload) {
  // Durable at once: a batch that was only written would make the next one pay for a sync.
  const absl::StatusOr<LogAddress> logged =
      co_await log_->Append(*entry, payload, Durability::kDurable);
  co_return logged.status();
}

// All of them, while the map shows anything as zero because of one (M17): in one segment, so that
// what is counted for the source counts for that one.
Task<absl::Status> Store::MoveZeros(SegmentNumber segment, std::vector<MovedZero> zeros,
                                    CleanOutcome* outcome) {
  constexpr size_t kZerosPerEntry = (kMaxEntryBodyBytes - kMaxMovedHeadBytes) / kMaxMovedZeroBytes;
  const auto still_needed = [this, segment] {
    return table_.segments().at(segment).zero_blocks > 0;
  };
  if (!still_needed()) co_return absl::OkStatus();
  std::vector<LogEntry> entries;
  MovedZeros group{.source = segment, .index = 0, .count = 0, .zeros = {}};
  group.count = static_cast<uint32_t>((zeros.size() + kZerosPerEntry - 1) / kZerosPerEntry);
  for (; group.index < group.count; ++group.index) {
    const size_t first = group.index * kZerosPerEntry;
    const size_t end = std::min(first + kZerosPerEntry, zeros.size());
    group.zeros.assign(zeros.begin() + static_cast<ptrdiff_t>(first),
                       zeros.begin() + static_cast<ptrdiff_t>(end));
    LogEntry& entry = entries.emplace_back();
    entry.kind = EntryKind::kMovedZeros;
    entry.position.generation = fence_;
    entry.body = EncodeMovedZeros(group);
  }
  // Where a segment ends in between, the next one has room for all of them.
  for (int tries_left = 3; still_needed(); --tries_left) {
    if (tries_left == 0 || entries.empty()) {
      co_return absl::DataLossError("blocks are zero because of records that can't be read");
    }
    if (!room_.TryPromise(Space(), BlockCount(0), entries.size(), clean_use_)) {
      co_return absl::ResourceExhaustedError("no room to move its zero records to");
    }
    std::vector<Task<absl::Status>> appends;
    for (const LogEntry& entry : entries) appends.push_back(AppendMoved(&entry, {}));
    const std::vector<absl::Status> statuses = co_await WhenAll(std::move(appends));
    TF_CO_RETURN_IF_ERROR(FirstError(statuses));
  }
  outcome->moved_zero_records += zeros.size();
  co_return absl::OkStatus();
}

}  // namespace twofold
