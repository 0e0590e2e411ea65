#include "replication/volume/stream.h"

#include <utility>

#include "storage/base/check.h"
#include "storage/base/status_macros.h"
#include "storage/runtime/executor.h"

namespace twofold {

BlockCount Change::payload_blocks() const {
  BlockCount blocks;
  for (const LogEntry& entry : entries) blocks += BlockCount(entry.block_crcs.size());
  return blocks;
}

bool Reservation::TryTake(BlockCount blocks, uint64_t entries) {
  TF_CHECK(!held_);
  held_ = set_->TryReserve(blocks, entries);
  blocks_ = blocks;
  entries_ = entries;
  return held_;
}

Task<absl::Status> Reservation::Take(BlockCount blocks, uint64_t entries, RoomFor use) {
  TF_CHECK(!held_);
  absl::Status status = co_await set_->Reserve(blocks, entries, use);
  held_ = status.ok();
  blocks_ = blocks;
  entries_ = entries;
  co_return status;
}

void Reservation::GiveBackAllBut(BlockCount blocks, uint64_t entries) {
  TF_CHECK(held_);
  if (blocks == blocks_ && entries == entries_) return;
  set_->Release(blocks_ - blocks, entries_ - entries);
  blocks_ = blocks;
  entries_ = entries;
}

void Stream::Begin(Change* change, Sequencer::Request* request) {
  TF_CHECK_EQ(change->entries.size(), change->payloads.size());
  sequencer_.Begin(request, change->range, change->entries.size(), Executor::Current().WallNow());
  uint64_t seq = request->first_seq().value();
  WallNanos stamp = request->first_stamp();
  for (LogEntry& entry : change->entries) {
    entry.volume = volume_;
    entry.position = sequencer_.PositionOf(Seq(seq++));
    entry.stamp = stamp++;
  }
}

Task<absl::Status> Stream::Send(Change* change, size_t entry, size_t replica) {
  return set_->in_sync()[replica]->Append(set_->generation(), change->entries[entry],
                                          change->payloads[entry], change->durability);
}

void Stream::Finish(Sequencer::Request* request, bool ok) {
  if (!ok) sequencer_.Doom(request);
  // The commit goes out before anybody is answered: a read that comes after the answer shows it
  // (P3).
  if (sequencer_.Complete(request)) set_->Commit(volume_, sequencer_.committed());
}

Task<absl::Status> Stream::Settled(Sequencer::Request* request) {
  if (!request->settled().is_set()) co_await request->settled().Wait();
  if (request->state() == Sequencer::State::kCommitted) co_return absl::OkStatus();
  sequencer_.End(request);
  TF_CHECK(!set_->health().ok());
  co_return set_->health();
}

Task<absl::Status> Stream::Append(Change* change, RangeLock::Hold* hold) {
  Sequencer::Request request;
  Begin(change, &request);
  const size_t replicas = set_->in_sync().size();
  StartAll<absl::Status, 2> appends;
  for (size_t entry = 0; entry < change->entries.size(); ++entry) {
    for (size_t replica = 0; replica < replicas; ++replica) {
      appends.Add(Send(change, entry, replica));
    }
  }
  co_await appends.Start();
  if (hold != nullptr) hold->Release();
  while (appends.pending()) co_await appends.Next();

  bool ok = true;
  for (size_t i = 0; i < appends.size(); ++i) {
    const absl::Status status = appends.TakeResult(i);
    if (status.ok()) continue;
    ok = false;
    set_->Fail(set_->in_sync()[i % replicas], status);
  }
  Finish(&request, ok);
  // As Settled, without a frame for what is nearly always the case.
  if (!request.settled().is_set()) co_await request.settled().Wait();
  if (request.state() == Sequencer::State::kCommitted) co_return absl::OkStatus();
  sequencer_.End(&request);
  co_return set_->health();
}

}  // namespace twofold
