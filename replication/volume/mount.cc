#include "replication/volume/mount.h"

#include <utility>

#include "replication/volume/volume.h"

namespace twofold {

Mount::Mount(Volume* volume, std::string name, TimelineId timeline, Position as_of,
             uint64_t frozen_bytes)
    : volume_(volume),
      name_(std::move(name)),
      timeline_(timeline),
      as_of_(as_of),
      frozen_bytes_(frozen_bytes) {
  volume_->Register(this);
}

Mount::~Mount() { volume_->Unregister(this); }

uint64_t Mount::size_bytes() const { return read_only() ? frozen_bytes_ : volume_->size_bytes(); }

BufferPool& Mount::buffers() { return volume_->buffers(); }

Task<absl::StatusOr<ReadReply>> Mount::Read(uint64_t offset, uint64_t length) {
  return volume_->Read(*this, offset, length);
}

Task<absl::Status> Mount::Write(uint64_t offset, uint64_t length, Buffer payload, bool fua) {
  return volume_->Write(*this, offset, length, std::move(payload), fua);
}

Task<absl::Status> Mount::WriteZeroes(uint64_t offset, uint64_t length, ZeroOptions options) {
  return volume_->WriteZeroes(*this, offset, length, options);
}

Task<absl::Status> Mount::Trim(uint64_t offset, uint64_t length, bool fua) {
  return volume_->Trim(*this, offset, length, fua);
}

Task<absl::Status> Mount::Flush() { return volume_->Flush(*this); }

Task<absl::StatusOr<std::vector<ByteExtent>>> Mount::BlockStatus(uint64_t offset, uint64_t length,
                                                                 size_t max_extents) {
  return volume_->BlockStatus(*this, offset, length, max_extents);
}

}  // namespace twofold
