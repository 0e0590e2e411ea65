#include "tests/replication/register_checker.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace twofold {
namespace {

// Over operations in the order of their calls. Whatever was called after the earliest answer that
// is left comes later than that: so each step looks at a few neighbours only.
template <typename Operation>
class Search {
 public:
  explicit Search(const std::vector<Operation>& operations)
      : operations_(operations), done_(operations.size(), 0) {}

  bool Run(uint64_t value, size_t first = 0) {
    // Reads that fit go first: that never spoils anything.
    std::vector<size_t> taken;
    TakeReads(value, &first, &taken);
    const bool found = Step(value, first);
    for (const size_t i : taken) done_[i] = 0;
    return found;
  }

 private:
  // The earliest answer among what is left.
  int64_t Deadline(size_t first) const {
    int64_t deadline = RegisterHistory::kNoAnswer;
    for (size_t i = first; i < operations_.size() && operations_[i].called < deadline; ++i) {
      if (done_[i] == 0) deadline = std::min(deadline, operations_[i].answered);
    }
    return deadline;
  }

  void TakeReads(uint64_t value, size_t* first, std::vector<size_t>* taken) {
    for (bool again = true; again;) {
      again = false;
      while (*first < operations_.size() && done_[*first] != 0) ++*first;
      const int64_t deadline = Deadline(*first);
      for (size_t i = *first; i < operations_.size() && operations_[i].called < deadline; ++i) {
        if (done_[i] != 0 || operations_[i].write || operations_[i].value != value) continue;
        done_[i] = 1;
        taken->push_back(i);
        again = true;
      }
    }
  }

  bool Step(uint64_t value, size_t first) {
    const int64_t deadline = Deadline(first);
    if (deadline == RegisterHistory::kNoAnswer) return true;  // only unanswered ones left
    if (!tried_.insert({done_, value}).second) return false;
    for (size_t i = first; i < operations_.size() && operations_[i].called < deadline; ++i) {
      if (done_[i] != 0 || !operations_[i].write) continue;
      done_[i] = 1;
      const bool found = Run(operations_[i].value, first);
      done_[i] = 0;
      if (found) return true;
    }
    return false;
  }

  const std::vector<Operation>& operations_;
  std::string done_;
  std::set<std::pair<std::string, uint64_t>> tried_;
};

}  // namespace

bool RegisterHistory::IsLinearizable() const {
  // An unanswered write that nobody read need not have happened.
  std::vector<Operation> relevant;
  for (const Operation& operation : operations_) {
    const bool read = std::any_of(operations_.begin(), operations_.end(), [&](const Operation& o) {
      return !o.write && o.value == operation.value && o.answered > operation.called;
    });
    if (operation.answered == kNoAnswer && (!operation.write || !read)) continue;
    relevant.push_back(operation);
  }
  std::sort(relevant.begin(), relevant.end(),
            [](const Operation& a, const Operation& b) { return a.called < b.called; });
  return Search<Operation>(relevant).Run(initial_);
}

std::string RegisterHistory::ToString() const {
  std::vector<Operation> sorted = operations_;
  std::sort(sorted.begin(), sorted.end(),
            [](const Operation& a, const Operation& b) { return a.called < b.called; });
  std::string text;
  for (const Operation& operation : sorted) {
    absl::StrAppend(
        &text, "  ", operation.called, " to ",
        operation.answered == kNoAnswer ? std::string("-") : absl::StrCat(operation.answered),
        operation.write ? ": write " : ": read ", operation.value, "\n");
  }
  return text;
}

}  // namespace twofold
