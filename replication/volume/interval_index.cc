#include "replication/volume/interval_index.h"

#include <algorithm>
#include <tuple>

#include "storage/base/check.h"
#include "storage/base/prng.h"

namespace twofold {

IntervalIndex::~IntervalIndex() { TF_CHECK(root_ == nullptr); }

bool IntervalIndex::Before(const Node& a, const Node& b) {
  return std::tie(a.range_.first, a.order_) < std::tie(b.range_.first, b.order_);
}

void IntervalIndex::Update(Node* node) {
  node->furthest_end_ = node->range_.end();
  for (const Node* child : {node->left_, node->right_}) {
    if (child != nullptr) node->furthest_end_ = std::max(node->furthest_end_, child->furthest_end_);
  }
}

void IntervalIndex::Split(Node* tree, const Node& key, Node** before, Node** rest) {
  if (tree == nullptr) {
    *before = nullptr;
    *rest = nullptr;
    return;
  }
  if (Before(*tree, key)) {
    Split(tree->right_, key, &tree->right_, rest);
    *before = tree;
  } else {
    Split(tree->left_, key, before, &tree->left_);
    *rest = tree;
  }
  Update(tree);
}

IntervalIndex::Node* IntervalIndex::Merge(Node* left, Node* right) {
  if (left == nullptr) return right;
  if (right == nullptr) return left;
  Node* top = nullptr;
  if (left->priority_ > right->priority_) {
    left->right_ = Merge(left->right_, right);
    top = left;
  } else {
    right->left_ = Merge(left, right->left_);
    top = right;
  }
  Update(top);
  return top;
}

IntervalIndex::Node* IntervalIndex::InsertInto(Node* tree, Node* node) {
  if (tree == nullptr || node->priority_ > tree->priority_) {
    Split(tree, *node, &node->left_, &node->right_);
    Update(node);
    return node;
  }
  if (Before(*node, *tree)) {
    tree->left_ = InsertInto(tree->left_, node);
  } else {
    tree->right_ = InsertInto(tree->right_, node);
  }
  Update(tree);
  return tree;
}

IntervalIndex::Node* IntervalIndex::EraseFrom(Node* tree, const Node* node) {
  TF_CHECK(tree != nullptr) << "blocks from " << node->range_.first << " are not in the index";
  if (tree == node) return Merge(tree->left_, tree->right_);
  if (Before(*node, *tree)) {
    tree->left_ = EraseFrom(tree->left_, node);
  } else {
    tree->right_ = EraseFrom(tree->right_, node);
  }
  Update(tree);
  return tree;
}

void IntervalIndex::Insert(Node* node, BlockRange range, uint64_t order) {
  TF_CHECK(!range.empty());
  node->range_ = range;
  node->order_ = order;
  node->priority_ = SplitMix64(priority_state_);
  node->left_ = nullptr;
  node->right_ = nullptr;
  root_ = InsertInto(root_, node);
}

void IntervalIndex::Erase(Node* node) {
  root_ = EraseFrom(root_, node);
  node->left_ = nullptr;
  node->right_ = nullptr;
}

bool IntervalIndex::Visit(Node* tree, BlockRange range, absl::FunctionRef<bool(Node&)> visit) {
  // Nothing below reaches into the range.
  if (tree == nullptr || tree->furthest_end_ <= range.first) return true;
  if (!Visit(tree->left_, range, visit)) return false;
  if (tree->range_.first >= range.end()) return true;  // and so does all to the right
  if (tree->range_.Overlaps(range) && !visit(*tree)) return false;
  return Visit(tree->right_, range, visit);
}

void IntervalIndex::VisitOverlaps(BlockRange range, absl::FunctionRef<bool(Node&)> visit) const {
  Visit(root_, range, visit);
}

}  // namespace twofold
