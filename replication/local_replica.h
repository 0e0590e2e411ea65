// A replica in this process: a Store behind the contract of Replica (R27: the same path of seal,
// generation and incarnation as a remote one).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "replication/replica.h"
#include "storage/store/scrub.h"
#include "storage/store/store.h"

namespace twofold {

class LocalReplica final : public Replica {
 public:
  explicit LocalReplica(std::unique_ptr<Store> store) : store_(std::move(store)) {}

  const std::string& set_name() const override { return store_->superblock().set_name; }
  const std::string& store_id() const override { return store_->superblock().store_id; }
  const std::string& pool_id() const override { return store_->superblock().pool_id; }
  const std::string& place() const override { return store_->place(); }

  Task<absl::StatusOr<SealReport>> Seal(Generation generation) override;
  Task<absl::Status> RecordMembership(Membership membership) override;
  const AttachState& recorded() const override { return store_->attach_state(); }
  Task<absl::Status> Reserve(BlockCount blocks, uint64_t entries, RoomFor use) override {
    return store_->Reserve(blocks, entries, use);
  }
  bool TryReserve(BlockCount blocks, uint64_t entries) override {
    return store_->TryReserve(blocks, entries);
  }
  void Release(BlockCount blocks, uint64_t entries) override { store_->Release(blocks, entries); }
  Task<absl::Status> Append(Generation generation, const LogEntry& entry,
                            absl::Span<const std::byte> payload, Durability durability) override {
    return store_->Append(generation, entry, payload, durability);
  }
  void Commit(VolumeId volume, Position position) override { store_->Commit(volume, position); }
  Task<absl::Status> Flush() override { return store_->Flush(); }
  Task<absl::StatusOr<std::vector<BlockExtent>>> Read(TimelineId timeline, Position as_of,
                                                      BlockRange range,
                                                      absl::Span<std::byte> into) override {
    return store_->Read(timeline, as_of, range, into);
  }
  Task<absl::StatusOr<std::vector<BlockExtent>>> Status(TimelineId timeline, Position as_of,
                                                        BlockRange range,
                                                        size_t max_extents) override {
    return store_->Status(timeline, as_of, range, max_extents);
  }
  const Catalogue& catalogue() const override { return store_->catalogue(); }
  Task<absl::StatusOr<std::vector<TailEntry>>> ReadTail(VolumeId volume, Position after,
                                                        size_t max_bytes) override;
  Task<absl::Status> PinForResync() override { return store_->PinForResync(); }
  void UnpinForResync() override { store_->UnpinForResync(); }
  absl::Status resync_pin() const override { return store_->resync_pin(); }
  Task<absl::Status> PrepareSpans() override { return store_->PrepareSpans(); }
  Task<absl::StatusOr<ResyncPage>> ReadSpan(ResyncSpan span, std::string from) override {
    return store_->ReadSpan(span, std::move(from));
  }
  Task<absl::Status> VoidTails(Generation generation) override {
    return store_->VoidTails(generation);
  }
  Task<absl::StatusOr<std::vector<ResyncSpan>>> BeginResync(Generation generation,
                                                            Catalogue goal) override {
    return store_->BeginResync(generation, std::move(goal));
  }
  Task<absl::StatusOr<std::vector<Run>>> Lacking(TimelineId timeline,
                                                 std::vector<Run> runs) override {
    return store_->Lacking(timeline, std::move(runs));
  }
  Position zeros_uncertain_up_to(VolumeId volume) const override {
    return store_->zeros_uncertain_up_to(volume);
  }
  Task<absl::StatusOr<std::vector<BlockExtent>>> StatusOfSpan(ResyncSpan span,
                                                              BlockRange range) override {
    return store_->StatusOfSpan(span, range);
  }
  Task<absl::StatusOr<ShownPage>> ReadShown(TimelineId timeline, BlockIndex from) override {
    return store_->ReadShown(timeline, from);
  }
  Task<absl::Status> Fill(Generation generation, TimelineId timeline, std::vector<Run> runs,
                          absl::Span<const std::byte> payload) override {
    return store_->Fill(generation, timeline, std::move(runs), payload);
  }
  Task<absl::Status> FillLost(Generation generation, TimelineId timeline,
                              std::vector<Run> runs) override {
    return store_->FillLost(generation, timeline, std::move(runs));
  }
  Task<absl::Status> EndSpan(Generation generation, ResyncSpan span) override {
    return store_->EndSpan(generation, span);
  }
  Task<absl::Status> EndResync(Generation generation) override {
    return store_->EndResync(generation);
  }
  bool resyncing() const override { return store_->resyncing(); }
  Task<absl::Status> ReadVersion(BlockIdentity block, absl::Span<std::byte> into) override {
    return store_->ReadVersion(block, into);
  }
  std::vector<SegmentNumber> damaged_segments() const override {
    return store_->damage_list().Segments();
  }
  Task<absl::StatusOr<CleanOutcome>> Repair(SegmentNumber segment, BlockSource source) override {
    return store_->Repair(segment, std::move(source));
  }
  void CancelRepairs() override { store_->CancelRepairs(); }
  Task<absl::StatusOr<ScrubReport>> Scrub(ScrubOptions options) override;
  void StopScrub() override {
    if (scrub_ != nullptr) scrub_->Cancel();
  }
  void SetScrubRate(uint64_t bytes_per_second) override {
    if (scrub_ != nullptr) scrub_->SetRate(bytes_per_second);
  }
  std::optional<ScrubProgress> scrub_progress() const override {
    if (scrub_ == nullptr) return std::nullopt;
    return scrub_->progress();
  }
  Task<absl::Status> HoldPoints() override { return store_->HoldPoints(); }
  void LetPointsGo() override { store_->LetPointsGo(); }
  absl::Status points_held() const override { return store_->points_held(); }
  Task<absl::StatusOr<std::vector<Piece>>> Describe(TimelineId timeline, Position as_of,
                                                    BlockRange range) override {
    return store_->Describe(timeline, as_of, range);
  }
  Task<absl::StatusOr<UsageReport>> CountUsage(std::optional<VolumeId> volume,
                                               UsageCancelled cancelled) override {
    return store_->CountUsage(volume, std::move(cancelled));
  }
  ReplicaStatus status() const override;
  std::vector<StageLatency> latencies() const override;
  absl::Status health() const override { return store_->health(); }
  Task<absl::Status> CheckPresence() override { return store_->CheckPresence(); }
  Task<void> Stop() override { return store_->Stop(); }

 private:
  std::unique_ptr<Store> store_;
  std::unique_ptr<StoreScrub> scrub_;  // while one is under way
};

}  // namespace twofold
