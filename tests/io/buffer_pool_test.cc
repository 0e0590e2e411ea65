#include "storage/io/buffer_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <utility>
#include <vector>

#include "storage/base/limits.h"
#include "storage/runtime/executor.h"
#include "storage/runtime/task_scope.h"
#include "tests/runtime/test_poller.h"

namespace twofold {
namespace {

constexpr size_t kCapacity = 8 * kBlockSize;

class BufferPoolTest : public ::testing::Test {
 protected:
  TestPoller poller_;
  Executor executor_{poller_};
  BufferPool pool_{kCapacity};
};

TEST_F(BufferPoolTest, HandsOutAlignedPiecesOfAtLeastTheSize) {
  for (const size_t bytes : {size_t{1}, kBlockSize, kBlockSize + 1, 3 * kBlockSize, kCapacity}) {
    const Buffer buffer = pool_.TryAllocate(bytes);
    ASSERT_FALSE(buffer.empty());
    EXPECT_GE(buffer.size(), bytes);
    EXPECT_EQ(buffer.size() % kBlockSize, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % kBlockSize, 0u);
    EXPECT_EQ(pool_.used_bytes(), buffer.size());
    std::memset(buffer.data(), 0xab, buffer.size());
  }
  EXPECT_EQ(pool_.used_bytes(), 0u);
}

TEST_F(BufferPoolTest, IsEmptyHandedAtItsCapacity) {
  Buffer first = pool_.TryAllocate(4 * kBlockSize);
  const Buffer second = pool_.TryAllocate(4 * kBlockSize);
  EXPECT_TRUE(pool_.TryAllocate(1).empty());
  first.Release();
  EXPECT_TRUE(first.empty());
  EXPECT_FALSE(pool_.TryAllocate(1).empty());
}

TEST_F(BufferPoolTest, MovingABufferMovesItsPiece) {
  Buffer first = pool_.TryAllocate(kBlockSize);
  std::byte* const piece = first.data();
  Buffer second = std::move(first);
  EXPECT_EQ(second.data(), piece);
  Buffer third = pool_.TryAllocate(kBlockSize);
  third = std::move(second);  // gives its own back
  EXPECT_EQ(third.data(), piece);
  EXPECT_EQ(pool_.used_bytes(), kBlockSize);
}

TEST_F(BufferPoolTest, AChangeOfSizesStaysWithinTheCapacity) {
  // Small pieces fill the cache, then large ones need their room, and back again.
  for (int round = 0; round < 3; ++round) {
    std::vector<Buffer> small;
    for (size_t i = 0; i < kCapacity / kBlockSize; ++i) small.push_back(pool_.TryAllocate(1));
    for (const Buffer& buffer : small) ASSERT_FALSE(buffer.empty());
    small.clear();
    const Buffer large = pool_.TryAllocate(kCapacity);
    ASSERT_FALSE(large.empty());
    EXPECT_LE(pool_.used_bytes() + pool_.cached_bytes(), kCapacity);
  }
}

Task<void> AllocateAndNote(BufferPool* pool, size_t bytes, std::vector<Buffer>* got) {
  Buffer buffer = co_await pool->Allocate(bytes);
  got->push_back(std::move(buffer));
}

Task<void> WaitForRoom(BufferPool* pool) {
  std::vector<Buffer> got;
  TaskScope scope;
  Buffer all = pool->TryAllocate(kCapacity);
  scope.Spawn(AllocateAndNote(pool, 4 * kBlockSize, &got));
  scope.Spawn(AllocateAndNote(pool, 1, &got));
  co_await Yield();
  EXPECT_TRUE(got.empty());
  EXPECT_TRUE(pool->TryAllocate(1).empty());
  all.Release();
  co_await scope.Join();
  EXPECT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].size(), 4 * kBlockSize);
}

TEST_F(BufferPoolTest, AllocateWaitsForRoomInTheOrderOfAsking) {
  executor_.Run(WaitForRoom(&pool_));
  EXPECT_EQ(pool_.used_bytes(), 0u);
}

TEST(BufferPoolDeathTest, BuffersMustNotOutliveTheirPool) {
  EXPECT_DEATH(
      {
        Buffer buffer;
        BufferPool pool(kBlockSize);
        buffer = pool.TryAllocate(1);
      },
      "outlive");
}

}  // namespace
}  // namespace twofold
