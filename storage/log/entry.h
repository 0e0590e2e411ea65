// SHARED CONTRACT. What the log records: one entry is one step in the history of one volume.
//
// The encoding is docs/formats/log.md; codec.h writes and reads it.
#pragma once

#include <cstdint>
#include <string>

#include "absl/container/inlined_vector.h"
#include "storage/base/types.h"
#include "storage/runtime/poller.h"

namespace twofold {

// Numbers are on disk: never reuse one.
enum class EntryKind : uint8_t {
  // With a Seq, in the stream of their volume.
  kWrite = 1,           // payload: range.count blocks
  kZero = 2,            // trim and write-zeroes of any length: no payload (R38)
  kSnapshot = 3,        // body: SnapshotBody; closes an epoch, opens the next
  kSnapshotDelete = 4,  // body: SnapshotDeleteBody
  kTimelineStart = 5,   // body: TimelineStartBody; a volume's first, a rollback, a clone
  kResize = 6,          // body: ResizeBody
  kVolumeCreate = 7,    // body: VolumeCreateBody; in the stream of the catalogue (R39)
  kVolumeDelete = 8,    // body: VolumeDeleteBody; in the stream of the catalogue
  // Without a Seq: of one store alone, or of attaching.
  kSeal = 32,         // body: generation (R20)
  kMembership = 33,   // body: MembershipBody (R20, R21)
  kCatalogue = 34,    // body: the whole catalogue, or a piece of it (R17)
  kCut = 35,          // body: where recovery ended (R11); first record of an incarnation
  kVoid = 36,         // body: where the stream of `volume` goes on, and where it had ended (R3)
  kResyncBegin = 37,  // body: a piece of the goal's catalogue (R4, R29)
  kResyncEnd = 38,    // the catalogue is the goal's now
  kMoved = 39,        // payload moved by the cleaner; body: identities (M15)
  kMovedZeros = 40,   // zero records logged again by the cleaner (M17)
  kFill = 41,  // payload: an older write of `timeline`, with its position, filled in by a resync
  kFillZeros = 42,   // the same of zeros; body: their ranges and positions
  kResyncSpan = 43,  // body: the span that is filled
};

constexpr bool HasSeq(EntryKind kind) { return static_cast<uint8_t>(kind) < 32; }
constexpr bool HasPayload(EntryKind kind) {
  return kind == EntryKind::kWrite || kind == EntryKind::kMoved || kind == EntryKind::kFill;
}

struct LogEntry {
  EntryKind kind = EntryKind::kWrite;
  VolumeId volume;
  TimelineId timeline;
  BlockRange range;     // kWrite, kZero; count <= kMaxEntryBlocks for kWrite
  Position position;    // {generation, 0} for kinds without Seq
  WallNanos stamp = 0;  // the head's (R35)
  absl::InlinedVector<uint32_t, 1> block_crcs;  // CRC32C of each payload block
  std::string body;                             // by kind, at most kMaxEntryBodyBytes
  bool operator==(const LogEntry&) const = default;
};

// Where a block of payload lies: its segment and its index there in blocks of 4 KiB.
struct LogAddress {
  SegmentNumber segment;
  uint32_t block = 0;
  constexpr auto operator<=>(const LogAddress&) const = default;
};

}  // namespace twofold
