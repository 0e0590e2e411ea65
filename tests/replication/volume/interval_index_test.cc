#include "replication/volume/interval_index.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <vector>

#include "storage/base/prng.h"

namespace twofold {
namespace {

BlockRange Range(uint64_t first, uint64_t count) { return {BlockIndex(first), BlockCount(count)}; }

std::set<uint64_t> Overlaps(const IntervalIndex& index, BlockRange range) {
  std::set<uint64_t> orders;
  index.VisitOverlaps(range, [&orders](IntervalIndex::Node& node) {
    EXPECT_TRUE(orders.insert(node.order()).second);
    return true;
  });
  return orders;
}

TEST(IntervalIndex, FindsNothingWhenEmpty) {
  const IntervalIndex index;
  EXPECT_TRUE(index.empty());
  EXPECT_TRUE(Overlaps(index, Range(0, 100)).empty());
}

TEST(IntervalIndex, TouchingRangesDoNotOverlap) {
  IntervalIndex index;
  IntervalIndex::Node node;
  index.Insert(&node, Range(10, 5), 1);
  EXPECT_TRUE(Overlaps(index, Range(5, 5)).empty());
  EXPECT_TRUE(Overlaps(index, Range(15, 5)).empty());
  EXPECT_EQ(Overlaps(index, Range(14, 1)), std::set<uint64_t>{1});
  EXPECT_EQ(Overlaps(index, Range(0, 11)), std::set<uint64_t>{1});
  index.Erase(&node);
  EXPECT_TRUE(index.empty());
}

TEST(IntervalIndex, KeepsRangesThatAreEqual) {
  IntervalIndex index;
  IntervalIndex::Node a;
  IntervalIndex::Node b;
  index.Insert(&a, Range(7, 2), 1);
  index.Insert(&b, Range(7, 2), 2);
  EXPECT_EQ(Overlaps(index, Range(8, 1)), (std::set<uint64_t>{1, 2}));
  index.Erase(&a);
  EXPECT_EQ(Overlaps(index, Range(8, 1)), std::set<uint64_t>{2});
  index.Erase(&b);
}

TEST(IntervalIndex, StopsWhenTheVisitorHasEnough) {
  IntervalIndex index;
  IntervalIndex::Node a;
  IntervalIndex::Node b;
  index.Insert(&a, Range(1, 1), 1);
  index.Insert(&b, Range(2, 1), 2);
  int visited = 0;
  index.VisitOverlaps(Range(0, 10), [&visited](IntervalIndex::Node&) {
    ++visited;
    return false;
  });
  EXPECT_EQ(visited, 1);
  index.Erase(&a);
  index.Erase(&b);
}

// Against a plain list, over ranges of all lengths, a trim of the whole volume among them.
TEST(IntervalIndex, AgreesWithAPlainList) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Prng prng(seed);
    IntervalIndex index;
    std::vector<std::unique_ptr<IntervalIndex::Node>> nodes;
    uint64_t next_order = 1;
    for (int step = 0; step < 600; ++step) {
      if (nodes.empty() || prng.Uniform(100) < 55) {
        const uint64_t length = prng.OneIn(20) ? uint64_t{1} << 38 : 1 + prng.Uniform(20);
        nodes.push_back(std::make_unique<IntervalIndex::Node>());
        index.Insert(nodes.back().get(), Range(prng.Uniform(200), length), next_order++);
      } else {
        const size_t victim = prng.Uniform(nodes.size());
        index.Erase(nodes[victim].get());
        nodes.erase(nodes.begin() + static_cast<ptrdiff_t>(victim));
      }
      const BlockRange query = Range(prng.Uniform(220), 1 + prng.Uniform(10));
      std::set<uint64_t> expected;
      for (const auto& node : nodes) {
        if (node->range().Overlaps(query)) expected.insert(node->order());
      }
      ASSERT_EQ(Overlaps(index, query), expected) << "seed " << seed << " step " << step;
    }
    for (const auto& node : nodes) index.Erase(node.get());
  }
}

}  // namespace
}  // namespace twofold
