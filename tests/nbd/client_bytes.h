// A client's messages byte by byte, and a server's answers taken apart. Written from the protocol
// document alone, without the server's structs, so that a mistake there shows.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace twofold::nbd {

inline std::string Be(uint64_t value, int bytes) {
  std::string text;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    text += static_cast<char>(value >> shift);
  }
  return text;
}
inline std::string Be16(uint64_t value) { return Be(value, 2); }
inline std::string Be32(uint64_t value) { return Be(value, 4); }
inline std::string Be64(uint64_t value) { return Be(value, 8); }

inline uint64_t FromBe(std::string_view bytes) {
  uint64_t value = 0;
  for (const char c : bytes) value = value << 8 | static_cast<unsigned char>(c);
  return value;
}

// ---- Handshake ----

constexpr uint32_t kOptExportName = 1, kOptAbort = 2, kOptList = 3, kOptPeekExport = 4,
                   kOptStartTls = 5, kOptInfo = 6, kOptGo = 7, kOptStructuredReply = 8,
                   kOptListMetaContext = 9, kOptSetMetaContext = 10, kOptExtendedHeaders = 11;
constexpr uint32_t kRepAck = 1, kRepServer = 2, kRepInfo = 3, kRepMetaContext = 4;
constexpr uint32_t kRepErrUnsup = 0x80000001, kRepErrPolicy = 0x80000002,
                   kRepErrInvalid = 0x80000003, kRepErrUnknown = 0x80000006,
                   kRepErrShutdown = 0x80000007, kRepErrTooBig = 0x80000009;

constexpr size_t kGreetingBytes = 18;

// Both of the flags that there are.
inline std::string ClientFlags(uint32_t flags = 3) { return Be32(flags); }

inline std::string OptionHeaderOf(uint32_t option, uint32_t length) {
  return "IHAVEOPT" + Be32(option) + Be32(length);
}
inline std::string OptionOf(uint32_t option, const std::string& data = "") {
  return OptionHeaderOf(option, static_cast<uint32_t>(data.size())) + data;
}
inline std::string String32(const std::string& text) { return Be32(text.size()) + text; }

inline std::string GoData(const std::string& name, const std::vector<int>& infos = {}) {
  std::string data = String32(name) + Be16(infos.size());
  for (const int info : infos) data += Be16(static_cast<uint64_t>(info));
  return data;
}
inline std::string MetaData(const std::string& name, const std::vector<std::string>& queries) {
  std::string data = String32(name) + Be32(queries.size());
  for (const std::string& query : queries) data += String32(query);
  return data;
}

struct OptionReplyMessage {
  uint32_t option = 0;
  uint32_t type = 0;
  std::string payload;
  bool operator==(const OptionReplyMessage&) const = default;
};
inline std::ostream& operator<<(std::ostream& out, const OptionReplyMessage& reply) {
  return out << "option " << reply.option << " type 0x" << std::hex << reply.type << std::dec
             << " payload " << testing::PrintToString(reply.payload);
}

// Takes whole replies off the front of `bytes`.
inline std::vector<OptionReplyMessage> TakeOptionReplies(std::string& bytes) {
  std::vector<OptionReplyMessage> replies;
  size_t at = 0;
  while (bytes.size() - at >= 20) {
    EXPECT_EQ(FromBe(bytes.substr(at, 8)), 0x3e889045565a9u);
    const uint64_t length = FromBe(bytes.substr(at + 16, 4));
    if (bytes.size() - at - 20 < length) break;
    replies.push_back({static_cast<uint32_t>(FromBe(bytes.substr(at + 8, 4))),
                       static_cast<uint32_t>(FromBe(bytes.substr(at + 12, 4))),
                       bytes.substr(at + 20, length)});
    at += 20 + length;
  }
  bytes.erase(0, at);
  return replies;
}

// ---- Transmission ----

constexpr uint16_t kCmdRead = 0, kCmdWrite = 1, kCmdDisc = 2, kCmdFlush = 3, kCmdTrim = 4,
                   kCmdCache = 5, kCmdWriteZeroes = 6, kCmdBlockStatus = 7, kCmdResize = 8;
constexpr uint16_t kFua = 1, kNoHole = 2, kDf = 4, kReqOne = 8, kFastZero = 16;

inline std::string RequestOf(uint16_t command, uint64_t cookie, uint64_t offset, uint32_t length,
                             uint16_t flags = 0, const std::string& payload = "") {
  return Be32(0x25609513) + Be16(flags) + Be16(command) + Be64(cookie) + Be64(offset) +
         Be32(length) + payload;
}

// One simple reply (type -1), or one structured chunk.
struct ReplyMessage {
  uint64_t cookie = 0;
  int type = -1;
  bool done = true;
  uint32_t error = 0;   // of simple replies and of error chunks
  std::string payload;  // data of a simple read reply; a chunk's payload; an error chunk's text
  bool operator==(const ReplyMessage&) const = default;
};
inline std::ostream& operator<<(std::ostream& out, const ReplyMessage& reply) {
  out << "cookie " << reply.cookie << " type " << reply.type << (reply.done ? " done" : "")
      << " error " << reply.error << " payload of " << reply.payload.size() << " bytes";
  if (reply.payload.size() < 200) out << ": " << testing::PrintToString(reply.payload);
  return out;
}

// How many bytes the first reply in `bytes` has; 0 while that can't be told. `data_bytes` is what a
// successful simple reply brings.
inline size_t ReplyBytes(std::string_view bytes, size_t data_bytes) {
  if (bytes.size() < 16) return 0;
  const uint64_t magic = FromBe(bytes.substr(0, 4));
  if (magic == 0x67446698) return 16 + (FromBe(bytes.substr(4, 4)) == 0 ? data_bytes : 0);
  EXPECT_EQ(magic, 0x668e33efu);
  if (bytes.size() < 20) return 0;
  return 20 + static_cast<size_t>(FromBe(bytes.substr(16, 4)));
}

// Takes the first reply off `bytes`, which hold all of it.
inline ReplyMessage TakeReply(std::string& bytes, size_t data_bytes = 0) {
  const size_t length = ReplyBytes(bytes, data_bytes);
  EXPECT_GE(length, 16u);
  EXPECT_GE(bytes.size(), length);
  const std::string message = bytes.substr(0, length);
  bytes.erase(0, length);
  ReplyMessage reply;
  if (FromBe(message.substr(0, 4)) == 0x67446698) {
    reply.error = static_cast<uint32_t>(FromBe(message.substr(4, 4)));
    reply.cookie = FromBe(message.substr(8, 8));
    reply.payload = message.substr(16);
    return reply;
  }
  const uint64_t flags = FromBe(message.substr(4, 2));
  EXPECT_EQ(flags & ~uint64_t{1}, 0u) << "reserved flags";
  reply.done = flags == 1;
  reply.type = static_cast<int>(FromBe(message.substr(6, 2)));
  reply.cookie = FromBe(message.substr(8, 8));
  reply.payload = message.substr(20);
  if (reply.type == 0x8001) {
    reply.error = static_cast<uint32_t>(FromBe(reply.payload.substr(0, 4)));
    EXPECT_EQ(FromBe(reply.payload.substr(4, 2)), reply.payload.size() - 6);
    reply.payload.erase(0, 6);
  }
  return reply;
}

}  // namespace twofold::nbd
