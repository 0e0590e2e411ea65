// What goes back to the client: headers encoded here, and which stretches of a data buffer follow
// each of them. Pure; send_queue.h sends it.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"
#include "replication/volume/mount.h"
#include "tools/nbd/protocol.h"
#include "tools/nbd/request.h"

namespace twofold::nbd {

// One message, or several that follow each other: each part is a piece of `head`, then a piece of
// `data`. Everything in the frame of the coroutine that answers; nothing is allocated for the
// common replies.
struct Reply {
  struct Part {
    uint32_t head_bytes = 0;
    uint32_t data_bytes = 0;
    size_t data_at = 0;
  };

  absl::InlinedVector<char, 64> head;
  absl::InlinedVector<Part, 2> parts;
  size_t head_in_parts = 0;         // bytes of `head` that belong to a part
  const std::byte* data = nullptr;  // not owned: must stay until the reply was sent

  // For SendQueue.
  Reply* next = nullptr;
  std::coroutine_handle<> sender;
};

// The largest piece of `head` that a part has.
inline constexpr size_t kMaxStatusExtents = 1024;  // in one answer to BLOCK_STATUS
inline constexpr size_t kMaxHeadBytes =
    sizeof(ChunkHeader) + sizeof(BlockStatusPayload) + kMaxStatusExtents * sizeof(BlockDescriptor);

// Success without data. A simple reply, which a client with structured replies takes as well.
void EncodeDone(const Request& request, Reply& reply);

// A structured error with its text where the client negotiated it, otherwise a simple reply. It is
// the request's last reply; pieces of data may have been sent before.
void EncodeError(const Request& request, const Refusal& refusal, bool structured, Reply& reply);

// The data of a whole read as a simple reply. `data` holds all of it.
void EncodeSimpleRead(const Request& request, const std::byte* data, Reply& reply);

// `length` bytes from `offset` on as data and hole chunks by `extents`, which cover them exactly; a
// single chunk where the request asks not to fragment. `last`: nothing follows for this request.
void EncodeReadChunks(const Request& request, uint64_t offset, uint32_t length,
                      const std::byte* data, absl::Span<const ByteExtent> extents, bool last,
                      Reply& reply);

// The extents from the request's offset on, for base:allocation: at least one, at most
// kMaxStatusExtents; what passes the request's end is cut off.
void EncodeBlockStatus(const Request& request, absl::Span<const ByteExtent> extents, Reply& reply);

}  // namespace twofold::nbd
