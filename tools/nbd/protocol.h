// The NBD protocol's numbers and messages, as its document has them (doc/proto.md of
// NetworkBlockDevice/nbd). Every field on the wire is big-endian; structs here have no padding and
// can lie anywhere in a buffer.
//
// docs/nbd.md says which parts of the protocol this server speaks.
#pragma once

#include <boost/endian/arithmetic.hpp>
#include <cstddef>
#include <cstdint>

namespace twofold::nbd {

using boost::endian::big_uint16_t;
using boost::endian::big_uint32_t;
using boost::endian::big_uint64_t;

// The port that IANA gave to NBD.
inline constexpr uint16_t kDefaultPort = 10809;

// ---- Handshake ----------------------------------------------------------------------------------

inline constexpr uint64_t kInitMagic = 0x4e42444d41474943;    // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;

inline constexpr uint16_t kHandshakeFixedNewstyle = 1 << 0;
inline constexpr uint16_t kHandshakeNoZeroes = 1 << 1;
inline constexpr uint32_t kClientFixedNewstyle = 1 << 0;
inline constexpr uint32_t kClientNoZeroes = 1 << 1;

// A string is at most this long: export names, context names, error texts.
inline constexpr size_t kMaxStringBytes = 4096;

// What the server says first.
struct Greeting {
  big_uint64_t init_magic;
  big_uint64_t option_magic;
  big_uint16_t handshake_flags;
};
static_assert(sizeof(Greeting) == 18);

struct OptionHeader {
  big_uint64_t magic;
  big_uint32_t option;
  big_uint32_t length;  // bytes of data that follow
};
static_assert(sizeof(OptionHeader) == 16);

struct OptionReplyHeader {
  big_uint64_t magic;
  big_uint32_t option;
  big_uint32_t type;
  big_uint32_t length;
};
static_assert(sizeof(OptionReplyHeader) == 20);

enum class Option : uint32_t {
  kExportName = 1,
  kAbort = 2,
  kList = 3,
  kStartTls = 5,
  kInfo = 6,
  kGo = 7,
  kStructuredReply = 8,
  kListMetaContext = 9,
  kSetMetaContext = 10,
};

enum class OptionReply : uint32_t {
  kAck = 1,
  kServer = 2,
  kInfo = 3,
  kMetaContext = 4,
  kErrUnsupported = 0x80000001,
  kErrPolicy = 0x80000002,
  kErrInvalid = 0x80000003,
  kErrUnknown = 0x80000006,
  kErrShutdown = 0x80000007,
  kErrTooBig = 0x80000009,
};

enum class InfoType : uint16_t { kExport = 0, kName = 1, kDescription = 2, kBlockSize = 3 };

// The answer to NBD_OPT_EXPORT_NAME; kExportNamePadding zeros follow unless the client waived them.
struct ExportNameReply {
  big_uint64_t size_bytes;
  big_uint16_t transmission_flags;
};
static_assert(sizeof(ExportNameReply) == 10);
inline constexpr size_t kExportNamePadding = 124;

struct InfoExport {
  big_uint16_t type;
  big_uint64_t size_bytes;
  big_uint16_t transmission_flags;
};
static_assert(sizeof(InfoExport) == 12);

struct InfoBlockSize {
  big_uint16_t type;
  big_uint32_t minimum;
  big_uint32_t preferred;
  big_uint32_t maximum;
};
static_assert(sizeof(InfoBlockSize) == 14);

// Transmission flags.
inline constexpr uint16_t kHasFlags = 1 << 0;
inline constexpr uint16_t kReadOnly = 1 << 1;
inline constexpr uint16_t kSendFlush = 1 << 2;
inline constexpr uint16_t kSendFua = 1 << 3;
inline constexpr uint16_t kSendTrim = 1 << 5;
inline constexpr uint16_t kSendWriteZeroes = 1 << 6;
inline constexpr uint16_t kSendDf = 1 << 7;
inline constexpr uint16_t kCanMultiConn = 1 << 8;
inline constexpr uint16_t kSendCache = 1 << 10;
inline constexpr uint16_t kSendFastZero = 1 << 11;

inline constexpr char kBaseNamespace[] = "base:";
inline constexpr char kBaseAllocation[] = "base:allocation";
inline constexpr uint32_t kBaseAllocationId = 1;  // our choice, told to the client

// ---- Transmission -------------------------------------------------------------------------------

inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;

enum class Command : uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kCache = 5,
  kWriteZeroes = 6,
  kBlockStatus = 7,
};
inline constexpr size_t kCommands = 8;

inline constexpr uint16_t kFlagFua = 1 << 0;
inline constexpr uint16_t kFlagNoHole = 1 << 1;
inline constexpr uint16_t kFlagDf = 1 << 2;
inline constexpr uint16_t kFlagReqOne = 1 << 3;
inline constexpr uint16_t kFlagFastZero = 1 << 4;

struct RequestHeader {
  big_uint32_t magic;
  big_uint16_t flags;
  big_uint16_t command;
  big_uint64_t cookie;  // the client's name for the request
  big_uint64_t offset;
  big_uint32_t length;
};
static_assert(sizeof(RequestHeader) == 28);

struct SimpleReplyHeader {
  big_uint32_t magic;
  big_uint32_t error;
  big_uint64_t cookie;
};
static_assert(sizeof(SimpleReplyHeader) == 16);

struct ChunkHeader {
  big_uint32_t magic;
  big_uint16_t flags;
  big_uint16_t type;
  big_uint64_t cookie;
  big_uint32_t length;  // bytes of payload that follow
};
static_assert(sizeof(ChunkHeader) == 20);

inline constexpr uint16_t kChunkDone = 1 << 0;

enum class ChunkType : uint16_t {
  kNone = 0,
  kOffsetData = 1,
  kOffsetHole = 2,
  kBlockStatus = 5,
  kError = 0x8001,
};

struct OffsetDataPayload {  // and then the data
  big_uint64_t offset;
};
static_assert(sizeof(OffsetDataPayload) == 8);

struct OffsetHolePayload {
  big_uint64_t offset;
  big_uint32_t length;
};
static_assert(sizeof(OffsetHolePayload) == 12);

struct BlockStatusPayload {  // and then one or more descriptors
  big_uint32_t context_id;
};
static_assert(sizeof(BlockStatusPayload) == 4);

struct BlockDescriptor {
  big_uint32_t length;
  big_uint32_t status;
};
static_assert(sizeof(BlockDescriptor) == 8);

inline constexpr uint32_t kStateHole = 1 << 0;
inline constexpr uint32_t kStateZero = 1 << 1;

struct ErrorPayload {  // and then the text
  big_uint32_t error;
  big_uint16_t text_length;
};
static_assert(sizeof(ErrorPayload) == 6);

enum class Error : uint32_t {
  kNone = 0,
  kPermission = 1,      // NBD_EPERM
  kIo = 5,              // NBD_EIO
  kInvalid = 22,        // NBD_EINVAL
  kNoSpace = 28,        // NBD_ENOSPC
  kNotSupported = 95,   // NBD_ENOTSUP: only for FAST_ZERO
  kShuttingDown = 108,  // NBD_ESHUTDOWN
};

// ---- What this server tells about its exports ---------------------------------------------------

inline constexpr uint32_t kMinimumBlock = 1;

struct ExportInfo {
  uint64_t size_bytes = 0;
  bool read_only = false;
};

// The transmission flags of an export. DF needs structured replies.
constexpr uint16_t TransmissionFlags(bool read_only, bool structured_replies) {
  uint16_t flags = kHasFlags | kSendFlush | kSendFua | kCanMultiConn | kSendCache;
  if (read_only) {
    flags |= kReadOnly;
  } else {
    flags |= kSendTrim | kSendWriteZeroes | kSendFastZero;
  }
  if (structured_replies) flags |= kSendDf;
  return flags;
}

}  // namespace twofold::nbd
