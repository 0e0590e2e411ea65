// What a checkpoint says of the store itself, beside the map: docs/formats/checkpoint.md. Kept in
// the metadata store under MetaKey("checkpoint"), in the same batch as everything it goes with
// (M9).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/base/types.h"
#include "storage/log/segment_log.h"

namespace twofold {

inline constexpr char kCheckpointName[] = "checkpoint";
inline constexpr char kCatalogueName[] = "catalogue";
inline constexpr char kRebuiltName[] = "rebuilt";

// What attaching left here (R20); recorded in the log as it happens, and carried by checkpoints.
struct AttachState {
  Generation sealed;  // every lower generation is refused
  uint64_t membership_version = 0;
  std::vector<std::string> in_sync;     // store ids
  std::vector<std::string> configured;  // of all that were not removed then (R22)
  bool operator==(const AttachState&) const = default;
};

struct CheckpointRecord {
  std::string store_id;  // 32 hexadecimal digits: a map of another store is never taken
  LogPosition replay_from;
  SegmentNumber
      catalogue_segment;  // where the newest complete catalogue in the log begins (R17); 0: none
  // The moved blocks and zeros that are logged in batches below it are in this checkpoint (M15).
  BatchNumber moved_before;
  AttachState attach;
  uint64_t number = 0;  // counts checkpoints of this store
};

// That the map was made from the log, and up to where each volume had been applied then: zeros
// below are in it only over what the log still held
// (docs/decisions/0050-rebuild-as-of-a-catalogue.md).
struct RebuiltMark {
  std::map<VolumeId, Position> up_to;
  bool operator==(const RebuiltMark&) const = default;
};
std::string EncodeRebuiltMark(const RebuiltMark& mark);
absl::StatusOr<RebuiltMark> DecodeRebuiltMark(absl::string_view bytes);

std::string EncodeCheckpoint(const CheckpointRecord& record);
absl::StatusOr<CheckpointRecord> DecodeCheckpoint(absl::string_view bytes);

// The bodies of kSeal and kMembership entries.
std::string EncodeSeal(Generation generation);
absl::StatusOr<Generation> DecodeSeal(absl::string_view body);
std::string EncodeMembership(const AttachState& state);
absl::StatusOr<AttachState> DecodeMembership(absl::string_view body);

// The body of a kCatalogue entry: piece `index` of `count` of a whole catalogue.
struct CataloguePiece {
  uint32_t index = 0;
  uint32_t count = 0;
  uint32_t crc = 0;  // CRC32C of the whole
  // The store was being brought level when it was logged: with the log alone nobody can go on.
  bool resyncing = false;
  std::string bytes;
};
std::string EncodeCataloguePiece(const CataloguePiece& piece);
// All pieces of an encoded catalogue, each encoded.
std::vector<std::string> EncodeCataloguePieces(const std::string& whole, bool resyncing);
absl::StatusOr<CataloguePiece> DecodeCataloguePiece(absl::string_view body);

}  // namespace twofold
