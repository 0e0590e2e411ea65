// SHARED CONTRACT. The keys of the metadata store (docs/formats/map.md, M5, M6, M19): fixed length,
// big-endian, so that byte order is the order of meaning. The first byte names the table.
//
// Decoding gives kDataLoss for another table's key and for a wrong length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/base/types.h"
#include "storage/log/entry.h"

namespace twofold {

enum class Table : char {
  kMeta = 'M',        // name -> bytes: checkpoint, catalogue, ...
  kChunk = 'C',       // timeline, chunk, ~epoch -> packed runs (merge: run lists)
  kVersion = 'V',     // timeline, epoch, chunk -> nothing: the versions made in an epoch (M6)
  kDead = 'D',        // timeline, death epoch, birth epoch, chunk, block, position -> count (M19)
  kLive = 'L',        // segment -> bitmap of live blocks (merge: sets and clears, M21)
  kUsage = 'U',       // segment -> counts (M21)
  kForwarding = 'F',  // segment -> where its blocks were moved (M16)
  kTombstone = 'Z',   // timeline, position -> range, segment, epoch (R38)
  kPartial =
      'P',     // timeline, chunk, ~epoch -> packed runs, over a base that was not read yet (M10)
  kJob = 'J',  // number -> reclaim job
  kLineage = 'T',   // timeline -> how its chunks and its ancestors' go together (M8, M20)
  kSortRun = 'R',   // timeline, chunk, position, segment, block -> one packed run (rebuild only)
  kSortZero = 'Q',  // timeline, first block, position, segment -> range (rebuild only)
};

std::string MetaKey(absl::string_view name);

struct ChunkKey {
  TimelineId timeline;
  uint64_t chunk = 0;  // block index / kChunkBlocks
  Epoch epoch;
  bool operator==(const ChunkKey&) const = default;
};
std::string EncodeChunkKey(const ChunkKey& key);
absl::StatusOr<ChunkKey> DecodeChunkKey(absl::string_view key);
// The prefix of all versions of a chunk: the first kChunkPrefixBytes of their keys. Within it the
// newest version comes first, so the newest of an epoch or older is one seek: the first key at or
// after (timeline, chunk, epoch).
inline constexpr size_t kChunkPrefixBytes = 17;
std::string ChunkPrefix(TimelineId timeline, uint64_t chunk);
// The prefix of all keys of a timeline in kChunk, kVersion, kDead, kTombstone or kPartial.
std::string TimelinePrefix(Table table, TimelineId timeline);
// The prefix of all keys of a table.
std::string TablePrefix(Table table);
// The first key that is greater than every key with this prefix (which is not all 0xff).
std::string PrefixEnd(std::string prefix);

std::string EncodePartialKey(const ChunkKey& key);
absl::StatusOr<ChunkKey> DecodePartialKey(absl::string_view key);

std::string EncodeVersionKey(const ChunkKey& key);
absl::StatusOr<ChunkKey> DecodeVersionKey(absl::string_view key);

struct DeadKey {
  TimelineId timeline;
  Epoch death;
  Epoch birth;
  uint64_t chunk = 0;
  BlockIndex block;
  Position position;  // of the run: names the block by identity, never by address
  bool operator==(const DeadKey&) const = default;
};
std::string EncodeDeadKey(const DeadKey& key);
absl::StatusOr<DeadKey> DecodeDeadKey(absl::string_view key);

std::string EncodeSegmentKey(Table table, SegmentNumber segment);  // kLive, kUsage, kForwarding
absl::StatusOr<SegmentNumber> DecodeSegmentKey(absl::string_view key);

struct TombstoneKey {
  TimelineId timeline;
  Position position;
  bool operator==(const TombstoneKey&) const = default;
};
std::string EncodeTombstoneKey(const TombstoneKey& key);
absl::StatusOr<TombstoneKey> DecodeTombstoneKey(absl::string_view key);

std::string EncodeLineageKey(TimelineId timeline);
absl::StatusOr<TimelineId> DecodeLineageKey(absl::string_view key);

// While the map is made anew (map_rebuilder.h). A run of no blocks, at the first position, says
// that an ancestor has something in the chunk.
struct SortRunKey {
  TimelineId timeline;
  uint64_t chunk = 0;
  Position position;
  LogAddress place;
  bool operator==(const SortRunKey&) const = default;
};
std::string EncodeSortRunKey(const SortRunKey& key);
absl::StatusOr<SortRunKey> DecodeSortRunKey(absl::string_view key);

struct SortZeroKey {
  TimelineId timeline;
  BlockIndex first;
  Position position;
  SegmentNumber segment;
  bool operator==(const SortZeroKey&) const = default;
};
std::string EncodeSortZeroKey(const SortZeroKey& key);
absl::StatusOr<SortZeroKey> DecodeSortZeroKey(absl::string_view key);

std::string EncodeJobKey(uint64_t number);
absl::StatusOr<uint64_t> DecodeJobKey(absl::string_view key);

}  // namespace twofold
