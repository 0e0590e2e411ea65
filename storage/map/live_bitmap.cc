#include "storage/map/live_bitmap.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"

namespace twofold {
namespace {

constexpr uint8_t kVersion = 1;
// Tells a bitmap from changes to one, so that neither can be taken for the other.
constexpr uint8_t kFormBitmap = 0;
constexpr uint8_t kFormChanges = 1;
constexpr uint32_t kMaxSegmentBlocks = kMaxSegmentBytes / kBlockSize;

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("live bitmap of a segment: ", what, "; rebuild the map from the log"));
}

absl::Status ReadHead(ByteReader& reader, uint8_t form) {
  const uint8_t version = reader.ReadU8();
  const uint8_t found = reader.ReadU8();
  if (reader.failed()) return Damaged("too short");
  if (version != kVersion) {
    return Damaged(absl::StrCat("version ", version, " where ", kVersion, " is known"));
  }
  if (found != form) return Damaged(absl::StrCat("form ", found, " where ", form, " belongs"));
  return absl::OkStatus();
}

}  // namespace

// ---- LiveBitmap ----

void LiveBitmap::Set(uint32_t first, uint32_t count, bool live) {
  TF_CHECK(first <= kMaxSegmentBlocks && count <= kMaxSegmentBlocks - first)
      << first << " + " << count;
  const uint32_t end = first + count;
  if (live && bits_.size() < (end + 7) / 8) bits_.resize((end + 7) / 8);
  const uint32_t known = std::min<uint32_t>(end, static_cast<uint32_t>(bits_.size() * 8));
  for (uint32_t block = first; block < known; ++block) {
    const auto mask = static_cast<unsigned char>(1u << block % 8);
    const auto byte = static_cast<unsigned char>(bits_[block / 8]);
    bits_[block / 8] = static_cast<char>(live ? byte | mask : byte & ~mask);
  }
  if (!live) Trim();
}

bool LiveBitmap::Test(uint32_t block) const {
  if (block / 8 >= bits_.size()) return false;
  return (static_cast<unsigned char>(bits_[block / 8]) >> block % 8 & 1) != 0;
}

uint32_t LiveBitmap::CountLive() const {
  return CountLiveBelow(static_cast<uint32_t>(bits_.size() * 8));
}

uint32_t LiveBitmap::CountLiveBelow(uint32_t block) const {
  const size_t bytes = std::min<size_t>(block / 8, bits_.size());
  uint32_t count = 0;
  size_t next = 0;
  for (; next + sizeof(uint64_t) <= bytes; next += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, bits_.data() + next, sizeof(word));
    count += static_cast<uint32_t>(std::popcount(word));
  }
  for (; next < bytes; ++next) {
    count += static_cast<uint32_t>(std::popcount(static_cast<unsigned char>(bits_[next])));
  }
  if (bytes < bits_.size()) {
    const auto below = static_cast<unsigned char>((1u << block % 8) - 1);
    count += static_cast<uint32_t>(std::popcount(static_cast<unsigned char>(bits_[bytes] & below)));
  }
  return count;
}

void LiveBitmap::Trim() {
  while (!bits_.empty() && bits_.back() == '\0') bits_.pop_back();
}

std::string LiveBitmap::Encode() const {
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.WriteU8(kVersion);
  writer.WriteU8(kFormBitmap);
  writer.WriteString(bits_);
  return bytes;
}

absl::StatusOr<LiveBitmap> LiveBitmap::Decode(absl::string_view bytes) {
  ByteReader reader(bytes);
  if (absl::Status status = ReadHead(reader, kFormBitmap); !status.ok()) return status;
  if (reader.remaining() > kMaxSegmentBlocks / 8) return Damaged("beyond the largest segment");
  LiveBitmap bitmap;
  bitmap.bits_ = std::string(reader.ReadString(reader.remaining()));
  if (!bitmap.bits_.empty() && bitmap.bits_.back() == '\0') return Damaged("zeros at its end");
  return bitmap;
}

// ---- LiveDelta ----

LiveDelta::LiveDelta(const std::vector<Piece>& in_order) {
  if (in_order.empty()) return;
  uint32_t begin = kMaxSegmentBlocks;
  uint32_t end = 0;
  for (const Piece& piece : in_order) {
    TF_CHECK(piece.first <= kMaxSegmentBlocks && piece.count <= kMaxSegmentBlocks - piece.first)
        << piece.first << " + " << piece.count;
    if (piece.count == 0) continue;
    begin = std::min(begin, piece.first);
    end = std::max(end, piece.first + piece.count);
  }
  if (begin >= end) return;

  enum : char { kUntouched, kDead, kLive };
  std::string states(end - begin, kUntouched);
  for (const Piece& piece : in_order) {
    if (piece.count == 0) continue;
    std::fill_n(states.begin() + (piece.first - begin), piece.count, piece.live ? kLive : kDead);
  }
  for (uint32_t i = 0; i < states.size();) {
    uint32_t next = i + 1;
    while (next < states.size() && states[next] == states[i]) ++next;
    if (states[i] != kUntouched) pieces_.push_back({begin + i, next - i, states[i] == kLive});
    i = next;
  }
}

LiveDelta::LiveDelta(absl::Span<const LiveChange> changes) {
  std::vector<Piece> in_order;
  in_order.reserve(changes.size());
  for (const LiveChange& change : changes) {
    TF_CHECK_EQ(change.first.segment, changes.front().first.segment);
    in_order.push_back({change.first.block, change.count, change.live});
  }
  *this = LiveDelta(in_order);
}

void LiveDelta::ApplyTo(LiveBitmap& bitmap) const {
  for (const Piece& piece : pieces_) bitmap.Set(piece.first, piece.count, piece.live);
}

LiveDelta LiveDelta::Then(const LiveDelta& later) const {
  std::vector<Piece> in_order = pieces_;
  in_order.insert(in_order.end(), later.pieces_.begin(), later.pieces_.end());
  return LiveDelta(in_order);
}

std::string LiveDelta::Encode() const {
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.WriteU8(kVersion);
  writer.WriteU8(kFormChanges);
  writer.WriteVarint64(pieces_.size());
  uint32_t previous_end = 0;
  for (const Piece& piece : pieces_) {
    writer.WriteVarint64(piece.first - previous_end);
    writer.WriteVarint64(uint64_t{piece.count} << 1 | (piece.live ? 1 : 0));
    previous_end = piece.first + piece.count;
  }
  return bytes;
}

absl::StatusOr<LiveDelta> LiveDelta::Decode(absl::string_view bytes) {
  ByteReader reader(bytes);
  if (absl::Status status = ReadHead(reader, kFormChanges); !status.ok()) return status;
  const uint64_t pieces = reader.ReadVarint64();
  LiveDelta delta;
  uint32_t previous_end = 0;
  for (uint64_t i = 0; i < pieces && !reader.failed(); ++i) {
    const uint64_t gap = reader.ReadVarint64();
    const uint64_t count_and_live = reader.ReadVarint64();
    const uint64_t count = count_and_live >> 1;
    const bool live = (count_and_live & 1) != 0;
    const uint64_t room = kMaxSegmentBlocks - previous_end;
    if (gap > room || count == 0 || count > room - gap)
      return Damaged("beyond the largest segment");
    if (gap == 0 && !delta.pieces_.empty() && delta.pieces_.back().live == live) {
      return Damaged("two changes that are one");
    }
    const auto first = static_cast<uint32_t>(previous_end + gap);
    delta.pieces_.push_back({first, static_cast<uint32_t>(count), live});
    previous_end = first + static_cast<uint32_t>(count);
  }
  if (!reader.finished())
    return Damaged(absl::StrCat("does not decode (", bytes.size(), " bytes)"));
  return delta;
}

std::vector<std::pair<SegmentNumber, std::string>> EncodeLiveChanges(
    absl::Span<const LiveChange> changes) {
  std::map<SegmentNumber, std::vector<LiveChange>> by_segment;
  for (const LiveChange& change : changes) by_segment[change.first.segment].push_back(change);
  std::vector<std::pair<SegmentNumber, std::string>> operands;
  operands.reserve(by_segment.size());
  for (const auto& [segment, of_segment] : by_segment) {
    operands.emplace_back(segment, LiveDelta(of_segment).Encode());
  }
  return operands;
}

}  // namespace twofold
