#include "tools/nbd/receive_buffer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "storage/base/bytes.h"

namespace twofold::nbd {
namespace {

void Receive(ReceiveBuffer& buffer, const std::string& text) {
  const absl::Span<std::byte> room = buffer.Writable();
  ASSERT_GE(room.size(), text.size());
  std::memcpy(room.data(), text.data(), text.size());
  buffer.Received(text.size());
}

TEST(ReceiveBuffer, HasRoomForItsCapacityWhenEmpty) {
  ReceiveBuffer buffer(8);
  EXPECT_EQ(buffer.size(), 0u);
  EXPECT_EQ(buffer.Writable().size(), 8u);
}

TEST(ReceiveBuffer, KeepsWhatWasNotConsumed) {
  ReceiveBuffer buffer(8);
  Receive(buffer, "abcdef");
  buffer.Consume(4);
  EXPECT_EQ(AsText(buffer.readable()), "ef");
  Receive(buffer, "ghijkl");
  EXPECT_EQ(AsText(buffer.readable()), "efghijkl");
  EXPECT_TRUE(buffer.Writable().empty());
}

TEST(ReceiveBuffer, MovesAsMuchAsThereIs) {
  ReceiveBuffer buffer(8);
  Receive(buffer, "abcdef");
  std::string into(4, '.');
  EXPECT_EQ(buffer.MoveTo({reinterpret_cast<std::byte*>(into.data()), 4}), 4u);
  EXPECT_EQ(into, "abcd");
  EXPECT_EQ(buffer.MoveTo({reinterpret_cast<std::byte*>(into.data()), 4}), 2u);
  EXPECT_EQ(into, "efcd");
  EXPECT_EQ(buffer.MoveTo({reinterpret_cast<std::byte*>(into.data()), 4}), 0u);
  EXPECT_EQ(buffer.Writable().size(), 8u);
}

}  // namespace
}  // namespace twofold::nbd
