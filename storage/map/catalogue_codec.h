// The bodies of catalogue entries, as they stand in the log (docs/formats/catalogue.md). The whole
// catalogue's encoding is Catalogue::Encode and Decode.
//
// Each begins with its version and has one encoding. Decoding gives kDataLoss for anything else; it
// looks at the bytes alone, not at whether a name or a size is allowed.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/map/catalogue.h"

namespace twofold {

std::string EncodeVolumeCreate(const VolumeCreateBody& body);
absl::StatusOr<VolumeCreateBody> DecodeVolumeCreate(absl::string_view bytes);

std::string EncodeVolumeDelete(const VolumeDeleteBody& body);
absl::StatusOr<VolumeDeleteBody> DecodeVolumeDelete(absl::string_view bytes);

std::string EncodeResize(const ResizeBody& body);
absl::StatusOr<ResizeBody> DecodeResize(absl::string_view bytes);

std::string EncodeSnapshot(const SnapshotBody& body);
absl::StatusOr<SnapshotBody> DecodeSnapshot(absl::string_view bytes);

std::string EncodeSnapshotDelete(const SnapshotDeleteBody& body);
absl::StatusOr<SnapshotDeleteBody> DecodeSnapshotDelete(absl::string_view bytes);

std::string EncodeTimelineStart(const TimelineStartBody& body);
absl::StatusOr<TimelineStartBody> DecodeTimelineStart(absl::string_view bytes);

}  // namespace twofold
