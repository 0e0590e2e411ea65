#include "replication/replica.h"

namespace twofold {
namespace {

absl::Status Unsupported() {
  return absl::UnimplementedError("this kind of replica is not brought level by a resync");
}

absl::Status NotHealed() {
  return absl::UnimplementedError("this kind of replica is not healed, and heals no other one");
}

}  // namespace

Task<absl::Status> Replica::PinForResync() { co_return Unsupported(); }

absl::Status Replica::resync_pin() const { return Unsupported(); }

Task<absl::Status> Replica::PrepareSpans() { co_return Unsupported(); }

Task<absl::StatusOr<ResyncPage>> Replica::ReadSpan(ResyncSpan /*span*/, std::string /*from*/) {
  co_return Unsupported();
}

Task<absl::Status> Replica::VoidTails(Generation /*generation*/) { co_return Unsupported(); }

Task<absl::StatusOr<std::vector<ResyncSpan>>> Replica::BeginResync(Generation /*generation*/,
                                                                   Catalogue /*goal*/) {
  co_return Unsupported();
}

Task<absl::StatusOr<std::vector<Run>>> Replica::Lacking(TimelineId /*timeline*/,
                                                        std::vector<Run> /*runs*/) {
  co_return Unsupported();
}

Task<absl::StatusOr<std::vector<BlockExtent>>> Replica::StatusOfSpan(ResyncSpan /*span*/,
                                                                     BlockRange /*range*/) {
  co_return Unsupported();
}

Task<absl::StatusOr<ShownPage>> Replica::ReadShown(TimelineId /*timeline*/, BlockIndex /*from*/) {
  co_return Unsupported();
}

Task<absl::Status> Replica::Fill(Generation /*generation*/, TimelineId /*timeline*/,
                                 std::vector<Run> /*runs*/,
                                 absl::Span<const std::byte> /*payload*/) {
  co_return Unsupported();
}

Task<absl::Status> Replica::FillLost(Generation /*generation*/, TimelineId /*timeline*/,
                                     std::vector<Run> /*runs*/) {
  co_return Unsupported();
}

Task<absl::Status> Replica::EndSpan(Generation /*generation*/, ResyncSpan /*span*/) {
  co_return Unsupported();
}

Task<absl::Status> Replica::EndResync(Generation /*generation*/) { co_return Unsupported(); }

Task<absl::Status> Replica::ReadVersion(BlockIdentity /*block*/, absl::Span<std::byte> /*into*/) {
  co_return NotHealed();
}
Task<absl::StatusOr<CleanOutcome>> Replica::Repair(SegmentNumber /*segment*/,
                                                   BlockSource /*source*/) {
  co_return NotHealed();
}

Task<absl::StatusOr<ScrubReport>> Replica::Scrub(ScrubOptions /*options*/) {
  co_return absl::UnimplementedError("this kind of replica can't be scrubbed");
}

Task<absl::Status> Replica::HoldPoints() {
  co_return absl::UnimplementedError("this kind of replica can't be compared");
}

absl::Status Replica::points_held() const {
  return absl::UnimplementedError("this kind of replica can't be compared");
}

Task<absl::StatusOr<std::vector<Piece>>> Replica::Describe(TimelineId /*timeline*/,
                                                           Position /*as_of*/,
                                                           BlockRange /*range*/) {
  co_return absl::UnimplementedError("this kind of replica can't be compared");
}

Task<absl::StatusOr<UsageReport>> Replica::CountUsage(std::optional<VolumeId> /*volume*/,
                                                      UsageCancelled /*cancelled*/) {
  co_return absl::UnimplementedError("this kind of replica does not count what it holds");
}

}  // namespace twofold
