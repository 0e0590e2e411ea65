#include "storage/store/resync_record.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/base/bytes.h"
#include "storage/base/crc32c.h"
#include "storage/base/limits.h"
#include "storage/base/status_macros.h"
#include "storage/log/lost_block.h"

namespace twofold {
namespace {

constexpr uint8_t kVersion = 1;

void WritePosition(ByteWriter& writer, const Position& position) {
  writer.WriteVarint64(position.generation.value());
  writer.WriteVarint64(position.seq.value());
}

Position ReadPosition(ByteReader& reader) {
  const Generation generation(reader.ReadVarint64());
  const Seq seq(reader.ReadVarint64());
  return {generation, seq};
}

template <typename Body>
absl::StatusOr<Body> Finish(const ByteReader& reader, Body body, absl::string_view what) {
  if (reader.finished()) return body;
  return absl::DataLossError(
      absl::StrCat("the record of ", what,
                   " does not decode; the log is damaged or of a newer version: check the store "
                   "with twofold inspect --verify"));
}

}  // namespace

std::string EncodeVoid(const VoidBody& body) {
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.WriteU8(kVersion);
  WritePosition(writer, body.common);
  WritePosition(writer, body.end);
  return bytes;
}

absl::StatusOr<VoidBody> DecodeVoid(absl::string_view bytes) {
  ByteReader reader(bytes);
  if (reader.ReadU8() != kVersion) reader.Fail();
  VoidBody body;
  body.common = ReadPosition(reader);
  body.end = ReadPosition(reader);
  return Finish(reader, body, "entries that were given up");
}

// A zero takes at most four varints of ten bytes.
static_assert(kMaxFillZeros * 40 + 11 <= kMaxEntryBodyBytes);

std::string EncodeFillZeros(const std::vector<Run>& zeros) {
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.WriteU8(kVersion);
  writer.WriteVarint64(zeros.size());
  for (const Run& zero : zeros) {
    writer.WriteVarint64(zero.range.first.value());
    writer.WriteVarint64(zero.range.count.value());
    WritePosition(writer, zero.position);
  }
  return bytes;
}

absl::StatusOr<std::vector<Run>> DecodeFillZeros(absl::string_view bytes) {
  ByteReader reader(bytes);
  if (reader.ReadU8() != kVersion) reader.Fail();
  const uint64_t count = reader.ReadVarint64();
  if (count > kMaxFillZeros) reader.Fail();
  std::vector<Run> zeros;
  constexpr uint64_t kMaxVolumeBlocks = kMaxVolumeBytes / kBlockSize;
  for (uint64_t i = 0; i < count && !reader.failed(); ++i) {
    Run& zero = zeros.emplace_back();
    zero.kind = RunKind::kZero;
    zero.range.first = BlockIndex(reader.ReadVarint64());
    zero.range.count = BlockCount(reader.ReadVarint64());
    zero.position = ReadPosition(reader);
    if (zero.range.empty() || zero.range.count.value() > kMaxVolumeBlocks ||
        zero.range.first.value() > kMaxVolumeBlocks - zero.range.count.value()) {
      reader.Fail();
    }
  }
  return Finish(reader, std::move(zeros), "zeros that were filled in");
}

namespace {

LogEntry FillEntry(const TimelineRecord& timeline, EntryKind kind) {
  LogEntry entry;
  entry.kind = kind;
  entry.volume = timeline.volume;
  entry.timeline = timeline.id;
  return entry;
}

LogEntry FillEntry(const TimelineRecord& timeline, const Run& run) {
  LogEntry entry = FillEntry(timeline, EntryKind::kFill);
  entry.range = run.range;
  entry.position = run.position;
  entry.block_crcs = run.block_crcs;
  return entry;
}

absl::Status CheckBlocks(const Run& run, absl::Span<const std::byte> payload) {
  for (size_t i = 0; i < run.block_crcs.size(); ++i) {
    if (Crc32c(payload.subspan(i * kBlockSize, kBlockSize)) == run.block_crcs[i]) continue;
    return absl::DataLossError(absl::StrCat("block ", run.range.first.value() + i,
                                            " came with a wrong checksum from the other set"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Filling>> MakeFillings(const TimelineRecord& timeline,
                                                  const std::vector<Run>& runs,
                                                  absl::Span<const std::byte> payload) {
  std::vector<Filling> fillings;
  std::vector<Run> zeros;
  const auto flush_zeros = [&] {
    if (zeros.empty()) return;
    Filling& filling = fillings.emplace_back();
    filling.entry = FillEntry(timeline, EntryKind::kFillZeros);
    filling.entry.body = EncodeFillZeros(zeros);
    zeros.clear();
  };
  size_t used = 0;
  for (const Run& run : runs) {
    if (run.kind == RunKind::kZero) {
      zeros.push_back(run);
      if (zeros.size() == kMaxFillZeros) flush_zeros();
      continue;
    }
    const size_t bytes = run.range.count.value() * kBlockSize;
    if (run.range.count.value() > kMaxEntryBlocks || bytes > payload.size() - used ||
        run.block_crcs.size() != run.range.count.value()) {
      return absl::InvalidArgumentError("runs to be filled in don't fit their payload");
    }
    Filling& filling = fillings.emplace_back();
    filling.payload = payload.subspan(used, bytes);
    TF_RETURN_IF_ERROR(CheckBlocks(run, filling.payload));
    filling.entry = FillEntry(timeline, run);
    used += bytes;
  }
  flush_zeros();
  if (used != payload.size()) {
    return absl::InvalidArgumentError("runs to be filled in don't fit their payload");
  }
  return fillings;
}

absl::StatusOr<std::vector<Filling>> MakeLostFillings(const TimelineRecord& timeline,
                                                      const std::vector<Run>& runs,
                                                      AlignedBytes* payload) {
  uint64_t blocks = 0;
  for (const Run& run : runs) {
    const uint64_t count = run.range.count.value();
    if (run.kind != RunKind::kData || count > kMaxEntryBlocks || run.block_crcs.size() != count) {
      return absl::InvalidArgumentError("what is lost of a volume is data, at most an entry of it");
    }
    blocks += count;
  }
  *payload = AlignedBytes(blocks * kBlockSize);
  std::vector<Filling> fillings;
  size_t used = 0;
  for (const Run& run : runs) {
    const size_t first = used;
    for (const uint32_t crc : run.block_crcs) {
      MakeLostBlock(crc, payload->span().subspan(used, kBlockSize));
      used += kBlockSize;
    }
    fillings.push_back({FillEntry(timeline, run), payload->span().subspan(first, used - first)});
  }
  return fillings;
}

std::string EncodeResyncSpan(const ResyncSpan& span) {
  std::string bytes;
  ByteWriter writer(&bytes);
  writer.WriteU8(kVersion);
  writer.WriteVarint64(span.timeline.value());
  WritePosition(writer, span.after);
  WritePosition(writer, span.as_of);
  return bytes;
}

absl::StatusOr<ResyncSpan> DecodeResyncSpan(absl::string_view bytes) {
  ByteReader reader(bytes);
  if (reader.ReadU8() != kVersion) reader.Fail();
  ResyncSpan span;
  span.timeline = TimelineId(reader.ReadVarint64());
  span.after = ReadPosition(reader);
  span.as_of = ReadPosition(reader);
  return Finish(reader, span, "a span of a resync");
}

}  // namespace twofold
