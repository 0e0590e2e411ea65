// Reads every key and value of a metadata store and takes it apart (docs/formats/map.md): for
// scrubbing. That all of it agrees with each other is another question: recount.h.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/map/metadata_store.h"
#include "storage/runtime/task.h"

namespace twofold {

struct MapCheck {
  std::vector<std::string> damage;  // each with its table or key
  uint64_t bytes_read = 0;
  uint64_t keys = 0;
};

// Commits may go on meanwhile. What table kMeta holds is its owner's to look at. `before_read` is
// called before each piece with the bytes of the one before; its error ends the work, and so does
// kUnavailable of the store.
Task<absl::StatusOr<MapCheck>> CheckMap(
    MetadataStore* metadata, std::function<Task<absl::Status>(uint64_t bytes)> before_read);

}  // namespace twofold
