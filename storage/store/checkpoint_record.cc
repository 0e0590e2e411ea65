#include "storage/store/checkpoint_record.h"

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"

namespace twofold {
namespace {

constexpr uint8_t kCheckpointVersion = 1;
constexpr uint8_t kRebuiltVersion = 1;
constexpr size_t kStoreIdBytes = 32;

absl::Status Damaged(const char* what) {
  return absl::DataLossError(absl::StrCat("the ", what, " does not decode"));
}

void WriteAttach(ByteWriter& writer, const AttachState& state) {
  writer.WriteVarint64(state.sealed.value());
  writer.WriteVarint64(state.membership_version);
  for (const std::vector<std::string>* ids : {&state.in_sync, &state.configured}) {
    writer.WriteVarint64(ids->size());
    for (const std::string& id : *ids) writer.WriteLengthPrefixed(id);
  }
}

AttachState ReadAttach(ByteReader& reader) {
  AttachState state;
  state.sealed = Generation(reader.ReadVarint64());
  state.membership_version = reader.ReadVarint64();
  for (std::vector<std::string>* ids : {&state.in_sync, &state.configured}) {
    const uint64_t count = reader.ReadVarint64();
    if (count > kMaxReplicas) reader.Fail();
    for (uint64_t i = 0; i < count && !reader.failed(); ++i) {
      ids->emplace_back(reader.ReadLengthPrefixed(kStoreIdBytes));
    }
  }
  return state;
}

}  // namespace

std::string EncodeCheckpoint(const CheckpointRecord& record) {
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.WriteU8(kCheckpointVersion);
  writer.WriteLengthPrefixed(record.store_id);
  writer.WriteVarint64(record.number);
  writer.WriteVarint64(record.replay_from.batch.value());
  writer.WriteVarint64(record.replay_from.segment.value());
  writer.WriteU32Le(record.replay_from.block);
  writer.WriteU32Le(record.replay_from.previous_checksum);
  writer.WriteVarint64(record.catalogue_segment.value());
  writer.WriteVarint64(record.moved_before.value());
  WriteAttach(writer, record.attach);
  writer.WriteU32Le(Crc32c(AsBytes(bytes)));
  return bytes;
}

absl::StatusOr<CheckpointRecord> DecodeCheckpoint(absl::string_view bytes) {
  if (bytes.size() < sizeof(uint32_t)) return Damaged("checkpoint record");
  const absl::string_view covered = bytes.substr(0, bytes.size() - sizeof(uint32_t));
  if (ByteReader(bytes.substr(covered.size())).ReadU32Le() != Crc32c(AsBytes(covered))) {
    return Damaged("checkpoint record (its checksum)");
  }
  ByteReader reader(covered);
  const uint8_t version = reader.ReadU8();
  if (version != kCheckpointVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("checkpoint record of version ", version, ", this program knows ",
                     kCheckpointVersion, ": use the version that wrote it, or a newer one"));
  }
  CheckpointRecord record;
  record.store_id = std::string(reader.ReadLengthPrefixed(kStoreIdBytes));
  record.number = reader.ReadVarint64();
  record.replay_from.batch = BatchNumber(reader.ReadVarint64());
  record.replay_from.segment = SegmentNumber(reader.ReadVarint64());
  record.replay_from.block = reader.ReadU32Le();
  record.replay_from.previous_checksum = reader.ReadU32Le();
  record.catalogue_segment = SegmentNumber(reader.ReadVarint64());
  record.moved_before = BatchNumber(reader.ReadVarint64());
  record.attach = ReadAttach(reader);
  if (!reader.finished()) return Damaged("checkpoint record");
  return record;
}

std::string EncodeRebuiltMark(const RebuiltMark& mark) {
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.WriteU8(kRebuiltVersion);
  writer.WriteVarint64(mark.up_to.size());
  for (const auto& [volume, position] : mark.up_to) {
    writer.WriteVarint64(volume.value());
    writer.WriteVarint64(position.generation.value());
    writer.WriteVarint64(position.seq.value());
  }
  writer.WriteU32Le(Crc32c(AsBytes(bytes)));
  return bytes;
}

absl::StatusOr<RebuiltMark> DecodeRebuiltMark(absl::string_view bytes) {
  if (bytes.size() < sizeof(uint32_t)) return Damaged("record of a rebuild");
  const absl::string_view covered = bytes.substr(0, bytes.size() - sizeof(uint32_t));
  if (ByteReader(bytes.substr(covered.size())).ReadU32Le() != Crc32c(AsBytes(covered))) {
    return Damaged("record of a rebuild (its checksum)");
  }
  ByteReader reader(covered);
  if (reader.ReadU8() != kRebuiltVersion) reader.Fail();
  RebuiltMark mark;
  const uint64_t count = reader.ReadVarint64();
  for (uint64_t i = 0; i < count && !reader.failed(); ++i) {
    const VolumeId volume(reader.ReadVarint64());
    const Generation generation(reader.ReadVarint64());
    const Seq seq(reader.ReadVarint64());
    if (!mark.up_to.empty() && volume <= mark.up_to.rbegin()->first) reader.Fail();
    mark.up_to[volume] = {generation, seq};
  }
  if (!reader.finished()) return Damaged("record of a rebuild");
  return mark;
}

std::string EncodeSeal(Generation generation) {
  std::string body;
  ByteWriter(&body).WriteU64Le(generation.value());
  return body;
}

absl::StatusOr<Generation> DecodeSeal(absl::string_view body) {
  ByteReader reader(body);
  const Generation generation(reader.ReadU64Le());
  if (!reader.finished()) return Damaged("seal record");
  return generation;
}

std::string EncodeMembership(const AttachState& state) {
  std::string body;
  ByteWriter writer(&body);
  WriteAttach(writer, state);
  return body;
}

absl::StatusOr<AttachState> DecodeMembership(absl::string_view body) {
  ByteReader reader(body);
  AttachState state = ReadAttach(reader);
  if (!reader.finished()) return Damaged("membership record");
  return state;
}

std::string EncodeCataloguePiece(const CataloguePiece& piece) {
  std::string body;
  ByteWriter writer(&body);
  writer.WriteU32Le(piece.index);
  writer.WriteU32Le(piece.count);
  writer.WriteU32Le(piece.crc);
  writer.WriteU8(piece.resyncing ? 1 : 0);
  writer.WriteString(piece.bytes);
  return body;
}

std::vector<std::string> EncodeCataloguePieces(const std::string& whole, bool resyncing) {
  constexpr size_t kPieceBytes = kMaxEntryBodyBytes - 16;
  CataloguePiece piece;
  piece.count = static_cast<uint32_t>((whole.size() + kPieceBytes - 1) / kPieceBytes);
  piece.crc = Crc32c(AsBytes(whole));
  piece.resyncing = resyncing;
  std::vector<std::string> pieces;
  for (piece.index = 0; piece.index < piece.count; ++piece.index) {
    piece.bytes = whole.substr(piece.index * kPieceBytes, kPieceBytes);
    pieces.push_back(EncodeCataloguePiece(piece));
  }
  return pieces;
}

absl::StatusOr<CataloguePiece> DecodeCataloguePiece(absl::string_view body) {
  ByteReader reader(body);
  CataloguePiece piece;
  piece.index = reader.ReadU32Le();
  piece.count = reader.ReadU32Le();
  piece.crc = reader.ReadU32Le();
  const uint8_t resyncing = reader.ReadU8();
  if (resyncing > 1) reader.Fail();
  piece.resyncing = resyncing == 1;
  piece.bytes = std::string(reader.ReadString(reader.remaining()));
  if (!reader.finished() || piece.index >= piece.count) return Damaged("catalogue record");
  return piece;
}

}  // namespace twofold
