// What a merge does, by the table of its key: the same in every metadata store. Pure.
//
//   kChunk   base and operands are run lists: insertion of all runs (run_list.h), in any order
//   kLive    base is a bitmap, operands are changes to it, in their order (live_bitmap.h)
//
// No other table has a merge. A value that does not decode is kDataLoss, never an empty one (M12).
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace twofold {

// Whether the key's table has a merge.
bool HasMerge(absl::string_view key);

// The value of `key` after `operands`, oldest first, on top of `base`.
absl::StatusOr<std::string> MergeFull(absl::string_view key, std::optional<absl::string_view> base,
                                      absl::Span<const absl::string_view> operands);

// One operand that does what all of `operands` do, oldest first; there is at least one.
absl::StatusOr<std::string> MergeOperands(absl::string_view key,
                                          absl::Span<const absl::string_view> operands);

}  // namespace twofold
