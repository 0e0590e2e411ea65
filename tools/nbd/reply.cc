#include "tools/nbd/reply.h"

#include <algorithm>
#include <string>

#include "storage/base/check.h"
#include "tools/nbd/text.h"

namespace twofold::nbd {
namespace {

template <typename T>
void Append(const T& message, Reply& reply) {
  const char* bytes = reinterpret_cast<const char*>(&message);
  reply.head.insert(reply.head.end(), bytes, bytes + sizeof(message));
}

ChunkHeader Chunk(const Request& request, ChunkType type, bool last, size_t payload_bytes) {
  return {big_uint32_t(kStructuredReplyMagic), big_uint16_t(last ? kChunkDone : 0),
          big_uint16_t(static_cast<uint16_t>(type)), big_uint64_t(request.cookie),
          big_uint32_t(static_cast<uint32_t>(payload_bytes))};
}

void AppendSimple(const Request& request, Error error, Reply& reply) {
  Append(
      SimpleReplyHeader{big_uint32_t(kSimpleReplyMagic), big_uint32_t(static_cast<uint32_t>(error)),
                        big_uint64_t(request.cookie)},
      reply);
}

// Closes a part: everything in `head` that belongs to none so far, then the given data.
void EndPart(size_t data_at, uint32_t data_bytes, Reply& reply) {
  const size_t head_bytes = reply.head.size() - reply.head_in_parts;
  TF_CHECK_LE(head_bytes, kMaxHeadBytes);
  reply.parts.push_back({static_cast<uint32_t>(head_bytes), data_bytes, data_at});
  reply.head_in_parts = reply.head.size();
}

}  // namespace

void EncodeDone(const Request& request, Reply& reply) {
  AppendSimple(request, Error::kNone, reply);
  EndPart(0, 0, reply);
}

void EncodeError(const Request& request, const Refusal& refusal, bool structured, Reply& reply) {
  TF_CHECK(refusal.error != Error::kNone);
  if (!structured) {
    AppendSimple(request, refusal.error, reply);
    return EndPart(0, 0, reply);
  }
  const std::string text = DisplayText(refusal.text);
  Append(Chunk(request, ChunkType::kError, true, sizeof(ErrorPayload) + text.size()), reply);
  Append(ErrorPayload{big_uint32_t(static_cast<uint32_t>(refusal.error)),
                      big_uint16_t(static_cast<uint16_t>(text.size()))},
         reply);
  reply.head.insert(reply.head.end(), text.begin(), text.end());
  EndPart(0, 0, reply);
}

void EncodeSimpleRead(const Request& request, const std::byte* data, Reply& reply) {
  AppendSimple(request, Error::kNone, reply);
  reply.data = data;
  EndPart(0, request.length, reply);
}

void EncodeReadChunks(const Request& request, uint64_t offset, uint32_t length,
                      const std::byte* data, absl::Span<const ByteExtent> extents, bool last,
                      Reply& reply) {
  reply.data = data;
  const ByteExtent whole{length, false};
  if (request.has(kFlagDf) && extents.size() > 1) extents = absl::MakeConstSpan(&whole, 1);
  uint32_t at = 0;
  for (const ByteExtent& extent : extents) {
    TF_CHECK_LE(extent.length, length - at);
    const auto extent_bytes = static_cast<uint32_t>(extent.length);
    const bool done = last && at + extent_bytes == length;
    if (extent.hole) {
      Append(Chunk(request, ChunkType::kOffsetHole, done, sizeof(OffsetHolePayload)), reply);
      Append(OffsetHolePayload{big_uint64_t(offset + at), big_uint32_t(extent_bytes)}, reply);
    } else {
      Append(Chunk(request, ChunkType::kOffsetData, done, sizeof(OffsetDataPayload) + extent_bytes),
             reply);
      Append(OffsetDataPayload{big_uint64_t(offset + at)}, reply);
      EndPart(at, extent_bytes, reply);
    }
    at += extent_bytes;
  }
  TF_CHECK_EQ(at, length);
  if (extents.back().hole) EndPart(0, 0, reply);
}

void EncodeBlockStatus(const Request& request, absl::Span<const ByteExtent> extents, Reply& reply) {
  TF_CHECK(!extents.empty() && extents.size() <= kMaxStatusExtents);
  Append(Chunk(request, ChunkType::kBlockStatus, true,
               sizeof(BlockStatusPayload) + extents.size() * sizeof(BlockDescriptor)),
         reply);
  Append(BlockStatusPayload{big_uint32_t(kBaseAllocationId)}, reply);
  uint64_t left = request.length;
  for (const ByteExtent& extent : extents) {
    const uint64_t length = std::min(extent.length, left);
    TF_CHECK_GT(length, 0u);
    left -= length;
    Append(BlockDescriptor{big_uint32_t(static_cast<uint32_t>(length)),
                           big_uint32_t(extent.hole ? kStateHole | kStateZero : 0)},
           reply);
  }
  EndPart(0, 0, reply);
}

}  // namespace twofold::nbd
