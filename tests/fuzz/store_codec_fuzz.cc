// What a store and a pool keep of themselves: superblock, checkpoint record, the last proof, attach
// records, pieces of the catalogue, forwarding entries, the witness file. Any bytes: an error, or
// something that comes back from its own encoding. Where a checksum stops almost every input it is
// tried a second time as if it had verified.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "replication/pair/witness_codec.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/log/superblock_codec.h"
#include "storage/map/forwarding.h"
#include "storage/store/checkpoint_record.h"
#include "storage/store/proof_record.h"

namespace twofold {
namespace {

void TrySuperblock(absl::string_view input) {
  std::vector<std::byte> block(kBlockSize);
  std::copy_n(input.data(), std::min(input.size(), block.size()),
              reinterpret_cast<char*>(block.data()));
  (void)DecodeSuperblock(block);
  std::memcpy(block.data(), format::kSuperblockMagic.data(), format::kSuperblockMagic.size());
  const boost::endian::little_uint32_t crc(Crc32c(absl::MakeConstSpan(block).subspan(12)));
  std::memcpy(block.data() + offsetof(format::SuperblockSlot, crc), &crc, sizeof(crc));
  const auto copy = DecodeSuperblock(block);
  if (!copy.ok()) return;
  TF_CHECK_OK(CheckSuperblock(copy->superblock));
  TF_CHECK_LT(copy->place, copy->superblock.disk_ids.size());
  std::vector<std::byte> again(kBlockSize);
  EncodeSuperblock(*copy, absl::MakeSpan(again));
  const auto twice = DecodeSuperblock(again);
  TF_CHECK_OK(twice.status());
  TF_CHECK(*twice == *copy);
}

// Decoding what was encoded gives the same encoding.
template <typename T>
void TryRecord(absl::StatusOr<T> (*decode)(absl::string_view), std::string (*encode)(const T&),
               absl::string_view bytes) {
  const absl::StatusOr<T> decoded = decode(bytes);
  if (!decoded.ok()) {
    TF_CHECK(absl::IsDataLoss(decoded.status()) || absl::IsFailedPrecondition(decoded.status()))
        << decoded.status();
    return;
  }
  const std::string again = encode(*decoded);
  const absl::StatusOr<T> twice = decode(again);
  TF_CHECK_OK(twice.status());
  TF_CHECK_EQ(encode(*twice), again);
}

std::string EncodeGeneration(const Generation& generation) { return EncodeSeal(generation); }

void TryCheckpoint(absl::string_view input) {
  TryRecord<CheckpointRecord>(DecodeCheckpoint, EncodeCheckpoint, input);
  std::string sealed(input);
  ByteWriter(&sealed).WriteU32Le(Crc32c(AsBytes(input)));
  TryRecord<CheckpointRecord>(DecodeCheckpoint, EncodeCheckpoint, sealed);
}

void TryProof(absl::string_view input) {
  TryRecord<ProofRecord>(DecodeProof, EncodeProof, input);
  std::string sealed(input);
  ByteWriter(&sealed).WriteU32Le(Crc32c(AsBytes(input)));
  TryRecord<ProofRecord>(DecodeProof, EncodeProof, sealed);
}

void TryRebuiltMark(absl::string_view input) {
  std::string sealed(input);
  ByteWriter(&sealed).WriteU32Le(Crc32c(AsBytes(input)));
  TryRecord<RebuiltMark>(DecodeRebuiltMark, EncodeRebuiltMark, sealed);
}

void TryWitness(absl::string_view input) {
  TryRecord<Membership>(DecodeWitness, EncodeWitness, input);
  std::string text = "twofold-witness 1\n";
  text.append(input.data(), input.size());
  text += absl::StrFormat("crc32c %08x\n", Crc32c(AsBytes(text)));
  TryRecord<Membership>(DecodeWitness, EncodeWitness, text);
}

absl::StatusOr<ForwardingEntry> DecodeAnyForwarding(absl::string_view bytes) {
  return DecodeForwarding(SegmentNumber(9), bytes);
}

}  // namespace
}  // namespace twofold

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace twofold;
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  TrySuperblock(bytes);
  TryCheckpoint(bytes);
  TryProof(bytes);
  TryRebuiltMark(bytes);
  TryRecord<Generation>(DecodeSeal, EncodeGeneration, bytes);
  TryRecord<AttachState>(DecodeMembership, EncodeMembership, bytes);
  TryRecord<CataloguePiece>(DecodeCataloguePiece, EncodeCataloguePiece, bytes);
  TryRecord<ForwardingEntry>(DecodeAnyForwarding, EncodeForwarding, bytes);
  TryWitness(bytes);
  return 0;
}
