// Whether a history of reads and writes could have come from one atomic register (P3).
//
// Each operation has an interval from its call to its answer; one whose answer never came, or was
// an error, has an open end and may or may not have taken place. The search is that of Wing and
// Gong with a memory of what was tried (Lowe, "Testing for linearizability", 2017): it puts
// operations in an order that agrees with the intervals and with what was read. Values need not be
// unique.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace twofold {

class RegisterHistory {
 public:
  static constexpr int64_t kNoAnswer = std::numeric_limits<int64_t>::max();

  // The register holds `initial` at first. Times are of one clock, no two alike.
  explicit RegisterHistory(uint64_t initial) : initial_(initial) {}

  void AddWrite(int64_t called, int64_t answered, uint64_t value) {
    operations_.push_back({true, value, called, answered});
  }
  void AddRead(int64_t called, int64_t answered, uint64_t value) {
    operations_.push_back({false, value, called, answered});
  }

  bool IsLinearizable() const;
  // One line an operation, by the time of the call.
  std::string ToString() const;

 private:
  struct Operation {
    bool write;
    uint64_t value;
    int64_t called;
    int64_t answered;
  };

  uint64_t initial_;
  std::vector<Operation> operations_;
};

}  // namespace twofold
