#include "storage/store/proof_record.h"

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/crc32c.h"

namespace twofold {
namespace {

constexpr uint8_t kProofVersion = 1;
constexpr size_t kStoreIdBytes = 32;

absl::Status Damaged(const char* why) {
  return absl::DataLossError(absl::StrCat("the record of the last proof does not decode: ", why));
}

}  // namespace

std::string EncodeProof(const ProofRecord& record) {
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.WriteU8(kProofVersion);
  writer.WriteLengthPrefixed(record.store_id);
  writer.WriteU64Le(static_cast<uint64_t>(record.ended));
  writer.WriteVarint64(record.duration_nanos);
  writer.WriteVarint64(record.bytes);
  writer.WriteVarint64(record.healed_places);
  writer.WriteVarint64(record.incarnation.value());
  writer.WriteU32Le(Crc32c(AsBytes(bytes)));
  return bytes;
}

absl::StatusOr<ProofRecord> DecodeProof(absl::string_view bytes) {
  if (bytes.size() < sizeof(uint32_t)) return Damaged("too short");
  const absl::string_view covered = bytes.substr(0, bytes.size() - sizeof(uint32_t));
  if (ByteReader(bytes.substr(covered.size())).ReadU32Le() != Crc32c(AsBytes(covered))) {
    return Damaged("its checksum");
  }
  ByteReader reader(covered);
  if (reader.ReadU8() != kProofVersion) return Damaged("of another version");
  ProofRecord record;
  record.store_id = std::string(reader.ReadLengthPrefixed(kStoreIdBytes));
  record.ended = static_cast<WallNanos>(reader.ReadU64Le());
  record.duration_nanos = reader.ReadVarint64();
  record.bytes = reader.ReadVarint64();
  record.healed_places = reader.ReadVarint64();
  record.incarnation = Incarnation(reader.ReadVarint64());
  if (!reader.finished()) return Damaged("its length");
  return record;
}

}  // namespace twofold
