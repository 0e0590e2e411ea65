#include "tools/nbd/reply.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "tests/map/golden.h"
#include "tests/nbd/client_bytes.h"

namespace twofold::nbd {
namespace {

using testing::ElementsAre;

// What the client would receive.
std::string Sent(const Reply& reply) {
  std::string bytes;
  size_t head_at = 0;
  for (const Reply::Part& part : reply.parts) {
    bytes.append(reply.head.data() + head_at, part.head_bytes);
    head_at += part.head_bytes;
    if (part.data_bytes > 0) {
      bytes += std::string(AsText(absl::MakeSpan(reply.data + part.data_at, part.data_bytes)));
    }
  }
  EXPECT_EQ(head_at, reply.head.size());
  return bytes;
}

Request RequestFor(Command command, uint64_t offset, uint32_t length, uint16_t flags = 0) {
  return {command, flags, 0x0102030405060708, offset, length};
}

std::string Data(size_t length) {
  std::string data;
  for (size_t i = 0; i < length; ++i) data += static_cast<char>('a' + i % 23);
  return data;
}

std::string EncodeChunks(const Request& request, const std::string& data,
                         const std::vector<ByteExtent>& extents, bool last = true) {
  Reply reply;
  EncodeReadChunks(request, request.offset, request.length, AsBytes(data).data(), extents, last,
                   reply);
  return Sent(reply);
}

TEST(Reply, HasTheGoldenBytes) {
  std::string bytes;
  Reply done;
  EncodeDone(RequestFor(Command::kWrite, 0, 4096), done);
  bytes += Sent(done);

  Reply simple_error;
  EncodeError(RequestFor(Command::kWrite, 0, 4096), {Error::kNoSpace, "full"}, false, simple_error);
  bytes += Sent(simple_error);

  Reply error;
  EncodeError(RequestFor(Command::kRead, 0, 4096), {Error::kIo, "bad"}, true, error);
  bytes += Sent(error);

  const std::string data = "0123456789";
  Reply simple_read;
  EncodeSimpleRead(RequestFor(Command::kRead, 0, 10), AsBytes(data).data(), simple_read);
  bytes += Sent(simple_read);

  bytes += EncodeChunks(RequestFor(Command::kRead, 0x10000, 10), data,
                        {{2, false}, {3, true}, {4, false}, {1, true}});

  Reply status;
  EncodeBlockStatus(RequestFor(Command::kBlockStatus, 0, 8192),
                    std::vector<ByteExtent>{{4096, true}, {4096, false}}, status);
  bytes += Sent(status);

  EXPECT_EQ(testing::PrintToString(bytes), testing::PrintToString(Golden("nbd/replies.hex")));
}

TEST(Reply, DataAloneIsOneChunk) {
  const std::string data = Data(600);
  std::string bytes = EncodeChunks(RequestFor(Command::kRead, 5, 600), data, {{600, false}});
  EXPECT_EQ(TakeReply(bytes), (ReplyMessage{0x0102030405060708, 1, true, 0, Be64(5) + data}));
  EXPECT_EQ(bytes, "");
}

TEST(Reply, AHoleAloneIsOneChunkAlsoWithDf) {
  for (const uint16_t flags : {uint16_t{0}, kFlagDf}) {
    std::string bytes =
        EncodeChunks(RequestFor(Command::kRead, 4096, 1 << 20, flags), "", {{1 << 20, true}});
    EXPECT_EQ(TakeReply(bytes),
              (ReplyMessage{0x0102030405060708, 2, true, 0, Be64(4096) + Be32(1 << 20)}));
    EXPECT_EQ(bytes, "");
  }
}

TEST(Reply, DfSendsHolesAsZeros) {
  std::string data = Data(30);
  data.replace(10, 10, 10, '\0');
  std::string bytes = EncodeChunks(RequestFor(Command::kRead, 0, 30, kFlagDf), data,
                                   {{10, false}, {10, true}, {10, false}});
  EXPECT_EQ(TakeReply(bytes), (ReplyMessage{0x0102030405060708, 1, true, 0, Be64(0) + data}));
  EXPECT_EQ(bytes, "");
}

TEST(Reply, OnlyTheLastChunkIsDone) {
  const std::string data = Data(30);
  const Request request = RequestFor(Command::kRead, 100, 30);
  for (const bool last : {true, false}) {
    std::string bytes = EncodeChunks(request, data, {{10, false}, {10, true}, {10, false}}, last);
    EXPECT_EQ(TakeReply(bytes),
              (ReplyMessage{request.cookie, 1, false, 0, Be64(100) + data.substr(0, 10)}));
    EXPECT_EQ(TakeReply(bytes), (ReplyMessage{request.cookie, 2, false, 0, Be64(110) + Be32(10)}));
    EXPECT_EQ(TakeReply(bytes),
              (ReplyMessage{request.cookie, 1, last, 0, Be64(120) + data.substr(20)}));
    EXPECT_EQ(bytes, "");
  }
}

TEST(Reply, ChunksOfAPieceHaveTheirOwnOffsets) {
  const std::string data = Data(10);
  const Request request = RequestFor(Command::kRead, 1000, 30);
  Reply reply;
  const std::vector<ByteExtent> extents = {{4, false}, {6, true}};
  EncodeReadChunks(request, 1020, 10, AsBytes(data).data(), extents, true, reply);
  std::string bytes = Sent(reply);
  EXPECT_EQ(TakeReply(bytes).payload, Be64(1020) + data.substr(0, 4));
  EXPECT_EQ(TakeReply(bytes), (ReplyMessage{request.cookie, 2, true, 0, Be64(1024) + Be32(6)}));
}

TEST(Reply, ManyExtentsFitAPart) {
  std::vector<ByteExtent> extents;
  for (int i = 0; i < 256; ++i) extents.push_back({4096, i % 2 == 0});
  const std::string data = Data(1 << 20);
  std::string bytes = EncodeChunks(RequestFor(Command::kRead, 0, 1 << 20), data, extents);
  for (int i = 0; i < 256; ++i) {
    const ReplyMessage chunk = TakeReply(bytes);
    EXPECT_EQ(chunk.type, i % 2 == 0 ? 2 : 1);
    EXPECT_EQ(FromBe(chunk.payload.substr(0, 8)), static_cast<uint64_t>(i) * 4096);
    EXPECT_EQ(chunk.done, i == 255);
  }
  EXPECT_EQ(bytes, "");
}

TEST(Reply, BlockStatusMarksHolesAsZeroAndIsCutAtTheRequestsEnd) {
  Reply reply;
  EncodeBlockStatus(RequestFor(Command::kBlockStatus, 0, 10'000),
                    std::vector<ByteExtent>{{4096, true}, {1 << 20, false}}, reply);
  std::string bytes = Sent(reply);
  EXPECT_EQ(TakeReply(bytes),
            (ReplyMessage{0x0102030405060708, 5, true, 0,
                          Be32(1) + Be32(4096) + Be32(3) + Be32(5904) + Be32(0)}));
}

TEST(Reply, BlockStatusTakesAsManyExtentsAsMayBeAsked) {
  std::vector<ByteExtent> extents;
  for (size_t i = 0; i < kMaxStatusExtents; ++i) extents.push_back({512, i % 2 == 0});
  Reply reply;
  EncodeBlockStatus(RequestFor(Command::kBlockStatus, 0, 512 * kMaxStatusExtents), extents, reply);
  EXPECT_EQ(reply.head.size(), kMaxHeadBytes);
}

TEST(Reply, ErrorTextIsMadeFitForDisplay) {
  Reply reply;
  EncodeError(RequestFor(Command::kRead, 0, 1), {Error::kIo, "a\nb" + std::string(70'000, 'x')},
              true, reply);
  std::string bytes = Sent(reply);
  const ReplyMessage error = TakeReply(bytes);
  EXPECT_EQ(error.payload.substr(0, 4), "a?bx");
  EXPECT_LE(error.payload.size(), 4096u);
}

}  // namespace
}  // namespace twofold::nbd
