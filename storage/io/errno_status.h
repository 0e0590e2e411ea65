// The one place where an errno of the kernel becomes a Status.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace twofold {

// `error` is positive. `what` says what was done, on which file or peer, at which offset; the text
// ends with the error's description and name. Codes:
//   kNotFound, kAlreadyExists      by name (ENOENT, EEXIST)
//   kResourceExhausted             no space, memory or descriptors
//   kFailedPrecondition            permissions, a read-only file system, a call that does not fit
//   kDataLoss                      the file system's own checksum failed
//   kCancelled                     cancelled by us
//   kUnavailable                   everything else: the device or the peer is gone
absl::Status ErrnoStatus(int error, absl::string_view what);

}  // namespace twofold
