// Which ranges of blocks are taken, and by whom: an index of ranges that may overlap each other.
//
// A treap over (first block, order), each node knowing the furthest end below it. The nodes live in
// their users' frames, so that nothing is allocated. Inserting and erasing take O(log n), a query
// O(log n + answers). Pure.
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "storage/base/types.h"

namespace twofold {

class IntervalIndex {
 public:
  // A range in the index. It must be erased before it goes.
  class Node {
   public:
    Node() = default;
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;

    const BlockRange& range() const { return range_; }
    // A number of the user's: a Seq, a ticket. Unique in the index.
    uint64_t order() const { return order_; }

   private:
    friend class IntervalIndex;
    BlockRange range_;
    uint64_t order_ = 0;
    uint64_t priority_ = 0;
    BlockIndex furthest_end_;  // of this node and all below it
    Node* left_ = nullptr;
    Node* right_ = nullptr;
  };

  IntervalIndex() = default;
  IntervalIndex(const IntervalIndex&) = delete;
  IntervalIndex& operator=(const IntervalIndex&) = delete;
  ~IntervalIndex();

  bool empty() const { return root_ == nullptr; }

  // `range` is not empty; `order` is not in the index.
  void Insert(Node* node, BlockRange range, uint64_t order);
  // `node` is in the index.
  void Erase(Node* node);

  // Calls `visit` for the nodes that overlap `range`, by first block, until it returns false. It
  // must not change the index.
  void VisitOverlaps(BlockRange range, absl::FunctionRef<bool(Node&)> visit) const;

 private:
  static bool Before(const Node& a, const Node& b);
  static void Update(Node* node);
  // Cuts `tree` into what comes before `key` and the rest.
  static void Split(Node* tree, const Node& key, Node** before, Node** rest);
  static Node* Merge(Node* left, Node* right);
  static Node* InsertInto(Node* tree, Node* node);
  static Node* EraseFrom(Node* tree, const Node* node);
  static bool Visit(Node* tree, BlockRange range, absl::FunctionRef<bool(Node&)> visit);

  Node* root_ = nullptr;
  uint64_t priority_state_ = 0;
};

}  // namespace twofold
