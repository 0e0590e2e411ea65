#include "storage/log/departure_group.h"

#include "storage/log/log_writer.h"

namespace twofold {

void DepartureGroup::Leave(LogWriter* writer) { std::erase(writers_, writer); }

void DepartureGroup::Departed(const LogWriter* writer) {
  for (LogWriter* other : writers_) {
    if (other != writer) other->Accompany();
  }
}

}  // namespace twofold
