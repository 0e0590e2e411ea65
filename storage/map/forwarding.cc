#include "storage/map/forwarding.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/map/key_codec.h"

namespace twofold {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint64_t kMaxSegmentBlocks = kMaxSegmentBytes / kBlockSize;

LogAddress Behind(const LogAddress& address, uint32_t blocks) {
  return {address.segment, address.block + blocks};
}

absl::Status Damaged(SegmentNumber source, absl::string_view bytes) {
  return absl::DataLossError(absl::StrCat("map: the forwarding entry of segment ", source.value(),
                                          " does not decode (", bytes.size(),
                                          " bytes); rebuild the map from the log"));
}

}  // namespace

// ---- ForwardingEntry ----

LogAddress ForwardingEntry::TargetOf(uint32_t block) const {
  const uint32_t rank = moved.CountLiveBelow(block);
  const auto next =
      std::upper_bound(pieces.begin(), pieces.end(), rank,
                       [](uint32_t r, const Piece& piece) { return r < piece.first_rank; });
  TF_CHECK(next != pieces.begin()) << "block " << block;
  const Piece& piece = *std::prev(next);
  return Behind(piece.target, rank - piece.first_rank);
}

std::vector<std::pair<uint32_t, LogAddress>> ForwardingEntry::Blocks() const {
  std::vector<std::pair<uint32_t, LogAddress>> blocks;
  auto piece = pieces.begin();
  uint32_t rank = 0;
  moved.ForEachLive([&](uint32_t block) {
    if (std::next(piece) != pieces.end() && std::next(piece)->first_rank == rank) ++piece;
    blocks.emplace_back(block, Behind(piece->target, rank - piece->first_rank));
    ++rank;
  });
  return blocks;
}

void ForwardingEntry::SetBlocks(const std::vector<std::pair<uint32_t, LogAddress>>& blocks) {
  moved = LiveBitmap();
  pieces.clear();
  for (uint32_t rank = 0; rank < blocks.size(); ++rank) {
    const auto& [block, target] = blocks[rank];
    moved.Set(block, 1, true);
    if (pieces.empty() || Behind(pieces.back().target, rank - pieces.back().first_rank) != target) {
      pieces.push_back({rank, target});
    }
  }
}

bool ForwardingEntry::PointsInto(SegmentNumber segment) const {
  return zeros == segment ||
         std::any_of(pieces.begin(), pieces.end(),
                     [segment](const Piece& piece) { return piece.target.segment == segment; });
}

size_t ForwardingEntry::MemoryBytes() const {
  return sizeof(*this) + moved.MemoryBytes() + pieces.capacity() * sizeof(Piece);
}

std::string EncodeForwarding(const ForwardingEntry& entry) {
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.WriteU8(kVersion);
  writer.WriteVarint64(entry.zeros.value());
  writer.WriteVarint64(entry.pieces.size());
  uint32_t previous_rank = 0;
  for (const ForwardingEntry::Piece& piece : entry.pieces) {
    writer.WriteVarint64(piece.first_rank - previous_rank);
    writer.WriteVarint64(piece.target.segment.value());
    writer.WriteVarint64(piece.target.block);
    previous_rank = piece.first_rank;
  }
  writer.WriteString(entry.moved.Encode());
  return bytes;
}

absl::StatusOr<ForwardingEntry> DecodeForwarding(SegmentNumber source, absl::string_view bytes) {
  ByteReader reader(bytes);
  if (reader.ReadU8() != kVersion) reader.Fail();
  ForwardingEntry entry;
  entry.zeros = SegmentNumber(reader.ReadVarint64());
  const uint64_t pieces = reader.ReadVarint64();
  if (pieces > kMaxSegmentBlocks) reader.Fail();
  uint64_t rank = 0;
  for (uint64_t i = 0; i < pieces && !reader.failed(); ++i) {
    const uint64_t gap = reader.ReadVarint64();
    const SegmentNumber segment(reader.ReadVarint64());
    const uint64_t block = reader.ReadVarint64();
    // Targets are written after their source, so they have higher numbers (M2).
    if ((gap == 0) != (i == 0) || gap > kMaxSegmentBlocks || segment <= source ||
        block >= kMaxSegmentBlocks) {
      reader.Fail();
      break;
    }
    rank += gap;
    entry.pieces.push_back(
        {static_cast<uint32_t>(rank), LogAddress{segment, static_cast<uint32_t>(block)}});
  }
  if (reader.failed()) return Damaged(source, bytes);
  absl::StatusOr<LiveBitmap> moved = LiveBitmap::Decode(reader.ReadString(reader.remaining()));
  if (!moved.ok()) return Damaged(source, bytes);
  entry.moved = *std::move(moved);
  const uint32_t blocks = entry.moved.CountLive();
  const bool empty = entry.pieces.empty();
  if (empty != (blocks == 0) || (!empty && entry.pieces.back().first_rank >= blocks) ||
      (empty && entry.zeros == SegmentNumber()) ||
      (entry.zeros != SegmentNumber() && entry.zeros <= source)) {
    return Damaged(source, bytes);
  }
  ForwardingEntry same;
  same.SetBlocks(entry.Blocks());
  if (same.pieces != entry.pieces) return Damaged(source, bytes);  // Two pieces that are one.
  return entry;
}

// ---- Forwarding ----

LogAddress Forwarding::Resolve(LogAddress address) const {
  for (auto found = entries_.find(address.segment);
       found != entries_.end() && found->second.entry.moved.Test(address.block);
       found = entries_.find(address.segment)) {
    address = found->second.entry.TargetOf(address.block);
  }
  return address;
}

SegmentNumber Forwarding::ResolveZeros(SegmentNumber segment) const {
  for (auto found = entries_.find(segment);
       found != entries_.end() && found->second.entry.zeros != SegmentNumber();
       found = entries_.find(segment)) {
    segment = found->second.entry.zeros;
  }
  return segment;
}

std::vector<Run> Forwarding::Resolve(const Run& run) const {
  std::vector<Run> parts;
  if (!Has(run.address.segment)) {
    parts.push_back(run);
    return parts;
  }
  if (run.kind == RunKind::kZero) {
    parts.push_back(run);
    parts.back().address.segment = ResolveZeros(run.address.segment);
    return parts;
  }
  const auto count = static_cast<uint32_t>(run.range.count.value());
  uint32_t begin = 0;
  LogAddress place = Resolve(run.address);
  for (uint32_t i = 1; i <= count; ++i) {
    const LogAddress next = i == count ? LogAddress() : Resolve(Behind(run.address, i));
    if (i < count && next == Behind(place, i - begin)) continue;
    parts.push_back(Cut(run, {run.range.first + BlockCount(begin), BlockCount(i - begin)}));
    parts.back().address = place;
    begin = i;
    place = next;
  }
  return parts;
}

// Whether a block of it lies elsewhere now.
bool Forwarding::IsMoved(const Run& run) const {
  const auto found = entries_.find(run.address.segment);
  if (found == entries_.end()) return false;
  const ForwardingEntry& entry = found->second.entry;
  if (run.kind == RunKind::kZero) return entry.zeros != SegmentNumber();
  for (uint32_t i = 0; i < run.range.count.value(); ++i) {
    if (entry.moved.Test(run.address.block + i)) return true;
  }
  return false;
}

bool Forwarding::Resolve(RunList* runs) const {
  // Nearly always there is nothing to do, and each checkpoint asks for every run that it writes.
  if (entries_.empty()) return false;
  const bool any = std::any_of(runs->runs().begin(), runs->runs().end(),
                               [this](const Run& run) { return IsMoved(run); });
  if (!any) return false;
  RunList resolved;
  for (const Run& run : runs->runs()) {
    for (const Run& part : Resolve(run)) resolved.Insert(part);
  }
  *runs = std::move(resolved);
  return true;
}

Forwarding::Held& Forwarding::Find(SegmentNumber source) {
  Held& held = entries_[source];
  held.serial = ++serial_;
  return held;
}

void Forwarding::Changed(SegmentNumber source, Held& held) {
  bytes_ -= held.bytes;
  held.bytes = held.entry.MemoryBytes();
  bytes_ += held.bytes;
  changed_.insert(source);
}

void Forwarding::Add(SegmentNumber source, uint32_t first, uint32_t count, LogAddress target) {
  TF_CHECK_GT(target.segment, source);
  Held& held = Find(source);
  ForwardingEntry& entry = held.entry;
  const uint32_t rank = entry.moved.CountLive();
  if (entry.moved.CountLiveBelow(first) == rank && !entry.moved.Test(first)) {
    // Behind all others, as the cleaner moves them.
    if (entry.pieces.empty() ||
        Behind(entry.pieces.back().target, rank - entry.pieces.back().first_rank) != target) {
      entry.pieces.push_back({rank, target});
    }
    entry.moved.Set(first, count, true);
  } else {
    std::map<uint32_t, LogAddress> blocks;
    for (const auto& [block, place] : entry.Blocks()) blocks.emplace(block, place);
    for (uint32_t i = 0; i < count; ++i) blocks[first + i] = Behind(target, i);
    entry.SetBlocks({blocks.begin(), blocks.end()});
  }
  Changed(source, held);
}

void Forwarding::MoveZeros(SegmentNumber source, SegmentNumber target) {
  TF_CHECK_GT(target, source);
  Held& held = Find(source);
  held.entry.zeros = target;
  Changed(source, held);
}

void Forwarding::Collapse(SegmentNumber segment) {
  if (!Has(segment)) return;
  for (auto& [source, held] : entries_) {
    if (held.entry.PointsInto(segment)) PointToTheEnd(source, held);
  }
}

void Forwarding::CollapseAll() {
  for (auto& [source, held] : entries_) {
    const ForwardingEntry& entry = held.entry;
    const bool chained =
        Has(entry.zeros) || std::any_of(entry.pieces.begin(), entry.pieces.end(),
                                        [this](const ForwardingEntry::Piece& piece) {
                                          return Has(piece.target.segment);
                                        });
    if (chained) PointToTheEnd(source, held);
  }
}

void Forwarding::PointToTheEnd(SegmentNumber source, Held& held) {
  std::vector<std::pair<uint32_t, LogAddress>> blocks = held.entry.Blocks();
  for (auto& [block, target] : blocks) target = Resolve(target);
  held.entry.SetBlocks(blocks);
  if (held.entry.zeros != SegmentNumber()) held.entry.zeros = ResolveZeros(held.entry.zeros);
  Changed(source, held);
}

void Forwarding::Drop(uint64_t serial) {
  for (auto next = entries_.begin(); next != entries_.end();) {
    const auto found = next++;
    if (found->second.serial > serial) continue;
    bytes_ -= found->second.bytes;
    changed_.insert(found->first);
    entries_.erase(found);
  }
}

void Forwarding::Freeze(MetadataBatch* batch) {
  for (const SegmentNumber source : changed_) {
    std::string key = EncodeSegmentKey(Table::kForwarding, source);
    const auto found = entries_.find(source);
    if (found == entries_.end()) {
      batch->push_back({.kind = MetadataWrite::Kind::kDelete, .key = std::move(key), .value = {}});
    } else {
      batch->push_back({.kind = MetadataWrite::Kind::kPut,
                        .key = std::move(key),
                        .value = EncodeForwarding(found->second.entry)});
    }
  }
  changed_.clear();
}

absl::Status Forwarding::Load(const std::vector<KeyValue>& rows) {
  for (const auto& [key, value] : rows) {
    TF_ASSIGN_OR_RETURN(const SegmentNumber source, DecodeSegmentKey(key));
    TF_ASSIGN_OR_RETURN(ForwardingEntry entry, DecodeForwarding(source, value));
    Held& held = Find(source);
    held.entry = std::move(entry);
    Changed(source, held);
  }
  changed_.clear();  // They are stored as they are.
  return absl::OkStatus();
}

}  // namespace twofold
