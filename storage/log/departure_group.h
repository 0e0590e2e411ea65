// Log writers of one executor whose batches leave together where they can.
//
// The sets of a pool get the same entries in the same turn of the loop. If each log sent its batch
// when its own last one has landed, every batch would be a submission of its own, and where the
// sets lie on one device a kick of it; sent together they share both (Executor::SubmitSoon), and
// carry the same entries. All that happens to a log is that a batch leaves before its writer would
// have sent it: order, durability and failures stay each log's own.
#pragma once

#include <vector>

namespace twofold {

class LogWriter;

class DepartureGroup {
 public:
  DepartureGroup() = default;
  DepartureGroup(const DepartureGroup&) = delete;
  DepartureGroup& operator=(const DepartureGroup&) = delete;

  // A writer belongs to it from its start to its end.
  void Join(LogWriter* writer) { writers_.push_back(writer); }
  void Leave(LogWriter* writer);

  // A batch of `writer` was given to its device: whoever has one to send sends it now.
  void Departed(const LogWriter* writer);

 private:
  std::vector<LogWriter*> writers_;
};

}  // namespace twofold
